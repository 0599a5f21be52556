//! How much room the disk has, and what may still be written.
//!
//! A database that runs into a full disk has to be opened again, which takes a while. So it is kept from there: below
//! [`RESERVE`] nothing is added, and below [`LAST`] the database is left alone, until there is room again. The log needs
//! none: it has its whole length from the beginning.

use std::path::PathBuf;
use std::sync::Arc;

use crate::Error;

/// With less room than this, in bytes, only deletes are taken, and what keeps the file small.
pub(super) const RESERVE: u64 = 32 << 20;
/// With less room than this, in bytes, nothing is.
pub(super) const LAST: u64 = 8 << 20;

/// Tells how many bytes the disk has room for.
#[derive(Clone)]
pub(crate) struct Room(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Room {
    /// As `tell` says.
    pub fn new(tell: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Of the disk on which a directory is. One that does not tell has room.
    pub fn of(dir: PathBuf) -> Self {
        let root = rustix::process::geteuid().is_root();
        Self::new(move || {
            let told = rustix::fs::statvfs(&dir);
            // A part of the blocks may be kept for root.
            told.map_or(u64::MAX, |disk| disk.f_frsize * if root { disk.f_bfree } else { disk.f_bavail })
        })
    }

    /// What is to be said if a write found no room.
    pub fn full(&self) -> Error {
        Error::DiskFull { free: (self.0)() }
    }

    /// What is to be said if there is less room than this.
    pub fn less_than(&self, least: u64) -> Option<Error> {
        let free = (self.0)();
        (free < least).then_some(Error::DiskFull { free })
    }
}
