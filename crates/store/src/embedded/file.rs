//! The database's file: how it is opened, also again, and why it failed if it did.
//!
//! redb takes no more of a file once anything failed on it, whatever that was. Two things have to be told from each
//! other: a write for which there was no room is certainly not done, and the file is what it would be after a kill. After a
//! failed sync nobody knows what the disk holds.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Database, StorageBackend};

use super::log::{LogFile, is_full};
use super::room::Room;

/// What a store is made of.
pub(crate) struct Files {
    /// Opens the database's file.
    pub database: Opener,
    /// The log's segments.
    pub logs: [LogFile; 2],
    /// Of the disk.
    pub room: Room,
}

/// Opens a file, as often as it is asked to.
pub(crate) type Opener = Box<dyn Fn() -> io::Result<Box<dyn StorageBackend>> + Send>;

/// Where the database comes from.
pub(super) struct Source {
    pub opener: Opener,
    pub cache_bytes: usize,
}

impl Source {
    /// Opens the database; `check`: every page of it is looked at. Its faults will be noted.
    pub fn open(&self, check: bool) -> Result<(Database, Faults), (redb::Error, Faults)> {
        let faults = Faults::default();
        let open = || {
            let file = faults.note((self.opener)(), false)?;
            let mut builder = Database::builder();
            builder.set_cache_size(self.cache_bytes).set_check_integrity_on_open(check);
            Ok(builder.create_with_backend(Noted { file, faults: faults.clone() })?)
        };
        match open() {
            Ok(db) => Ok((db, faults)),
            Err(error) => Err((error, faults)),
        }
    }
}

/// What failed so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    full: AtomicBool,
    broken: AtomicBool,
}

impl Faults {
    /// Whether something failed, but only for lack of room.
    pub fn only_full(&self) -> bool {
        self.0.full.load(Ordering::SeqCst) && !self.0.broken.load(Ordering::SeqCst)
    }

    fn note<T>(&self, outcome: io::Result<T>, sync: bool) -> io::Result<T> {
        if let Err(error) = &outcome {
            let kind = if is_full(error) && !sync { &self.0.full } else { &self.0.broken };
            kind.store(true, Ordering::SeqCst);
        }
        outcome
    }
}

/// A file whose faults are noted. It takes no locks, since the directory has one.
#[derive(Debug)]
struct Noted {
    file: Box<dyn StorageBackend>,
    faults: Faults,
}

impl StorageBackend for Noted {
    fn len(&self) -> io::Result<u64> {
        self.faults.note(self.file.len(), false)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.faults.note(self.file.read(offset, out), false)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.note(self.file.set_len(len), false)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.faults.note(self.file.sync_data(), true)
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.faults.note(self.file.write(offset, data), false)
    }
    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
