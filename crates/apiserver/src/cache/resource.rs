//! The cache of one resource: its objects in key order, and the ring of its recent events.
//!
//! - Readers share a lock for as long as it takes to clone references; the feed is the only writer.
//! - The ring reaches back to `floor`: every event after that revision is in it. It is bounded by bytes.
//! - A past state within the ring is the present one with the later events undone, so a paged list stays at its
//!   revision without anyone keeping snapshots.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use tiphys_api::apply::folded;
use tiphys_api::schema::Resource;
use tiphys_api::{Meta, Object, Value};
use tokio::sync::watch;

use super::event::{Event, EventKind};
use super::fields::FieldPaths;
use super::handover::{Handover, Prepared};
use super::order::{self, ByKey, Key, Keyed, Ordered};
use super::splice;

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
}

#[derive(Debug, Default)]
struct State {
    objects: Ordered,
    ring: VecDeque<Arc<Event>>,
    ring_bytes: usize,
    /// All events after this revision are in the ring.
    floor: u64,
    /// The revision of the last event.
    reached: u64,
}

/// What the store told about one key of this resource.
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
        }
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
        let mut meta = Meta::parse(value)?;
        meta.resource_version = revision;
        meta.fields = self.fields.read(value)?;
        Ok(Object::new(meta, splice::insert(value, revision)))
    }

    /// The bytes and header of an object (a folded tree) that is about to be committed, so that the feed need not read
    /// them.
    pub fn prepare(&self, object: &Value) -> Result<Prepared<'_>, serde_json::Error> {
        let mut meta = Meta::read(object)?;
        meta.fields = self.resource.selectable(object);
        Ok(self.handover.prepare(folded::write(object)?.into(), meta))
    }

    /// The newest version of one object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Object> {
        order::find(&self.state.read().objects, namespace, name).cloned()
    }

    /// Every object of a namespace, or of all.
    pub fn all(&self, namespace: &str) -> Vec<Object> {
        order::from(&self.state.read().objects, ("", ""), namespace).cloned().collect()
    }

    /// The number of objects.
    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    /// The revision of the last event (or of the fill, when there was none).
    pub fn last_event(&self) -> u64 {
        self.state.read().reached
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Visits objects in key order until `visit` returns false, and tells the revision of the last event of the state
    /// (or the span's own). It runs under the lock: it may only look and clone.
    pub fn scan(&self, span: Span<'_>, mut visit: impl FnMut(&Object) -> bool) -> Result<u64, TooOld> {
        let state = self.state.read();
        let past = state.undo(span)?;
        let revision = if span.revision == 0 { state.reached } else { span.revision };
        let mut present = order::from(&state.objects, span.start, span.namespace).peekable();
        let mut past = past.iter().peekable();
        loop {
            let shown = match (present.peek(), past.peek()) {
                (None, None) => return Ok(revision),
                (Some(_), None) => present.next(),
                (None, Some(_)) => past.next().and_then(|(_, object)| object.as_ref()),
                (Some(now), Some((key, _))) => match order::compare(key_of(now), key.key()) {
                    std::cmp::Ordering::Less => present.next(),
                    std::cmp::Ordering::Greater => past.next().and_then(|(_, object)| object.as_ref()),
                    std::cmp::Ordering::Equal => {
                        present.next();
                        past.next().and_then(|(_, object)| object.as_ref())
                    }
                },
            };
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
        let mut errors = Vec::new();
        // Objects are made before the lock is taken: readers never wait for a parse.
        let ready: Vec<Ready> = changes
            .into_iter()
            .filter_map(|change| self.ready(change).map_err(|e| errors.push(e)).ok())
            .collect();
        let mut state = self.state.write();
        for change in ready {
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
        let objects = objects.into_iter().map(ByKey).collect();
        *state = State { objects, floor: revision, reached: revision, ..State::default() };
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
        let previous = self.objects.replace(ByKey(object.clone())).map(|o| o.0);
        let kind = if previous.is_some() { EventKind::Modified } else { EventKind::Added };
        let revision = object.meta().resource_version;
        Some(Event::new(kind, object, previous, revision))
    }

    fn delete(&mut self, key: &str, revision: u64) -> Option<Event> {
        let key = key.split_once('/').unwrap_or(("", key));
        let previous = self.objects.take::<dyn order::Keyed>(&key)?.0;
        let last = splice::with_revision(&previous, revision);
        Some(Event::new(EventKind::Deleted, last, Some(previous), revision))
    }

    fn remember(&mut self, event: Event, max: usize) {
        self.ring_bytes += event.bytes();
        self.reached = event.revision;
        self.ring.push_back(Arc::new(event));
        while self.ring_bytes > max && self.ring.len() > 1 {
            if let Some(oldest) = self.ring.pop_front() {
                self.ring_bytes -= oldest.bytes();
                self.floor = oldest.revision;
            }
        }
    }

    /// The keys of the span that later events touched, with their objects as of the span's revision.
    fn undo(&self, span: Span<'_>) -> Result<BTreeMap<Key, Option<Object>>, TooOld> {
        let mut past = BTreeMap::new();
        if span.revision == 0 {
            return Ok(past);
        }
        if span.revision < self.floor {
            return Err(TooOld { floor: self.floor });
        }
        for event in self.ring.iter().rev().take_while(|e| e.revision > span.revision) {
            let meta = event.object.meta();
            if span.holds(key_of(&event.object)) {
                past.insert(Key(meta.namespace.clone(), meta.name.clone()), event.previous.clone());
            }
        }
        Ok(past)
    }
}

impl Span<'_> {
    fn holds(&self, key: (&str, &str)) -> bool {
        (self.namespace.is_empty() || self.namespace == key.0)
            && order::compare(key, self.start) != std::cmp::Ordering::Less
    }
}

fn key_of(object: &Object) -> (&str, &str) {
    (&object.meta().namespace, &object.meta().name)
}

fn revision_at(ring: &VecDeque<Arc<Event>>, at: usize) -> Option<u64> {
    ring.get(at).map(|e| e.revision)
}
