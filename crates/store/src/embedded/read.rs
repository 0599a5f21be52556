//! Reading: the present by way of the index, the past from the disk.
//!
//! The state is locked only to find out what to read. Values that are still in memory are taken from there; the rest
//! is read from a snapshot of the file, on a thread that may block.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::core::{Core, State};
use super::disk::{Rows, Snapshot};
use super::index::{Entry, RowId};
use crate::{Error, Key, KeyValue, Range, RangeResult, Revision};

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
    match look(core, &range)? {
        Found::All(result) => Ok(result),
        Found::Some { snapshot, revision, entries, remaining } => {
            let items = blocking(move || fill(&snapshot, entries)).await?;
            Ok(RangeResult { revision, items, remaining })
        }
        Found::Past(snapshot) => blocking(move || past(&snapshot, &range)).await,
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
    /// Nothing: it is about the past.
    Past(Snapshot),
}

fn look(core: &Core, range: &Range) -> Result<Found, Error> {
    let state = core.state.read();
    let (current, at) = (state.index.revision, state.index.compacted);
    if range.revision > current {
        return Err(Error::FutureRevision { requested: range.revision, current });
    }
    if range.revision != 0 && range.revision < at {
        return Err(Error::Compacted { requested: range.revision, at });
    }
    if range.revision != 0 && range.revision != current {
        return core.snapshot(&state).map(Found::Past);
    }
    let (entries, remaining) = pick(&state, range);
    if entries.iter().all(|(_, _, value)| value.is_some()) {
        let items =
            entries.into_iter().map(|(key, entry, value)| entry.key_value(key, value.unwrap_or_default()));
        return Ok(Found::All(RangeResult { revision: current, items: items.collect(), remaining }));
    }
    Ok(Found::Some { snapshot: core.snapshot(&state)?, revision: current, entries, remaining })
}

/// The first keys of a range, and how many more there are.
fn pick(state: &State, range: &Range) -> (Vec<Pick>, u64) {
    let value = |entry: &Entry| match range.keys_only {
        true => Some(Bytes::new()),
        false => state.history.value(entry.row()),
    };
    let mut keys = state.index.range(range);
    let limit = if range.limit == 0 { usize::MAX } else { range.limit };
    let picked = keys.by_ref().take(limit).map(|(key, entry)| (key.clone(), *entry, value(entry)));
    (picked.collect(), keys.count() as u64)
}

/// Reads the values that are not in memory.
fn fill(snapshot: &Snapshot, entries: Vec<Pick>) -> Result<Vec<KeyValue>, Error> {
    let rows = snapshot.rows()?;
    let read = |(key, entry, value): Pick| match value {
        Some(value) => Ok(entry.key_value(key, value)),
        None => present(&rows, entry.row()),
    };
    entries.into_iter().map(read).collect()
}

/// A value that must be there.
fn present(rows: &Rows, at: RowId) -> Result<KeyValue, Error> {
    let row = rows.get(at)?.and_then(|row| row.into_key_value());
    row.ok_or_else(|| Error::Corrupt(format!("row {}.{} is missing", at.revision, at.sub).into()))
}

/// A range as it was: the living keys of the snapshot, with every change since then taken back.
fn past(snapshot: &Snapshot, range: &Range) -> Result<RangeResult, Error> {
    let rows = snapshot.rows()?;
    let mut since = BTreeMap::new();
    for item in rows.between(range.revision + 1, Revision::MAX)? {
        let (_, row) = item?;
        if range.contains(row.key.as_bytes()) {
            // The first change after the revision tells what was there.
            since.entry(row.key).or_insert(row.previous);
        }
    }
    let limit = if range.limit == 0 { usize::MAX } else { range.limit };
    let mut result = RangeResult { revision: range.revision, items: Vec::new(), remaining: 0 };
    merge(snapshot, range, since, |at| {
        if result.items.len() >= limit {
            result.remaining += 1;
            return Ok(());
        }
        let mut item = present(&rows, at)?;
        if range.keys_only {
            item.value = Bytes::new();
        }
        result.items.push(item);
        Ok(())
    })?;
    Ok(result)
}

/// Visits, in order of key, the rows that were current: those of `since` for keys changed since, the heads' own for
/// the others.
fn merge(
    snapshot: &Snapshot,
    range: &Range,
    since: BTreeMap<Key, Option<RowId>>,
    mut visit: impl FnMut(RowId) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut changed = since.into_iter().peekable();
    for head in snapshot.heads(range)? {
        let (key, entry) = head?;
        let mut now = Some(entry.row());
        while let Some((other, before)) = changed.next_if(|(other, _)| *other <= key) {
            if other == key {
                now = before;
            } else if let Some(row) = before {
                visit(row)?;
            }
        }
        if let Some(row) = now {
            visit(row)?;
        }
    }
    changed.filter_map(|(_, before)| before).try_for_each(visit)
}
