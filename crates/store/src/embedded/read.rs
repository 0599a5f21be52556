//! Reading: small reads of the present by way of the index at once, all others by way of a [`View`](super::view::View).
//!
//! The state is locked only to find out what to read. Values that are still in memory are taken from there; the rest
//! is read from a snapshot of the file, on a thread that may block.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;

use super::core::{Core, State};
use super::disk::{Rows, Snapshot};
use super::index::{Entry, RowId};
use super::plan::Published;
use super::row::Row;
use super::view::{self, STEP, View};
use crate::{Error, Key, KeyValue, Lease, Range, RangeResult, Revision, Span};

/// Keys of a snapshot read at a time.
const BATCH: usize = 256;

/// Runs what may wait for the disk, beside the asynchronous tasks.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Read(error.to_string().into())),
    }
}

/// Answers a range read.
pub(super) async fn range(core: &Arc<Core>, range: Range) -> Result<RangeResult, Error> {
    let found = look(core, &core.state.read(), &range)?;
    match found {
        Found::All(result) => Ok(result),
        rest => {
            let core = core.clone();
            blocking(move || finish(&core, rest, &range)).await
        }
    }
}

/// What a script reads while it is decided: on the writer's own thread, which alone changes the state.
pub(super) struct Now<'a> {
    pub core: &'a Core,
    pub state: &'a State,
}

impl Published for Now<'_> {
    fn value(&self, at: RowId) -> Result<Bytes, Error> {
        match self.state.history.value(at) {
            Some(value) => Ok(value),
            None => Ok(present(&self.core.snapshot(self.state)?.rows()?, at)?.value),
        }
    }

    fn range(&self, range: &Range) -> Result<RangeResult, Error> {
        finish(self.core, look(self.core, self.state, range)?, range)
    }
}

/// A key found, with its value if that is in memory.
type Pick = (Key, Entry, Option<Bytes>);

/// What the index tells about a range.
enum Found {
    /// Everything.
    All(RangeResult),
    /// The keys; some values are on the disk.
    Some { snapshot: Snapshot, revision: Revision, entries: Vec<Pick>, remaining: u64 },
    /// Nothing yet: it is large, or about the past.
    At(Revision),
}

fn look(core: &Core, state: &State, range: &Range) -> Result<Found, Error> {
    let current = state.index.revision;
    let revision = if range.revision == 0 { current } else { range.revision };
    view::readable(state, revision)?;
    if revision != current {
        return Ok(Found::At(revision));
    }
    let Some((entries, remaining)) = pick(state, range) else { return Ok(Found::At(revision)) };
    if entries.iter().all(|(_, _, value)| value.is_some()) {
        let items =
            entries.into_iter().map(|(key, entry, value)| entry.key_value(key, value.unwrap_or_default()));
        return Ok(Found::All(RangeResult { revision, items: items.collect(), remaining }));
    }
    Ok(Found::Some { snapshot: core.snapshot(state)?, revision, entries, remaining })
}

/// The first keys of a range, and how many more there are; none if there are many.
fn pick(state: &State, range: &Range) -> Option<(Vec<Pick>, u64)> {
    let value = |entry: &Entry| match range.keys_only {
        true => Some(Bytes::new()),
        false => state.history.value(entry.row()),
    };
    let mut keys = state.index.range(&range.span).take(STEP + 1);
    let picked = keys.by_ref().take(range.most()).map(|(key, entry)| (key.clone(), *entry, value(entry)));
    let picked: Vec<_> = picked.collect();
    let remaining = keys.count();
    (picked.len() + remaining <= STEP).then_some((picked, remaining as u64))
}

/// Reads what is not in memory.
fn finish(core: &Core, found: Found, range: &Range) -> Result<RangeResult, Error> {
    match found {
        Found::All(result) => Ok(result),
        Found::Some { snapshot, revision, entries, remaining } => {
            Ok(RangeResult { revision, items: fill(&snapshot, entries)?, remaining })
        }
        Found::At(revision) => {
            let View { rows: picked, remaining, snapshot } =
                view::view(core, &range.span, revision, range.most())?;
            let mut items = load(&snapshot, picked.into_iter().map(|(_, at)| at))?;
            if range.keys_only {
                items.iter_mut().for_each(|item| item.value = Bytes::new());
            }
            Ok(RangeResult { revision, items, remaining })
        }
    }
}

/// Reads the values that are not in memory.
fn fill(snapshot: &Snapshot, entries: Vec<Pick>) -> Result<Vec<KeyValue>, Error> {
    let missing = entries.iter().filter(|(_, _, value)| value.is_none()).map(|(_, entry, _)| entry.row());
    let mut found = load(snapshot, missing)?.into_iter();
    let items = entries.into_iter().filter_map(|(key, entry, value)| match value {
        Some(value) => Some(entry.key_value(key, value)),
        None => found.next(),
    });
    Ok(items.collect())
}

/// Reads rows that must be there, in the order in which they lie on the disk; answers them in the order asked for.
fn load(snapshot: &Snapshot, wanted: impl Iterator<Item = RowId>) -> Result<Vec<KeyValue>, Error> {
    let mut wanted: Vec<(usize, RowId)> = wanted.enumerate().collect();
    wanted.sort_unstable_by_key(|(_, at)| *at);
    let mut found = Vec::with_capacity(wanted.len());
    let mut rows = snapshot.rows()?.cursor();
    for (place, at) in wanted {
        found.push((place, must(rows.get(at)?, at)?));
    }
    found.sort_unstable_by_key(|(place, _)| *place);
    Ok(found.into_iter().map(|(_, item)| item).collect())
}

/// A value that must be there.
fn present(rows: &Rows, at: RowId) -> Result<KeyValue, Error> {
    must(rows.get(at)?, at)
}

fn must(row: Option<Row>, at: RowId) -> Result<KeyValue, Error> {
    let item = row.and_then(Row::into_key_value);
    item.ok_or_else(|| Error::Corrupt(format!("row {}.{} is missing", at.revision, at.sub).into()))
}

/// The whole state at a revision (0 = the present one), as a stream. It stays readable, whatever is compacted.
pub(super) async fn snapshot(core: &Arc<Core>, revision: Revision) -> Result<crate::Snapshot, Error> {
    let (revision, leases) = {
        let state = core.state.read();
        let revision = if revision == 0 { state.index.revision } else { revision };
        view::readable(&state, revision)?;
        (revision, leases(core, &state))
    };
    let core = core.clone();
    let View { rows: picked, snapshot, .. } =
        blocking(move || view::view(&core, &Span::prefix(""), revision, usize::MAX)).await?;
    let parts = (picked.into_iter().map(|(_, at)| at), snapshot);
    let items = futures::stream::try_unfold(parts, |(mut picked, snapshot)| async move {
        blocking(move || {
            let items = batch(&mut picked, &snapshot)?;
            Ok((!items.is_empty()).then_some((items, (picked, snapshot))))
        })
        .await
    });
    Ok(crate::Snapshot { revision, leases, items: items.boxed() })
}

fn batch(picked: &mut impl Iterator<Item = RowId>, snapshot: &Snapshot) -> Result<Vec<KeyValue>, Error> {
    load(snapshot, picked.take(BATCH))
}

/// All leases, without their keys.
fn leases(core: &Core, state: &State) -> Vec<Lease> {
    let now_ms = core.clock.now_ms();
    let terms = state.index.terms().into_iter();
    terms.map(|(id, term)| term.lease(id, now_ms, Vec::new())).collect()
}
