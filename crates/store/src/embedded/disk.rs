//! The embedded engine's file: a redb database, and nothing but reading and writing records in it.
//!
//! - `rows`: number of its first row → a pack of rows, which are changes with their values, appended in order;
//! - `heads`: living key → its numbers and where its newest row is, so that opening reads no values. It lags behind:
//!   it knows all changes up to the revision *saved*, and some later ones;
//! - `leases`: lease → (time to live, deadline), milliseconds;
//! - `meta`: the compaction point, the revision *saved*, a revision that is the present one if no row is newer, and of the
//!   [`log`](super::log) its salt and the generation that goes on from here.
//!
//! One commit of redb is one fsync. A commit is atomic: after a crash the file holds all of a batch or none of it. Most
//! commits touch only the end of `rows`.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Bound;
use std::sync::Arc;

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction,
};

use super::broom::{self, Stored, Swept, Task};
use super::core::Tail;
use super::index::{Change, Entry, Index, RowId, Term};
use super::log::Mark;
use super::past::Past;
use super::plan::Batch;
use super::row::{self, HEAD_BYTES, PACK_BYTES, Pack, RawRow, Replaced, Row};
use crate::{Error, Key, LeaseId, Revision};

const ROWS: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("rows");
const HEADS: TableDefinition<&[u8], &[u8; HEAD_BYTES]> = TableDefinition::new("heads");
const LEASES: TableDefinition<u64, (u64, u64)> = TableDefinition::new("leases");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

const REVISION: &str = "revision";
const COMPACTED: &str = "compacted";
const SAVED: &str = "saved";
const LOG: &str = "log";
const SALT: &str = "salt";

/// The revision of an empty store.
const FIRST: Revision = 1;

/// What one commit writes.
pub(super) struct Work<'a> {
    pub batch: &'a Batch,
    /// Heads as they are to be; none = removed.
    pub heads: &'a [(Key, Option<Entry>)],
    /// Up to where the heads know everything then.
    pub saved: Option<Revision>,
    /// What to remove garbage from.
    pub sweep: Option<Task>,
    /// The generation of the log from then on.
    pub log: u64,
}

/// Makes the tables of an empty store. Answers whether it was one.
pub(super) fn prepare(db: &Database) -> Result<bool, redb::Error> {
    let txn = db.begin_write()?;
    let (fresh, salted) = {
        txn.open_table(ROWS)?;
        txn.open_table(HEADS)?;
        txn.open_table(LEASES)?;
        let meta = txn.open_table(META)?;
        (meta.get(REVISION)?.is_none(), meta.get(SALT)?.is_some())
    };
    if fresh {
        begin_at(&txn, FIRST)?;
    }
    if salted {
        txn.abort()?;
    } else {
        // The system's own randomness is the key of this hash.
        txn.open_table(META)?.insert(SALT, RandomState::new().build_hasher().finish())?;
        txn.commit()?;
    }
    Ok(fresh)
}

/// Makes `revision` the present one, with no past.
fn begin_at(txn: &WriteTransaction, revision: Revision) -> Result<(), redb::Error> {
    let mut meta = txn.open_table(META)?;
    for name in [REVISION, COMPACTED, SAVED] {
        meta.insert(name, revision)?;
    }
    Ok(())
}

/// The log that goes on from the last commit.
pub(super) fn mark(db: &Database) -> Result<Mark, redb::Error> {
    let meta = db.begin_read()?.open_table(META)?;
    let number = |name| Ok::<_, redb::Error>(meta.get(name)?.map_or(0, |number| number.value()));
    Ok(Mark { salt: number(SALT)?, generation: number(LOG)? })
}

/// Writes durably: when this returns, all is on the disk. `keep` tells which rows are no garbage.
pub(super) fn commit(
    db: &Database,
    work: &Work<'_>,
    keep: impl FnMut(RawRow<'_>) -> Result<bool, Error>,
) -> Result<Option<Swept>, redb::Error> {
    let txn = db.begin_write()?;
    write_rows(&txn, work.batch)?;
    write_heads(&txn, work.heads)?;
    write_leases(&txn, work.batch)?;
    write_meta(&txn, work)?;
    let swept = work.sweep.map(|task| sweep(&txn, task, keep)).transpose()?;
    txn.commit()?;
    Ok(swept)
}

/// Commits without a change.
pub(super) fn touch(db: &Database) -> Result<(), redb::Error> {
    let txn = db.begin_write()?;
    let revision = txn.open_table(META)?.get(REVISION)?.map_or(FIRST, |revision| revision.value());
    txn.open_table(META)?.insert(REVISION, revision)?;
    txn.commit()?;
    Ok(())
}

fn write_rows(txn: &WriteTransaction, batch: &Batch) -> Result<(), redb::Error> {
    if batch.revised.is_empty() {
        return Ok(());
    }
    let mut rows = txn.open_table(ROWS)?;
    let (mut first, mut pack) = (RowId::default(), Vec::new());
    for change in batch.changes() {
        if !pack.is_empty() && pack.len() + change.bytes() as usize > PACK_BYTES {
            rows.insert((first.revision, first.sub), pack.as_slice())?;
            pack.clear();
        }
        if pack.is_empty() {
            first = change.at;
        }
        row::encode_change(&mut pack, change);
    }
    rows.insert((first.revision, first.sub), pack.as_slice())?;
    Ok(())
}

fn write_heads(txn: &WriteTransaction, heads: &[(Key, Option<Entry>)]) -> Result<(), redb::Error> {
    if heads.is_empty() {
        return Ok(());
    }
    let mut table = txn.open_table(HEADS)?;
    for (key, entry) in heads {
        let key = key.as_bytes();
        match entry {
            Some(entry) => table.insert(key, &row::encode_head(key, entry))?,
            None => table.remove(key)?,
        };
    }
    Ok(())
}

fn write_leases(txn: &WriteTransaction, batch: &Batch) -> Result<(), redb::Error> {
    if batch.leases.is_empty() {
        return Ok(());
    }
    let mut leases = txn.open_table(LEASES)?;
    for (id, term) in &batch.leases {
        match term {
            Some(term) => leases.insert(id, (term.ttl_ms, term.deadline_ms))?,
            None => leases.remove(id)?,
        };
    }
    Ok(())
}

fn write_meta(txn: &WriteTransaction, work: &Work<'_>) -> Result<(), redb::Error> {
    let mut meta = txn.open_table(META)?;
    for (name, moved) in [(COMPACTED, work.batch.compacted), (SAVED, work.saved), (LOG, Some(work.log))] {
        if let Some(number) = moved {
            meta.insert(name, number)?;
        }
    }
    Ok(())
}

fn sweep(
    txn: &WriteTransaction,
    task: Task,
    keep: impl FnMut(RawRow<'_>) -> Result<bool, Error>,
) -> Result<Swept, redb::Error> {
    let mut rows = txn.open_table(ROWS)?;
    let corrupt = |error: Error| redb::Error::Corrupted(error.to_string());
    let (packs, next) = look(&rows, task)?;
    let edits = broom::tidy(packs, task.all, keep).map_err(corrupt)?;
    for at in edits.remove {
        rows.remove((at.revision, at.sub))?;
    }
    for (at, pack) in edits.insert {
        rows.insert((at.revision, at.sub), pack.as_slice())?;
    }
    Ok(Swept { next, removed: edits.removed, left: edits.left })
}

/// The packs of a task, and the first one beyond it, if there is one to be swept.
fn look(
    rows: &Table<'_, (u64, u32), &'static [u8]>,
    task: Task,
) -> Result<(Vec<Stored>, Option<RowId>), redb::Error> {
    let (mut packs, mut bytes) = (Vec::new(), 0);
    let from = (task.from.revision, task.from.sub);
    for item in rows.range(from..=(task.to.max(task.from.revision), u32::MAX))? {
        let (at, pack) = item?;
        let (revision, sub) = at.value();
        let newest = Pack(pack.value()).last().and_then(Result::ok).map_or(0, |row| row.at.revision);
        if revision > task.to || newest > task.to {
            break;
        }
        let first = RowId { revision, sub };
        if bytes >= task.bytes {
            return Ok((packs, Some(first)));
        }
        bytes += pack.value().len();
        packs.push((first, pack.value().to_vec()));
    }
    Ok((packs, None))
}

/// Writes a whole state into an empty store, some keys at a time; the last call names the revision and the leases.
pub(super) struct Restore<'a>(pub &'a Database);

impl Restore<'_> {
    /// Writes some keys. Each row becomes a pack; the broom makes larger ones of them.
    pub fn keys(&self, items: &[(Entry, Key, bytes::Bytes)]) -> Result<(), redb::Error> {
        let txn = self.0.begin_write()?;
        {
            let (mut rows, mut heads) = (txn.open_table(ROWS)?, txn.open_table(HEADS)?);
            let mut pack = Vec::new();
            for (entry, key, value) in items {
                pack.clear();
                let at = entry.row();
                row::encode_row(&mut pack, at, key, Some(&(*entry, value.clone())), None);
                rows.insert((at.revision, at.sub), pack.as_slice())?;
                heads.insert(key.as_bytes(), &row::encode_head(key.as_bytes(), entry))?;
            }
        }
        txn.commit()?;
        Ok(())
    }

    /// Ends it.
    pub fn finish(&self, revision: Revision, leases: &[(LeaseId, Term)]) -> Result<(), redb::Error> {
        let txn = self.0.begin_write()?;
        begin_at(&txn, revision)?;
        let leases = leases.iter().map(|(id, term)| (*id, Some(*term))).collect();
        write_leases(&txn, &Batch { leases, ..Batch::default() })?;
        txn.commit()?;
        Ok(())
    }
}

/// What was found in a file.
pub(super) struct Found {
    pub index: Index,
    pub past: Past,
    /// The heads know everything up to here.
    pub saved: Revision,
    /// What the keys changed since then are now, and what their rows take.
    pub due: BTreeMap<Key, Option<Entry>>,
    pub due_bytes: u64,
}

/// One unchanging view of the file, and of what is in the log only.
pub(super) struct Snapshot {
    file: ReadTransaction,
    tail: Tail,
}

impl Snapshot {
    /// The file as of its last commit, and what came after that.
    pub fn new(db: &Database, tail: Tail) -> Result<Self, Error> {
        let file = db.begin_read().map_err(failed)?;
        Ok(Self { file, tail })
    }

    /// The published state, as it is after opening. Reads the heads and the recent past.
    pub fn load(&self) -> Result<Found, Error> {
        let meta = self.file.open_table(META).map_err(failed)?;
        let number = |name| {
            let found = meta.get(name).map_err(failed)?;
            found.map(|n| n.value()).ok_or_else(|| Error::Corrupt(format!("no {name}").into()))
        };
        let (saved, compacted) = (number(SAVED)?, number(COMPACTED)?);
        let index = Index::load(number(REVISION)?, compacted, self.leases()?, self.heads()?);
        let (past, due) = (Past::default(), BTreeMap::new());
        let mut found = Found { index, past, saved, due, due_bytes: 0 };
        for item in self.rows()?.between(saved.min(compacted.saturating_sub(1)) + 1, Revision::MAX)? {
            let (at, row) = item?;
            found.replay(at, row);
        }
        Ok(found)
    }

    fn leases(&self) -> Result<Vec<(LeaseId, Term)>, Error> {
        let table = self.file.open_table(LEASES).map_err(failed)?;
        let mut leases = Vec::new();
        for item in table.iter().map_err(failed)? {
            let (id, term) = item.map_err(failed)?;
            let (ttl_ms, deadline_ms) = term.value();
            leases.push((id.value(), Term { ttl_ms, deadline_ms }));
        }
        Ok(leases)
    }

    fn heads(&self) -> Result<Vec<(Key, Entry)>, Error> {
        let table = self.file.open_table(HEADS).map_err(failed)?;
        let mut heads = Vec::new();
        for item in table.iter().map_err(failed)? {
            let (key, head) = item.map_err(failed)?;
            heads.push((Key::from(key.value()), row::decode_head(key.value(), head.value())?));
        }
        Ok(heads)
    }

    /// Opens the rows for reading.
    pub fn rows(&self) -> Result<Rows, Error> {
        let file = self.file.open_table(ROWS).map_err(failed)?;
        Ok(Rows { file, tail: self.tail.clone() })
    }
}

impl Found {
    fn replay(&mut self, at: RowId, row: Row) {
        let entry = row.after.as_ref().map(|(entry, _)| *entry);
        let own = entry.map_or_else(|| row::row_bytes(&row.key, &[]) as u32, |entry| entry.bytes);
        if let Some(previous) = row.previous.filter(|_| at.revision > self.index.compacted) {
            self.past.keep(at.revision, previous);
        }
        if entry.is_none() && at.revision >= self.index.compacted {
            self.past.keep(at.revision + 1, Replaced { at, bytes: own });
        }
        if at.revision > self.saved {
            self.index.set(&row.key, entry);
            self.due.insert(row.key, entry);
            self.due_bytes += u64::from(own);
        }
        self.index.revision = self.index.revision.max(at.revision);
    }
}

/// The changes in a [`Snapshot`].
pub(super) struct Rows {
    file: redb::ReadOnlyTable<(u64, u32), &'static [u8]>,
    tail: Tail,
}

type PackGuard = (redb::AccessGuard<'static, (u64, u32)>, redb::AccessGuard<'static, &'static [u8]>);

/// Reads rows one after the other; those of one pack with one look-up.
pub(super) struct Cursor {
    rows: Rows,
    pack: Option<PackGuard>,
}

impl Cursor {
    /// One row, if it is still there.
    pub fn get(&mut self, at: RowId) -> Result<Option<Row>, Error> {
        if let Some(change) = self.rows.tail.change(at) {
            return Ok(Some(Row::of(change)));
        }
        if let Some((_, pack)) = &self.pack
            && let Some(row) = find(pack.value(), at)?
        {
            return Ok(Some(row));
        }
        self.pack = self.rows.pack(at)?;
        self.pack.as_ref().map_or(Ok(None), |(_, pack)| find(pack.value(), at))
    }
}

fn find(pack: &[u8], at: RowId) -> Result<Option<Row>, Error> {
    for row in Pack(pack) {
        let row = row?;
        if row.at == at {
            return row.decode().map(Some);
        }
    }
    Ok(None)
}

impl Rows {
    /// For reading many.
    pub fn cursor(self) -> Cursor {
        Cursor { rows: self, pack: None }
    }

    /// One row, if it is still there.
    pub fn get(&self, at: RowId) -> Result<Option<Row>, Error> {
        if let Some(change) = self.tail.change(at) {
            return Ok(Some(Row::of(change)));
        }
        self.pack(at)?.map_or(Ok(None), |(_, pack)| find(pack.value(), at))
    }

    /// The pack in which a row is, if it is anywhere.
    fn pack(&self, at: RowId) -> Result<Option<PackGuard>, Error> {
        let mut packs = self.file.range(..=(at.revision, at.sub)).map_err(failed)?;
        packs.next_back().transpose().map_err(failed)
    }

    /// The rows of the revisions `from..=to`, in order.
    pub fn between(
        &self,
        from: Revision,
        to: Revision,
    ) -> Result<impl Iterator<Item = Result<(RowId, Row), Error>>, Error> {
        // What is in the log may be in the file as well by now.
        let logged = self.tail.changes().next().map_or(Revision::MAX, |change| change.at.revision);
        let wanted = move |change: &&Change| (from..=to).contains(&change.at.revision);
        let tail = self.tail.changes().filter(wanted).map(|change| Ok((change.at, Row::of(change))));
        Ok(self.filed(from, to.min(logged - 1))?.chain(tail))
    }

    /// The same of those in the file.
    fn filed(
        &self,
        from: Revision,
        to: Revision,
    ) -> Result<impl Iterator<Item = Result<(RowId, Row), Error>>, Error> {
        // The first of them may lie in a pack that begins earlier.
        let earlier =
            self.file.range(..=(from, 0)).map_err(failed)?.next_back().transpose().map_err(failed)?;
        let start = earlier.map_or((from, 0), |(at, _)| at.value());
        // redb takes a reversed range as an error of the program; here it just means "nothing".
        let bounds = (Bound::Included(start), Bound::Included((to.max(start.0), u32::MAX)));
        let packs = self.file.range::<(u64, u32)>(bounds).map_err(failed)?;
        Ok(packs.flat_map(move |item| match item {
            Ok((_, pack)) => decode(pack.value(), from, to),
            Err(error) => vec![Err(failed(error))],
        }))
    }
}

/// The rows of a pack that lie between two revisions.
fn decode(pack: &[u8], from: Revision, to: Revision) -> Vec<Result<(RowId, Row), Error>> {
    let wanted = |row: &RawRow<'_>| from <= row.at.revision && row.at.revision <= to;
    let rows = Pack(pack).filter(|row| row.as_ref().map_or(true, wanted));
    rows.map(|row| row.and_then(|row| Ok((row.at, row.decode()?)))).collect()
}

/// What a failed read means to the caller.
fn failed(error: impl Into<redb::Error>) -> Error {
    match error.into() {
        redb::Error::Corrupted(reason) => Error::Corrupt(reason.into()),
        other => Error::Read(Arc::from(other.to_string())),
    }
}
