//! The watch cache: the whole cluster state in memory as shared objects, kept current by one feed from the store.
//!
//! - One [`Cache`] per group-resource, ordered by key, filled by one range at start and one watch for ever after.
//! - Each keeps a byte-budgeted ring of recent events. A watcher is a cursor into it: no queue per watcher, so a slow
//!   one costs nothing and is cut off (410) when the ring no longer reaches back to it.
//! - The feed publishes in revision order, then advances one global revision; a consistent read waits for that.
//! - All caches are filled at start, from one range at one revision: what admission and RBAC look up is always there.

mod event;
mod feed;
mod fields;
mod handover;
pub mod keys;
mod kinds;
pub mod order;
mod progress;
mod resource;
mod select;
pub mod splice;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
pub use event::{Delivery, Event, EventKind, Frame};
use futures::future::BoxFuture;
pub use handover::Prepared;
pub use order::Objects;
use progress::Progress;
pub use resource::{Cache, Span, TooOld};
pub use select::Selection;
use tiphys_api::schema::Resource;
use tiphys_api::{Gvr, Object, Status};
use tiphys_store::Store;
use tokio_util::sync::CancellationToken;

use crate::auth::Lister;

/// How long a read waits for the cache to reach a revision, as kube-apiserver does.
const CATCH_UP_MAX: Duration = Duration::from_secs(3);
/// After this a store that sits behind a network is asked to report its progress.
const PROGRESS_AFTER: Duration = Duration::from_millis(100);

/// How much of the past is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes that each resource keeps for recent events, beside the objects as they are: how far a slow watcher may fall
    /// behind.
    pub ring_bytes_max: usize,
    /// How many revisions before the present the rings are filled from at start.
    pub replay: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { ring_bytes_max: 16 << 20, replay: 1000 }
    }
}

/// All caches of a server.
pub struct Caches {
    store: Arc<dyn Store>,
    index: ArcSwap<Index>,
    progress: Progress,
    /// What they follow, once they do.
    source: ArcSwapOption<feed::Source>,
    options: Options,
}

/// A group, and the cache of its resource.
type Grouped = (Box<str>, Arc<Cache>);

/// Finds caches by what requests and keys say.
#[derive(Clone, Default)]
struct Index {
    /// By plural name; the few with the same plural differ by group.
    by_resource: HashMap<Box<str>, Vec<Grouped>>,
    by_segment: HashMap<Box<str>, Arc<Cache>>,
}

impl Caches {
    /// Fills the caches and starts the feed, which ends with `stop`. `resources` pairs each group-resource with the
    /// version it is stored in; several may share one, as events do.
    pub async fn start(
        store: Arc<dyn Store>,
        resources: impl IntoIterator<Item = (Gvr, Arc<Resource>)>,
        options: Options,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, tiphys_store::Error> {
        let caches = Arc::new(Self {
            store,
            index: ArcSwap::default(),
            progress: Progress::new(),
            source: ArcSwapOption::empty(),
            options,
        });
        caches.index.store(Arc::new(Index::new(resources, options.ring_bytes_max)));
        let feed = feed::Feed::begin(caches.clone(), options.replay).await?;
        tokio::spawn(feed.run(stop));
        Ok(caches)
    }

    /// [`Self::start`] with every built-in resource that stores objects.
    pub async fn builtin(
        store: Arc<dyn Store>,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, tiphys_store::Error> {
        Self::builtin_with(store, Options::default(), stop).await
    }

    /// [`Self::builtin`] with other limits.
    pub async fn builtin_with(
        store: Arc<dyn Store>,
        options: Options,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, tiphys_store::Error> {
        let catalog = tiphys_api::schema::builtin();
        let stored =
            catalog.iter().filter(|r| r.has_verb("get") && r.gvr.group != crate::node_metrics::GROUP);
        let pairs = stored.map(|r| (r.gvr.clone(), catalog.storage(&r.gvr).clone()));
        Self::start(store, pairs, options, stop).await
    }

    /// The cache of a resource in any of its versions.
    pub fn of(&self, gvr: &Gvr) -> Option<Arc<Cache>> {
        self.index.load().of(gvr).cloned()
    }

    /// How many objects there are, by the resource that they are stored as.
    pub fn counts(&self) -> Vec<(Gvr, usize)> {
        let index = self.index.load();
        let mut counts: Vec<_> =
            index.by_segment.values().map(|cache| (cache.resource.gvr.clone(), cache.len())).collect();
        counts.sort();
        counts
    }

    /// The store behind.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The revision that all caches have reached.
    pub fn revision(&self) -> u64 {
        self.progress.reached()
    }

    /// Waits until the caches hold all that is committed by now.
    pub async fn catch_up(&self) -> Result<u64, Status> {
        let newest = self.store.revision().await.map_err(|e| Status::unavailable(e.to_string()))?;
        self.reach(newest).await?;
        Ok(newest)
    }

    /// Waits until the caches have reached a revision.
    pub async fn reach(&self, revision: u64) -> Result<(), Status> {
        if self.revision() < revision {
            self.source.load().iter().for_each(|source| source.help(self));
        }
        if self.revision() >= revision {
            return Ok(());
        }
        let give_up = Instant::now() + CATCH_UP_MAX;
        while tokio::time::timeout(PROGRESS_AFTER, self.progress.wait(revision)).await.is_err() {
            if Instant::now() >= give_up {
                return Err(too_large(revision, self.revision()));
            }
            if let Err(error) = self.store.request_progress().await {
                tracing::debug!(%error, "the store did not report its progress");
            }
        }
        Ok(())
    }
}

/// 504 as kube-apiserver words it when a revision is asked for that does not come.
fn too_large(asked: u64, current: u64) -> Status {
    let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
    let mut status = Status::timeout(message);
    status.details = Some(tiphys_api::status::Details {
        causes: vec![tiphys_api::status::Cause {
            message: "Too large resource version".into(),
            reason: "ResourceVersionTooLarge".into(),
            ..Default::default()
        }],
        retry_after_seconds: 1,
        ..Default::default()
    });
    status
}

impl Index {
    fn new(resources: impl IntoIterator<Item = (Gvr, Arc<Resource>)>, ring_bytes_max: usize) -> Self {
        let mut index = Self::default();
        for (gvr, storage) in resources {
            index.add(&gvr, storage, ring_bytes_max);
        }
        index
    }

    fn add(&mut self, gvr: &Gvr, storage: Arc<Resource>, ring_bytes_max: usize) {
        let segment = keys::segment(&storage.gvr, storage.custom.is_some());
        let prefix = format!("{}{segment}/", keys::ROOT);
        let cache = self
            .by_segment
            .entry(segment.into())
            .or_insert_with(|| Arc::new(Cache::new(storage, prefix, ring_bytes_max)));
        let same_name = self.by_resource.entry(gvr.resource.as_ref().into()).or_default();
        if !same_name.iter().any(|(group, _)| group.as_ref() == gvr.group) {
            same_name.push((gvr.group.as_ref().into(), cache.clone()));
        }
    }

    fn of(&self, gvr: &Gvr) -> Option<&Arc<Cache>> {
        let same_name = self.by_resource.get(gvr.resource.as_ref())?;
        same_name.iter().find(|(group, _)| group.as_ref() == gvr.group).map(|(_, cache)| cache)
    }
}

impl Lister for Caches {
    fn get(&self, gvr: &Gvr, namespace: &str, name: &str) -> Option<Object> {
        self.index.load().of(gvr)?.get(namespace, name)
    }

    fn list(&self, gvr: &Gvr, namespace: &str) -> Vec<Object> {
        self.index.load().of(gvr).map(|cache| cache.all(namespace)).unwrap_or_default()
    }

    fn version(&self, gvr: &Gvr) -> Option<u64> {
        self.index.load().of(gvr).map(|cache| cache.last_event())
    }

    fn refresh(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            // Without it the caller decides by what it sees.
            if let Err(error) = self.catch_up().await {
                tracing::debug!(%error, "the caches did not catch up");
            }
        })
    }

    fn next_change(&self) -> BoxFuture<'static, ()> {
        let mut progress = self.progress.changes();
        Box::pin(async move {
            if progress.changed().await.is_err() {
                // The feed has ended; nothing will change here any more.
                std::future::pending().await
            }
        })
    }
}
