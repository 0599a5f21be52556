//! watch: a cursor into the resource's ring of events, with a selection.
//!
//! - Nothing is queued per watcher. It wakes when its resource has new events, takes what is after its cursor, and
//!   is cut off with 410 when the ring has moved past it.
//! - An update that crosses the selection becomes an arrival or a departure, by comparing headers only.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tiphys_api::schema::Resource;
use tiphys_api::{Object, Status};
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep};

use super::convert::{self, Converter};
use super::request::{Request, WatchParams};
use super::{Registry, version};
use crate::cache::{Cache, Caches, Delivery, Event, EventKind, Selection, Span};

/// How often an idle watcher with bookmarks learns of the newest revision.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Events of one batch.
const BATCH_MAX: usize = 256;

/// A running watch. Dropping it ends it.
pub struct Watch {
    caches: Arc<Caches>,
    converter: Converter,
    cache: Arc<Cache>,
    wanted: Arc<Resource>,
    selection: Selection,
    changes: tokio::sync::watch::Receiver<u64>,
    /// Everything up to here was delivered.
    cursor: u64,
    first: Option<First>,
    bookmarks: Option<Interval>,
    /// Set up once: a watcher of a busy kind waits many thousand times.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// What is delivered before any change.
enum First {
    State { objects: Vec<Object>, mark_end: bool },
    Error(Box<Status>),
}

enum Wake {
    Changed,
    Bookmark,
    Over,
}

impl Registry {
    /// Follows a collection (or, with a name, one object). Errors after the request is understood come as the first
    /// item of the watch, as clients of kube-apiserver expect.
    pub async fn watch(&self, request: &Request<'_>, params: &WatchParams) -> Result<Watch, Status> {
        let cache = self.cache(request.resource)?;
        version::check_watch(&params.resource_version_match, params.send_initial_events)?;
        let since = version::parse(&params.resource_version)?;
        let selection = Selection::parse(
            request.resource,
            request.namespace,
            request.name,
            &params.labels,
            &params.fields,
        )?;
        let mut watch = Watch {
            caches: self.caches().clone(),
            converter: self.converter.clone(),
            changes: cache.changes(),
            cache,
            wanted: request.resource.clone(),
            selection,
            cursor: since.unwrap_or(0),
            first: None,
            bookmarks: params.bookmarks.then(bookmark_timer),
            deadline: params.timeout.map(|t| Box::pin(tokio::time::sleep(t))),
        };
        if let Err(status) = watch.begin(since, params).await {
            watch.first = Some(First::Error(Box::new(status)));
        }
        Ok(watch)
    }
}

impl Watch {
    async fn begin(&mut self, since: Option<u64>, params: &WatchParams) -> Result<(), Status> {
        match since {
            None => drop(self.caches.catch_up().await?),
            Some(revision) if params.send_initial_events == Some(true) => self.caches.reach(revision).await?,
            Some(_) => {}
        }
        let from_now = since.unwrap_or(0) == 0;
        match params.send_initial_events {
            Some(true) => self.take_state(params.bookmarks),
            None if from_now => self.take_state(false),
            Some(false) if from_now => self.cursor = self.caches.revision(),
            _ => self.check_cursor()?,
        }
        Ok(())
    }

    fn check_cursor(&self) -> Result<(), Status> {
        self.cache.since(self.cursor, 0).map(drop).map_err(|e| too_old(self.cursor, e.floor))
    }

    fn take_state(&mut self, mark_end: bool) {
        let reached = self.caches.revision();
        let span = Span { namespace: &self.selection.namespace, ..Span::default() };
        let mut objects = Vec::new();
        let last = self.cache.scan(span, |object| {
            if self.selection.matches(object.meta()) {
                objects.push(object.clone());
            }
            true
        });
        self.cursor = last.unwrap_or(0).max(reached);
        self.first = Some(First::State { objects, mark_end });
    }

    /// The next deliveries in revision order, at least one; waits for them. `None` once the watch's time is over.
    /// An error is the last item: 410 when this watcher fell too far behind.
    ///
    /// Safe to cancel: nothing is lost when the future is dropped before it is ready.
    pub async fn next(&mut self) -> Option<Result<Vec<Delivery>, Status>> {
        match &self.first {
            Some(First::Error(status)) => {
                let status = Status::clone(status);
                self.first = None;
                return Some(Err(status));
            }
            Some(First::State { objects, mark_end }) if *mark_end || !objects.is_empty() => {
                let state = self.state(objects, *mark_end).await;
                self.first = None;
                return Some(state);
            }
            _ => self.first = None,
        }
        loop {
            self.changes.borrow_and_update();
            match self.pull().await {
                Ok(batch) if batch.is_empty() => {}
                done => return Some(done),
            }
            if self.cache.is_closed() {
                return None;
            }
            match self.wait().await {
                Wake::Changed => {}
                Wake::Bookmark => match self.pull().await {
                    Ok(batch) if batch.is_empty() => return Some(Ok(vec![self.bookmark(false)])),
                    done => return Some(done),
                },
                Wake::Over => return None,
            }
        }
    }

    async fn state(&self, objects: &[Object], mark_end: bool) -> Result<Vec<Delivery>, Status> {
        let objects = self.converter.objects(&self.wanted, &self.cache.resource, objects.to_vec()).await?;
        let show = |object| Delivery::Object { kind: EventKind::Added, object };
        let mut batch: Vec<Delivery> = objects.into_iter().map(show).collect();
        if mark_end {
            batch.push(self.bookmark(true));
        }
        Ok(batch)
    }

    fn bookmark(&self, initial_end: bool) -> Delivery {
        Delivery::Bookmark { revision: self.cursor, initial_end }
    }

    /// What is in the ring after the cursor, as this watcher sees it. The cursor moves when that is at hand.
    async fn pull(&mut self) -> Result<Vec<Delivery>, Status> {
        loop {
            // Read before the events: none up to it can be missing afterwards.
            let reached = self.caches.revision();
            let events =
                self.cache.since(self.cursor, BATCH_MAX).map_err(|e| too_old(self.cursor, e.floor))?;
            let Some(last) = events.last().map(|event| event.revision) else {
                self.cursor = self.cursor.max(reached);
                return Ok(Vec::new());
            };
            let seen =
                events.into_iter().filter_map(|event| Some((seen_as(&self.selection, &event)?, event)));
            let batch = match self.converts() {
                false => seen.map(|(kind, event)| Delivery::Event { kind, event }).collect(),
                true => self.converted(seen.collect()).await?,
            };
            self.cursor = last;
            if !batch.is_empty() {
                return Ok(batch);
            }
        }
    }

    /// Whether what is stored need not be of the version that is watched.
    fn converts(&self) -> bool {
        !convert::is_same(&self.wanted, &self.cache.resource) || convert::is_mixed(&self.cache.resource)
    }

    async fn converted(&self, seen: Vec<(EventKind, Arc<Event>)>) -> Result<Vec<Delivery>, Status> {
        let objects = seen.iter().map(|(kind, event)| event.shown(*kind).clone()).collect();
        let objects = self.converter.objects(&self.wanted, &self.cache.resource, objects).await?;
        let deliver = |((kind, _), object): (&(EventKind, _), _)| Delivery::Object { kind: *kind, object };
        Ok(seen.iter().zip(objects).map(deliver).collect())
    }

    async fn wait(&mut self) -> Wake {
        let over = async {
            match &mut self.deadline {
                Some(deadline) => deadline.await,
                None => std::future::pending().await,
            }
        };
        let bookmark = async {
            match &mut self.bookmarks {
                Some(timer) => drop(timer.tick().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = self.changes.changed() => if changed.is_ok() { Wake::Changed } else { Wake::Over },
            () = over => Wake::Over,
            () = bookmark => Wake::Bookmark,
        }
    }
}

/// What a change means to a watcher; `None` when it is not its concern.
fn seen_as(selection: &Selection, event: &Event) -> Option<EventKind> {
    let now = event.kind != EventKind::Deleted && selection.matches(event.object.meta());
    let before = event.previous.as_ref().is_some_and(|object| selection.matches(object.meta()));
    match (before, now) {
        (false, false) => None,
        (false, true) => Some(EventKind::Added),
        (true, true) => Some(EventKind::Modified),
        (true, false) => Some(EventKind::Deleted),
    }
}

fn bookmark_timer() -> Interval {
    let mut timer = tokio::time::interval_at(Instant::now() + BOOKMARK_EVERY, BOOKMARK_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}

fn too_old(asked: u64, floor: u64) -> Status {
    Status::expired(format!("too old resource version: {asked} ({floor})"))
}
