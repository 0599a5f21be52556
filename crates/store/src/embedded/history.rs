//! The recent past in memory: the last transactions with their values, bounded by bytes.
//!
//! Watches that keep up, and reads of what was just written, are served from here without touching the disk. What
//! has been dropped from here is still on disk until compaction removes it there.

use std::collections::VecDeque;

use bytes::Bytes;

use super::index::{RowId, Shared};
use crate::Revision;

/// A window over the newest transactions, without gaps.
#[derive(Debug)]
pub(super) struct History {
    window: VecDeque<Shared>,
    /// The first revision that is here, or will be.
    first: Revision,
    bytes: usize,
    budget_bytes: usize,
}

impl History {
    /// Empty: the next transaction is `first`.
    pub fn new(first: Revision, budget_bytes: usize) -> Self {
        Self { window: VecDeque::new(), first, bytes: 0, budget_bytes }
    }

    /// Takes the next transaction and lets old ones go.
    pub fn push(&mut self, revised: Shared) {
        self.bytes += revised.size();
        self.window.push_back(revised);
        while self.bytes > self.budget_bytes
            && let Some(oldest) = self.window.pop_front()
        {
            self.bytes -= oldest.size();
            self.first = oldest.revision + 1;
        }
    }

    /// The transactions from `revision` on, if they are all here.
    pub fn since(&self, revision: Revision) -> Option<impl Iterator<Item = &Shared>> {
        // Every revision is one transaction, so its place follows from its number.
        let skip = revision.checked_sub(self.first)?;
        Some(self.window.iter().skip(skip as usize))
    }

    /// The value written by a row, if it is here.
    pub fn value(&self, row: RowId) -> Option<Bytes> {
        let revised = self.since(row.revision)?.next()?;
        let change = revised.changes.get(row.sub as usize)?;
        change.after.as_ref().map(|(_, value)| value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::index::{Change, Entry, Revised};

    fn revised(revision: Revision) -> Shared {
        let at = RowId { revision, sub: 0 };
        let after = Some((Entry::default(), Bytes::from(revision.to_string())));
        Shared::new(Revised { revision, changes: vec![Change { key: "/a".into(), at, before: None, after }] })
    }

    #[test]
    fn keeps_the_newest_within_its_budget() {
        let mut history = History::new(2, 3 * revised(2).size());
        (2..=9).for_each(|revision| history.push(revised(revision)));
        assert!(history.since(6).is_none());
        assert_eq!(history.since(7).unwrap().count(), 3);
        assert_eq!(history.since(8).unwrap().map(|r| r.revision).collect::<Vec<_>>(), [8, 9]);
        assert_eq!(history.since(10).unwrap().count(), 0);
        assert_eq!(history.value(RowId { revision: 8, sub: 0 }), Some(Bytes::from("8")));
        assert_eq!(history.value(RowId { revision: 8, sub: 1 }), None);
    }
}
