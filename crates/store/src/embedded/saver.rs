//! Which heads are to be written next.
//!
//! A commit writes rows only. What the heads on disk do not say yet is found in the rows since then, when the store is
//! opened. So heads are written in rounds, a few with each commit, in order of key, and a key that was written a hundred
//! times since the last round is written once.
//!
//! A round takes what is due at its beginning. So a head never knows more than the database does, which lags behind the
//! published state, too.

use std::collections::BTreeMap;

use super::index::{Change, Entry};
use crate::{Key, Revision};

/// So many heads are written with one commit, ...
const PART: usize = 512;
/// ... or for each change in it so many, if that is less, so that no commit takes much longer than others; ...
const PACE: usize = 2;
/// ... but no fewer than this.
const LEAST: usize = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Saver {
    /// The heads on disk know everything up to here.
    saved: Revision,
    due: Heads,
    /// Bytes of rows written since the last round began.
    bytes: u64,
    round: Option<Round>,
}

#[derive(Debug)]
struct Round {
    revision: Revision,
    heads: Heads,
}

/// What keys have become; none = removed.
type Heads = BTreeMap<Key, Option<Entry>>;

/// The heads to write with one commit.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub heads: Vec<(Key, Option<Entry>)>,
    /// Up to where the heads know everything, once these are written.
    pub saved: Option<Revision>,
}

impl Part {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty() && self.saved.is_none()
    }
}

impl Saver {
    /// `due`: what the keys changed since `saved` are, whose rows take so many bytes.
    pub fn new(saved: Revision, due: Heads, bytes: u64) -> Self {
        Self { saved, due, bytes, round: None }
    }

    /// A change that the database has, or gets with the next commit.
    pub fn changed(&mut self, change: &Change) {
        self.bytes += u64::from(change.bytes());
        let entry = change.after.as_ref().map(|(entry, _)| *entry);
        match self.due.get_mut(&change.key) {
            Some(due) => *due = entry,
            None => drop(self.due.insert(change.key.clone(), entry)),
        }
    }

    /// The heads on disk know everything up to here.
    pub fn saved(&self) -> Revision {
        self.saved
    }

    /// Whether a round is going on.
    pub fn busy(&self) -> bool {
        self.round.is_some()
    }

    /// Begins a round once rows of more than `most` bytes are not known to the heads; `revision` is the last one that
    /// was told here.
    pub fn begin(&mut self, revision: Revision, most: u64) {
        if self.round.is_none() && self.bytes > most {
            self.round = Some(Round { revision, heads: std::mem::take(&mut self.due) });
            self.bytes = 0;
        }
    }

    /// Begins a round over all that lives, as far as it is not newer, and what is due anyway.
    pub fn begin_all<'a>(&mut self, revision: Revision, living: impl Iterator<Item = (&'a Key, &'a Entry)>) {
        let told = living.filter(|(_, entry)| entry.mod_revision <= revision);
        let mut heads: Heads = told.map(|(key, entry)| (key.clone(), Some(*entry))).collect();
        heads.extend(self.round.take().into_iter().flat_map(|round| round.heads));
        heads.append(&mut self.due);
        self.bytes = 0;
        self.round = Some(Round { revision, heads });
    }

    /// What to write next, with a commit of so many changes (none = with one of its own).
    pub fn part(&mut self, changes: Option<usize>) -> Part {
        let Some(round) = &mut self.round else { return Part::default() };
        let most = changes.map_or(PART, |changes| (PACE * changes).clamp(LEAST, PART));
        let heads = std::iter::from_fn(|| round.heads.pop_first()).take(most).collect();
        let saved = round.heads.is_empty().then_some(round.revision);
        Part { heads, saved }
    }

    /// A part could not be written.
    pub fn undo(&mut self, part: Part) {
        if let Some(round) = &mut self.round {
            round.heads.extend(part.heads);
        }
    }

    /// A part is durable.
    pub fn done(&mut self, part: &Part) {
        if let Some(saved) = part.saved {
            self.saved = saved;
            self.round = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::index::RowId;

    fn change(key: &str, revision: Revision) -> Change {
        Change::put(Key::from(key), RowId { revision, sub: 0 }, None, 0, bytes::Bytes::new())
    }

    #[test]
    fn writes_each_key_once_a_round_and_knows_how_far_it_is() {
        let mut saver = Saver::new(1, Heads::new(), 0);
        for n in 0..PART + 10 {
            saver.changed(&change(&format!("/{n}"), 80));
            saver.changed(&change("/0", 90));
        }
        saver.begin(90, 1_000_000);
        assert!(saver.part(None).is_empty());
        saver.begin(90, 1_000);
        let first = saver.part(None);
        assert_eq!((first.heads.len(), first.saved), (PART, None));
        saver.undo(first);
        let few = saver.part(Some(1));
        assert_eq!(few.heads.len(), LEAST);
        saver.undo(few);
        let first = saver.part(None);
        assert_eq!((first.heads.len(), first.saved), (PART, None));
        saver.changed(&change("/0", 91));
        saver.done(&first);
        let last = saver.part(None);
        assert_eq!((last.heads.len(), last.saved, saver.saved()), (10, Some(90), 1));
        saver.done(&last);
        assert_eq!((saver.saved(), saver.busy()), (90, false));
        saver.begin(91, 5);
        let (key, entry) = &saver.part(None).heads[0];
        assert_eq!((key, entry.map(|entry| entry.mod_revision)), (&Key::from("/0"), Some(91)));
    }

    /// What the database does not have yet is no head, whatever the published state says.
    #[test]
    fn a_round_over_all_knows_no_more_than_the_database() {
        let mut saver = Saver::new(1, Heads::new(), 0);
        saver.changed(&change("/a", 5));
        saver.changed(&Change { after: None, ..change("/b", 6) });
        let entry = |revision| Entry { mod_revision: revision, ..Entry::default() };
        let living = [("/a", 7), ("/b", 8), ("/c", 3)].map(|(key, at)| (Key::from(key), entry(at)));
        saver.begin_all(6, living.iter().map(|(key, entry)| (key, entry)));
        let part = saver.part(None);
        let shown = part.heads.iter().map(|(key, entry)| (key.to_string(), entry.map(|e| e.mod_revision)));
        let expected = [("/a", Some(5)), ("/b", None), ("/c", Some(3))];
        assert!(shown.eq(expected.map(|(key, at)| (key.to_owned(), at))));
        assert_eq!(part.saved, Some(6));
    }
}
