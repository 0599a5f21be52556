//! Volumes: everything a pod mounts is made ready below the pod's directory, and taken down with it.
//!
//! - [`prepare`] is idempotent: it is run again after a restart of the kubelet, and when a source changed. A kill at any
//!   moment leaves nothing that the next run does not complete, or [`take_down`] remove.
//! - What is secret (Secrets, tokens) is kept on tmpfs, never on a disk.
//! - References are fetched first ([`source`]); then all work on the file system is done at once, off the async threads.
//! - What a container can write to is never trusted: see [`subpath`] and [`ownership`].

mod files;
mod image;
mod mount;
mod ownership;
mod source;
pub(crate) mod subpath;
pub(crate) mod token;
pub(crate) mod usage;
pub(crate) mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::container::Part;
use crate::context::Context;
use crate::sources::Key;
use crate::{pod, security};
use files::Gathered;
use ownership::Group;
use source::{Resolved, Source};

/// Below the pod's directory: its volumes, by plugin and name.
const VOLUMES: &str = "volumes";
/// Below the pod's directory: the mounts of parts of volumes, by volume, container and place in its list of mounts.
const SUB_PATHS: &str = "volume-subpaths";

/// A volume that is ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Where it is on the node; empty for an image, which the runtime mounts.
    pub(crate) path: PathBuf,
    /// Whether no container may write to it, whatever its mount says.
    pub(crate) read_only: bool,
    /// Whether its files get the container's `SELinux` label, where the node has `SELinux`.
    pub(crate) relabel: bool,
    /// The image that the volume shows.
    pub(crate) image: Option<String>,
    /// Whether it is a device, and no directory.
    pub(crate) block: bool,
}

/// Volumes that are ready, by name.
pub(crate) type Places = BTreeMap<String, Place>;

/// What [`prepare`] has made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prepared {
    /// Where each volume is.
    pub(crate) mounts: Places,
    /// When a token in them is to be renewed.
    pub(crate) refresh: Option<Timestamp>,
    /// The objects they show, by version.
    pub(crate) shown: BTreeMap<Key, u64>,
}

/// What failed, a message for each volume, never none; with the objects that were asked for.
pub(crate) struct Failed {
    pub(crate) messages: Vec<String>,
    pub(crate) shown: BTreeMap<Key, u64>,
}

/// Makes all volumes of a pod ready.
pub(crate) async fn prepare(ctx: &Context, pod: &Pod, ips: &[String]) -> Result<Prepared, Failed> {
    let mut gathered = Gathered { ctx, pod, facts: ctx.facts(ips), shown: BTreeMap::new(), refresh: None };
    let mut resolved = Vec::new();
    let mut messages = Vec::new();
    for volume in pod::spec(pod).volumes.iter().flatten() {
        match source::resolve(&mut gathered, volume).await {
            Ok(volume) => resolved.push(volume),
            Err(error) => messages.push(error.told(pod, &volume.name)),
        }
    }
    let (shown, refresh) = (gathered.shown, gathered.refresh);
    let dir = ctx.pod_dir(pod::uid(pod));
    let group = group(pod);
    let work = move || make(&dir, resolved, group);
    let made = tokio::task::spawn_blocking(work).await;
    let (mounts, failed) = made.unwrap_or_else(|error| (Places::new(), vec![error.to_string()]));
    messages.extend(failed);
    match messages.is_empty() {
        true => Ok(Prepared { mounts, refresh, shown }),
        false => Err(Failed { messages, shown }),
    }
}

/// Whether volumes show something of the pod's object that has changed.
pub(crate) fn show_change(before: &Pod, after: &Pod) -> bool {
    fn facts(pod: &Pod) -> impl PartialEq {
        let resources: Vec<_> = pod::containers(pod).map(|container| &container.resources).collect();
        (&pod.metadata.labels, &pod.metadata.annotations, resources)
    }
    show_pod(after) && facts(before) != facts(after)
}

fn show_pod(pod: &Pod) -> bool {
    let volumes = pod::spec(pod).volumes.iter().flatten();
    volumes.into_iter().any(|volume| {
        let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        volume.downward_api.is_some() || projected.into_iter().any(|source| source.downward_api.is_some())
    })
}

fn group(pod: &Pod) -> Option<Group> {
    let context = security::of_pod(pod);
    let id = context.fs_group.and_then(|group| u32::try_from(group).ok())?;
    let on_root_mismatch = context.fs_group_change_policy.as_deref() == Some("OnRootMismatch");
    Some(Group { id, on_root_mismatch })
}

/// Makes every volume, also after one has failed. What could not be made is told.
fn make(dir: &Path, volumes: Vec<Resolved>, group: Option<Group>) -> (Places, Vec<String>) {
    let (mut places, mut failed) = (Places::new(), Vec::new());
    for volume in volumes {
        let (read_only, shown) = (volume.read_only, volume.shown);
        let group = group.filter(|_| !read_only || !matches!(volume.source, Source::Local { .. }));
        match make_one(dir, &volume.name, volume.source, group) {
            Ok(place) => {
                let read_only = read_only || place.read_only;
                places.insert(volume.name, Place { read_only, ..place });
            }
            Err(error) => failed.push(format!("MountVolume.SetUp failed for volume {shown:?} : {error}")),
        }
    }
    (places, failed)
}

fn make_one(dir: &Path, name: &str, source: Source, group: Option<Group>) -> Result<Place, String> {
    let at = |plugin: &str| directory(dir, plugin, name);
    let text = |error: std::io::Error| error.to_string();
    let id = group.map(|group| group.id);
    let plain = |path: PathBuf| Place { path, ..Place::default() };
    match source {
        Source::EmptyDir(medium) => {
            let at = at("empty-dir");
            mount::empty_dir(&at, &medium, id).map_err(text)?;
            Ok(Place { relabel: true, ..plain(at) })
        }
        Source::HostPath { path, kind } => mount::host_path(&path, &kind).map(|()| plain(path)),
        Source::Local { path, make } => {
            if make {
                mount::directory(&path, None).map_err(text)?;
            } else if !path.exists() {
                return Err(format!("path {:?} does not exist", path.display()));
            }
            // Once for a pod: volumes are made again when files of others change, and what the pod's own programs have
            // set since is theirs.
            let handed_over = at("local-volume");
            if let Some(group) = group.filter(|_| !handed_over.exists()) {
                ownership::hand_over(&path, group).map_err(text)?;
                std::fs::create_dir_all(&handed_over).map_err(text)?;
            }
            Ok(Place { relabel: true, ..plain(path) })
        }
        Source::Nfs { source, options } => {
            let at = at("nfs");
            mount::nfs(&at, &source, &options).map(|()| plain(at))
        }
        Source::Files { payload, secret, plugin } => {
            let at = at(plugin);
            mount::files_dir(&at, secret, id).map_err(text)?;
            writer::write(&at, &payload, id, Timestamp::now()).map_err(text)?;
            Ok(Place { relabel: true, read_only: true, ..plain(at) })
        }
        Source::Block(path) => mount::device(&path).map(|()| Place { block: true, ..plain(path) }),
        Source::Ready(place) => Ok(place),
    }
}

/// Mounts the parts of volumes that a container needs. The error is the message of its waiting state.
pub(crate) async fn bind(container: &str, parts: Vec<Part>) -> Result<(), String> {
    if parts.is_empty() {
        return Ok(());
    }
    let container = container.to_owned();
    let work = move || {
        parts.iter().try_for_each(|part| {
            subpath::bind(part).map_err(|error| {
                let name = &part.name;
                format!(
                    "failed to prepare subPath for volumeMount {name:?} of container {container:?}: {error}"
                )
            })
        })
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.to_string()))
}

/// Where a volume is, below the pod's directory.
fn directory(dir: &Path, plugin: &str, name: &str) -> PathBuf {
    dir.join(VOLUMES).join(format!("kubernetes.io~{plugin}")).join(name)
}

/// Where a part of a volume is mounted for a container, below the pod's directory.
pub(crate) fn sub_path_place(dir: &Path, volume: &str, container: &str, index: usize) -> PathBuf {
    dir.join(SUB_PATHS).join(volume).join(container).join(index.to_string())
}

/// Unmounts and removes the volumes of a pod.
pub(crate) fn take_down(dir: &Path) -> std::io::Result<()> {
    mount::take_down(dir)
}
