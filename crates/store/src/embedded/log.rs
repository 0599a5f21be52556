//! The log: where small batches become durable before the database has them.
//!
//! A commit of the database writes some pages and its header, however little has changed. A batch in the log is one write
//! and one sync. When the log has no room, one commit of the database takes everything over that is in it, and the
//! log begins anew. It is read only when a store is opened after a crash.
//!
//! The file keeps its length, so that a sync has none to write; only an empty log is made longer, when the store has grown. It holds records, each at the beginning of a
//! sector, so that no sector of an acknowledged one is written again: generation (8 bytes), length of the body (4), CRC (4;
//! of the generation, the place and the body), body. The database knows the present **generation** and changes it with
//! each of its commits; what has an earlier one it has taken over. So nothing has to be wiped, and nothing is taken over
//! twice.
//!
//! A record is written when the one before it is durable. So what follows the last one may be the rest of one that was
//! not finished, but no whole record: if there is one, what is before it was damaged; if it is of a later generation,
//! the database lost a commit. Only the very last record before a crash cannot be told from one that was never finished.

use std::collections::BTreeMap;

use redb::StorageBackend;

use super::index::{Change, Entry, Revised, RowId, Shared, Term};
use super::plan::Batch;
use super::row::{self, Pack, Row, take_u32, take_u64};
use crate::LeaseId;

/// Where a record may begin.
const SECTOR: usize = 512;
/// Generation, length, CRC.
const HEADER_BYTES: usize = 8 + 4 + 4;
/// Compaction point, number of leases; rows follow them.
const FIXED_BYTES: usize = 8 + 4;
/// Number, whether it exists, time to live, deadline.
const LEASE_BYTES: usize = 8 + 1 + 8 + 8;
/// A batch that takes more than one of so many parts of the log goes to the database at once: that is not slower.
const PARTS: usize = 4;
/// The length of a new log, in bytes.
pub(crate) const LEAST: usize = 64 << 10;
/// It becomes one of so many parts of what the database keeps: taking it over needs as much room again for a moment.
const KEPT_PARTS: u64 = 32;

/// See the module.
#[derive(Debug)]
pub(super) struct Log {
    file: Box<dyn StorageBackend>,
    generation: u64,
    /// Where the next record goes.
    end: usize,
    length: usize,
    /// It never becomes longer than this.
    most: usize,
    /// The record being made.
    record: Vec<u8>,
}

/// Makes an empty log of about so many bytes.
pub(crate) fn make(file: &(impl StorageBackend + ?Sized), bytes: usize) -> std::io::Result<()> {
    // Written, not only reserved: so the file system has nothing to note when a record is.
    let zeros = vec![0; bytes.next_multiple_of(SECTOR)];
    file.set_len(zeros.len() as u64)?;
    file.write(0, &zeros)?;
    file.sync_data()
}

impl Log {
    /// Opens the log of a database that knows it at `generation`. Also answers what the database has not taken over.
    pub fn open(
        file: Box<dyn StorageBackend>,
        generation: u64,
        most: usize,
    ) -> Result<(Self, Batch), redb::Error> {
        let mut bytes = vec![0; file.len()? as usize];
        file.read(0, &mut bytes)?;
        let (mut batch, mut end) = (Batch::default(), 0);
        while let Some((_, body)) = record(&bytes, end).filter(|(found, _)| *found == generation) {
            batch.append(&decode(body)?);
            end += (HEADER_BYTES + body.len()).next_multiple_of(SECTOR);
        }
        let mut rest = (end..bytes.len()).step_by(SECTOR).filter_map(|at| record(&bytes, at));
        if rest.any(|(found, _)| found >= generation) {
            return Err(corrupt("its log has a gap, or goes on after a state that is lost"));
        }
        Ok((Self { file, generation, end, length: bytes.len(), most, record: Vec::new() }, batch))
    }

    /// What the database must know it by from its next commit on.
    pub fn next_generation(&self) -> u64 {
        self.generation + 1
    }

    /// Begins anew, when the database's commit that takes everything over is durable.
    pub fn restart(&mut self) {
        self.generation += 1;
        self.end = 0;
    }

    /// Makes an empty log longer, if the database keeps so many bytes that it should be.
    pub fn grow(&mut self, kept: u64) -> std::io::Result<()> {
        let wanted = self.most.min((kept / KEPT_PARTS) as usize);
        // In few steps.
        if self.end > 0 || wanted < 2 * self.length {
            return Ok(());
        }
        make(&*self.file, wanted)?;
        self.length = wanted.next_multiple_of(SECTOR);
        Ok(())
    }

    /// Makes a batch durable, if it is small and there is room. False: it has to go to the database.
    pub fn append(&mut self, batch: &Batch) -> std::io::Result<bool> {
        let (bytes, most) = (encoded_bytes(batch), self.length / PARTS);
        if batch.is_empty() || batch.tidy || self.end + bytes > self.length || bytes > most {
            return Ok(false);
        }
        self.record.clear();
        encode(batch, &mut self.record);
        seal(&mut self.record, self.generation, self.end);
        self.file.write(self.end as u64, &self.record)?;
        self.file.sync_data()?;
        self.end += self.record.len().next_multiple_of(SECTOR);
        Ok(true)
    }
}

fn corrupt(what: &str) -> redb::Error {
    redb::Error::Corrupted(what.to_owned())
}

fn checksum(generation: u64, at: usize, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&generation.to_le_bytes());
    hasher.update(&(at as u64).to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// Fills in the header of a record.
fn seal(record: &mut [u8], generation: u64, at: usize) {
    if let Some((header, body)) = record.split_first_chunk_mut::<HEADER_BYTES>() {
        let crc = checksum(generation, at, body);
        let length = body.len() as u32;
        header[..8].copy_from_slice(&generation.to_le_bytes());
        header[8..12].copy_from_slice(&length.to_le_bytes());
        header[12..].copy_from_slice(&crc.to_le_bytes());
    }
}

/// The whole record at a place, if there is one: its generation and its body.
fn record(bytes: &[u8], at: usize) -> Option<(u64, &[u8])> {
    let (generation, rest) = take_u64(bytes.get(at..)?)?;
    let (length, rest) = take_u32(rest)?;
    let (crc, rest) = take_u32(rest)?;
    let body = rest.get(..length as usize)?;
    let whole = !body.is_empty() && checksum(generation, at, body) == crc;
    whole.then_some((generation, body))
}

fn encoded_bytes(batch: &Batch) -> usize {
    let rows: usize = batch.changes().map(|change| change.bytes() as usize).sum();
    HEADER_BYTES + FIXED_BYTES + LEASE_BYTES * batch.leases.len() + rows
}

/// Appends room for the header, and the body.
fn encode(batch: &Batch, out: &mut Vec<u8>) {
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

fn decode(body: &[u8]) -> Result<Batch, redb::Error> {
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
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::Key;

    const BYTES: usize = 16 << 10;

    /// A file that can be looked into while the log has it.
    #[derive(Debug, Clone)]
    struct Shelf(Arc<InMemoryBackend>);

    impl StorageBackend for Shelf {
        fn len(&self) -> std::io::Result<u64> {
            self.0.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
            self.0.read(offset, out)
        }
        fn set_len(&self, len: u64) -> std::io::Result<()> {
            self.0.set_len(len)
        }
        fn sync_data(&self) -> std::io::Result<()> {
            self.0.sync_data()
        }
        fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
            self.0.write(offset, data)
        }
    }

    fn batch(revision: u64, value: usize) -> Batch {
        let put = |sub| {
            let at = RowId { revision, sub };
            Change::put(Key::from(format!("/{sub}")), at, None, 7, Bytes::from(vec![b'x'; value]))
        };
        let gone = Change { key: "/c".into(), at: RowId { revision, sub: 2 }, before: None, after: None };
        let changes = vec![put(0), put(1), gone];
        let leases = BTreeMap::from([(7, Some(Term { ttl_ms: 5, deadline_ms: revision })), (8, None)]);
        let revised = vec![Shared::new(Revised { revision, changes })];
        Batch { revised, leases, revision, compacted: Some(revision - 1), ..Batch::default() }
    }

    fn shown(batch: &Batch) -> String {
        format!("{:?} {:?} {:?}", batch.revised, batch.leases, batch.compacted)
    }

    /// A log of generation 3 with records of the revisions 2 to 5, after the remains of generation 2.
    fn written() -> (Shelf, Vec<usize>) {
        let shelf = Shelf(Arc::new(InMemoryBackend::new()));
        make(&shelf, BYTES).unwrap();
        let (mut log, found) = Log::open(Box::new(shelf.clone()), 2, BYTES).unwrap();
        assert!(found.is_empty());
        (50..56).for_each(|revision| assert!(log.append(&batch(revision, 300)).unwrap()));
        log.restart();
        let places = (2..6).map(|revision| {
            let at = log.end;
            assert!(log.append(&batch(revision, 300)).unwrap());
            at
        });
        let places = places.collect();
        (shelf, places)
    }

    fn open(shelf: &Shelf, generation: u64) -> Result<Batch, redb::Error> {
        Log::open(Box::new(shelf.clone()), generation, BYTES).map(|(_, batch)| batch)
    }

    #[test]
    fn holds_what_the_database_has_not_taken_over() {
        let (shelf, _) = written();
        let mut expected = Batch::default();
        (2..6).for_each(|revision| expected.append(&batch(revision, 300)));
        assert_eq!(shown(&open(&shelf, 3).unwrap()), shown(&expected));
        assert!(open(&shelf, 4).unwrap().is_empty());
        // The database fell back to a state that the log does not follow.
        assert!(open(&shelf, 2).is_err());
    }

    #[test]
    fn damage_before_the_last_record_is_noticed_and_after_it_is_none() {
        let (good, places) = written();
        let mut bytes = vec![0; good.len().unwrap() as usize];
        good.read(0, &mut bytes).unwrap();
        let last = places[3];
        for at in (0..last).step_by(7) {
            let damaged = Shelf(Arc::new(InMemoryBackend::new()));
            make(&damaged, BYTES).unwrap();
            let mut bytes = bytes.clone();
            bytes[at] ^= 4;
            damaged.write(0, &bytes).unwrap();
            match open(&damaged, 3) {
                Err(error) => assert!(error.to_string().contains("log"), "{error}"),
                // Between two records.
                Ok(found) => assert_eq!(found.revised.len(), 4, "byte {at}"),
            }
        }
        bytes[last + 100] ^= 4;
        good.write(0, &bytes).unwrap();
        assert_eq!(open(&good, 3).unwrap().revised.len(), 3);
    }

    #[test]
    fn takes_small_batches_while_there_is_room() {
        let shelf = Shelf(Arc::new(InMemoryBackend::new()));
        make(&shelf, BYTES).unwrap();
        let (mut log, _) = Log::open(Box::new(shelf), 1, 4 * BYTES).unwrap();
        assert!(!log.append(&Batch::default()).unwrap());
        assert!(!log.append(&batch(2, BYTES / 8)).unwrap(), "too large");
        let taken = (2..100).take_while(|revision| log.append(&batch(*revision, 300)).unwrap()).count();
        assert_eq!(taken, BYTES / 1024);
        log.restart();
        assert!(log.append(&batch(200, 300)).unwrap());
        log.grow(1 << 30).unwrap();
        assert_eq!(log.length, BYTES, "it holds something");
        log.restart();
        log.grow(KEPT_PARTS * BYTES as u64).unwrap();
        assert_eq!(log.length, BYTES, "it is no use");
        log.grow(1 << 30).unwrap();
        assert_eq!(log.length, 4 * BYTES);
        assert!(log.append(&batch(201, 6_000)).unwrap());
    }
}
