//! Static pods: run from manifests in a directory of the node, whether or not the API can be reached. The API gets a
//! picture of each, a mirror pod, which changes nothing when it is changed.

mod mirror;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tiphys_api::decode;
use tokio_util::task::AbortOnDropHandle;

use crate::inotify::Watch;
use crate::manager::Manager;
use crate::pod;

/// How often mirror pods are looked after, and the directory too, should the kernel not tell of its changes.
const LOOK: Duration = Duration::from_secs(20);

/// Pods of the manifests by uid.
type Pods = BTreeMap<String, Pod>;

/// The manifests as they were read first, and what tells of their changes since before that.
pub(crate) type Started = (Pods, Option<Watch>);

/// Starts the pods of the manifests that are there now.
pub(crate) async fn start(manager: &Arc<Manager>) -> Started {
    let ctx = manager.context();
    let Some(dir) = ctx.config.static_pod_dir.clone() else { return Started::default() };
    let changes = Watch::directory(&dir).ok();
    let pods = read(&dir, &ctx.config.node_name).await;
    for pod in pods.values() {
        manager.start(pod.clone(), None);
    }
    (pods, changes)
}

/// Follows the directory: new and changed manifests start pods, removed ones end them.
pub(crate) async fn follow(manager: Arc<Manager>, (mut known, changes): Started) {
    let ctx = manager.context();
    let Some(dir) = ctx.config.static_pod_dir.clone() else { return std::future::pending().await };
    let mut pending = HashMap::new();
    loop {
        for pod in known.values() {
            mirror::keep(&ctx, pod).await;
        }
        tokio::select! {
            () = changed(changes.as_ref()) => {}
            () = manager.mirror_gone() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        let now = read(&dir, &ctx.config.node_name).await;
        for (uid, pod) in known.iter().filter(|(uid, _)| !now.contains_key(*uid)) {
            manager.removed(uid);
            mirror::remove(&ctx, pod).await;
        }
        for (uid, pod) in &now {
            if !known.contains_key(uid) {
                let before = known.values().find(|old| pod::full_name(old) == pod::full_name(pod));
                pending.insert(uid.clone(), start_after(&manager, before.map(pod::uid), pod.clone()));
            }
        }
        // A version that was never started is forgotten with its manifest.
        pending.retain(|uid, _| now.contains_key(uid));
        known = now;
    }
}

/// Starts a pod once nothing is left of the one that had its name: the two may want the same ports of the node.
fn start_after(manager: &Arc<Manager>, before: Option<&str>, pod: Pod) -> AbortOnDropHandle<()> {
    let (manager, before) = (manager.clone(), before.map(str::to_owned));
    AbortOnDropHandle::new(tokio::spawn(async move {
        if let Some(before) = before {
            manager.until_ended(&before).await;
        }
        manager.start(pod, None);
    }))
}

async fn changed(changes: Option<&Watch>) {
    if let Some(changes) = changes
        && changes.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

async fn read(dir: &Path, node: &str) -> Pods {
    let mut pods = Pods::new();
    let Ok(mut entries) = tokio::fs::read_dir(dir).await else { return pods };
    while let Ok(Some(entry)) = entries.next_entry().await {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.')
            || !name.ends_with(".yaml") && !name.ends_with(".yml") && !name.ends_with(".json")
        {
            continue;
        }
        let read = tokio::fs::read(entry.path()).await.map_err(|error| error.to_string());
        match read.and_then(|bytes| parse(&bytes, &entry.path(), node)) {
            Ok(pod) => {
                pods.insert(pod::uid(&pod).to_owned(), pod);
            }
            Err(error) => tracing::warn!(file = name, error, "a static pod's manifest cannot be used"),
        }
    }
    pods
}

/// Reads a manifest. Name and uid follow from the file and the node, so that a restart finds the same pod.
fn parse(bytes: &[u8], path: &Path, node: &str) -> Result<Pod, String> {
    let mut value = decode::yaml(bytes).map_err(|error| error.to_string())?.value;
    let catalog = tiphys_api::schema::builtin();
    if let Some(resource) = catalog.by_kind(&<Pod as tiphys_client::typed::Kind>::GVK) {
        decode::structure(resource, &mut value).map_err(|error| error.to_string())?;
        tiphys_api::defaults::apply(resource, &mut value);
    }
    let mut pod: Pod = value.to().map_err(|error| error.to_string())?;
    let name = pod::name(&pod);
    if name.is_empty() || pod.spec.is_none() {
        return Err("it has no name or no spec".into());
    }
    let uid = hash(&[bytes, path.to_string_lossy().as_bytes(), node.as_bytes()]);
    pod.metadata.name = Some(format!("{name}-{}", node.to_lowercase()));
    pod.metadata.namespace.get_or_insert_with(|| "default".into());
    pod.metadata.uid = Some(uid.clone());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(pod::SOURCE.into(), "file".into());
    annotations.insert(pod::HASH.into(), uid);
    if let Some(spec) = &mut pod.spec {
        spec.node_name = Some(node.to_owned());
    }
    Ok(pod)
}

/// 128 bits of FNV-1a in hexadecimal: an identity, no secret.
fn hash(parts: &[&[u8]]) -> String {
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in parts.iter().flat_map(|part| part.iter().chain(&[0])) {
        hash = (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_becomes_a_pod_of_this_node() {
        let yaml =
            b"apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: i}]}\n";
        let pod = parse(yaml, Path::new("/m/web.yaml"), "N1").unwrap();
        assert_eq!((pod::name(&pod), pod::namespace(&pod)), ("web-n1", "default"));
        assert!(pod::is_static(&pod));
        let again = parse(yaml, Path::new("/m/web.yaml"), "N1").unwrap();
        assert_eq!(pod::uid(&pod), pod::uid(&again));
        assert_ne!(pod::uid(&pod), pod::uid(&parse(yaml, Path::new("/m/b.yaml"), "N1").unwrap()));
        assert!(parse(b"kind: [", Path::new("/x"), "n").is_err());
        assert!(parse(b"apiVersion: v1\nkind: Pod\n", Path::new("/x"), "n").is_err());
    }
}
