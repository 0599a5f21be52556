//! What `emptyDir`s on disk hold, against the limits that their pods give them.
//!
//! The kernel keeps those of memory within their limit itself. A directory on disk has no such guard: its use is counted
//! every [`PERIOD`], as Kubernetes does, and only for pods that have a limit.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Pod, Volume};
use tiphys_api::quantity::Quantity;

use super::Places;
use crate::pod;

/// The time between two counts of a pod's volumes.
pub(crate) const PERIOD: SignedDuration = SignedDuration::from_secs(10);

/// Whether any volume of the pod has to be counted.
pub(crate) fn limited(pod: &Pod) -> bool {
    limits(pod).next().is_some()
}

/// The volumes on disk that have a limit: name, bytes, and the limit as it was written.
fn limits(pod: &Pod) -> impl Iterator<Item = (&str, u64, &str)> {
    let limit = |volume: &'_ Volume| -> Option<u64> {
        let empty = volume.empty_dir.as_ref()?;
        let on_disk = empty.medium.as_deref().unwrap_or_default().is_empty();
        let size: Quantity = empty.size_limit.as_ref()?.0.parse().ok()?;
        u64::try_from(size.value()).ok().filter(|size| on_disk && *size > 0)
    };
    pod::spec(pod).volumes.iter().flatten().filter_map(move |volume| {
        let text = volume.empty_dir.as_ref()?.size_limit.as_ref()?.0.as_str();
        Some((volume.name.as_str(), limit(volume)?, text))
    })
}

/// Counts. The message with which the pod is evicted, if one of its volumes holds too much.
pub(crate) async fn exceeded(pod: &Pod, places: &Places) -> Option<String> {
    for (name, limit, text) in limits(pod) {
        let Some(place) = places.get(name) else { continue };
        let path = place.path.clone();
        let counted = tokio::task::spawn_blocking(move || used(&path)).await;
        // What cannot be counted now is counted the next time.
        if counted.is_ok_and(|counted| counted.is_ok_and(|used| used.bytes > limit)) {
            return Some(format!("Usage of EmptyDir volume {name:?} exceeds the limit {text:?}. "));
        }
    }
    None
}

/// What something takes of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

impl std::ops::Add for Held {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, inodes: self.inodes + other.inodes }
    }
}

impl std::iter::Sum for Held {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), std::ops::Add::add)
    }
}

/// What everything in a directory takes of its disk, as `du` counts: links once, other file systems not at all.
pub(crate) fn used(dir: &Path) -> io::Result<Held> {
    let root = fs::symlink_metadata(dir)?;
    let of = |meta: &fs::Metadata| Held { bytes: meta.blocks() * 512, inodes: 1 };
    let mut held = of(&root);
    let mut linked = HashSet::new();
    let mut dirs: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        // Files come and go while they are counted.
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.dev() != root.dev() || (meta.nlink() > 1 && !meta.is_dir() && !linked.insert(meta.ino()))
            {
                continue;
            }
            held = held + of(&meta);
            if meta.is_dir() {
                dirs.push(entry.path());
            }
        }
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::super::Place;
    use super::*;

    #[tokio::test]
    async fn what_holds_more_than_its_limit_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { path: dir.path().into(), ..Place::default() };
        let places: Places = [("v".to_owned(), place.clone()), ("m".to_owned(), place)].into();
        let pod = |limit: &str, medium: &str| -> Pod {
            let volume = |name: &str, medium: &str| serde_json::json!({"name": name, "emptyDir": {"sizeLimit": limit, "medium": medium}});
            let spec = serde_json::json!({"containers": [], "volumes": [volume("v", medium), volume("m", "Memory")]});
            serde_json::from_value(serde_json::json!({"spec": spec})).unwrap()
        };
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/a"), vec![1; 300_000]).unwrap();
        fs::hard_link(dir.path().join("sub/a"), dir.path().join("b")).unwrap();
        let told = exceeded(&pod("256Ki", ""), &places).await;
        assert_eq!(told.as_deref(), Some("Usage of EmptyDir volume \"v\" exceeds the limit \"256Ki\". "));
        assert_eq!(
            exceeded(&pod("512Ki", ""), &places).await,
            None,
            "the second name of a file is no second file"
        );
        assert!(limited(&pod("1Ki", "")) && !limited(&pod("1Ki", "Memory")) && !limited(&pod("0", "")));
    }
}
