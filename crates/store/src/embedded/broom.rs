//! Removing garbage from the file, a little with each commit.
//!
//! Rows are written once, in order, and become garbage anywhere. The broom goes round over the packs of rows: of a pack
//! in which enough is garbage, or that is small, it writes what is left into a new, full one. The database uses the
//! freed pages again, and gives free pages at the file's end back. So the file stays in proportion to what is kept,
//! and no commit takes long.
//!
//! How much a commit sweeps is in proportion to what it writes: at [`PACE`] times that, garbage is at most about a third of
//! what is kept, however fast one writes.

use super::index::RowId;
use super::row::{PACK_BYTES, Pack, RawRow};
use crate::{Error, Revision};

/// Bytes swept for each byte written.
const PACE: usize = 4;
/// Bytes swept with one commit: at least, ...
const LEAST: usize = 128 << 10;
/// ... and at most, so that it stays short.
const MOST: usize = 2 << 20;
/// Garbage that is not worth a round.
const WORTH: u64 = 128 << 10;
/// A round begins when one of so many parts of what is kept is garbage, ...
const PARTS: u64 = 7;
/// ... and rewrites packs of which one of so many parts is.
const PACK_PARTS: usize = 8;

/// What to sweep with one commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task {
    /// The first pack.
    pub from: RowId,
    /// No row of a later revision.
    pub to: Revision,
    /// About so many bytes.
    pub bytes: usize,
    /// Rewrite every pack.
    pub all: bool,
}

/// What one commit has swept.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Swept {
    /// Where to go on; none = the end was reached.
    pub next: Option<RowId>,
    /// Garbage removed, in bytes.
    pub removed: u64,
    /// Garbage seen and left.
    pub left: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Broom {
    cursor: RowId,
    /// How much garbage there is, in bytes, as far as is known.
    garbage: u64,
    round: Option<Round>,
    /// No round has been finished since the store was opened, so nobody knows how much garbage there is.
    unsure: bool,
    /// Nothing more can be found before the heads know more than this.
    done_to: Revision,
}

#[derive(Debug, Default)]
struct Round {
    all: bool,
    to: Revision,
    /// Garbage that arose since it began, or that it left.
    left: u64,
}

impl Broom {
    /// `fresh`: the store is new, so there is no garbage.
    pub fn new(fresh: bool) -> Self {
        Self { cursor: RowId::default(), garbage: 0, round: None, unsure: !fresh, done_to: 0 }
    }

    /// More garbage.
    pub fn dropped(&mut self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.garbage += bytes;
        self.done_to = 0;
        if let Some(round) = &mut self.round {
            round.left += bytes;
        }
    }

    /// Begins a round that rewrites every pack up to `to`.
    pub fn begin_all(&mut self, to: Revision) {
        self.cursor = RowId::default();
        self.round = Some(Round { all: true, to, left: 0 });
    }

    /// Whether a round over every pack is going on.
    pub fn sweeps_all(&self) -> bool {
        self.round.as_ref().is_some_and(|round| round.all)
    }

    /// Whether there is something to do even when nobody writes.
    pub fn busy(&self, kept: u64, saved: Revision) -> bool {
        self.sweeps_all() || (!self.unsure && self.due(kept, saved))
    }

    /// Whether there is so much garbage that it should go.
    pub fn wanted(&self, kept: u64) -> bool {
        self.garbage > WORTH.max(kept / PARTS)
    }

    fn due(&self, kept: u64, saved: Revision) -> bool {
        self.round.is_some() || (saved > self.done_to && self.wanted(kept))
    }

    /// What to sweep with a commit that writes so many bytes. `kept`: what is no garbage; `saved`: up to where the heads
    /// on disk know everything, so that rows may go.
    pub fn task(&mut self, written: usize, kept: u64, saved: Revision) -> Option<Task> {
        if !self.due(kept, saved) && (!self.unsure || written == 0) {
            return None;
        }
        let round = self.round.get_or_insert_with(|| Round { to: saved, ..Round::default() });
        let bytes = (PACE * written).clamp(LEAST, MOST);
        Some(Task { from: self.cursor, to: round.to, bytes, all: round.all })
    }

    /// A task is done and durable. Answers whether that ended a round over every pack.
    pub fn done(&mut self, swept: Swept) -> bool {
        self.garbage = self.garbage.saturating_sub(swept.removed);
        self.cursor = swept.next.unwrap_or_default();
        let Some(round) = &mut self.round else { return false };
        round.left += swept.left;
        if swept.next.is_some() {
            return false;
        }
        self.garbage = round.left;
        self.done_to = round.to;
        self.unsure = false;
        self.round.take().is_some_and(|round| round.all)
    }
}

/// A pack under the number of its first row.
pub(super) type Stored = (RowId, Vec<u8>);

/// What to change in the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Edits {
    pub remove: Vec<RowId>,
    pub insert: Vec<Stored>,
    pub removed: u64,
    pub left: u64,
}

/// Works out new packs for neighbouring ones, keeping the rows that `keep` tells to.
pub(super) fn tidy(
    packs: Vec<Stored>,
    all: bool,
    mut keep: impl FnMut(RawRow<'_>) -> Result<bool, Error>,
) -> Result<Edits, Error> {
    let mut edits = Edits::default();
    let mut group = Group::default();
    for (first, pack) in packs {
        let (mut kept, mut garbage) = (Vec::new(), 0);
        for row in Pack(&pack) {
            let row = row?;
            match keep(row)? {
                true => kept.push(row),
                false => garbage += row.bytes.len(),
            }
        }
        let good = garbage * PACK_PARTS <= pack.len() && pack.len() >= PACK_BYTES / 2;
        if good && !all {
            edits.left += garbage as u64;
            group.end(&mut edits);
            continue;
        }
        group.garbage += garbage as u64;
        group.remove.push(first);
        kept.into_iter().for_each(|row| group.add(row));
    }
    group.worth_it = all;
    group.end(&mut edits);
    Ok(edits)
}

/// Neighbouring packs that become new ones.
#[derive(Default)]
struct Group {
    remove: Vec<RowId>,
    insert: Vec<Stored>,
    garbage: u64,
    worth_it: bool,
}

impl Group {
    fn add(&mut self, row: RawRow<'_>) {
        match self.insert.last_mut() {
            Some((_, pack)) if pack.len() + row.bytes.len() <= PACK_BYTES => pack.extend(row.bytes),
            _ => self.insert.push((row.at, row.bytes.to_vec())),
        }
    }

    /// Takes the group over, unless it would only write the same packs again.
    fn end(&mut self, edits: &mut Edits) {
        let group = std::mem::take(self);
        if group.garbage > 0 || group.insert.len() < group.remove.len() || group.worth_it {
            edits.removed += group.garbage;
            edits.remove.extend(group.remove);
            edits.insert.extend(group.insert);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;
    use crate::embedded::row::encode_row;

    fn id(revision: Revision) -> RowId {
        RowId { revision, sub: 0 }
    }

    fn pack(revisions: std::ops::Range<Revision>, key_bytes: usize) -> Stored {
        let (first, mut pack) = (id(revisions.start), Vec::new());
        let key = Key::from("k".repeat(key_bytes));
        revisions.for_each(|revision| encode_row(&mut pack, id(revision), &key, None, None));
        (first, pack)
    }

    fn firsts(edits: &Edits) -> (Vec<Revision>, Vec<Revision>) {
        let insert = edits.insert.iter().map(|(first, _)| first.revision);
        (edits.remove.iter().map(|first| first.revision).collect(), insert.collect())
    }

    #[test]
    fn small_packs_become_one_and_garbage_goes() {
        let packs = vec![pack(1..3, 10), pack(3..5, 10), pack(5..6, 10)];
        let edits = tidy(packs, false, |row| Ok(row.at != id(1) && row.at != id(5))).unwrap();
        assert_eq!(firsts(&edits), (vec![1, 3, 5], vec![2]));
        assert_eq!(Pack(&edits.insert[0].1).count(), 3);
        assert_eq!(edits.removed as usize, 2 * pack(1..2, 10).1.len());
    }

    #[test]
    fn full_packs_with_little_garbage_are_left() {
        let packs = || vec![pack(1..21, 200), pack(21..22, 10), pack(22..42, 200)];
        let edits = tidy(packs(), false, |row| Ok(row.at != id(1))).unwrap();
        assert_eq!(firsts(&edits), (vec![], vec![]));
        assert!(edits.left > 200);
        assert_eq!(firsts(&tidy(packs(), true, |_| Ok(true)).unwrap()).0, [1, 21, 22]);
        let edits = tidy(packs(), false, |row| Ok(row.at.revision % 2 == 0)).unwrap();
        assert_eq!(firsts(&edits), (vec![1, 21, 22], vec![2]));
    }

    #[test]
    fn a_round_begins_when_it_is_worth_it_and_ends_at_the_end() {
        let mut broom = Broom::new(true);
        assert!(broom.task(1_000, 0, 9).is_none());
        broom.dropped(WORTH + 1);
        assert!(broom.task(1_000, 100 * WORTH, 9).is_none());
        let task = broom.task(0, WORTH, 9).unwrap();
        assert_eq!((task.from, task.to, task.bytes), (id(0), 9, LEAST));
        assert!(!broom.done(Swept { next: Some(id(5)), removed: WORTH, left: 0 }));
        broom.dropped(7);
        assert_eq!(broom.task(MOST, WORTH, 10).unwrap().from, id(5));
        assert!(!broom.done(Swept { next: None, removed: 0, left: 3 }));
        assert_eq!((broom.garbage, broom.busy(0, 10)), (10, false));
    }

    #[test]
    fn after_opening_it_looks_round_once_when_somebody_writes() {
        let mut broom = Broom::new(false);
        assert!(!broom.busy(0, 5) && broom.task(0, 0, 5).is_none());
        assert!(broom.task(1, 0, 5).is_some());
        broom.done(Swept::default());
        assert!(broom.task(1, 0, 5).is_none());
    }
}
