//! The embedded engine: the store of one machine, in one data directory.
//!
//! In memory: an ordered index of the living keys without their values ([`index`]), and the newest transactions with
//! theirs, bounded by bytes ([`history`]). On disk: redb ([`disk`]), and before it a [`log`]. One thread writes
//! ([`writer`]), deciding whole groups of requests at once ([`plan`]) and making them durable with one fsync; beside that
//! it keeps the file small ([`broom`]) and what opening has to read short ([`saver`]). Readers ([`read`]) and watches
//! ([`watch`]) never wait for it.

mod broom;
mod core;
mod disk;
mod format;
mod history;
mod index;
mod log;
mod past;
mod plan;
mod queue;
mod read;
mod restore;
mod retention;
mod room;
mod row;
mod saver;
mod script;
mod view;
mod watch;
mod writer;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use redb::backends::InMemoryBackend;
use redb::{Builder, Database, StorageBackend};
use tokio::sync::oneshot;

use self::broom::Broom;
use self::core::{Clock, Core};
use self::disk::{Found, Snapshot, Work};
use self::format::DataDir;
use self::history::History;
use self::index::Term;
use self::log::Log;
use self::plan::Plan;
use self::queue::Reply;
use self::retention::Keeper;
use self::room::RESERVE;
use self::saver::Saver;
use self::writer::{Settings, Writer};
use crate::{
    Error, Lease, LeaseId, OpenError, Range, RangeResult, Revision, Script, ScriptResult, Status, Store, Txn,
    TxnResult, Watch, WatchFrom,
};

#[cfg(test)]
pub(crate) use log::make as make_log;
pub use restore::RestoreError;
pub use retention::Retention;
pub(crate) use room::Room;
pub(crate) use script::overlaps;

/// The unit in which the system tells what a file takes.
const BLOCK_BYTES: u64 = 512;

/// How an [`Embedded`] store behaves. The defaults suit a cluster of some thousand pods.
#[derive(Debug, Clone)]
pub struct Options {
    /// Recent transactions kept in memory for watches: bytes.
    pub history_bytes: usize,
    /// The database's page cache: bytes. Small, because the API server's cache has the values.
    pub cache_bytes: usize,
    /// When the past is forgotten without being asked to.
    pub retention: Retention,
    /// The largest transaction taken: bytes of its keys and values.
    pub txn_bytes: usize,
    /// How much may be kept, keys and values, present and past: bytes. Beyond it only deletes are taken.
    pub quota_bytes: u64,
    /// Rows of so many bytes are read again when the store is opened (or a quarter of what lives, if that is more).
    pub replay_bytes: u64,
    /// How long the log may become: bytes.
    pub log_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            history_bytes: 16 << 20,
            cache_bytes: 16 << 20,
            retention: Retention::default(),
            txn_bytes: 8 << 20,
            quota_bytes: 8 << 30,
            replay_bytes: 256 << 10,
            log_bytes: 256 << 10,
        }
    }
}

/// A store in a directory of this machine. Dropping it writes what was handed in, ends its watches and closes the
/// file.
pub struct Embedded {
    core: Arc<Core>,
    writer: Option<JoinHandle<()>>,
    /// The database and the log.
    files: Vec<PathBuf>,
    quota_bytes: u64,
    room: Room,
    /// Held to the end: it is the lock.
    _dir: Option<DataDir>,
}

impl Embedded {
    /// Opens the store in `dir`, making it if there is none. Reads the whole index, so it takes a while for a large
    /// store, and longer after a crash, when the file is checked.
    pub fn open(dir: &Path, options: &Options) -> Result<Self, OpenError> {
        let data = DataDir::open(dir)?;
        let refuse = |error: redb::Error| refuse(&data, error);
        data.ensure(|path| {
            let db = builder(options).create(path).map_err(|error| refuse(error.into()))?;
            disk::prepare(&db).map(drop).map_err(refuse)
        })?;
        let open = || {
            let db = builder(options).set_check_integrity_on_open(true).open(data.database());
            db.map_err(|error| refuse(error.into()))
        };
        let room = Room::of(dir.to_owned());
        let (core, writer) = guarded(&data, || {
            let files = Files { db: open()?, log: Box::new(data.open_log()?), room: room.clone() };
            start(files, options).map_err(|error| match error {
                StartError::Database(error) => refuse(error),
                StartError::Content(error) => data.damaged(&error),
                StartError::Thread(error) => data.io(error),
            })
        })?;
        let (writer, files) = (Some(writer), vec![data.database(), data.log()]);
        Ok(Self { core, writer, files, quota_bytes: options.quota_bytes, room, _dir: Some(data) })
    }

    /// A store in memory only, for tests: the same engine over redb's in-memory file.
    pub fn in_memory(options: &Options) -> Result<Self, OpenError> {
        let log = InMemoryBackend::new();
        let damaged = |error: std::io::Error| OpenError::Io { dir: PathBuf::from("memory"), source: error };
        log::make(&log, log::LEAST.min(options.log_bytes)).map_err(damaged)?;
        Self::on((InMemoryBackend::new(), log, Room::new(|| u64::MAX)), options)
    }

    /// A store over any medium, which has a file for the database, one for the log, and some room; tests use failing ones.
    pub(crate) fn on(
        (database, log, room): (impl StorageBackend, impl StorageBackend, Room),
        options: &Options,
    ) -> Result<Self, OpenError> {
        let damaged = |reason: String| OpenError::Damaged { dir: PathBuf::from("memory"), reason };
        let db =
            builder(options).create_with_backend(database).map_err(|error| damaged(error.to_string()))?;
        let files = Files { db, log: Box::new(log), room: room.clone() };
        let (core, writer) = start(files, options).map_err(|error| damaged(error.to_string()))?;
        let (writer, quota_bytes) = (Some(writer), options.quota_bytes);
        Ok(Self { core, writer, files: Vec::new(), quota_bytes, room, _dir: None })
    }

    /// Hands the writer something to decide and waits for its durable answer.
    async fn decide<T: Send + 'static>(
        &self,
        bytes: usize,
        decide: impl FnOnce(&mut Plan) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let decide = Box::new(move |plan: &mut Plan| {
            let decision = decide(plan);
            let reply: Reply = Box::new(move |durable| {
                // The caller may have gone; what it asked for is done all the same.
                let _ = answer.send(durable.and(decision));
            });
            reply
        });
        self.core.queue.submit(bytes, decide).await?;
        answered.await.unwrap_or_else(|_| Err(Error::Failed("the writer ended".into())))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.core.stop(Error::Closed);
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has stopped the store already.
            let _ = writer.join();
        }
        self.core.release();
    }
}

/// The database checks all its pages when it is opened. But should a file lead it astray all the same, then it panics.
fn guarded<T>(data: &DataDir, open: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(open));
    outcome.unwrap_or_else(|_| Err(data.damaged(&"its pages contradict each other")))
}

fn builder(options: &Options) -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(options.cache_bytes);
    builder
}

#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Database(#[from] redb::Error),
    #[error(transparent)]
    Content(#[from] Error),
    #[error(transparent)]
    Thread(#[from] std::io::Error),
}

/// What a store is made of.
struct Files {
    db: Database,
    log: Box<dyn StorageBackend>,
    room: Room,
}

/// Opens the log, and lets the database take over what is in it.
fn recover(db: &Database, log: Box<dyn StorageBackend>, most: usize) -> Result<Log, redb::Error> {
    let (mut log, batch) = Log::open(log, disk::log_generation(db)?, most)?;
    if !batch.is_empty() {
        let work =
            Work { batch: &batch, heads: Vec::new(), saved: None, sweep: None, log: log.next_generation() };
        disk::commit(db, &work, |_| Ok(true))?;
        log.restart();
    }
    Ok(log)
}

fn start(files: Files, options: &Options) -> Result<(Arc<Core>, JoinHandle<()>), StartError> {
    let Files { db, log, room } = files;
    let fresh = disk::prepare(&db)?;
    let log = recover(&db, log, options.log_bytes)?;
    let clock = Clock::start();
    let Found { mut index, past, saved, due, due_bytes } = Snapshot::new(&db, Arc::default())?.load()?;
    shorten_leases(&mut index, clock.now_ms());
    let history = History::new(index.revision + 1, options.history_bytes);
    let core = Arc::new(Core::new(db, index, past, history, clock));
    let settings = Settings {
        txn_bytes: options.txn_bytes,
        quota_bytes: options.quota_bytes,
        unsaved_bytes: options.replay_bytes,
    };
    let writer = Writer {
        core: core.clone(),
        keeper: Keeper::new(options.retention),
        saver: Saver::new(saved, due, due_bytes),
        broom: Broom::new(fresh),
        settings,
        log,
        room,
        shrinking: 0,
        retry: None,
    };
    let thread = std::thread::Builder::new().name("store-writer".into()).spawn(move || writer.run())?;
    Ok((core, thread))
}

/// A lease never lasts longer than its time to live, even if the clock was set back meanwhile.
fn shorten_leases(index: &mut index::Index, now_ms: u64) {
    for (id, Term { ttl_ms, deadline_ms }) in index.terms() {
        let deadline_ms = deadline_ms.min(now_ms.saturating_add(ttl_ms));
        index.set_lease(id, Some(Term { ttl_ms, deadline_ms }));
    }
}

/// What redb's refusal to open means to the operator.
fn refuse(data: &DataDir, error: redb::Error) -> OpenError {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    match error {
        // A file that is cut off is no fault of the disk.
        redb::Error::Io(source) if !matches!(source.kind(), InvalidData | UnexpectedEof) => data.io(source),
        other => data.damaged(&other),
    }
}

#[async_trait::async_trait]
impl Store for Embedded {
    async fn revision(&self) -> Result<Revision, Error> {
        Ok(self.core.state.read().index.revision)
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, Error> {
        let bytes = txn.ops.iter().map(|op| op.size()).sum();
        self.decide(bytes, move |plan| plan.txn(txn)).await
    }

    async fn run(&self, script: Script) -> Result<ScriptResult, Error> {
        self.decide(script::size(&script), move |plan| plan.run(script)).await
    }

    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        read::range(&self.core, range).await
    }

    async fn watch(&self, from: WatchFrom) -> Result<Watch, Error> {
        watch::start(&self.core, from)
    }

    async fn request_progress(&self) -> Result<(), Error> {
        self.core.watchers.request_progress();
        Ok(())
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.decide(0, move |plan| plan.compact(revision)).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        self.grant_as(0, ttl).await
    }

    async fn grant_as(&self, lease: LeaseId, ttl: Duration) -> Result<LeaseId, Error> {
        self.decide(0, move |plan| plan.grant(lease, ttl)).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, Error> {
        self.decide(0, move |plan| plan.keep_alive(lease)).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        self.decide(0, move |plan| plan.revoke(lease)).await
    }

    async fn lease(&self, lease: LeaseId) -> Result<Lease, Error> {
        let state = self.core.state.read();
        let term = state.index.lease(lease).ok_or(Error::LeaseNotFound(lease))?;
        let keys = state.index.lease_keys(lease).cloned().collect();
        Ok(term.lease(lease, self.core.clock.now_ms(), keys))
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, Error> {
        Ok(self.core.state.read().index.lease_ids())
    }

    async fn snapshot(&self, revision: Revision) -> Result<crate::Snapshot, Error> {
        read::snapshot(&self.core, revision).await
    }

    async fn defragment(&self) -> Result<(), Error> {
        let mut tidied = self.core.tidied.subscribe();
        let before = *tidied.borrow();
        self.decide(0, |plan| {
            plan.tidy();
            Ok(())
        })
        .await?;
        // The sender lives as long as the store.
        let _ = tidied.wait_for(|times| *times > before || self.core.state.read().stopped.is_some()).await;
        self.core.state.read().stopped.clone().map_or(Ok(()), Err)
    }

    async fn status(&self) -> Result<Status, Error> {
        // What they really take: the database makes its file longer than what it has written.
        let taken = |file| std::fs::metadata(file).map(|file| file.blocks() * BLOCK_BYTES);
        let disk_bytes: std::io::Result<u64> = self.files.iter().map(taken).sum();
        let disk_bytes = disk_bytes.map_err(|error| Error::Read(error.to_string().into()))?;
        let watches = self.core.watchers.len() as u64;
        let state = self.core.state.read();
        if let Some(reason) = &state.stopped {
            return Err(reason.clone());
        }
        let index = &state.index;
        let used_bytes = state.used_bytes();
        Ok(Status {
            revision: index.revision,
            compacted: index.compacted,
            keys: index.len() as u64,
            disk_bytes,
            used_bytes,
            quota_bytes: self.quota_bytes,
            no_space: used_bytes > self.quota_bytes || self.room.less_than(RESERVE).is_some(),
            leases: index.leases() as u64,
            watches,
        })
    }
}
