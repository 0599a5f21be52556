//! Which heads are to be written next.
//!
//! A commit writes rows only. What the heads on disk do not say yet is found in the rows since then, when the store is
//! opened. So heads are written in rounds, a few with each commit, in order of key, and a key that was written a hundred
//! times since the last round is written once.
//!
//! A round takes the keys that are due at its beginning and writes what each of them is when its turn comes. That may
//! be newer than the round's revision: reading the rows since that revision over it does no harm.

use std::collections::BTreeSet;

use crate::{Key, Revision};

/// So many heads are written with one commit.
const PART: usize = 512;

/// See the module.
#[derive(Debug)]
pub(super) struct Saver {
    /// The heads on disk know everything up to here.
    saved: Revision,
    due: BTreeSet<Key>,
    /// Bytes of rows written since the last round began.
    bytes: u64,
    round: Option<Round>,
}

#[derive(Debug)]
struct Round {
    revision: Revision,
    keys: BTreeSet<Key>,
}

/// The heads to write with one commit.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub keys: Vec<Key>,
    /// Up to where the heads know everything, once these are written.
    pub saved: Option<Revision>,
}

impl Saver {
    /// `due`: the keys changed since `saved`, whose rows take so many bytes.
    pub fn new(saved: Revision, due: BTreeSet<Key>, bytes: u64) -> Self {
        Self { saved, due, bytes, round: None }
    }

    /// A durable change.
    pub fn changed(&mut self, key: &Key, bytes: usize) {
        self.bytes += bytes as u64;
        if !self.due.contains(key) {
            self.due.insert(key.clone());
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

    /// Begins a round once rows of more than `most` bytes are not known to the heads; `revision` is the present one.
    pub fn begin(&mut self, revision: Revision, most: u64) {
        if self.round.is_none() && self.bytes > most {
            self.round = Some(Round { revision, keys: std::mem::take(&mut self.due) });
            self.bytes = 0;
        }
    }

    /// Begins a round over all of `keys`, and those that are due anyway because they live no more.
    pub fn begin_all(&mut self, revision: Revision, mut keys: BTreeSet<Key>) {
        keys.append(&mut self.due);
        keys.extend(self.round.take().into_iter().flat_map(|round| round.keys));
        self.bytes = 0;
        self.round = Some(Round { revision, keys });
    }

    /// What to write next.
    pub fn part(&mut self) -> Part {
        let Some(round) = &mut self.round else { return Part::default() };
        let keys: Vec<Key> = std::iter::from_fn(|| round.keys.pop_first()).take(PART).collect();
        let saved = round.keys.is_empty().then_some(round.revision);
        Part { keys, saved }
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

    #[test]
    fn writes_each_key_once_a_round_and_knows_how_far_it_is() {
        let mut saver = Saver::new(1, BTreeSet::new(), 0);
        for n in 0..PART + 10 {
            saver.changed(&Key::from(format!("/{n}")), 10);
            saver.changed(&Key::from("/0"), 10);
        }
        saver.begin(90, 1_000_000);
        assert!(saver.part().keys.is_empty());
        saver.begin(90, 1_000);
        let first = saver.part();
        assert_eq!((first.keys.len(), first.saved), (PART, None));
        saver.changed(&Key::from("/0"), 10);
        saver.done(&first);
        let last = saver.part();
        assert_eq!((last.keys.len(), last.saved, saver.saved()), (10, Some(90), 1));
        saver.done(&last);
        assert_eq!((saver.saved(), saver.busy()), (90, false));
        saver.begin(91, 5);
        assert_eq!(saver.part().keys, [Key::from("/0")]);
    }
}
