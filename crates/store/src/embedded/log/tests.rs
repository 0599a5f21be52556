use std::sync::Arc;

use bytes::Bytes;
use redb::backends::InMemoryBackend;

use super::*;
use crate::Key;

const BYTES: usize = 16 << 10;
const SALT: u64 = 0x5a17;

/// Files that can be looked into while the log has them.
#[derive(Debug, Clone)]
struct Shelf(Arc<InMemoryBackend>);

impl StorageBackend for Shelf {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

type Shelves = [Shelf; 2];

fn shelves() -> Shelves {
    [(); 2].map(|()| {
        let shelf = Shelf(Arc::new(InMemoryBackend::new()));
        make(&shelf, BYTES).unwrap();
        shelf
    })
}

fn files(shelves: &Shelves) -> [LogFile; 2] {
    shelves.clone().map(|shelf| Box::new(shelf) as LogFile)
}

fn mark(generation: u64) -> Mark {
    Mark { salt: SALT, generation }
}

fn batch(revision: u64, value: Vec<u8>) -> Batch {
    let put = |sub, value| {
        let at = RowId { revision, sub };
        Change::put(Key::from(format!("/{sub}")), at, None, 7, Bytes::from(value))
    };
    let gone = Change { key: "/c".into(), at: RowId { revision, sub: 2 }, before: None, after: None };
    let changes = vec![put(0, value), put(1, vec![b'x'; 300]), gone];
    let leases = BTreeMap::from([(7, Some(Term { ttl_ms: 5, deadline_ms: revision })), (8, None)]);
    let revised = vec![Shared::new(Revised { revision, changes })];
    Batch { revised, leases, revision, compacted: Some(revision - 1), ..Batch::default() }
}

fn small(revision: u64) -> Batch {
    batch(revision, vec![b'x'; 300])
}

fn shown(batch: &Batch) -> String {
    format!("{:?} {:?} {:?}", batch.revised, batch.leases, batch.compacted)
}

/// Records of the revisions 50 to 55 in generation 2, of 2 to 5 in 3, and of 6 and 7 in 4, over those of 2; and where in
/// their files they begin.
fn written() -> (Shelves, Vec<usize>) {
    let shelves = shelves();
    let (mut log, mut other) = begin(files(&shelves), mark(2)).unwrap();
    let mut places = Vec::new();
    for revision in (50..56).chain(2..8) {
        if revision == 2 || revision == 6 {
            other = log.turn(other);
        }
        places.push(log.segment.end);
        log.append(&small(revision)).unwrap();
    }
    (shelves, places.split_off(6))
}

fn revisions(shelves: &Shelves, generation: u64) -> Result<Vec<u64>, String> {
    let batch = recover(&files(shelves), mark(generation)).map_err(|error| error.to_string())?;
    Ok(batch.revised.iter().map(|revised| revised.revision).collect())
}

#[test]
fn holds_what_the_database_has_not_taken_over() {
    let (shelves, _) = written();
    let mut expected = Batch::default();
    (2..8).for_each(|revision| expected.append(&small(revision)));
    assert_eq!(shown(&recover(&files(&shelves), mark(3)).unwrap()), shown(&expected));
    assert_eq!(revisions(&shelves, 4), Ok(vec![6, 7]));
    assert_eq!(revisions(&shelves, 5), Ok(vec![]));
    // The database fell back to a state that the log does not follow.
    assert!(revisions(&shelves, 2).is_err());
}

#[test]
fn damage_before_the_last_record_is_noticed_and_after_it_is_none() {
    let (shelves, places) = written();
    let flip = |shelf: &Shelf, at: usize| {
        let mut byte = [0];
        shelf.read(at as u64, &mut byte).unwrap();
        shelf.write(at as u64, &[byte[0] ^ 4]).unwrap();
    };
    let header = 0..HEADER_BYTES;
    // Of the first segment every record counts, also its last one; of the second all but the last one.
    let (last, second) = (places[3] + 1_000, places[5]);
    let cases = (0..last).map(|at| (1, at)).chain((0..second).map(|at| (0, at)));
    for (shelf, at) in cases.filter(|(_, at)| at % 7 == 0 || header.contains(&(at % 512))) {
        flip(&shelves[shelf], at);
        match revisions(&shelves, 3) {
            Err(error) => assert!(error.contains("log"), "{error}"),
            // Between two records.
            Ok(found) => assert_eq!(found, [2, 3, 4, 5, 6, 7], "byte {at} of {shelf}"),
        }
        flip(&shelves[shelf], at);
    }
    flip(&shelves[0], second + 100);
    assert_eq!(revisions(&shelves, 3), Ok(vec![2, 3, 4, 5, 6]));
}

/// Whoever writes a value may know all of a record but the salt.
#[test]
fn a_value_that_holds_a_record_is_a_value() {
    let forged = |salt| {
        let shelves = shelves();
        let (mut log, mut other) = begin(files(&shelves), mark(2)).unwrap();
        // What a crash would find behind the only record of generation 4, which is written over this one later.
        let mut record = Vec::new();
        encode(&small(9), &mut record);
        seal(&mut record, Mark { salt, generation: 4 }, 0, SECTOR);
        let mut value = vec![0; SECTOR - (HEADER_BYTES + FIXED_BYTES + 2 * LEASE_BYTES + ROW_HEAD)];
        value.extend(record);
        log.append(&batch(2, value)).unwrap();
        for _ in 0..2 {
            other = log.turn(other);
        }
        log.append(&Batch { compacted: Some(2), ..Batch::default() }).unwrap();
        revisions(&shelves, 4)
    };
    // With the salt it would be taken for one: it lies where one is looked for.
    assert_eq!(forged(SALT), Ok(vec![9]));
    assert_eq!(forged(0), Ok(vec![]));
}

/// A row's fields before its value, with the key.
const ROW_HEAD: usize = 4 + 1 + 12 + 24 + 12 + 4 + 4 + 2;

#[test]
fn takes_batches_while_there_is_room_and_a_large_one_when_empty() {
    let shelves = shelves();
    let (mut log, other) = begin(files(&shelves), mark(1)).unwrap();
    let large = batch(2, vec![b'x'; 2 * BYTES]);
    assert!(log.is_empty() && log.fits(&large));
    let taken = (2..100).take_while(|revision| {
        let fits = log.fits(&small(*revision));
        fits.then(|| log.append(&small(*revision)).unwrap()).is_some()
    });
    assert_eq!(taken.count(), BYTES / 1024);
    let mut full = log.turn(other);
    assert_eq!((full.done(), full.length), (mark(2), BYTES));
    full.fit(KEPT_PARTS * BYTES as u64, BYTES * 4).unwrap();
    assert_eq!(full.length, BYTES, "it is no use");
    full.fit(1 << 30, BYTES * 4).unwrap();
    assert_eq!(full.length, 4 * BYTES);
    log.append(&large).unwrap();
    assert!(!log.fits(&small(3)));
    let mut longer = log.turn(full);
    assert!(log.fits(&large));
    longer.fit(0, BYTES * 4).unwrap();
    assert_eq!(longer.file.len().unwrap(), BYTES as u64, "as long as before");
}
