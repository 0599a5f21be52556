//! The log: where batches become durable before the database has them.
//!
//! A commit of the database writes some pages and its header, however little has changed; a batch in the log is one
//! write and one sync. The log has two **segments**, a file each. While batches go to one of them, the
//! [`Filer`](super::filer) has the database take over what is in the other, so nobody waits for the database unless it
//! falls behind by a whole segment. It is read only when a store is opened after a crash.
//!
//! A segment keeps its length, so that a sync has none to write; only one that is not in use is made longer, when the
//! store has grown, and a batch that is larger than a whole segment makes an empty one longer until it is filed. It
//! holds records, each at the beginning of a sector, so that no sector of an acknowledged one is written again: salt (8
//! bytes), generation (8), how far the segment before was filled (4), length of the body (4), CRC (4; of all these, the
//! place and the body), body. Each use of a segment has a **generation**, the even ones in one file and the odd ones in
//! the other. The database knows the oldest one that it has not taken over; what is older has nothing to say. So nothing
//! has to be wiped, and nothing is taken over twice. It also knows the **salt**, a random number: without it nobody who
//! writes values can write what looks like a record.
//!
//! A record is written when the one before it is durable. So what follows the last one may be the rest of one that was
//! not finished, but no whole record: if there is one, what is before it was damaged; if it is of a later generation,
//! the database lost a commit. Only the very last record before a crash cannot be told from one that was never finished.

use std::collections::BTreeMap;
use std::io;

use redb::StorageBackend;

use super::index::{Change, Entry, Revised, RowId, Shared, Term};
use super::plan::Batch;
use super::row::{self, Pack, Row, take_u32, take_u64};
use crate::LeaseId;

/// Where a record may begin.
pub(super) const SECTOR: usize = 512;
/// Salt, generation, end of the segment before, length, CRC.
pub(super) const HEADER_BYTES: usize = 8 + 8 + 4 + 4 + 4;
/// Compaction point, number of leases; rows follow them.
const FIXED_BYTES: usize = 8 + 4;
/// Number, whether it exists, time to live, deadline.
const LEASE_BYTES: usize = 8 + 1 + 8 + 8;
/// The length of a new segment, in bytes.
pub(crate) const LEAST: usize = 96 << 10;
/// A segment becomes one of so many parts of what the database keeps: taking it over needs some times as much room again
/// for a moment.
const KEPT_PARTS: u64 = 32;

/// A file of the log.
pub(crate) type LogFile = Box<dyn StorageBackend>;

/// What the database knows of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// See the module.
    pub salt: u64,
    /// The oldest generation that the database has not taken over.
    pub generation: u64,
}

/// One of the two files, in one use of it.
#[derive(Debug)]
pub(super) struct Segment {
    file: LogFile,
    mark: Mark,
    /// How far the segment before was filled.
    before: usize,
    /// Where the next record goes.
    end: usize,
    length: usize,
}

/// The writer's end of the log. See the module.
#[derive(Debug)]
pub(super) struct Log {
    segment: Segment,
    /// The record being made.
    record: Vec<u8>,
}

/// A batch is not in the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwritten {
    /// There is no room for a longer segment. Nothing was begun.
    #[error("the disk is full")]
    Full,
    /// Nobody knows what the file holds now.
    #[error(transparent)]
    Broken(#[from] io::Error),
}

/// Makes an empty segment of about so many bytes.
pub(crate) fn make(file: &(impl StorageBackend + ?Sized), bytes: usize) -> io::Result<()> {
    // Written, not only reserved: so the file system has nothing to note when a record is.
    let zeros = vec![0; bytes.next_multiple_of(SECTOR)];
    file.set_len(zeros.len() as u64)?;
    file.write(0, &zeros)?;
    file.sync_data()
}

/// Whether a disk or its owner's share of it is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What is in the log and not in the database.
pub(super) fn recover(files: &[LogFile; 2], mark: Mark) -> Result<Batch, redb::Error> {
    let (mut batch, mut before) = (Batch::default(), None);
    for generation in [mark.generation, mark.generation + 1] {
        let bytes = contents(&**file_of(files, generation))?;
        let mut end = 0;
        while let Some(found) = record(&bytes, end, mark.salt).filter(|found| found.generation == generation)
        {
            if before.is_some_and(|before| before != found.before) {
                return Err(corrupt("the end of its log's first part is missing"));
            }
            batch.append(&decode(found.body)?);
            end += (HEADER_BYTES + found.body.len()).next_multiple_of(SECTOR);
        }
        let mut rest = (end..bytes.len()).step_by(SECTOR).filter_map(|at| record(&bytes, at, mark.salt));
        if rest.any(|found| found.generation >= generation) {
            return Err(corrupt("its log has a gap, or goes on after a state that is lost"));
        }
        before = Some(end);
    }
    Ok(batch)
}

fn file_of(files: &[LogFile; 2], generation: u64) -> &LogFile {
    let [even, odd] = files;
    if generation.is_multiple_of(2) { even } else { odd }
}

/// All of a file.
pub(super) fn contents(file: &dyn StorageBackend) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.len()? as usize];
    file.read(0, &mut bytes)?;
    Ok(bytes)
}

/// The log of a database that has taken everything over, and its other segment.
pub(super) fn begin(files: [LogFile; 2], mark: Mark) -> io::Result<(Log, Segment)> {
    let [even, odd] = files;
    let (first, other) = if mark.generation.is_multiple_of(2) { (even, odd) } else { (odd, even) };
    let log = Log { segment: Segment::new(first, mark)?, record: Vec::new() };
    Ok((log, Segment::new(other, mark)?))
}

impl Log {
    /// Whether a batch is to go into this segment: there is room, or an empty one is made longer for it.
    pub fn fits(&self, batch: &Batch) -> bool {
        let Segment { end, length, .. } = self.segment;
        end == 0 || end + encoded_bytes(batch) <= length
    }

    /// Whether the segment holds nothing.
    pub fn is_empty(&self) -> bool {
        self.segment.end == 0
    }

    /// Makes a batch durable.
    pub fn append(&mut self, batch: &Batch) -> Result<(), Unwritten> {
        self.record.clear();
        encode(batch, &mut self.record);
        let segment = &mut self.segment;
        seal(&mut self.record, segment.mark, segment.before, segment.end);
        let end = segment.end + self.record.len();
        let longer = || if end > segment.length { segment.file.set_len(end as u64) } else { Ok(()) };
        match longer().and_then(|()| segment.file.write(segment.end as u64, &self.record)) {
            // Within its length it needs no room. Beyond, this was the first record, and it is not whole.
            Err(error) if is_full(&error) => return Err(Unwritten::Full),
            other => other?,
        }
        segment.file.sync_data()?;
        segment.end += self.record.len().next_multiple_of(SECTOR);
        Ok(())
    }

    /// Goes on in the other segment. Answers this one.
    pub fn turn(&mut self, mut other: Segment) -> Segment {
        let Segment { mark, end, .. } = self.segment;
        (other.mark, other.before, other.end) = (mark.next(), end, 0);
        std::mem::replace(&mut self.segment, other)
    }
}

impl Mark {
    /// Of the next generation.
    pub fn next(self) -> Self {
        Self { generation: self.generation + 1, ..self }
    }
}

impl Segment {
    fn new(file: LogFile, mark: Mark) -> io::Result<Self> {
        let length = file.len()? as usize;
        Ok(Self { file, mark, before: 0, end: 0, length })
    }

    /// What the database is to know once it has taken the segment over.
    pub fn done(&self) -> Mark {
        self.mark.next()
    }

    /// Gives a segment that is not in use the length it should have if the database keeps so many bytes.
    pub fn fit(&mut self, kept: u64, most: usize) -> io::Result<()> {
        let wanted = most.min((kept / KEPT_PARTS) as usize).next_multiple_of(SECTOR);
        // In few steps.
        if wanted >= 2 * self.length {
            make(&*self.file, wanted)?;
            self.length = wanted;
        } else if self.file.len()? > self.length as u64 {
            self.file.set_len(self.length as u64)?;
        }
        Ok(())
    }
}

/// What is wrong with a log.
pub(super) fn corrupt(what: &str) -> redb::Error {
    redb::Error::Corrupted(what.to_owned())
}

fn checksum(generation: u64, before: usize, at: usize, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for number in [generation, before as u64, at as u64] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(body);
    hasher.finalize()
}

/// Fills in the header of a record.
fn seal(record: &mut [u8], mark: Mark, before: usize, at: usize) {
    if let Some((header, body)) = record.split_first_chunk_mut::<HEADER_BYTES>() {
        let crc = checksum(mark.generation, before, at, body);
        header[..8].copy_from_slice(&mark.salt.to_le_bytes());
        header[8..16].copy_from_slice(&mark.generation.to_le_bytes());
        header[16..20].copy_from_slice(&(before as u32).to_le_bytes());
        header[20..24].copy_from_slice(&(body.len() as u32).to_le_bytes());
        header[24..].copy_from_slice(&crc.to_le_bytes());
    }
}

struct Record<'a> {
    generation: u64,
    before: usize,
    body: &'a [u8],
}

/// The whole record at a place, if there is one.
fn record(bytes: &[u8], at: usize, salt: u64) -> Option<Record<'_>> {
    let (found, rest) = take_u64(bytes.get(at..)?)?;
    if found != salt {
        return None;
    }
    let (generation, rest) = take_u64(rest)?;
    let (before, rest) = take_u32(rest)?;
    let (length, rest) = take_u32(rest)?;
    let (crc, rest) = take_u32(rest)?;
    let (before, body) = (before as usize, rest.get(..length as usize)?);
    let whole = !body.is_empty() && checksum(generation, before, at, body) == crc;
    whole.then_some(Record { generation, before, body })
}

fn encoded_bytes(batch: &Batch) -> usize {
    let rows: usize = batch.changes().map(|change| change.bytes() as usize).sum();
    HEADER_BYTES + FIXED_BYTES + LEASE_BYTES * batch.leases.len() + rows
}

/// Appends room for the header, and the body.
pub(super) fn encode(batch: &Batch, out: &mut Vec<u8>) {
    out.extend([0; HEADER_BYTES]);
    // No compaction point is 0.
    out.extend(batch.compacted.unwrap_or_default().to_le_bytes());
    out.extend((batch.leases.len() as u32).to_le_bytes());
    for (id, term) in &batch.leases {
        let Term { ttl_ms, deadline_ms } = term.unwrap_or_default();
        out.extend(id.to_le_bytes());
        out.push(u8::from(term.is_some()));
        out.extend(ttl_ms.to_le_bytes());
        out.extend(deadline_ms.to_le_bytes());
    }
    for change in batch.changes() {
        row::encode_change(out, change);
    }
}

/// A batch from a record's body.
pub(super) fn decode(body: &[u8]) -> Result<Batch, redb::Error> {
    let (compacted, leases, pack) = head(body).ok_or_else(|| corrupt("a record of its log"))?;
    let mut revised: Vec<Revised> = Vec::new();
    for row in Pack(pack) {
        let (at, row) =
            row.and_then(|row| Ok((row.at, row.decode()?))).map_err(|e| corrupt(&e.to_string()))?;
        let change = change(at, row);
        match revised.last_mut().filter(|last| last.revision == at.revision) {
            Some(last) => last.changes.push(change),
            None => revised.push(Revised { revision: at.revision, changes: vec![change] }),
        }
    }
    let revision = revised.last().map_or(0, |last| last.revision);
    let revised = revised.into_iter().map(Shared::new).collect();
    Ok(Batch { revised, leases, revision, compacted, ..Batch::default() })
}

type Leases = BTreeMap<LeaseId, Option<Term>>;

/// All but the rows, which are the rest.
fn head(body: &[u8]) -> Option<(Option<u64>, Leases, &[u8])> {
    let (compacted, rest) = take_u64(body)?;
    let (count, mut rest) = take_u32(rest)?;
    let mut leases = Leases::new();
    for _ in 0..count {
        let (id, after) = take_u64(rest)?;
        let (exists, after) = after.split_first()?;
        let (ttl_ms, after) = take_u64(after)?;
        let (deadline_ms, after) = take_u64(after)?;
        leases.insert(id, (*exists == 1).then_some(Term { ttl_ms, deadline_ms }));
        rest = after;
    }
    Some(((compacted != 0).then_some(compacted), leases, rest))
}

/// A change as it is written: of what was before it knows only where that is.
fn change(at: RowId, row: Row) -> Change {
    let before = row.previous.map(|replaced| Entry {
        mod_revision: replaced.at.revision,
        sub: replaced.at.sub,
        bytes: replaced.bytes,
        ..Entry::default()
    });
    Change { key: row.key, at, before, after: row.after }
}

#[cfg(test)]
mod tests;
