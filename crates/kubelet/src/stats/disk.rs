//! What pods have on the node's disk: their logs and their volumes without a file system of their own.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::sample::{PodSample, Sample};
use crate::context::Context;
use crate::volumes::usage::{Held, used};

/// The volumes that are directories of the node's disk.
const LOCAL: &str = "volumes/kubernetes.io~empty-dir";

/// What a pod has beside its containers' layers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    /// Logs by container.
    pub(crate) logs: HashMap<String, Held>,
    pub(crate) volumes: Vec<Volume>,
}

/// What a volume holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) held: Held,
    /// Whether it is on the node's disk, and not in its memory.
    pub(crate) on_disk: bool,
}

impl Disk {
    /// A container's layer and its log.
    pub(crate) fn of_container(&self, name: &str, layer: Option<Held>) -> Held {
        layer.unwrap_or_default() + self.logs.get(name).copied().unwrap_or_default()
    }

    /// All that a pod has on the node's disk.
    pub(crate) fn of_pod(&self, pod: &PodSample) -> Held {
        let layers: Held = pod.containers.iter().filter_map(|c| c.layer).sum();
        let volumes = self.volumes.iter().filter(|volume| volume.on_disk).map(|volume| volume.held);
        layers + self.logs.values().copied().chain(volumes).sum()
    }
}

/// Counts for all pods, by uid.
pub(crate) async fn of_pods(ctx: &Context, sample: &Sample) -> HashMap<String, Disk> {
    let places: Vec<(String, PathBuf, PathBuf)> = sample
        .pods
        .iter()
        .map(|pod| (pod.uid.clone(), logs(&ctx.config.log_dir, pod), ctx.pod_dir(&pod.uid).join(LOCAL)))
        .collect();
    let count =
        move || places.into_iter().map(|(uid, logs, volumes)| (uid, of_pod(&logs, &volumes))).collect();
    tokio::task::spawn_blocking(count).await.unwrap_or_default()
}

fn logs(root: &Path, pod: &PodSample) -> PathBuf {
    root.join(format!("{}_{}_{}", pod.namespace, pod.name, pod.uid))
}

fn of_pod(logs: &Path, volumes: &Path) -> Disk {
    let device = std::fs::symlink_metadata(volumes).map(|meta| meta.dev()).ok();
    let volume = |(path, held): (PathBuf, Held)| Volume {
        on_disk: std::fs::symlink_metadata(&path).is_ok_and(|meta| Some(meta.dev()) == device),
        name: name(&path),
        held,
    };
    let logs = below(logs).map(|(path, held)| (name(&path), held)).collect();
    Disk { logs, volumes: below(volumes).map(volume).collect() }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Each directory below one, with what it holds on its own file system.
fn below(dir: &Path) -> impl Iterator<Item = (PathBuf, Held)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), used(&entry.path()).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::sample::ContainerSample;

    #[test]
    fn logs_and_volumes_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let (logs, volumes) = (dir.path().join("logs"), dir.path().join("volumes"));
        std::fs::create_dir_all(logs.join("c")).unwrap();
        std::fs::create_dir_all(volumes.join("v")).unwrap();
        std::fs::write(logs.join("c/0.log"), vec![b'x'; 20_000]).unwrap();
        let mut disk = of_pod(&logs, &volumes);
        assert!(disk.logs["c"].bytes >= 20_000 && disk.logs["c"].inodes == 2, "{disk:?}");
        assert!(disk.volumes[0].name == "v" && disk.volumes[0].on_disk, "{disk:?}");
        let layer = Some(Held { bytes: 7, inodes: 1 });
        let container = ContainerSample { name: "c".into(), layer, ..ContainerSample::default() };
        let pod = PodSample { containers: vec![container], ..PodSample::default() };
        let volume = disk.volumes[0].held;
        assert_eq!(disk.of_pod(&pod), disk.of_container("c", layer) + volume);
        disk.volumes[0].on_disk = false;
        assert_eq!(disk.of_pod(&pod), disk.of_container("c", layer), "memory is no disk");
        assert_eq!(of_pod(&dir.path().join("none"), &volumes).logs.len(), 0);
    }
}
