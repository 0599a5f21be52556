//! What can go wrong, worded for the person who has to act on it.
//!
//! [`Error`] is for a running store; [`OpenError`] for one that could not be opened, where each text says what to do.

use std::path::PathBuf;
use std::sync::Arc;

use crate::{Key, LeaseId, Revision};

/// An operation was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The revision asked for is older than what is kept. For the API: 410 Gone, reason Expired.
    #[error("revision {requested} has been compacted; the oldest one kept is {at}")]
    Compacted {
        /// What was asked for.
        requested: Revision,
        /// The oldest revision that can be read.
        at: Revision,
    },
    /// The revision asked for has not happened yet.
    #[error("revision {requested} is in the future; the present one is {current}")]
    FutureRevision {
        /// What was asked for.
        requested: Revision,
        /// The last committed revision.
        current: Revision,
    },
    /// A transaction writes the same key twice.
    #[error("key {0} is written twice in one transaction")]
    DuplicateKey(Key),
    /// The lease has expired, was revoked, or never existed.
    #[error("lease {0} not found")]
    LeaseNotFound(LeaseId),
    /// A lease of that number exists already.
    #[error("lease {0} already exists")]
    LeaseExists(LeaseId),
    /// A script keeps the value or lease of a key that does not exist.
    #[error("key {0} not found")]
    KeyNotFound(Key),
    /// The transaction is larger than the store takes.
    #[error("a transaction of {bytes} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Its keys and values.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The store's size quota is used up: only deletes and compaction are taken.
    #[error(
        "the store has reached its size quota of {quota} bytes; delete objects or raise the quota (until then only \
         deletes are taken)"
    )]
    NoSpace {
        /// The quota in bytes.
        quota: u64,
    },
    /// The disk is full: only deletes are taken, and at its very end nothing. Ends by itself when there is room again.
    #[error(
        "the disk of the store has only {free} bytes left; remove files or objects (until then nothing is added)"
    )]
    DiskFull {
        /// What is left, in bytes.
        free: u64,
    },
    /// What was read is not what was written.
    #[error("the store's data is corrupt: {0}; restore the data directory from a backup")]
    Corrupt(Arc<str>),
    /// One read failed; nothing was changed and later calls may succeed.
    #[error("reading the store failed: {0}")]
    Read(Arc<str>),
    /// A write could not be made durable. The store takes no more writes until it is opened again, because after a
    /// failed fsync nobody knows what the disk holds.
    #[error("the store stopped after a failed write ({0}); check the disk, then restart")]
    Failed(Arc<str>),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// A store elsewhere did not answer. A write may have been done or not: look before doing it again.
    #[error("the store cannot be reached: {0}")]
    Unavailable(Arc<str>),
    /// A store elsewhere refused, in its own words.
    #[error("the store refused: {0}")]
    Refused(Arc<str>),
}

/// The store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Written by a later version of this program.
    #[error(
        "{dir} holds a store of format {found}, but this version reads formats up to {supported}; \
         use the newer version that wrote it, or another data directory"
    )]
    NewerFormat {
        /// The data directory.
        dir: PathBuf,
        /// The format written there.
        found: u32,
        /// The newest format this version knows.
        supported: u32,
    },
    /// Another process has it open.
    #[error("{dir} is in use by another process; stop that one first, or choose another data directory")]
    InUse {
        /// The data directory.
        dir: PathBuf,
    },
    /// Something is there, but it is not a store, or a damaged one.
    #[error(
        "{dir} does not hold a readable store: {reason}; restore it from a backup, or choose another data directory"
    )]
    Damaged {
        /// The data directory.
        dir: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The disk or its permissions.
    #[error("cannot open the store in {dir}: {source}")]
    Io {
        /// The data directory.
        dir: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}
