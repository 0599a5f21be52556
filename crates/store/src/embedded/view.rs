//! One state at one revision, however large, gathered without holding anybody up.
//!
//! The index is walked some keys at a time; between two steps others write. A key whose entry was written after the
//! revision is not taken from there. At the end a snapshot of the file is taken, and the first change of each key since
//! the revision tells what was there before it. So each key of the revision is found once: in the index, if it had not
//! changed when it was passed, or else as what its first change replaced.

use std::collections::BTreeMap;

use super::core::{Core, State};
use super::disk::Snapshot;
use super::index::RowId;
use crate::{Error, Key, Revision, Span};

/// Keys passed while the state is locked.
pub(super) const STEP: usize = 2048;

/// See the module.
pub(super) struct View {
    /// The first keys, in order, with their rows.
    pub rows: Vec<(Key, RowId)>,
    /// How many more keys there are.
    pub remaining: u64,
    /// Where the rows are.
    pub snapshot: Snapshot,
}

/// What a change replaced, for the first change of each key after some revision.
type Before = BTreeMap<Key, (Revision, Option<RowId>)>;

/// Gathers the first `most` keys of a span as they were at `revision`. Blocks on the file if that is long ago.
pub(super) fn view(core: &Core, span: &Span, revision: Revision, most: usize) -> Result<View, Error> {
    let mut walk = Walk { revision, most, rows: Vec::new(), more: 0, steps: Vec::new() };
    let mut rest = Some(span.clone());
    while let Some(span) = rest {
        // Recursively, because the writer calls this for a script while it holds the state itself.
        rest = walk.step(&core.state.read_recursive(), &span);
    }
    let (snapshot, before) = before(core, span, revision)?;
    Ok(walk.finish(before, snapshot))
}

/// The snapshot, and what changed in the span after the revision up to it.
fn before(core: &Core, span: &Span, revision: Revision) -> Result<(Snapshot, Before), Error> {
    let mut before = Before::new();
    let snapshot = {
        let state = core.state.read_recursive();
        readable(&state, revision)?;
        let snapshot = core.snapshot(&state)?;
        if let Some(since) = state.history.since(revision + 1) {
            for change in since.flat_map(|revised| &revised.changes) {
                if span.contains(change.key.as_bytes()) && !before.contains_key(&change.key) {
                    let was = change.before.map(|entry| entry.row());
                    before.insert(change.key.clone(), (change.at.revision, was));
                }
            }
            return Ok((snapshot, before));
        }
        snapshot
    };
    for item in snapshot.rows()?.between(revision + 1, Revision::MAX)? {
        let (at, row) = item?;
        if span.contains(row.key.as_bytes()) {
            let was = row.previous.map(|replaced| replaced.at);
            before.entry(row.key).or_insert((at.revision, was));
        }
    }
    Ok((snapshot, before))
}

/// Whether a past state can be read.
pub(super) fn readable(state: &State, revision: Revision) -> Result<(), Error> {
    let (current, at) = (state.index.revision, state.index.compacted);
    if revision > current {
        return Err(Error::FutureRevision { requested: revision, current });
    }
    if revision < at {
        return Err(Error::Compacted { requested: revision, at });
    }
    Ok(())
}

struct Walk {
    revision: Revision,
    most: usize,
    rows: Vec<(Key, RowId)>,
    /// Keys that were passed after there were enough.
    more: u64,
    /// At which revision the index was passed, up to which key (none = to the end).
    steps: Vec<(Revision, Option<Key>)>,
}

impl Walk {
    /// Passes some keys. Answers what is left.
    fn step(&mut self, state: &State, span: &Span) -> Option<Span> {
        let mut keys = state.index.range(span);
        let mut last = None;
        for (key, entry) in keys.by_ref().take(STEP) {
            last = Some(key);
            if entry.mod_revision > self.revision {
                continue;
            }
            match self.rows.len() < self.most {
                true => self.rows.push((key.clone(), entry.row())),
                false => self.more += 1,
            }
        }
        let more = keys.next().is_some();
        let last = last.filter(|_| more).cloned();
        self.steps.push((state.index.revision, last.clone()));
        last.map(|last| span.clone().after(&last))
    }

    /// Whether a key had not changed yet when it was passed, given its first change.
    fn passed_unchanged(&self, key: &Key, changed: Revision) -> bool {
        let step = self.steps.partition_point(|(_, last)| last.as_ref().is_some_and(|last| last < key));
        self.steps.get(step).is_some_and(|(at, _)| changed > *at)
    }

    fn finish(mut self, before: Before, snapshot: Snapshot) -> View {
        let missed = before.into_iter().filter_map(|(key, (changed, was))| {
            let row = was.filter(|_| !self.passed_unchanged(&key, changed))?;
            Some((key, row))
        });
        let missed: Vec<_> = missed.collect();
        let total = self.rows.len() as u64 + self.more + missed.len() as u64;
        if !missed.is_empty() {
            // Those that were passed when there were enough come after all of these, so only the last ones go.
            let last = self.rows.last().map(|(key, _)| key.clone()).filter(|_| self.more > 0);
            let within = |key: &Key| last.as_ref().is_none_or(|last| key < last);
            self.rows.extend(missed.into_iter().filter(|(key, _)| within(key)));
            self.rows.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            self.rows.truncate(self.most);
        }
        let remaining = total - self.rows.len() as u64;
        View { rows: self.rows, remaining, snapshot }
    }
}
