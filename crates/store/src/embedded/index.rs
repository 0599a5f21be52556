//! What the embedded engine knows in memory: every living key's numbers, without its value, and the leases.
//!
//! The index is the published state: it changes only after the change is durable, and only the writer changes it.
//! What a transaction would do is worked out beside it, in a [`Plan`](super::plan::Plan).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::row::{Replaced, row_bytes};
use crate::{Event, Key, KeyValue, Lease, LeaseId, Revision, Span};

/// Where a row is on disk: the revision of its transaction, and its place in that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RowId {
    /// The transaction.
    pub revision: Revision,
    /// The change within it, from 0.
    pub sub: u32,
}

/// A living key's numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub create_revision: Revision,
    pub mod_revision: Revision,
    pub version: u64,
    pub lease: LeaseId,
    pub sub: u32,
    /// What its row takes on disk.
    pub bytes: u32,
}

impl Entry {
    /// Where its value is.
    pub fn row(&self) -> RowId {
        RowId { revision: self.mod_revision, sub: self.sub }
    }

    /// Its row, once something else takes its place.
    pub fn replaced(&self) -> Replaced {
        Replaced { at: self.row(), bytes: self.bytes }
    }

    /// With its key and value, as the contract shows it.
    pub fn key_value(&self, key: Key, value: Bytes) -> KeyValue {
        let Entry { create_revision, mod_revision, version, lease, .. } = *self;
        KeyValue { key, value, create_revision, mod_revision, version, lease }
    }
}

/// One change of one key.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub key: Key,
    pub at: RowId,
    pub before: Option<Entry>,
    /// Its new state; none = deleted.
    pub after: Option<(Entry, Bytes)>,
}

impl Change {
    /// A key is written, after what was there before.
    pub fn put(key: Key, at: RowId, before: Option<Entry>, lease: LeaseId, value: Bytes) -> Self {
        let entry = Entry {
            create_revision: before.map_or(at.revision, |entry| entry.create_revision),
            mod_revision: at.revision,
            version: before.map_or(0, |entry| entry.version) + 1,
            lease,
            sub: at.sub,
            bytes: row_bytes(&key, &value) as u32,
        };
        Self { key, at, before, after: Some((entry, value)) }
    }

    /// What its row takes on disk.
    pub fn bytes(&self) -> u32 {
        self.after.as_ref().map_or_else(|| row_bytes(&self.key, &[]) as u32, |(entry, _)| entry.bytes)
    }

    /// As watchers see it.
    pub fn event(&self) -> Event {
        let previous_revision = self.before.map_or(0, |entry| entry.mod_revision);
        let key = self.key.clone();
        match &self.after {
            Some((entry, value)) => {
                Event::Put { kv: entry.key_value(key, value.clone()), previous_revision, previous: None }
            }
            None => Event::Delete { key, revision: self.at.revision, previous_revision, previous: None },
        }
    }

    /// Roughly what it takes in memory.
    fn size(&self) -> usize {
        let value = self.after.as_ref().map_or(0, |(_, value)| value.len());
        std::mem::size_of::<Self>() + self.key.as_bytes().len() + value
    }
}

/// One transaction's changes.
#[derive(Debug)]
pub(super) struct Revised {
    pub revision: Revision,
    pub changes: Vec<Change>,
}

impl Revised {
    /// Roughly what it takes in memory.
    pub fn size(&self) -> usize {
        self.changes.iter().map(Change::size).sum()
    }
}

/// How long a lease lives, and until when (milliseconds; the deadline since 1970).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Term {
    pub ttl_ms: u64,
    pub deadline_ms: u64,
}

impl Term {
    /// As the contract shows it.
    pub fn lease(&self, id: LeaseId, now_ms: u64, keys: Vec<Key>) -> Lease {
        let remaining = Duration::from_millis(self.deadline_ms.saturating_sub(now_ms));
        Lease { id, ttl: Duration::from_millis(self.ttl_ms), remaining, keys }
    }
}

#[derive(Debug)]
struct Attached {
    term: Term,
    keys: BTreeSet<Key>,
}

/// The published state.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub revision: Revision,
    pub compacted: Revision,
    /// What the rows of the living keys take on disk.
    pub live_bytes: u64,
    keys: BTreeMap<Key, Entry>,
    leases: BTreeMap<LeaseId, Attached>,
    expiries: BTreeSet<(u64, LeaseId)>,
}

impl Index {
    /// From what was found on disk; `heads` in order of key.
    pub fn load(
        revision: Revision,
        compacted: Revision,
        leases: Vec<(LeaseId, Term)>,
        heads: Vec<(Key, Entry)>,
    ) -> Self {
        let mut index = Self { revision, compacted, ..Self::default() };
        for (id, term) in leases {
            index.set_lease(id, Some(term));
        }
        for (key, entry) in &heads {
            index.attach(key, entry.lease);
            index.live_bytes += u64::from(entry.bytes);
        }
        // Collecting what is sorted builds the tree in one pass.
        index.keys = heads.into_iter().collect();
        index
    }

    /// A living key.
    pub fn get(&self, key: &[u8]) -> Option<Entry> {
        self.keys.get(key).copied()
    }

    /// All living keys, in order.
    pub fn entries(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.keys.iter()
    }

    /// How many keys live.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The living keys of a span, in order.
    pub fn range(&self, span: &Span) -> impl Iterator<Item = (&Key, &Entry)> {
        let start = span.start.as_bytes();
        // An end before the start is an empty range to us and a panic to BTreeMap.
        let end = span.end.as_ref().map(|end| end.as_bytes().max(start));
        let end = end.map_or(Bound::Unbounded, Bound::Excluded);
        self.keys.range::<[u8], _>((Bound::Included(start), end))
    }

    /// Takes over a transaction's changes.
    pub fn apply(&mut self, revised: &Revised) {
        for change in &revised.changes {
            self.set(&change.key, change.after.as_ref().map(|(entry, _)| *entry));
        }
        self.revision = revised.revision;
    }

    /// Takes over one key's new state; none = deleted.
    pub fn set(&mut self, key: &Key, entry: Option<Entry>) {
        let before = match entry {
            Some(entry) => self.keys.insert(key.clone(), entry),
            None => self.keys.remove(key),
        };
        if let Some(before) = before {
            self.live_bytes -= u64::from(before.bytes);
            self.detach(key, before.lease);
        }
        if let Some(entry) = entry {
            self.live_bytes += u64::from(entry.bytes);
            self.attach(key, entry.lease);
        }
    }

    fn attach(&mut self, key: &Key, lease: LeaseId) {
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.keys.insert(key.clone());
        }
    }

    fn detach(&mut self, key: &Key, lease: LeaseId) {
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.keys.remove(key);
        }
    }

    /// Makes, renews or (none) removes a lease.
    pub fn set_lease(&mut self, id: LeaseId, term: Option<Term>) {
        let old = self.leases.remove(&id);
        if let Some(old) = &old {
            self.expiries.remove(&(old.term.deadline_ms, id));
        }
        if let Some(term) = term {
            let keys = old.map(|lease| lease.keys).unwrap_or_default();
            self.leases.insert(id, Attached { term, keys });
            self.expiries.insert((term.deadline_ms, id));
        }
    }

    /// A lease's term.
    pub fn lease(&self, id: LeaseId) -> Option<Term> {
        self.leases.get(&id).map(|lease| lease.term)
    }

    /// The keys attached to a lease.
    pub fn lease_keys(&self, id: LeaseId) -> impl Iterator<Item = &Key> {
        self.leases.get(&id).into_iter().flat_map(|lease| &lease.keys)
    }

    /// How many leases there are.
    pub fn leases(&self) -> usize {
        self.leases.len()
    }

    /// The numbers of all leases, in order.
    pub fn lease_ids(&self) -> Vec<LeaseId> {
        self.leases.keys().copied().collect()
    }

    /// All leases.
    pub fn terms(&self) -> Vec<(LeaseId, Term)> {
        self.leases.iter().map(|(id, lease)| (*id, lease.term)).collect()
    }

    /// The leases that end at `now_ms` or before.
    pub fn expired(&self, now_ms: u64) -> Vec<LeaseId> {
        self.expiries.iter().take_while(|(deadline, _)| *deadline <= now_ms).map(|(_, id)| *id).collect()
    }

    /// When the next lease ends.
    pub fn next_expiry(&self) -> Option<u64> {
        self.expiries.first().map(|(deadline, _)| *deadline)
    }
}

/// The changes that the index has just taken over, shared with history and watchers.
pub(super) type Shared = Arc<Revised>;
