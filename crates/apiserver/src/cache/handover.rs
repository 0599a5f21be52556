//! A committed object is made once: the writer, who has parsed it, and the feed, which publishes it, share it.
//!
//! Before the commit the writer leaves the value here under its address in memory (the store hands the very same
//! bytes to watches). Whoever comes first after the commit puts the revision in; the other takes the same object.
//! A store that copies values, or a writer that gave up, costs nothing but the feed's own parse.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use tiphys_api::protobuf::Unversioned;
use tiphys_api::value::Gap;
use tiphys_api::{Meta, Object, Value};

use super::splice;

/// Values on their way into the store, by address.
#[derive(Debug, Default)]
pub(super) struct Handover(Mutex<HashMap<usize, Arc<Stored>>>);

#[derive(Debug)]
struct Stored {
    /// Keeps the address taken while the entry lives.
    bytes: Bytes,
    /// Where its revision goes.
    gap: Option<Gap>,
    /// Until the object takes it.
    meta: Mutex<Meta>,
    object: OnceLock<Object>,
}

impl Stored {
    fn at(&self, revision: u64) -> Object {
        let make = || {
            let meta = std::mem::take(&mut *self.meta.lock());
            let meta = Meta { resource_version: revision, ..meta };
            let (json, version_at) = splice::fill(&self.bytes, self.gap, revision);
            Object::versioned(meta, json, version_at)
        };
        self.object.get_or_init(make).clone()
    }
}

/// A value that is about to be committed. Dropping it withdraws it: the feed has taken it by the time the writer has its
/// answer, unless the store copied the value, or it was not committed.
pub struct Prepared<'c> {
    handover: &'c Handover,
    value: Arc<Stored>,
    /// Its protobuf, if that will be asked for.
    protobuf: Option<Unversioned>,
}

impl Handover {
    pub(super) fn prepare(&self, bytes: Bytes, gap: Option<Gap>, meta: Meta) -> Prepared<'_> {
        let value = Arc::new(Stored { bytes, gap, meta: Mutex::new(meta), object: OnceLock::new() });
        self.0.lock().insert(address(&value.bytes), value.clone());
        Prepared { handover: self, value, protobuf: None }
    }

    /// The object of a value that was prepared; the feed asks once.
    pub(super) fn take(&self, bytes: &Bytes, revision: u64) -> Option<Object> {
        let value = self.0.lock().remove(&address(bytes))?;
        (value.bytes.len() == bytes.len()).then(|| value.at(revision))
    }
}

impl Prepared<'_> {
    /// The bytes to commit: canonical JSON without a revision.
    pub fn bytes(&self) -> Bytes {
        self.value.bytes.clone()
    }

    /// Lets the committed object have its protobuf from the tree that it was written from: that saves reading it again. A
    /// kind that has no protobuf is left without one.
    pub fn keep(&mut self, tree: &Value) {
        self.protobuf = Unversioned::of(tree).ok();
    }

    /// Whether this is what `stored` is at this revision.
    pub fn is_same(&self, stored: &[u8], revision: u64) -> bool {
        splice::is_same(&self.value.bytes, self.value.gap, stored, revision)
    }

    /// The object as it would be at a revision (0: not stored), without a commit.
    pub fn imagined(self, revision: u64) -> Object {
        match revision {
            0 => Object::new(std::mem::take(&mut *self.value.meta.lock()), self.bytes()),
            revision => self.value.at(revision),
        }
    }

    /// The object, now that it is committed.
    pub fn committed(self, revision: u64) -> Object {
        let object = self.value.at(revision);
        if let Some(protobuf) = &self.protobuf {
            object.keep(&protobuf.sealed(revision));
        }
        object
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        self.handover.0.lock().remove(&address(&self.value.bytes));
    }
}

fn address(bytes: &Bytes) -> usize {
    bytes.as_ptr().addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_copies_leaves_nothing_behind() {
        let handover = Handover::default();
        let meta = tiphys_api::Meta::default();
        let prepared = handover.prepare(Bytes::from_static(b"{}"), None, meta.clone());
        assert!(handover.take(&Bytes::copy_from_slice(b"{}"), 2).is_none(), "another place in memory");
        prepared.committed(2);
        assert!(handover.0.lock().is_empty());
        let prepared = handover.prepare(Bytes::from(b"{ }".to_vec()), None, meta);
        assert!(handover.take(&prepared.bytes(), 3).is_some());
        assert_eq!(prepared.committed(3).meta().resource_version, 3);
    }
}
