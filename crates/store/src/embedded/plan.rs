//! What a batch of requests will do: the pure heart of the writer.
//!
//! Requests are decided one after the other against the published index plus what the batch has done so far, so
//! conflicting writers in one batch see each other, exactly as if each had been committed alone. Nothing here is
//! visible to anyone until the whole [`Batch`] is durable.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::index::{Change, Entry, Index, Revised, RowId, Shared, Term};
use crate::{Error, Key, LeaseId, Op, Revision, Txn, TxnResult};

/// What one commit writes.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Transactions, in order of revision.
    pub revised: Vec<Shared>,
    /// Leases made or renewed, and (none) removed.
    pub leases: BTreeMap<LeaseId, Option<Term>>,
    /// The last revision after the batch.
    pub revision: Revision,
    /// The new compaction point, if it moved.
    pub compacted: Option<Revision>,
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.revised.is_empty() && self.leases.is_empty() && self.compacted.is_none()
    }

    /// How many rows it writes.
    pub fn rows(&self) -> usize {
        self.revised.iter().map(|revised| revised.changes.len()).sum()
    }
}

/// A batch being worked out.
pub(super) struct Plan<'a> {
    index: &'a Index,
    now_ms: u64,
    limit_bytes: usize,
    written: HashMap<Key, Option<Entry>>,
    batch: Batch,
}

impl<'a> Plan<'a> {
    /// Begins on top of the published state.
    pub fn new(index: &'a Index, now_ms: u64, limit_bytes: usize) -> Self {
        let batch = Batch { revision: index.revision, ..Batch::default() };
        Self { index, now_ms, limit_bytes, written: HashMap::new(), batch }
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
        let bytes = txn.ops.iter().map(Op::size).sum();
        if bytes > self.limit_bytes {
            return Err(Error::TooLarge { bytes, limit: self.limit_bytes });
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

    /// Gives the operations the next revision, unless they change nothing.
    fn apply(&mut self, ops: Vec<Op>) {
        let revision = self.batch.revision + 1;
        let mut changes = Vec::with_capacity(ops.len());
        for op in ops {
            // A transaction's size limit keeps the number of its operations far below 2^32.
            let at = RowId { revision, sub: changes.len() as u32 };
            changes.extend(self.change(at, op));
        }
        if !changes.is_empty() {
            self.batch.revision = revision;
            self.batch.revised.push(Arc::new(Revised { revision, changes }));
        }
    }

    fn change(&mut self, at: RowId, op: Op) -> Option<Change> {
        let before = self.entry(op.key());
        let (key, after) = match op {
            Op::Put { key, value, lease } => {
                let create_revision = before.map_or(at.revision, |entry| entry.create_revision);
                let version = before.map_or(0, |entry| entry.version) + 1;
                let entry = Entry { create_revision, mod_revision: at.revision, version, lease, sub: at.sub };
                (key, Some((entry, value)))
            }
            Op::Delete { key } => {
                before?;
                (key, None)
            }
        };
        self.written.insert(key.clone(), after.as_ref().map(|(entry, _)| *entry));
        Some(Change { key, at, before, after })
    }

    fn entry(&self, key: &Key) -> Option<Entry> {
        match self.written.get(key) {
            Some(entry) => *entry,
            None => self.index.get(key),
        }
    }

    fn lease(&self, id: LeaseId) -> Result<Term, Error> {
        let term = match self.batch.leases.get(&id) {
            Some(term) => *term,
            None => self.index.lease(id),
        };
        term.ok_or(Error::LeaseNotFound(id))
    }

    /// Moves the compaction point.
    pub fn compact(&mut self, revision: Revision) -> Result<(), Error> {
        let at = self.batch.compacted.unwrap_or(self.index.compacted);
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

    /// Makes a lease. Numbers follow the clock, so that one is not used again after a restart.
    pub fn grant(&mut self, ttl: Duration) -> LeaseId {
        let (_, highest) = self.index.leases();
        let in_batch = self.batch.leases.last_key_value().map_or(0, |(id, _)| *id);
        let id = self.now_ms.max(highest + 1).max(in_batch + 1);
        self.batch.leases.insert(id, Some(self.term(ttl.as_millis() as u64)));
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

    fn plan(index: &Index) -> Plan<'_> {
        Plan::new(index, 1_000, 1_000)
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
        let lease = plan.grant(Duration::from_secs(1));
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
