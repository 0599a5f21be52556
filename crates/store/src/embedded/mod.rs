//! The embedded engine: the store of one machine, in one data directory.
//!
//! In memory: an ordered index of the living keys without their values ([`index`]), and the newest transactions with
//! theirs, bounded by bytes ([`history`]). On disk: redb ([`disk`]), and before it a [`log`]. One thread decides
//! ([`writer`]) whole groups of requests at once ([`plan`]) and makes them durable in the log with one fsync. Another one
//! ([`filer`]) brings them from there to redb, keeps the file small ([`broom`]) and what opening has to read short
//! ([`saver`]). Readers ([`read`]) and watches ([`watch`]) never wait for either.

mod broom;
mod core;
mod desk;
mod disk;
mod file;
mod filer;
mod format;
mod former;
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

use std::fs::OpenOptions;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Builder, Database, StorageBackend};
use tokio::sync::oneshot;

use self::broom::Broom;
use self::core::{Clock, Core, State, Tail};
use self::desk::Desk;
use self::disk::{Found, Snapshot, Work};
use self::file::{Faults, Source};
use self::filer::Filer;
use self::format::DataDir;
use self::history::History;
use self::index::Term;
use self::log::Mark;
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

pub(crate) use file::Files;
#[cfg(test)]
pub(crate) use file::Opener;
#[cfg(test)]
pub(crate) use log::{LogFile, make as make_log};
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
    /// How long each of the log's two segments may become: bytes.
    pub log_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            history_bytes: 4 << 20,
            cache_bytes: 16 << 20,
            retention: Retention::default(),
            txn_bytes: 8 << 20,
            quota_bytes: 8 << 30,
            replay_bytes: 256 << 10,
            log_bytes: 1 << 20,
        }
    }
}

/// A store in a directory of this machine. Dropping it writes what was handed in, ends its watches and closes the
/// file.
pub struct Embedded {
    core: Arc<Core>,
    threads: Vec<JoinHandle<()>>,
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
        let former = data.former_log()?;
        data.ensure(|path| {
            let db = builder(options).create(path).map_err(|error| refuse(error.into()))?;
            disk::prepare(&db).map(drop).map_err(refuse)
        })?;
        let room = Room::of(dir.to_owned());
        let (core, threads) = guarded(&data, || {
            let path = data.database();
            let database = move || Ok(Box::new(open_file(&path)?) as Box<dyn StorageBackend>);
            let source = Source { opener: Box::new(database), cache_bytes: options.cache_bytes };
            let (db, faults) = source.open(true).map_err(|(error, _)| refuse(error))?;
            if let Some(former) = former {
                former::take_over(&db, &former).map_err(refuse)?;
            }
            data.upgrade()?;
            let opened = Opened { source, db, faults };
            start(opened, data.open_logs()?, room.clone(), options).map_err(|error| match error {
                StartError::Database(error) => refuse(error),
                StartError::Content(error) => data.damaged(&error),
                StartError::Io(error) => data.io(error),
            })
        })?;
        let files = data.files();
        Ok(Self { core, threads, files, quota_bytes: options.quota_bytes, room, _dir: Some(data) })
    }

    /// A store in memory only, for tests: the same engine over redb's in-memory file.
    pub fn in_memory(options: &Options) -> Result<Self, OpenError> {
        let [even, odd] = [(); 2].map(|()| InMemoryBackend::new());
        for log in [&even, &odd] {
            log::make(log, log::LEAST.min(options.log_bytes)).map_err(in_memory)?;
        }
        let once = Mutex::new(Some(InMemoryBackend::new()));
        let database = move || match once.lock().take() {
            Some(memory) => Ok(Box::new(memory) as Box<dyn StorageBackend>),
            None => Err(std::io::ErrorKind::NotFound.into()),
        };
        let room = Room::new(|| u64::MAX);
        Self::on(Files { database: Box::new(database), logs: [Box::new(even), Box::new(odd)], room }, options)
    }

    /// A store over any medium; tests use failing ones.
    pub(crate) fn on(files: Files, options: &Options) -> Result<Self, OpenError> {
        let damaged = |reason: String| OpenError::Damaged { dir: PathBuf::from("memory"), reason };
        let Files { database, logs, room } = files;
        let source = Source { opener: database, cache_bytes: options.cache_bytes };
        let (db, faults) = source.open(false).map_err(|(error, _)| damaged(error.to_string()))?;
        let started = start(Opened { source, db, faults }, logs, room.clone(), options);
        let (core, threads) = started.map_err(|error| damaged(error.to_string()))?;
        let (files, quota_bytes) = (Vec::new(), options.quota_bytes);
        Ok(Self { core, threads, files, quota_bytes, room, _dir: None })
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
        for thread in self.threads.drain(..) {
            // One that panicked has stopped the store already.
            let _ = thread.join();
        }
        self.core.release();
    }
}

fn in_memory(source: std::io::Error) -> OpenError {
    OpenError::Io { dir: PathBuf::from("memory"), source }
}

/// Opens a database's file. One that is empty would be taken for a new one.
fn open_file(path: &Path) -> std::io::Result<FileBackend> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    match file.metadata()?.len() {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => FileBackend::new(file).map_err(std::io::Error::other),
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
    Io(#[from] std::io::Error),
}

/// An open database.
struct Opened {
    source: Source,
    db: Database,
    faults: Faults,
}

/// Lets the database take over what is in the log. Answers where that goes on.
fn recover(db: &Database, logs: &[log::LogFile; 2]) -> Result<Mark, redb::Error> {
    let mark = disk::mark(db)?;
    let batch = log::recover(logs, mark)?;
    if batch.is_empty() {
        return Ok(mark);
    }
    // Two generations are in it.
    let mark = mark.next().next();
    let work = Work { batch: &batch, heads: &[], saved: None, sweep: None, log: mark.generation };
    disk::commit(db, &work, |_| Ok(true))?;
    Ok(mark)
}

type Running = (Arc<Core>, Vec<JoinHandle<()>>);

fn start(
    opened: Opened,
    logs: [log::LogFile; 2],
    room: Room,
    options: &Options,
) -> Result<Running, StartError> {
    let Opened { source, db, faults } = opened;
    let fresh = disk::prepare(&db)?;
    let mark = recover(&db, &logs)?;
    let (log, free) = log::begin(logs, mark)?;
    let clock = Clock::start();
    let Found { mut index, past, saved, due, due_bytes } = Snapshot::new(&db, Tail::default())?.load()?;
    shorten_leases(&mut index, clock.now_ms());
    let filed = index.revision;
    let history = History::new(filed + 1, options.history_bytes);
    let core = Arc::new(Core::new(db, State::new(index, past, history), Desk::new(free), clock));
    let filer = Filer {
        core: core.clone(),
        source,
        faults,
        saver: Saver::new(saved, due, due_bytes),
        broom: Broom::new(fresh),
        room: room.clone(),
        mark,
        filed,
        unsaved_bytes: options.replay_bytes,
        log_bytes: options.log_bytes,
        shrinking: 0,
        retry: None,
    };
    let settings = Settings { txn_bytes: options.txn_bytes, quota_bytes: options.quota_bytes };
    let keeper = Keeper::new(options.retention);
    let writer = Writer { core: core.clone(), keeper, settings, log, room, retry: None };
    let thread = |name: &str| std::thread::Builder::new().name(name.into());
    let threads = vec![
        thread("store-writer").spawn(move || writer.run())?,
        thread("store-filer").spawn(move || filer.run())?,
    ];
    Ok((core, threads))
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
            no_space: used_bytes > self.quota_bytes
                || self.room.less_than(RESERVE).is_some()
                || self.core.desk.full().is_some(),
            leases: index.leases() as u64,
            watches,
        })
    }
}
