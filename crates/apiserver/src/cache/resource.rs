//! The cache of one resource: its objects in key order, and the ring of its recent events.
//!
//! - Readers share a lock for as long as it takes to clone references to chunks; the feed is the only writer.
//! - The ring reaches back to `floor`: every event after that revision is in it. It is bounded by bytes.
//! - A past state within the ring is the present one with the later events undone, so a paged list stays at its
//!   revision without anyone keeping snapshots.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering as AtomicOrdering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tiphys_api::apply::folded::{self, Before};
use tiphys_api::schema::Resource;
use tiphys_api::{Meta, Object, Value, structural};
use tokio::sync::watch;

use super::event::{Event, EventKind};
use super::fields::FieldPaths;
use super::handover::{Handover, Prepared};
use super::order::{self, Objects, Ordered, key_of};
use super::{keys, splice};

/// The cache of one group-resource.
#[derive(Debug)]
pub struct Cache {
    /// The resource in its storage version.
    pub resource: Arc<Resource>,
    /// `/registry/<segment>/`: what its keys begin with.
    pub prefix: Box<str>,
    fields: FieldPaths,
    state: RwLock<State>,
    changed: watch::Sender<u64>,
    handover: Handover,
    ring_bytes_max: usize,
    stage: Mutex<Stage>,
    closed: AtomicBool,
}

/// Where a cache is in its life; those of built-in kinds are always the same.
#[derive(Debug, Default)]
enum Stage {
    /// It takes over what it hears.
    #[default]
    Current,
    /// What is there is still being read: it keeps what it hears.
    Filling(Vec<Change>),
    /// Another is about to take its place, and hears what it hears.
    Leaving(Arc<Cache>),
}

#[derive(Debug, Default)]
struct State {
    objects: Ordered,
    ring: VecDeque<Arc<Event>>,
    ring_bytes: usize,
    /// Bytes of the frames that are kept at events, those included that a watcher holds after they left the ring.
    kept: Arc<AtomicUsize>,
    /// All events after this revision are in the ring.
    floor: u64,
    /// The revision of the last event.
    reached: u64,
}

/// What the store told about one key of this resource.
#[derive(Clone, Debug)]
pub enum Change {
    /// The key's value, without revision.
    Put {
        /// Canonical JSON.
        value: Bytes,
        /// The revision of the write.
        revision: u64,
    },
    /// The key is gone.
    Delete {
        /// `namespace/name` or `name`.
        key: Box<str>,
        /// The revision of the deletion.
        revision: u64,
    },
}

/// A watcher's place is no longer in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooOld {
    /// The oldest revision to watch from.
    pub floor: u64,
}

/// What a list reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span<'a> {
    /// Only this namespace; empty for all.
    pub namespace: &'a str,
    /// First key (namespace, name) that may be in it; both empty for the beginning.
    pub start: (&'a str, &'a str),
    /// State at this revision; 0 for the present.
    pub revision: u64,
}

impl Cache {
    /// An empty cache.
    pub fn new(resource: Arc<Resource>, prefix: String, ring_bytes_max: usize) -> Self {
        let fields = FieldPaths::new(&resource);
        let (changed, _) = watch::channel(0);
        Self {
            resource,
            prefix: prefix.into(),
            fields,
            state: RwLock::default(),
            changed,
            handover: Handover::default(),
            ring_bytes_max,
            stage: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// A cache of a custom resource that keeps what it hears until [`Self::fill`].
    pub(super) fn filling(resource: Arc<Resource>, ring_bytes_max: usize) -> Self {
        let prefix = format!("{}{}/", keys::ROOT, keys::segment(&resource.gvr, true));
        Self { stage: Mutex::new(Stage::Filling(Vec::new())), ..Self::new(resource, prefix, ring_bytes_max) }
    }

    /// Begins with a state at a revision, and with what came after it.
    pub(super) fn fill(&self, objects: Vec<Object>, revision: u64) {
        let mut stage = self.stage.lock();
        self.reset(objects, revision);
        let Stage::Filling(early) = std::mem::take(&mut *stage) else { return };
        for error in self.take(early) {
            tracing::error!(%error, prefix = %self.prefix, "skipped");
        }
    }

    /// Tells another cache, too, from now on.
    pub(super) fn hand_on(&self, next: &Arc<Self>) {
        *self.stage.lock() = Stage::Leaving(next.clone());
    }

    /// Tells nobody else any more.
    pub(super) fn stay(&self) {
        *self.stage.lock() = Stage::Current;
    }

    /// Ends all watches.
    pub(super) fn close(&self) {
        self.closed.store(true, AtomicOrdering::Release);
        self.changed.send_modify(|_| {});
    }

    /// Whether nothing is told here any more.
    pub fn is_closed(&self) -> bool {
        self.closed.load(AtomicOrdering::Acquire)
    }

    /// The store's key of an object.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        match namespace {
            "" => format!("{}{name}", self.prefix),
            namespace => format!("{}{namespace}/{name}", self.prefix),
        }
    }

    /// The object as the cache keeps it: with its revision in the bytes, and the selectable fields in the header.
    pub fn object(&self, value: &[u8], revision: u64) -> Result<Object, serde_json::Error> {
        let brought = self.brought_up_to_date(value)?;
        let value = brought.as_deref().unwrap_or(value);
        let mut meta = Meta::parse(value)?;
        meta.resource_version = revision;
        meta.fields = self.fields.read(value)?;
        let (json, version_at) = splice::insert(value, revision);
        Ok(Object::versioned(meta, json, version_at))
    }

    /// A custom resource's value as its definition has it by now: it may have been stored in another version, and without
    /// defaults. `None` when it is as it should be.
    fn brought_up_to_date(&self, value: &[u8]) -> Result<Option<Vec<u8>>, serde_json::Error> {
        match &self.resource.custom {
            Some(custom) => structural::up_to_date(custom, &self.resource.gvk, value),
            None => Ok(None),
        }
    }

    /// The bytes and header of an object (a folded tree) that is about to be committed, so that the feed need not read
    /// them. `before`: the version it was made from.
    pub fn prepare(
        &self,
        object: &Value,
        before: Option<(&Before<'_>, &Object)>,
    ) -> Result<Prepared<'_>, serde_json::Error> {
        let mut meta = Meta::read(object, before.map(|(read, old)| (read.tree(), old.meta())));
        meta.fields = self.resource.selectable(object);
        let (mut json, gap) = folded::write_stored(object, before.map(|(read, _)| read))?;
        // It is kept for a while in the store's memory.
        json.shrink_to_fit();
        Ok(self.handover.prepare(json.into(), gap, meta))
    }

    /// The newest version of one object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Object> {
        self.state.read().objects.get(namespace, name).cloned()
    }

    /// Every object of a namespace, or of all.
    pub fn all(&self, namespace: &str) -> Vec<Object> {
        self.state.read().objects.view(("", ""), namespace).to_vec()
    }

    /// The number of objects.
    pub fn len(&self) -> usize {
        self.state.read().objects.count()
    }

    /// The revision of the last event (or of the fill, when there was none).
    pub fn last_event(&self) -> u64 {
        self.state.read().reached
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The objects of a span and the revision of their state (that of the last event, unless the span has its own), where
    /// that is the present state.
    pub fn view(&self, span: Span<'_>) -> Option<(Objects, u64)> {
        let state = self.state.read();
        let present = span.revision == 0 || span.revision >= state.reached;
        present.then(|| (state.objects.view(span.start, span.namespace), state.revision(span)))
    }

    /// Visits objects in key order until `visit` returns false, and tells the revision of their state.
    pub fn scan(&self, span: Span<'_>, mut visit: impl FnMut(&Object) -> bool) -> Result<u64, TooOld> {
        let (present, past, revision) = {
            let state = self.state.read();
            let past = state.undo(span)?;
            (state.objects.view(span.start, span.namespace), past, state.revision(span))
        };
        let (mut present, mut past) = (present.iter().peekable(), past.iter().peekable());
        loop {
            let order = match (present.peek(), past.peek()) {
                (None, None) => return Ok(revision),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(now), Some((touched, _))) => order::compare(key_of(now), key_of(touched)),
            };
            let now = if order.is_le() { present.next() } else { None };
            let shown = if order.is_lt() { now } else { past.next().and_then(|(_, before)| before.as_ref()) };
            if let Some(object) = shown
                && !visit(object)
            {
                return Ok(revision);
            }
        }
    }

    /// Up to `max` events after `cursor` in order.
    pub fn since(&self, cursor: u64, max: usize) -> Result<Vec<Arc<Event>>, TooOld> {
        let state = self.state.read();
        if cursor < state.floor {
            return Err(TooOld { floor: state.floor });
        }
        let first = state.ring.partition_point(|e| e.revision <= cursor);
        let mut last = (first + max).min(state.ring.len());
        // A revision's events stay together: a cursor inside one could not say which were delivered.
        let same = |last: usize| revision_at(&state.ring, last) == revision_at(&state.ring, last - 1);
        while last > first && last < state.ring.len() && same(last) {
            last += 1;
        }
        Ok(state.ring.range(first..last).cloned().collect())
    }

    /// Tells when there are new events: the revision of the last one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Takes over changes in revision order and returns how many events they made. Watchers are told by
    /// [`Self::announce`], once the global revision has advanced.
    pub(super) fn apply(&self, changes: Vec<Change>) -> Vec<ApplyError> {
        match &mut *self.stage.lock() {
            Stage::Current => {}
            Stage::Leaving(next) => drop(next.apply(changes.clone())),
            Stage::Filling(early) => {
                early.extend(changes);
                return Vec::new();
            }
        }
        self.take(changes)
    }

    fn take(&self, changes: Vec<Change>) -> Vec<ApplyError> {
        let mut errors = Vec::new();
        // Objects are made before the lock is taken: readers never wait for a parse.
        let ready: Vec<Ready> = changes
            .into_iter()
            .filter_map(|change| self.ready(change).map_err(|e| errors.push(e)).ok())
            .collect();
        let mut state = self.state.write();
        let begun = state.floor;
        for change in ready.into_iter().filter(|change| change.revision() > begun) {
            state.take(change, self.ring_bytes_max);
        }
        errors
    }

    /// Wakes the watchers.
    pub(super) fn announce(&self, revision: u64) {
        self.changed.send_replace(revision);
    }

    /// Forgets everything and begins anew with a state at a revision.
    pub(super) fn reset(&self, objects: Vec<Object>, revision: u64) {
        let mut state = self.state.write();
        *state = State {
            objects: objects.into_iter().collect(),
            floor: revision,
            reached: revision,
            ..State::default()
        };
    }

    fn ready(&self, change: Change) -> Result<Ready, ApplyError> {
        match change {
            Change::Put { value, revision } => match self.handover.take(&value, revision) {
                Some(object) => Ok(Ready::Put(object)),
                None => {
                    let object = self.object(&value, revision);
                    object.map(Ready::Put).map_err(|source| ApplyError { revision, source })
                }
            },
            Change::Delete { key, revision } => Ok(Ready::Delete { key, revision }),
        }
    }
}

/// A value in the store that is no object. It is skipped; the API never writes such.
#[derive(Debug, thiserror::Error)]
#[error("the value written at revision {revision} is not an object: {source}")]
pub struct ApplyError {
    revision: u64,
    source: serde_json::Error,
}

enum Ready {
    Put(Object),
    Delete { key: Box<str>, revision: u64 },
}

impl Ready {
    fn revision(&self) -> u64 {
        match self {
            Self::Put(object) => object.meta().resource_version,
            Self::Delete { revision, .. } => *revision,
        }
    }
}

impl State {
    fn take(&mut self, change: Ready, max: usize) {
        let event = match change {
            Ready::Put(object) => self.put(object),
            Ready::Delete { key, revision } => self.delete(&key, revision),
        };
        if let Some(event) = event {
            self.remember(event, max);
        }
    }

    fn put(&mut self, object: Object) -> Option<Event> {
        let previous = self.objects.replace(object.clone());
        previous.iter().for_each(Object::outdate);
        let kind = if previous.is_some() { EventKind::Modified } else { EventKind::Added };
        let revision = object.meta().resource_version;
        Some(Event::new(kind, object, previous, revision, self.kept.clone()))
    }

    fn delete(&mut self, key: &str, revision: u64) -> Option<Event> {
        let key = key.split_once('/').unwrap_or(("", key));
        let previous = self.objects.take(key)?;
        previous.outdate();
        Some(Event::new(EventKind::Deleted, previous.clone(), Some(previous), revision, self.kept.clone()))
    }

    fn remember(&mut self, event: Event, max: usize) {
        self.ring_bytes += event.bytes();
        self.reached = event.revision;
        self.ring.push_back(Arc::new(event));
        while self.ring_bytes + self.kept.load(AtomicOrdering::Relaxed) > max && self.ring.len() > 1 {
            if let Some(oldest) = self.ring.pop_front() {
                self.ring_bytes -= oldest.bytes();
                self.floor = oldest.revision;
            }
        }
    }

    /// What later events of the span touched, in key order, each with the object as of the span's revision.
    fn undo(&self, span: Span<'_>) -> Result<Vec<(Object, Option<Object>)>, TooOld> {
        if span.revision == 0 {
            return Ok(Vec::new());
        }
        if span.revision < self.floor {
            return Err(TooOld { floor: self.floor });
        }
        let later = self.ring.partition_point(|event| event.revision <= span.revision);
        let touched = self.ring.range(later..).filter(|event| span.holds(key_of(&event.object)));
        let mut past: Vec<_> = touched.map(|event| (event.object.clone(), event.previous.clone())).collect();
        // Of the events of a key the first knows what was there before; the order of events stays within a key.
        past.sort_by(|a, b| order::compare(key_of(&a.0), key_of(&b.0)));
        past.dedup_by(|next, first| key_of(&next.0) == key_of(&first.0));
        Ok(past)
    }

    /// The revision of what a span shows.
    fn revision(&self, span: Span<'_>) -> u64 {
        if span.revision == 0 { self.reached } else { span.revision }
    }
}

impl Span<'_> {
    fn holds(&self, key: (&str, &str)) -> bool {
        (self.namespace.is_empty() || self.namespace == key.0) && order::compare(key, self.start).is_ge()
    }
}

fn revision_at(ring: &VecDeque<Arc<Event>>, at: usize) -> Option<u64> {
    ring.get(at).map(|e| e.revision)
}
