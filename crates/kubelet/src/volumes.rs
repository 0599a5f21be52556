//! Volumes: everything a pod mounts is made ready below the pod's directory, and taken down with it.
//!
//! - [`prepare`] is idempotent: it is run again after a restart of the kubelet, and when a source changed.
//! - What is secret (Secrets, tokens) is kept on tmpfs, never on a disk.
//! - References are fetched first; then all work on the file system is done at once, off the async threads.

mod files;
mod mount;
pub(crate) mod token;
pub(crate) mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, PersistentVolume, PersistentVolumeClaim, Pod, Volume,
};
use tiphys_api::quantity::Quantity;
use tiphys_client::Api;

use crate::context::Context;
use crate::sources::Key;
use crate::{pod, security};
use files::Gathered;

/// Who made a volume, told by its annotation.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// Volumes that are ready.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prepared {
    /// Where each volume is.
    pub(crate) mounts: BTreeMap<String, PathBuf>,
    /// When a token in them is to be renewed.
    pub(crate) refresh: Option<Timestamp>,
    /// The objects they show, by version.
    pub(crate) shown: BTreeMap<Key, u64>,
}

/// What one volume is, all references resolved.
enum Source {
    EmptyDir {
        memory: bool,
        size: Option<i64>,
    },
    HostPath {
        path: PathBuf,
        kind: String,
    },
    /// A directory that a provisioner thought of: made at its first use, for everyone to write in.
    Provisioned {
        path: PathBuf,
    },
    Files {
        payload: writer::Payload,
        secret: bool,
        plugin: &'static str,
    },
}

/// A failure of one volume, or of one step before; with the objects that were asked for.
pub(crate) struct Failed {
    pub(crate) message: String,
    pub(crate) shown: BTreeMap<Key, u64>,
}

/// Makes all volumes of a pod ready.
pub(crate) async fn prepare(ctx: &Context, pod: &Pod, ips: &[String]) -> Result<Prepared, Failed> {
    let mut gathered = Gathered { ctx, pod, facts: ctx.facts(ips), shown: BTreeMap::new(), refresh: None };
    let mut sources = Vec::new();
    for volume in pod::spec(pod).volumes.iter().flatten() {
        match source(&mut gathered, volume).await {
            Ok(source) => sources.push((volume.name.clone(), source)),
            Err(error) => {
                let message = format!("MountVolume.SetUp failed for volume {:?} : {error}", volume.name);
                return Err(Failed { message, shown: gathered.shown });
            }
        }
    }
    let (shown, refresh) = (gathered.shown, gathered.refresh);
    let dir = ctx.pod_dir(pod::uid(pod));
    let group = group(pod);
    let work = move || make(&dir, sources, group);
    let made = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.to_string()));
    match made {
        Ok(mounts) => Ok(Prepared { mounts, refresh, shown }),
        Err(message) => Err(Failed { message, shown }),
    }
}

fn group(pod: &Pod) -> Option<u32> {
    security::of_pod(pod).fs_group.and_then(|group| u32::try_from(group).ok())
}

async fn source(gathered: &mut Gathered<'_>, volume: &Volume) -> Result<Source, String> {
    if let Some(empty) = &volume.empty_dir {
        let size = empty.size_limit.as_ref().and_then(|limit| limit.0.parse::<Quantity>().ok());
        let memory = empty.medium.as_deref() == Some("Memory");
        return Ok(Source::EmptyDir { memory, size: size.map(|size| size.value()).filter(|size| *size > 0) });
    }
    if let Some(host) = &volume.host_path {
        return Ok(host_path(host));
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        return claimed(gathered.ctx, pod::namespace(gathered.pod), &claim.claim_name).await;
    }
    let (payload, secret, plugin) = gathered.payload(volume).await?;
    Ok(Source::Files { payload, secret, plugin })
}

fn host_path(host: &HostPathVolumeSource) -> Source {
    Source::HostPath { path: host.path.clone().into(), kind: host.type_.clone().unwrap_or_default() }
}

/// A claim bound to a volume that is a directory of this node.
async fn claimed(ctx: &Context, namespace: &str, name: &str) -> Result<Source, String> {
    let claims = Api::<PersistentVolumeClaim>::new(ctx.client.clone(), namespace);
    let claim = claims.get(name).await.map_err(|status| status.message)?;
    let volume = claim.spec.and_then(|spec| spec.volume_name).filter(|volume| !volume.is_empty());
    let volume = volume.ok_or_else(|| format!("PersistentVolumeClaim {name:?} is not bound"))?;
    let volumes = Api::<PersistentVolume>::new(ctx.client.clone(), "");
    let found = volumes.get(&volume).await.map_err(|status| status.message)?;
    let provisioned = found.metadata.annotations.is_some_and(|all| all.contains_key(PROVISIONED_BY));
    let spec = found.spec.unwrap_or_default();
    if let Some(host) = &spec.host_path {
        let makes = provisioned && host.type_.as_deref() == Some("DirectoryOrCreate");
        return Ok(if makes {
            Source::Provisioned { path: host.path.clone().into() }
        } else {
            host_path(host)
        });
    }
    match spec.local {
        Some(local) => Ok(Source::HostPath { path: local.path.into(), kind: String::new() }),
        None => Err(format!("PersistentVolume {volume:?} has a type that this kubelet cannot mount")),
    }
}

fn make(
    dir: &Path,
    sources: Vec<(String, Source)>,
    group: Option<u32>,
) -> Result<BTreeMap<String, PathBuf>, String> {
    let mut mounts = BTreeMap::new();
    for (name, source) in sources {
        let made = make_one(dir, &name, source, group);
        let failed = |error| format!("MountVolume.SetUp failed for volume {name:?} : {error}");
        mounts.insert(name.clone(), made.map_err(failed)?);
    }
    Ok(mounts)
}

fn make_one(dir: &Path, name: &str, source: Source, group: Option<u32>) -> Result<PathBuf, String> {
    let at = |plugin: &str| dir.join("volumes").join(format!("kubernetes.io~{plugin}")).join(name);
    match source {
        Source::EmptyDir { memory, size } => {
            let at = at("empty-dir");
            let made = mount::empty_dir(&at, memory, size, group);
            made.map_err(|error| error.to_string())?;
            Ok(at)
        }
        Source::HostPath { path, kind } => mount::host_path(&path, &kind).map(|()| path),
        Source::Provisioned { path } => {
            let made = mount::empty_dir(&path, false, None, group);
            made.map_err(|error| error.to_string()).map(|()| path)
        }
        Source::Files { payload, secret, plugin } => {
            let at = at(plugin);
            mount::files_dir(&at, secret).map_err(|error| error.to_string())?;
            let written = writer::write(&at, &payload, group, Timestamp::now());
            written.map_err(|error| error.to_string())?;
            Ok(at)
        }
    }
}

/// Unmounts and removes the volumes of a pod.
pub(crate) fn take_down(dir: &Path) -> std::io::Result<()> {
    mount::take_down(&dir.join("volumes"))
}
