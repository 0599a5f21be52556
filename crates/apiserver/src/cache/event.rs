//! One change, as all watchers of a resource share it.
//!
//! The event keeps the object before and after, so that a watcher with a selector can see an update as an arrival
//! or a departure; and it keeps each frame that costs more than a copy, so that a thousand watchers encode once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use tiphys_api::Object;

/// The `type` of a watch frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// `ADDED`
    Added,
    /// `MODIFIED`
    Modified,
    /// `DELETED`
    Deleted,
}

impl EventKind {
    /// The text on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// One committed change of one object.
#[derive(Debug)]
pub struct Event {
    /// What happened to the object.
    pub kind: EventKind,
    /// The object after the change; for a deletion its last state. What watchers see of it is [`Self::shown`].
    pub object: Object,
    /// The object before the change; `None` when it is new.
    pub previous: Option<Object>,
    /// The store's revision of the change.
    pub revision: u64,
    /// `previous` with this event's revision, for watchers whose selection the object left: made when the first one asks,
    /// as mostly nobody does.
    departed: OnceLock<Object>,
    frames: Mutex<Vec<(Frame, Bytes)>>,
    /// The bytes of all that is made for watchers and kept at a ring's events.
    kept: Arc<AtomicUsize>,
}

/// Names one encoding of one event: the codec's own number and the `type` of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Chosen by the encoder: one number per media type and form.
    pub encoding: u16,
    /// The frame's `type`.
    pub kind: EventKind,
}

impl Event {
    /// A change that was just committed. What is made of it for watchers is put to `kept`.
    pub fn new(
        kind: EventKind,
        object: Object,
        previous: Option<Object>,
        revision: u64,
        kept: Arc<AtomicUsize>,
    ) -> Self {
        let (departed, frames) = (OnceLock::new(), Mutex::default());
        Self { kind, object, previous, revision, departed, frames, kept }
    }

    /// What the event takes of the ring's budget: the version that it replaced, which nobody else has any more, and some
    /// overhead. Its own is in the cache, or counted by the event that replaced it; frames are counted as they are made.
    pub(super) fn bytes(&self) -> usize {
        512 + self.previous.as_ref().map_or(0, |object| object.json().len())
    }

    /// The object that a frame of `kind` shows.
    pub fn shown(&self, kind: EventKind) -> &Object {
        match (kind, &self.previous) {
            (EventKind::Deleted, Some(previous)) => self.departed.get_or_init(|| self.departure(previous)),
            _ => &self.object,
        }
    }

    fn departure(&self, previous: &Object) -> Object {
        let departed = super::splice::with_revision(previous, self.revision);
        self.kept.fetch_add(departed.json().len(), Ordering::Relaxed);
        departed
    }

    /// The frame's bytes: made by the first watcher that needs them, shared by all others.
    pub fn frame(&self, frame: Frame, make: impl FnOnce(&Object) -> Bytes) -> Bytes {
        let mut frames = self.frames.lock();
        if let Some((_, bytes)) = frames.iter().find(|(f, _)| *f == frame) {
            return bytes.clone();
        }
        let bytes = make(self.shown(frame.kind));
        self.kept.fetch_add(bytes.len(), Ordering::Relaxed);
        frames.push((frame, bytes.clone()));
        bytes
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let frames: usize = self.frames.get_mut().iter().map(|(_, bytes)| bytes.len()).sum();
        let departed = self.departed.get().map_or(0, |object| object.json().len());
        self.kept.fetch_sub(frames + departed, Ordering::Relaxed);
    }
}

/// What a watch hands out, in revision order.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// A change; `kind` is what it means to this watcher and may differ from `event.kind`.
    Event {
        /// What to show: see [`Event::shown`].
        kind: EventKind,
        /// The shared change.
        event: Arc<Event>,
    },
    /// An object that is not part of a shared event: present at the start, or converted for this version.
    Object {
        /// The `type` of the frame.
        kind: EventKind,
        /// The object to show.
        object: Object,
    },
    /// Everything up to the revision was delivered.
    Bookmark {
        /// `metadata.resourceVersion` of the bookmark.
        revision: u64,
        /// Carries the annotation `k8s.io/initial-events-end: "true"`.
        initial_end: bool,
    },
}
