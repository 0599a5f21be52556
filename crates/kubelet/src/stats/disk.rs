//! What pods have on the node's disk: their logs and their volumes without a file system of their own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::sample::{PodSample, Sample};
use super::summary::Disk;
use crate::context::Context;
use crate::volumes::usage::used;

/// The volumes that are directories of the node's disk.
const LOCAL: &str = "volumes/kubernetes.io~empty-dir";

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
    Disk { logs: below(logs).collect(), volumes: below(volumes).collect() }
}

/// Each directory below one, by name, with the bytes that it holds on its parent's file system.
fn below(dir: &Path) -> impl Iterator<Item = (String, u64)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let bytes = used(&entry.path()).ok()?;
        Some((entry.file_name().to_string_lossy().into_owned(), bytes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_and_volumes_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let (logs, volumes) = (dir.path().join("logs"), dir.path().join("volumes"));
        std::fs::create_dir_all(logs.join("c")).unwrap();
        std::fs::create_dir_all(volumes.join("v")).unwrap();
        std::fs::write(logs.join("c/0.log"), vec![b'x'; 20_000]).unwrap();
        let disk = of_pod(&logs, &volumes);
        assert!(disk.logs["c"] >= 20_000 && disk.volumes[0].0 == "v", "{disk:?}");
        assert!(disk.total() >= 20_000);
        assert_eq!(of_pod(&dir.path().join("none"), &volumes).logs.len(), 0);
    }
}
