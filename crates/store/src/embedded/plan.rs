//! What a batch of requests will do: the pure heart of the writer.
//!
//! Requests are decided one after the other against the published index plus what the batch has done so far, so
//! conflicting writers in one batch see each other, exactly as if each had been committed alone. Nothing here is
//! visible to anyone until the whole [`Batch`] is durable.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::index::{Change, Entry, Index, Revised, RowId, Shared, Term};
use super::script::Draft;
use crate::{Error, Key, LeaseId, Op, Range, RangeResult, Revision, Span, Txn, TxnResult};

/// What one commit writes.
#[derive(Debug, Default, Clone)]
pub(super) struct Batch {
    /// Transactions, in order of revision.
    pub revised: Vec<Shared>,
    /// Leases made or renewed, and (none) removed.
    pub leases: BTreeMap<LeaseId, Option<Term>>,
    /// The last revision after the batch.
    pub revision: Revision,
    /// The new compaction point, if it moved.
    pub compacted: Option<Revision>,
    /// Whether somebody asked for that.
    pub asked: bool,
    /// Whether the file is to be made as small as it can be.
    pub tidy: bool,
}

impl Batch {
    /// Whether there is nothing to be made durable.
    pub fn is_empty(&self) -> bool {
        self.revised.is_empty() && self.leases.is_empty() && self.compacted.is_none()
    }

    /// Its changes, in order.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.revised.iter().flat_map(|revised| &revised.changes)
    }

    /// One of its changes.
    pub fn change(&self, at: RowId) -> Option<&Change> {
        // Every revision is one transaction, so its place follows from its number.
        let first = self.revised.first()?.revision;
        let revised = self.revised.get(at.revision.checked_sub(first)? as usize)?;
        revised.changes.get(at.sub as usize)
    }

    /// Adds what was decided after it.
    pub fn append(&mut self, later: &Self) {
        self.revised.extend(later.revised.iter().cloned());
        self.leases.extend(&later.leases);
        self.revision = later.revision;
        self.compacted = later.compacted.or(self.compacted);
        self.asked |= later.asked;
        self.tidy |= later.tidy;
    }
}

/// What the index does not hold: read only for scripts that ask for it.
pub(super) trait Published {
    /// The value of a row that is there.
    fn value(&self, at: RowId) -> Result<Bytes, Error>;
    /// A state that is published already.
    fn range(&self, range: &Range) -> Result<RangeResult, Error>;
}

/// What is taken.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// The largest transaction, in bytes.
    pub txn_bytes: usize,
    /// Why nothing may be added, if so.
    pub full: Option<Error>,
}

/// A batch being worked out.
pub(super) struct Plan<'a> {
    index: &'a Index,
    published: &'a dyn Published,
    now_ms: u64,
    limits: Limits,
    written: HashMap<Key, Option<Entry>>,
    next_lease: LeaseId,
    batch: Batch,
}

impl<'a> Plan<'a> {
    /// Begins on top of the published state.
    pub fn new(index: &'a Index, published: &'a dyn Published, now_ms: u64, limits: Limits) -> Self {
        let batch = Batch { revision: index.revision, ..Batch::default() };
        Self { index, published, now_ms, limits, written: HashMap::new(), next_lease: now_ms, batch }
    }

    /// What is to be written.
    pub fn finish(self) -> Batch {
        self.batch
    }

    /// Decides one transaction.
    pub fn txn(&mut self, txn: Txn) -> Result<TxnResult, Error> {
        self.check(&txn)?;
        let found: Vec<Revision> = txn
            .compares
            .iter()
            .map(|compare| self.entry(&compare.key).map_or(0, |e| e.mod_revision))
            .collect();
        let holds = txn.compares.iter().zip(&found).all(|(compare, found)| compare.mod_revision == *found);
        if !holds {
            return Ok(TxnResult::Conflict { revision: self.batch.revision, found });
        }
        self.apply(txn.ops);
        Ok(TxnResult::Committed { revision: self.batch.revision })
    }

    /// Whether it may be decided at all.
    fn check(&self, txn: &Txn) -> Result<(), Error> {
        self.check_size(txn.ops.iter().map(Op::size).sum())?;
        if txn.ops.iter().any(|op| matches!(op, Op::Put { .. })) {
            self.check_space()?;
        }
        let mut seen = BTreeSet::new();
        for op in &txn.ops {
            if !seen.insert(op.key()) {
                return Err(Error::DuplicateKey(op.key().clone()));
            }
            match op {
                Op::Put { lease, .. } if *lease != 0 => self.lease(*lease).map(drop)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a transaction may bring so many bytes.
    pub fn check_size(&self, bytes: usize) -> Result<(), Error> {
        let limit = self.limits.txn_bytes;
        if bytes > limit { Err(Error::TooLarge { bytes, limit }) } else { Ok(()) }
    }

    /// Whether anything may be added.
    pub fn check_space(&self) -> Result<(), Error> {
        self.limits.full.clone().map_or(Ok(()), Err)
    }

    /// The last revision decided.
    pub fn revision(&self) -> Revision {
        self.batch.revision
    }

    /// Gives the operations the next revision, unless they change nothing.
    fn apply(&mut self, ops: Vec<Op>) {
        let revision = self.batch.revision + 1;
        let mut changes = Vec::with_capacity(ops.len());
        for op in ops {
            // A transaction's size limit keeps the number of its operations far below 2^32.
            let at = RowId { revision, sub: changes.len() as u32 };
            changes.extend(self.change(at, op));
        }
        self.push(revision, changes);
    }

    fn push(&mut self, revision: Revision, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.batch.revision = revision;
            self.batch.revised.push(Arc::new(Revised { revision, changes }));
        }
    }

    /// Takes over what a script has done.
    pub fn take(&mut self, draft: Draft) {
        draft.changes.iter().for_each(|change| self.note(change));
        self.push(self.batch.revision + 1, draft.changes);
    }

    fn note(&mut self, change: &Change) {
        self.written.insert(change.key.clone(), change.after.as_ref().map(|(entry, _)| *entry));
    }

    fn change(&mut self, at: RowId, op: Op) -> Option<Change> {
        let before = self.entry(op.key());
        let change = match op {
            Op::Put { key, value, lease } => Change::put(key, at, before, lease, value),
            Op::Delete { key } => {
                before?;
                Change { key, at, before, after: None }
            }
        };
        self.note(&change);
        Some(change)
    }

    /// A key, with all that was decided so far.
    pub fn entry(&self, key: &Key) -> Option<Entry> {
        match self.written.get(key) {
            Some(entry) => *entry,
            None => self.index.get(key.as_bytes()),
        }
    }

    /// The keys of a span, with all that was decided so far; none = deleted.
    pub fn living(&self, span: &Span) -> BTreeMap<Key, Option<Entry>> {
        let published = self.index.range(span).map(|(key, entry)| (key.clone(), Some(*entry)));
        let mut found: BTreeMap<_, _> = published.collect();
        let decided = self.written.iter().filter(|(key, _)| span.contains(key.as_bytes()));
        found.extend(decided.map(|(key, entry)| (key.clone(), *entry)));
        found
    }

    /// A value that was decided in this batch or published before.
    pub fn decided_value(&self, at: RowId) -> Result<Bytes, Error> {
        match self.batch.change(at) {
            Some(change) => Ok(change.after.as_ref().map(|(_, value)| value.clone()).unwrap_or_default()),
            None => self.published.value(at),
        }
    }

    /// A state of the past.
    pub fn past(&self, range: &Range) -> Result<RangeResult, Error> {
        let at = self.compacted();
        if range.revision < at {
            return Err(Error::Compacted { requested: range.revision, at });
        }
        // What this batch has decided is nobody's past yet.
        self.published.range(range)
    }

    fn compacted(&self) -> Revision {
        self.batch.compacted.unwrap_or(self.index.compacted)
    }

    /// The term of a lease that exists.
    pub fn lease(&self, id: LeaseId) -> Result<Term, Error> {
        let term = match self.batch.leases.get(&id) {
            Some(term) => *term,
            None => self.index.lease(id),
        };
        term.ok_or(Error::LeaseNotFound(id))
    }

    /// Moves the compaction point because somebody asks for it.
    pub fn compact(&mut self, revision: Revision) -> Result<(), Error> {
        self.forget(revision)?;
        self.batch.asked = true;
        Ok(())
    }

    /// Asks for the file to be made as small as it can be.
    pub fn tidy(&mut self) {
        self.batch.tidy = true;
    }

    /// Moves the compaction point.
    pub fn forget(&mut self, revision: Revision) -> Result<(), Error> {
        let at = self.compacted();
        if revision > self.batch.revision {
            return Err(Error::FutureRevision { requested: revision, current: self.batch.revision });
        }
        if revision < at {
            return Err(Error::Compacted { requested: revision, at });
        }
        if revision > at {
            self.batch.compacted = Some(revision);
        }
        Ok(())
    }

    /// Makes a lease, with the number wanted or (0) a free one. Numbers follow the clock, so that one is not used again
    /// after a restart.
    pub fn grant(&mut self, wanted: LeaseId, ttl: Duration) -> Result<LeaseId, Error> {
        self.check_space()?;
        let id = if wanted == 0 { self.free_lease() } else { wanted };
        if self.lease(id).is_ok() {
            return Err(Error::LeaseExists(id));
        }
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.batch.leases.insert(id, Some(self.term(ttl_ms)));
        Ok(id)
    }

    fn free_lease(&mut self) -> LeaseId {
        let mut id = self.next_lease;
        // One that this batch has ended is not free yet: its removal and the new one would be one record.
        while self.lease(id).is_ok() || self.batch.leases.contains_key(&id) {
            id += 1;
        }
        self.next_lease = id + 1;
        id
    }

    fn term(&self, ttl_ms: u64) -> Term {
        Term { ttl_ms, deadline_ms: self.now_ms.saturating_add(ttl_ms) }
    }

    /// Starts a lease's time anew.
    pub fn keep_alive(&mut self, id: LeaseId) -> Result<Duration, Error> {
        let Term { ttl_ms, .. } = self.lease(id)?;
        self.batch.leases.insert(id, Some(self.term(ttl_ms)));
        Ok(Duration::from_millis(ttl_ms))
    }

    /// Ends a lease and deletes the keys attached to it, those of this batch included.
    pub fn revoke(&mut self, id: LeaseId) -> Result<(), Error> {
        self.lease(id)?;
        let of_index = self.index.lease_keys(id).filter(|key| !self.written.contains_key(*key));
        let of_batch = self.written.iter().filter(|(_, entry)| entry.is_some_and(|entry| entry.lease == id));
        let keys: BTreeSet<Key> = of_index.chain(of_batch.map(|(key, _)| key)).cloned().collect();
        self.apply(keys.into_iter().map(Op::delete).collect());
        self.batch.leases.insert(id, None);
        Ok(())
    }

    /// Ends the leases whose time is over (unless this batch has just renewed them).
    pub fn expire(&mut self) {
        for id in self.index.expired(self.now_ms) {
            if !self.batch.leases.contains_key(&id) {
                // It is in the index and not in the batch, so it is found.
                let _ = self.revoke(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No test here reads what is not in the index.
    struct Nothing;

    impl Published for Nothing {
        fn value(&self, at: RowId) -> Result<Bytes, Error> {
            Err(Error::Read(format!("{at:?}").into()))
        }
        fn range(&self, range: &Range) -> Result<RangeResult, Error> {
            Err(Error::Read(format!("{range:?}").into()))
        }
    }

    fn plan(index: &Index) -> Plan<'_> {
        Plan::new(index, &Nothing, 1_000, Limits { txn_bytes: 1_000, full: None })
    }

    fn index() -> Index {
        Index::load(1, 1, Vec::new(), Vec::new())
    }

    #[test]
    fn writers_of_one_batch_see_each_other() {
        let index = index();
        let mut plan = plan(&index);
        assert_eq!(plan.txn(Txn::create("/a", "1")).unwrap().committed(), Some(2));
        let refused = plan.txn(Txn::create("/a", "2")).unwrap();
        assert_eq!(refused, TxnResult::Conflict { revision: 2, found: vec![2] });
        assert_eq!(plan.txn(Txn::update("/a", "3", 2)).unwrap().committed(), Some(3));
        assert_eq!(plan.finish().revised.len(), 2);
    }

    #[test]
    fn deleting_nothing_takes_no_revision() {
        let index = index();
        let mut plan = plan(&index);
        assert_eq!(plan.txn(Txn::new(Op::delete("/a"))).unwrap().committed(), Some(1));
        assert!(plan.finish().is_empty());
    }

    #[test]
    fn a_revoked_lease_takes_the_keys_of_its_own_batch_along() {
        let index = index();
        let mut plan = plan(&index);
        let lease = plan.grant(0, Duration::from_secs(1)).unwrap();
        plan.txn(Txn::new(Op::put_with_lease("/a", "1", lease))).unwrap();
        plan.txn(Txn::new(Op::put_with_lease("/b", "1", lease)).and(Op::put("/c", "1"))).unwrap();
        plan.txn(Txn::new(Op::put("/b", "2"))).unwrap();
        plan.revoke(lease).unwrap();
        assert_eq!(plan.txn(Txn::new(Op::put_with_lease("/d", "", lease))), Err(Error::LeaseNotFound(lease)));
        let batch = plan.finish();
        let last = batch.revised.last().unwrap();
        let deleted: Vec<_> = last.changes.iter().map(|change| change.key.to_string()).collect();
        assert_eq!((last.revision, deleted), (5, vec!["/a".to_owned()]));
    }

    #[test]
    fn refuses_what_is_too_large_or_written_twice() {
        let index = index();
        let mut plan = plan(&index);
        let large = plan.txn(Txn::new(Op::put("/a", vec![0; 999])));
        assert_eq!(large, Err(Error::TooLarge { bytes: 1001, limit: 1000 }));
        let twice = plan.txn(Txn::new(Op::put("/a", "")).and(Op::delete("/a")));
        assert_eq!(twice, Err(Error::DuplicateKey(Key::from("/a"))));
    }
}
