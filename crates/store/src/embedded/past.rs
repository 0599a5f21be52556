//! The rows that are no key's present state any more, but that a reader of the past may still ask for.
//!
//! A row that is neither here nor in the index is garbage: nobody can reach it, and the
//! [`Broom`](super::broom::Broom) removes it.

use std::collections::{HashSet, VecDeque};

use super::index::RowId;
use super::row::Replaced;
use crate::Revision;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// In order of the revision from which on a row is not needed, up to one apart.
    queue: VecDeque<(Revision, Replaced)>,
    rows: HashSet<RowId>,
    /// What these rows take on disk.
    pub bytes: u64,
}

impl Past {
    /// Keeps a row until the compaction point reaches `until`.
    pub fn keep(&mut self, until: Revision, row: Replaced) {
        self.rows.insert(row.at);
        self.bytes += u64::from(row.bytes);
        self.queue.push_back((until, row));
    }

    /// Lets go what nobody can ask for since the compaction point is `compacted`. Answers how many bytes that was.
    pub fn forget(&mut self, compacted: Revision) -> u64 {
        let before = self.bytes;
        while let Some((_, row)) = self.queue.pop_front_if(|(until, _)| *until <= compacted) {
            self.rows.remove(&row.at);
            self.bytes -= u64::from(row.bytes);
        }
        before - self.bytes
    }

    /// Whether a row is here.
    pub fn contains(&self, row: RowId) -> bool {
        self.rows.contains(&row)
    }

    /// Where to compact to so that no more than `most` bytes stay.
    pub fn point(&self, most: u64) -> Option<Revision> {
        let mut excess = self.bytes.checked_sub(most).filter(|excess| *excess > 0)?;
        for (until, row) in &self.queue {
            excess = excess.saturating_sub(u64::from(row.bytes));
            if excess == 0 {
                return Some(*until);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(revision: Revision) -> Replaced {
        Replaced { at: RowId { revision, sub: 0 }, bytes: 10 }
    }

    #[test]
    fn keeps_rows_until_nobody_can_ask_for_them() {
        let mut past = Past::default();
        past.keep(5, row(2));
        past.keep(6, row(3));
        past.keep(9, row(5));
        assert_eq!((past.forget(4), past.bytes), (0, 30));
        assert_eq!((past.point(30), past.point(25), past.point(5)), (None, Some(5), Some(9)));
        assert_eq!(past.forget(6), 20);
        assert!(!past.contains(row(3).at) && past.contains(row(5).at));
    }
}
