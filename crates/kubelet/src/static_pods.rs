//! Static pods: run from manifests in a directory of the node, whether or not the API can be reached. The API gets a
//! picture of each, a mirror pod, which changes nothing when it is changed.
//!
//! - A manifest that cannot be used or read just now leaves what ran from it before: a file that is seen half-written must
//!   not end its pod.
//! - A pod starts when nothing is left of the one that had its name, or was the very same, before.
//! - Pictures of pods that have no manifest are removed, however long ago it went.

mod manifest;
mod mirror;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio_util::task::AbortOnDropHandle;

use crate::context::Context;
use crate::inotify::Watch;
use crate::manager::Manager;
use crate::pod;
use manifest::{Found, Manifests};

/// How often mirror pods are looked after, and the directory too, should the kernel not tell of its changes.
const LOOK: Duration = Duration::from_secs(20);

/// The directory as it was read first, and what tells of its changes since before that.
pub(crate) struct Started {
    dir: PathBuf,
    found: Found,
    changes: Option<Watch>,
}

/// Starts the pods of the manifests that are there now; `None` where there is no directory to follow.
pub(crate) async fn start(manager: &Arc<Manager>) -> Option<Started> {
    let ctx = manager.context();
    let dir = ctx.config.static_pod_dir.clone()?;
    let changes = watch(&ctx, &dir);
    let found = manifest::read(&dir, &ctx.config.node_name).await.unwrap_or_default();
    for pod in found.values().flatten() {
        manager.start(pod.clone(), None);
    }
    Some(Started { dir, found, changes })
}

/// Follows the directory: new and changed manifests start pods, removed ones end them.
pub(crate) async fn follow(manager: Arc<Manager>, started: Option<Started>) {
    let Some(Started { dir, found, mut changes }) = started else { return std::future::pending().await };
    let (known, complaints) = manifest::settle(&Manifests::new(), found);
    let mut follower = Follower {
        ctx: manager.context(),
        manager,
        dir,
        known,
        complaints: BTreeMap::new(),
        pending: HashMap::new(),
        ending: HashMap::new(),
    };
    follower.complain(complaints);
    loop {
        follower.keep_pictures().await;
        let gone = tokio::select! {
            gone = changed(changes.as_ref()) => gone,
            () = follower.manager.mirror_gone() => false,
            () = tokio::time::sleep(LOOK) => false,
        };
        if gone || changes.is_none() {
            changes = watch(&follower.ctx, &follower.dir);
        }
        follower.look().await;
    }
}

/// What tells of changes in the directory; `None` where there is none yet, or the kernel does not tell.
fn watch(ctx: &Context, dir: &Path) -> Option<Watch> {
    let watch = ctx.watches.directory(dir);
    let watch = watch.inspect_err(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            tracing::warn!(%error, dir = %dir.display(), "nobody tells when manifests of static pods change");
        }
    });
    watch.ok()
}

/// Waits for a change. Whether it is the directory itself that has gone.
async fn changed(changes: Option<&Watch>) -> bool {
    let Some(changes) = changes else { return std::future::pending().await };
    let seen = changes.changed().await;
    seen.gone || seen.moved
}

struct Follower {
    manager: Arc<Manager>,
    ctx: Arc<Context>,
    dir: PathBuf,
    known: Manifests,
    /// By file: why it cannot be used.
    complaints: BTreeMap<String, String>,
    /// Pods, by uid, that wait until nothing is left of those before them.
    pending: HashMap<String, AbortOnDropHandle<()>>,
    /// Pods, by uid, that were ended.
    ending: HashMap<String, Pod>,
}

impl Follower {
    /// Reads the directory again.
    async fn look(&mut self) {
        let found = match manifest::read(&self.dir, &self.ctx.config.node_name).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, dir = %self.dir.display(), "cannot read the manifests of static pods");
                return;
            }
        };
        let (now, complaints) = manifest::settle(&self.known, found);
        self.complain(complaints);
        let before: HashSet<String> = self.known.values().map(|pod| pod::uid(pod).to_owned()).collect();
        let wanted: HashSet<&str> = now.values().map(pod::uid).collect();
        for pod in self.known.values().filter(|pod| !wanted.contains(pod::uid(pod))) {
            self.manager.removed(pod::uid(pod));
            self.ending.insert(pod::uid(pod).to_owned(), pod.clone());
        }
        self.ending.retain(|uid, _| self.manager.has(uid));
        // A version that was never started is forgotten with its manifest.
        self.pending.retain(|uid, _| wanted.contains(uid.as_str()));
        for pod in now.values().filter(|pod| !before.contains(pod::uid(pod))) {
            let started = self.start(pod);
            self.pending.insert(pod::uid(pod).to_owned(), started);
        }
        self.known = now;
    }

    /// Starts a pod once nothing is left of those that had its name: the two may want the same ports of the node. So it is
    /// with the very same pod, whose manifest has come back.
    fn start(&self, pod: &Pod) -> AbortOnDropHandle<()> {
        let name = (pod::namespace(pod), pod::name(pod));
        let same = |(uid, old): &(&String, &Pod)| {
            (pod::namespace(old), pod::name(old)) == name || *uid == pod::uid(pod)
        };
        let before: Vec<String> = self.ending.iter().filter(same).map(|(uid, _)| uid.clone()).collect();
        let (manager, pod) = (self.manager.clone(), pod.clone());
        AbortOnDropHandle::new(tokio::spawn(async move {
            for uid in before {
                manager.until_ended(&uid).await;
            }
            manager.start(pod, None);
        }))
    }

    /// Makes the API show exactly the pods of the manifests.
    async fn keep_pictures(&self) {
        for (uid, picture) in self.manager.pictures() {
            if !self.known.values().any(|pod| pod::uid(pod) == uid) {
                mirror::remove(&self.ctx, picture.meta()).await;
            }
        }
        for pod in self.known.values() {
            mirror::keep(&self.ctx, pod).await;
        }
    }

    /// Tells of manifests that cannot be used, each once.
    fn complain(&mut self, complaints: BTreeMap<String, String>) {
        for (file, why) in complaints.iter().filter(|(file, why)| self.complaints.get(*file) != Some(why)) {
            let path = self.dir.join(file).display().to_string();
            tracing::warn!(path, why, "a static pod's manifest cannot be used");
            let message = format!("Could not process manifest file {path:?}: {why}");
            let node = self.ctx.node_reference();
            self.ctx.recorder.event(&node, "Warning", "InvalidStaticPod", message);
        }
        self.complaints = complaints;
    }
}
