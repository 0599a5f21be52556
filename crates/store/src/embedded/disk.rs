//! The embedded engine's file: a redb database, and nothing but reading and writing records in it.
//!
//! - `rows`: (revision, sub) → one change with its value, appended in order;
//! - `heads`: living key → its numbers and where its newest row is, so that opening reads no values;
//! - `leases`: lease → (time to live, deadline), milliseconds;
//! - `meta`: the revision, the compaction point, and how far the rows before it have been removed ("scrubbed").
//!
//! One commit of redb is one fsync. A commit is atomic: after a crash the file holds all of a batch or none of it.

use std::ops::Bound;
use std::sync::Arc;

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction,
};

use super::index::{Entry, Index, RowId, Term};
use super::plan::Batch;
use super::row::{self, HEAD_BYTES, Row};
use crate::{Error, Key, LeaseId, Range, Revision};

const ROWS: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("rows");
const HEADS: TableDefinition<&[u8], &[u8; HEAD_BYTES]> = TableDefinition::new("heads");
const LEASES: TableDefinition<u64, (u64, u64)> = TableDefinition::new("leases");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

const REVISION: &str = "revision";
const COMPACTED: &str = "compacted";
const SCRUBBED: &str = "scrubbed";

/// The revision of an empty store.
const FIRST: Revision = 1;

/// How much of the compacted past to remove in one commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scrub {
    /// Removal is done up to here.
    pub from: Revision,
    /// It may go up to here: a compaction point that readers already know.
    pub to: Revision,
    /// Look at about so many rows, to keep the commit short.
    pub rows: usize,
}

/// Makes the tables of an empty store, and tells how far an older one had been scrubbed.
pub(super) fn prepare(db: &Database) -> Result<Revision, redb::Error> {
    let txn = db.begin_write()?;
    let scrubbed = {
        txn.open_table(ROWS)?;
        txn.open_table(HEADS)?;
        txn.open_table(LEASES)?;
        let mut meta = txn.open_table(META)?;
        let fresh = meta.get(REVISION)?.is_none();
        if fresh {
            for name in [REVISION, COMPACTED, SCRUBBED] {
                meta.insert(name, FIRST)?;
            }
        }
        meta.get(SCRUBBED)?.map_or(FIRST, |scrubbed| scrubbed.value())
    };
    txn.commit()?;
    Ok(scrubbed)
}

/// Writes a batch durably: when this returns, it is on the disk. Answers how far the past is scrubbed now.
pub(super) fn commit(db: &Database, batch: &Batch, scrub: Scrub) -> Result<Revision, redb::Error> {
    let txn = db.begin_write()?;
    write_changes(&txn, batch)?;
    write_leases(&txn, batch)?;
    let scrubbed = scrub_rows(&mut txn.open_table(ROWS)?, scrub)?;
    {
        let mut meta = txn.open_table(META)?;
        meta.insert(REVISION, batch.revision)?;
        meta.insert(SCRUBBED, scrubbed)?;
        if let Some(compacted) = batch.compacted {
            meta.insert(COMPACTED, compacted)?;
        }
    }
    txn.commit()?;
    Ok(scrubbed)
}

fn write_changes(txn: &WriteTransaction, batch: &Batch) -> Result<(), redb::Error> {
    let mut rows = txn.open_table(ROWS)?;
    let mut heads = txn.open_table(HEADS)?;
    let mut buffer = Vec::new();
    for change in batch.revised.iter().flat_map(|revised| &revised.changes) {
        let key = change.key.as_bytes();
        let previous = change.before.map(|entry| entry.row());
        row::encode_row(&mut buffer, change.at, &change.key, change.after.as_ref(), previous);
        rows.insert((change.at.revision, change.at.sub), buffer.as_slice())?;
        match &change.after {
            Some((entry, _)) => heads.insert(key, &row::encode_head(key, entry))?,
            None => heads.remove(key)?,
        };
    }
    Ok(())
}

fn write_leases(txn: &WriteTransaction, batch: &Batch) -> Result<(), redb::Error> {
    let mut leases = txn.open_table(LEASES)?;
    for (id, term) in &batch.leases {
        match term {
            Some(term) => leases.insert(id, (term.ttl_ms, term.deadline_ms))?,
            None => leases.remove(id)?,
        };
    }
    Ok(())
}

/// Removes rows nobody may read any more: those replaced at or before the compaction point, and deletions before
/// it. A deletion exactly at the point stays until the point moves on, since a watch may begin there.
fn scrub_rows(rows: &mut Table<(u64, u32), &[u8]>, scrub: Scrub) -> Result<Revision, redb::Error> {
    if scrub.from >= scrub.to {
        return Ok(scrub.from);
    }
    let mut gone = Vec::new();
    let mut done = scrub.to;
    for (looked_at, item) in rows.range((scrub.from, 0)..=(scrub.to, u32::MAX))?.enumerate() {
        let (at, bytes) = item?;
        let (revision, sub) = at.value();
        // Stop between two revisions only, so that "scrubbed up to" is exact.
        if looked_at >= scrub.rows && revision > scrub.from + 1 && sub == 0 {
            done = revision - 1;
            break;
        }
        let row = row::decode_row(RowId { revision, sub }, bytes.value())
            .map_err(|error| redb::Error::Corrupted(error.to_string()))?;
        gone.extend(row.previous);
        if row.after.is_none() && revision < scrub.to {
            gone.push(RowId { revision, sub });
        }
    }
    for row in gone {
        rows.remove((row.revision, row.sub))?;
    }
    Ok(done)
}

/// One unchanging view of the file.
pub(super) struct Snapshot(ReadTransaction);

impl Snapshot {
    /// The file as of its last commit.
    pub fn new(db: &Database) -> Result<Self, Error> {
        db.begin_read().map(Self).map_err(failed)
    }

    /// The published state, as it is after opening. Reads no values.
    pub fn load(&self) -> Result<Index, Error> {
        let meta = self.0.open_table(META).map_err(failed)?;
        let number = |name| {
            let found = meta.get(name).map_err(failed)?;
            found.map(|n| n.value()).ok_or_else(|| Error::Corrupt(format!("no {name}").into()))
        };
        Ok(Index::load(number(REVISION)?, number(COMPACTED)?, self.leases()?, self.heads_all()?))
    }

    fn leases(&self) -> Result<Vec<(LeaseId, Term)>, Error> {
        let table = self.0.open_table(LEASES).map_err(failed)?;
        let mut leases = Vec::new();
        for item in table.iter().map_err(failed)? {
            let (id, term) = item.map_err(failed)?;
            let (ttl_ms, deadline_ms) = term.value();
            leases.push((id.value(), Term { ttl_ms, deadline_ms }));
        }
        Ok(leases)
    }

    fn heads_all(&self) -> Result<Vec<(Key, Entry)>, Error> {
        let mut heads = Vec::new();
        for item in self.heads(&Range::prefix(""))? {
            heads.push(item?);
        }
        Ok(heads)
    }

    /// The living keys of a range, in order, one at a time.
    pub fn heads(&self, range: &Range) -> Result<impl Iterator<Item = Result<(Key, Entry), Error>>, Error> {
        let table = self.0.open_table(HEADS).map_err(failed)?;
        let start = range.start.as_bytes();
        let end = range.end.as_ref().map(|end| end.as_bytes().max(start));
        let bounds = (Bound::Included(start), end.map_or(Bound::Unbounded, Bound::Excluded));
        let items = table.range::<&[u8]>(bounds).map_err(failed)?;
        Ok(items.map(|item| {
            let (key, head) = item.map_err(failed)?;
            Ok((Key::from(key.value()), row::decode_head(key.value(), head.value())?))
        }))
    }

    /// Opens the rows for reading.
    pub fn rows(&self) -> Result<Rows, Error> {
        self.0.open_table(ROWS).map(Rows).map_err(failed)
    }
}

/// The changes in a [`Snapshot`].
pub(super) struct Rows(redb::ReadOnlyTable<(u64, u32), &'static [u8]>);

impl Rows {
    /// One row, if it is still there.
    pub fn get(&self, at: RowId) -> Result<Option<Row>, Error> {
        let found = self.0.get((at.revision, at.sub)).map_err(failed)?;
        found.map(|bytes| row::decode_row(at, bytes.value())).transpose()
    }

    /// The rows of the revisions `from..=to`, in order, one at a time.
    pub fn between(
        &self,
        from: Revision,
        to: Revision,
    ) -> Result<impl Iterator<Item = Result<(RowId, Row), Error>>, Error> {
        // redb takes a reversed range as an error of the program; here it just means "nothing".
        let bounds = (from, 0)..=(to.max(from), u32::MAX);
        let items = self.0.range(bounds).map_err(failed)?;
        Ok(items.take_while(move |_| from <= to).map(|item| {
            let (at, bytes) = item.map_err(failed)?;
            let (revision, sub) = at.value();
            let at = RowId { revision, sub };
            Ok((at, row::decode_row(at, bytes.value())?))
        }))
    }
}

/// What a failed read means to the caller.
fn failed(error: impl Into<redb::Error>) -> Error {
    match error.into() {
        redb::Error::Corrupted(reason) => Error::Corrupt(reason.into()),
        other => Error::Read(Arc::from(other.to_string())),
    }
}
