//! What the version before this one left in its log.
//!
//! That was one file. A record was: generation (8 bytes), length of the body (4), CRC (4; of the generation, the place and
//! the body), and the body that the [`log`](super::log) still has.

use redb::{Database, StorageBackend};

use super::disk::{self, Work};
use super::log::{self, SECTOR, corrupt};
use super::plan::Batch;
use super::row::{take_u32, take_u64};

const HEADER_BYTES: usize = 8 + 4 + 4;

/// Has the database take over what is in such a log.
pub(super) fn take_over(db: &Database, file: &dyn StorageBackend) -> Result<(), redb::Error> {
    let generation = disk::mark(db)?.generation;
    let bytes = log::contents(file)?;
    let (mut batch, mut end) = (Batch::default(), 0);
    while let Some((_, body)) = record(&bytes, end).filter(|(found, _)| *found == generation) {
        batch.append(&log::decode(body)?);
        end += (HEADER_BYTES + body.len()).next_multiple_of(SECTOR);
    }
    let mut rest = (end..bytes.len()).step_by(SECTOR).filter_map(|at| record(&bytes, at));
    if rest.any(|(found, _)| found >= generation) {
        return Err(corrupt("its log has a gap, or goes on after a state that is lost"));
    }
    let work = Work { batch: &batch, heads: &[], saved: None, sweep: None, log: generation + 1 };
    disk::commit(db, &work, |_| Ok(true)).map(drop)
}

/// The whole record at a place, if there is one.
fn record(bytes: &[u8], at: usize) -> Option<(u64, &[u8])> {
    let (generation, rest) = take_u64(bytes.get(at..)?)?;
    let (length, rest) = take_u32(rest)?;
    let (crc, rest) = take_u32(rest)?;
    let body = rest.get(..length as usize)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&generation.to_le_bytes());
    hasher.update(&(at as u64).to_le_bytes());
    hasher.update(body);
    (!body.is_empty() && hasher.finalize() == crc).then_some((generation, body))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bytes::Bytes;

    use super::*;
    use crate::embedded::index::{Change, Revised, RowId, Shared};
    use crate::embedded::{Embedded, Options, open_file};
    use crate::{Key, Op, Store, Txn};

    fn sealed(batch: &Batch, generation: u64, at: usize) -> Vec<u8> {
        let mut body = Vec::new();
        log::encode(batch, &mut body);
        let body = body.split_off(log::HEADER_BYTES);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&generation.to_le_bytes());
        hasher.update(&(at as u64).to_le_bytes());
        hasher.update(&body);
        let numbers = [generation.to_le_bytes().to_vec(), (body.len() as u32).to_le_bytes().to_vec()];
        let mut record = [numbers.concat(), hasher.finalize().to_le_bytes().to_vec(), body].concat();
        record.resize(record.len().next_multiple_of(SECTOR), 0);
        record
    }

    fn put(revision: u64) -> Batch {
        let at = RowId { revision, sub: 0 };
        let change = Change::put(Key::from(format!("/{revision}")), at, None, 0, Bytes::from("new"));
        let revised = vec![Shared::new(Revised { revision, changes: vec![change] })];
        Batch { revised, revision, ..Batch::default() }
    }

    #[tokio::test]
    async fn a_former_log_is_taken_over_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let store = Embedded::open(dir.path(), &Options::default()).unwrap();
        store.txn(Txn::new(Op::put("/2", "old"))).await.unwrap();
        drop(store);
        let db = redb::Database::create(path("store.redb")).unwrap();
        let generation = disk::mark(&db).unwrap().generation;
        drop(db);
        // Two records, and what an earlier generation left behind them.
        let log = [put(3), put(4), put(9)].into_iter().zip([generation, generation, generation - 1]);
        let mut bytes = Vec::new();
        for (batch, generation) in log {
            bytes.extend(sealed(&batch, generation, bytes.len()));
        }
        fs::write(path("store.log"), bytes).unwrap();
        fs::write(path("FORMAT"), "tiphys-store 3\n").unwrap();
        fs::remove_file(path("store.0.log")).unwrap();
        for _ in 0..2 {
            let store = Embedded::open(dir.path(), &Options::default()).unwrap();
            assert_eq!(store.revision().await.unwrap(), 4);
            assert_eq!(store.get("/2".into()).await.unwrap().unwrap().value, "old");
            assert_eq!(store.get("/4".into()).await.unwrap().unwrap().value, "new");
        }
        assert_eq!(fs::read_to_string(path("FORMAT")).unwrap(), "tiphys-store 4\n");
        assert!(!path("store.log").exists() && open_file(&path("store.1.log")).is_ok());
    }
}
