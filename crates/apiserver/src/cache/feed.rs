//! The feed: one watch on the store that keeps all caches current.
//!
//! It begins a little before the present, so that watchers which come back after a restart find the events they
//! missed in the rings.
//!
//! What the store has published is taken over by the feed's own task, or by whoever waits for it and comes first: a write that
//! has its answer from the store would otherwise sleep a second time, until that task has had its turn.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use tiphys_api::Object;
use tiphys_store::{Error, Event, KeyValue, Range, Watch, WatchBatch, WatchFrom};
use tokio_util::sync::CancellationToken;

use super::resource::{Cache, Change};
use super::{Caches, Index, PROGRESS_AFTER, keys};

/// Pause before a failed read is tried again.
const READ_AGAIN: Duration = Duration::from_millis(500);
/// Keys of one read while the caches are filled.
pub(super) const PAGE: usize = 2000;

pub(super) struct Feed {
    caches: Arc<Caches>,
    source: Arc<Source>,
}

/// The store's watch. Who takes from it takes over what it got before the next may take.
pub(super) struct Source(Mutex<State>);

struct State {
    /// None once it has ended, until there is a new one.
    watch: Option<Watch>,
    /// Wakes the feed's task, whoever asked the watch last.
    task: Waker,
    /// Why the watch ended, until the task has heard of it.
    failed: Option<Error>,
}

impl Source {
    pub(super) fn new(watch: Watch) -> Self {
        Self(Mutex::new(State { watch: Some(watch), task: Waker::noop().clone(), failed: None }))
    }

    /// Takes over what is there already, unless somebody is at it.
    pub(super) fn help(&self, caches: &Caches) {
        let Some(mut state) = self.0.try_lock() else { return };
        let task = state.task.clone();
        if let Poll::Ready(Err(error)) = state.poll(caches, &mut Context::from_waker(&task)) {
            state.failed = Some(error);
            task.wake();
        }
    }

    /// Takes over the next batch.
    async fn next(&self, caches: &Caches) -> Result<(), Error> {
        std::future::poll_fn(|cx| {
            let mut state = self.0.lock();
            state.task.clone_from(cx.waker());
            match state.failed.take() {
                Some(error) => Poll::Ready(Err(error)),
                None => state.poll(caches, cx),
            }
        })
        .await
    }

    /// While this is held nothing is taken over.
    pub(super) fn hold(&self) -> impl Sized {
        self.0.lock()
    }

    fn begin_anew(&self, watch: Watch) {
        self.0.lock().watch = Some(watch);
    }
}

impl State {
    fn poll(&mut self, caches: &Caches, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(watch) = &mut self.watch else { return Poll::Pending };
        let next = std::task::ready!(watch.poll_next_unpin(cx)).unwrap_or(Err(Error::Closed));
        if next.is_err() {
            self.watch = None;
        }
        Poll::Ready(next.map(|batch| caches.take(batch)))
    }
}

impl Feed {
    /// Fills the caches at one revision and opens the watch from there. Reads up to the present are applied.
    pub(super) async fn begin(caches: Arc<Caches>, replay: u64) -> Result<Self, Error> {
        let source = Arc::new(Source::new(fill(&caches, replay).await?));
        let newest = caches.store.revision().await?;
        while caches.revision() < newest {
            match tokio::time::timeout(PROGRESS_AFTER, source.next(&caches)).await {
                Ok(taken) => taken?,
                // The newest revision may be about a key that is none of these.
                Err(_) => caches.store.request_progress().await?,
            }
        }
        caches.source.store(Some(source.clone()));
        Ok(Self { caches, source })
    }

    /// Follows the store until `stop`. A store that has compacted what was not read yet, or that failed to read, makes
    /// the caches begin anew.
    pub(super) async fn run(self, stop: CancellationToken) {
        loop {
            let taken = tokio::select! {
                taken = self.source.next(&self.caches) => taken,
                () = stop.cancelled() => break,
            };
            let Err(error) = taken else { continue };
            tokio::select! {
                outcome = self.begin_anew(error) => match outcome {
                    Ok(()) => {}
                    Err(error) => return tracing::error!(%error, "the watch cache lost the store and stands still"),
                },
                () = stop.cancelled() => break,
            }
        }
        self.caches.source.store(None);
    }

    /// Fills the caches again after events were lost; watchers must list again. An error that stays is returned.
    async fn begin_anew(&self, mut error: Error) -> Result<(), Error> {
        loop {
            match error {
                Error::Compacted { .. } => {}
                Error::Read(why) | Error::Unavailable(why) => {
                    tracing::warn!(%why, "the watch cache reads the store again");
                    // The store's own failing is no event to wait for.
                    tokio::time::sleep(READ_AGAIN).await;
                }
                lasting => return Err(lasting),
            }
            match fill(&self.caches, 0).await {
                Ok(watch) => {
                    self.source.begin_anew(watch);
                    return Ok(());
                }
                Err(again) => error = again,
            }
        }
    }
}

impl Caches {
    fn take(&self, batch: WatchBatch) {
        let index = self.index.load();
        let mut touched: HashMap<usize, (Arc<Cache>, Vec<Change>)> = HashMap::new();
        for event in batch.events {
            if let Some((cache, change)) = route(&index, &event) {
                touched.entry(id(cache)).or_insert_with(|| (cache.clone(), Vec::new())).1.push(change);
            }
        }
        let mut woken = Vec::with_capacity(touched.len());
        for (cache, changes) in touched.into_values() {
            for error in cache.apply(changes) {
                tracing::error!(%error, prefix = %cache.prefix, "skipped");
            }
            woken.push(cache);
        }
        self.progress.set(batch.revision);
        woken.iter().for_each(|cache| cache.announce(batch.revision));
    }
}

/// Tells caches apart.
fn id(cache: &Arc<Cache>) -> usize {
    Arc::as_ptr(cache).addr()
}

fn route<'i>(index: &'i Index, event: &Event) -> Option<(&'i Arc<Cache>, Change)> {
    let (cache, key) = keys::split(event.key().as_bytes(), |segment| index.by_segment.get(segment))?;
    let change = match event {
        Event::Put { kv, .. } => Change::Put { value: kv.value.clone(), revision: kv.mod_revision },
        Event::Delete { revision, .. } => Change::Delete { key: key.into(), revision: *revision },
    };
    Some((cache, change))
}

/// Reads all objects at one revision into the caches and opens the watch that goes on from it.
///
/// It begins `back` revisions before the present, as far as the store keeps them.
async fn fill(caches: &Caches, back: u64) -> Result<Watch, Error> {
    let status = caches.store.status().await?;
    let start = status.revision.saturating_sub(back).max(status.compacted).max(1);
    let mut found: HashMap<usize, Vec<Object>> = HashMap::new();
    let index = caches.index.load_full();
    let mut range = Range::prefix(keys::ROOT).at(start).limit(PAGE);
    loop {
        let page = caches.store.range(range.clone()).await?;
        let Some(last) = page.items.last().map(|kv| kv.key.clone()) else { break };
        for kv in &page.items {
            if let Some((cache, object)) = read(&index, kv) {
                found.entry(cache).or_default().push(object);
            }
        }
        if page.remaining == 0 {
            break;
        }
        range = range.after(&last);
    }
    for cache in index.by_segment.values() {
        cache.reset(found.remove(&id(cache)).unwrap_or_default(), start);
    }
    caches.progress.set(start);
    for cache in index.by_segment.values() {
        cache.announce(start);
    }
    caches.store.watch(WatchFrom::prefix(keys::ROOT, start + 1)).await
}

fn read(index: &Index, kv: &KeyValue) -> Option<(usize, Object)> {
    let (cache, _) = keys::split(kv.key.as_bytes(), |segment| index.by_segment.get(segment))?;
    match cache.object(&kv.value, kv.mod_revision) {
        Ok(object) => Some((id(cache), object)),
        Err(error) => {
            tracing::error!(%error, key = %kv.key, "skipped a value that is no object");
            None
        }
    }
}
