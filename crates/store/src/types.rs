//! The words of the contract: keys, values, transactions, ranges, events.
//!
//! All are cheap to clone: keys and values are shared, never copied.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;

use crate::{Error, Span};

/// A point in the store's history: the number of a transaction. 0 means "none" or "the present", as each place says.
pub type Revision = u64;

/// Names a lease; never 0.
pub type LeaseId = u64;

/// A key such as `/registry/pods/default/web`: bytes, ordered as bytes, shared on clone. Mostly text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key as text, if it is.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Whether the key begins with `prefix`.
    pub fn starts_with(&self, prefix: &[u8]) -> bool {
        self.0.starts_with(prefix)
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self(text.into_bytes().into())
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A key's state at some revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// Its name.
    pub key: Key,
    /// Its value; empty in a keys-only read.
    pub value: Bytes,
    /// The revision that made it exist.
    pub create_revision: Revision,
    /// The revision that wrote it last: the object's resourceVersion.
    pub mod_revision: Revision,
    /// How often it was written since it exists, from 1.
    pub version: u64,
    /// The lease it is attached to; 0 = none.
    pub lease: LeaseId,
}

/// What must hold for a transaction to be applied: the key's mod revision is exactly this; 0 = it does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// The key looked at.
    pub key: Key,
    /// What its mod revision must be.
    pub mod_revision: Revision,
}

/// One change of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Writes a value.
    Put {
        /// Where.
        key: Key,
        /// What.
        value: Bytes,
        /// The lease the key is attached to from now on; 0 = none.
        lease: LeaseId,
    },
    /// Removes the key, if it exists.
    Delete {
        /// Which.
        key: Key,
    },
}

impl Op {
    /// Writes a value that stays until deleted.
    pub fn put(key: impl Into<Key>, value: impl Into<Bytes>) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease: 0 }
    }

    /// Writes a value that goes away with its lease.
    pub fn put_with_lease(key: impl Into<Key>, value: impl Into<Bytes>, lease: LeaseId) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease }
    }

    /// Removes a key.
    pub fn delete(key: impl Into<Key>) -> Self {
        Self::Delete { key: key.into() }
    }

    /// The key it changes.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }

    /// The bytes it brings.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.as_bytes().len() + value.len(),
            Self::Delete { key } => key.as_bytes().len(),
        }
    }
}

/// Changes that happen together, under a condition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub compares: Vec<Compare>,
    /// All are applied.
    pub ops: Vec<Op>,
}

impl Txn {
    /// One unconditional change; add more with [`Txn::and`], conditions with [`Txn::when`].
    pub fn new(op: Op) -> Self {
        Self { compares: Vec::new(), ops: vec![op] }
    }

    /// Writes a key that must not exist yet.
    pub fn create(key: impl Into<Key>, value: impl Into<Bytes>) -> Self {
        let key = key.into();
        Self::new(Op::put(key.clone(), value)).when(key, 0)
    }

    /// Writes a key whose mod revision must be `expected`.
    pub fn update(key: impl Into<Key>, value: impl Into<Bytes>, expected: Revision) -> Self {
        let key = key.into();
        Self::new(Op::put(key.clone(), value)).when(key, expected)
    }

    /// Deletes a key whose mod revision must be `expected`.
    pub fn delete(key: impl Into<Key>, expected: Revision) -> Self {
        let key = key.into();
        Self::new(Op::delete(key.clone())).when(key, expected)
    }

    /// Adds a condition: the key's mod revision (0 = absent).
    pub fn when(mut self, key: impl Into<Key>, mod_revision: Revision) -> Self {
        self.compares.push(Compare { key: key.into(), mod_revision });
        self
    }

    /// Adds a change.
    pub fn and(mut self, op: Op) -> Self {
        self.ops.push(op);
        self
    }
}

/// How a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnResult {
    /// All comparisons held and the changes are durable.
    Committed {
        /// The transaction's revision: the mod revision of all it wrote (the present one if it changed nothing).
        revision: Revision,
    },
    /// A comparison failed; nothing was changed.
    Conflict {
        /// The revision at which that was found.
        revision: Revision,
        /// The mod revision of each compared key, in the order of the comparisons; 0 = absent.
        found: Vec<Revision>,
    },
}

impl TxnResult {
    /// The transaction's revision, or none if it was refused.
    pub fn committed(&self) -> Option<Revision> {
        match self {
            Self::Committed { revision } => Some(*revision),
            Self::Conflict { .. } => None,
        }
    }
}

/// Which keys to read, in order, at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The keys.
    pub span: Span,
    /// At most so many; 0 = all.
    pub limit: usize,
    /// At which revision; 0 = the present.
    pub revision: Revision,
    /// Leave the values out. With a limit of 1 it is how keys are counted.
    pub keys_only: bool,
}

impl From<Span> for Range {
    fn from(span: Span) -> Self {
        Self { span, limit: 0, revision: 0, keys_only: false }
    }
}

impl Range {
    /// Everything under a prefix: see [`Span::prefix`].
    pub fn prefix(prefix: impl Into<Key>) -> Self {
        Span::prefix(prefix).into()
    }

    /// One key.
    pub fn key(key: impl Into<Key>) -> Self {
        Span::key(key).into()
    }

    /// Only keys after this one: how a limited read goes on.
    pub fn after(mut self, key: &Key) -> Self {
        self.span = self.span.after(key);
        self
    }

    /// At most so many keys; 0 = all.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// As it was at `revision`; 0 = now.
    pub fn at(mut self, revision: Revision) -> Self {
        self.revision = revision;
        self
    }

    /// Without the values.
    pub fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    /// The limit as a number of keys.
    pub fn most(&self) -> usize {
        if self.limit == 0 { usize::MAX } else { self.limit }
    }
}

/// What a range read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeResult {
    /// The revision the answer is the state of: the one asked for, or the present one. A watch from the next one
    /// on continues this answer without a gap.
    pub revision: Revision,
    /// The keys found, in order.
    pub items: Vec<KeyValue>,
    /// How many keys of the range were left out by the limit.
    pub remaining: u64,
}

/// What to watch, and from when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchFrom {
    /// Only these keys.
    pub span: Span,
    /// The first revision whose events are wanted: one more than that of the list it continues. 0 = only what
    /// happens after this call. A future one is waited for.
    pub revision: Revision,
    /// Fill [`Event::previous`].
    pub previous: bool,
}

impl WatchFrom {
    /// Events under `prefix` from `revision` (included) on.
    pub fn prefix(prefix: impl Into<Key>, revision: Revision) -> Self {
        Self::span(Span::prefix(prefix), revision)
    }

    /// Events of these keys from `revision` (included) on.
    pub fn span(span: Span, revision: Revision) -> Self {
        Self { span, revision, previous: false }
    }

    /// With the value each event replaces.
    pub fn with_previous(mut self) -> Self {
        self.previous = true;
        self
    }
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The key was written; `kv.version == 1` tells a creation.
    Put {
        /// Its new state.
        kv: KeyValue,
        /// The mod revision it had before; 0 = it did not exist. An etcd tells it with `previous` only; else it is 0.
        previous_revision: Revision,
        /// Its state before, if the watch asked for it, there was one, and compaction has not removed it.
        previous: Option<KeyValue>,
    },
    /// The key was deleted, by a transaction or because its lease ended.
    Delete {
        /// Its name.
        key: Key,
        /// The revision of the deletion.
        revision: Revision,
        /// The mod revision it had before; as for a put.
        previous_revision: Revision,
        /// As for a put.
        previous: Option<KeyValue>,
    },
}

impl Event {
    /// The key that changed.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { kv, .. } => &kv.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// The revision of the change.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put { kv, .. } => kv.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }
}

/// Some whole revisions' events, in order. A revision's events are never split over two batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchBatch {
    /// Everything up to this revision has been delivered with this batch.
    pub revision: Revision,
    /// In order of revision; within one, in the transaction's order. Empty in a progress report.
    pub events: Vec<Event>,
}

/// A running watch; dropping it ends it.
pub type Watch = BoxStream<'static, Result<WatchBatch, Error>>;

/// Figures about a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The last committed revision.
    pub revision: Revision,
    /// The oldest revision that can be read.
    pub compacted: Revision,
    /// Keys that exist.
    pub keys: u64,
    /// Bytes the store takes on disk.
    pub disk_bytes: u64,
    /// Of these, bytes of keys and values, present and past ones that are still kept.
    pub used_bytes: u64,
    /// How many bytes may be used; 0 = the engine knows no limit.
    pub quota_bytes: u64,
    /// The alarm: the quota is used up, so that only deletes and compaction are taken ([`Error::NoSpace`]). It ends by
    /// itself when there is space again.
    pub no_space: bool,
    /// Leases that exist.
    pub leases: u64,
    /// Running watches.
    pub watches: u64,
}

/// A lease, as it is at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its name.
    pub id: LeaseId,
    /// How long it lives after each renewal.
    pub ttl: Duration,
    /// How long it still lives.
    pub remaining: Duration,
    /// The keys attached to it, in order.
    pub keys: Vec<Key>,
}

/// A hash of all keys at a revision, with their values and numbers: equal states have equal hashes, in every engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateHash {
    /// The revision of the state.
    pub revision: Revision,
    /// How many keys there were.
    pub keys: u64,
    /// CRC-32 of all.
    pub hash: u32,
}
