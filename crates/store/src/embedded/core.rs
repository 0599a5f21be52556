//! What the writer, readers and watchers of one open store share.
//!
//! The published state is behind one lock that is held briefly and never across I/O. The database is behind another,
//! so that closing the store really closes the file, even if someone still holds a watch.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
use redb::Database;

use super::desk::Desk;
use super::disk::Snapshot;
use super::history::History;
use super::index::{Change, Index, RowId, Shared};
use super::past::Past;
use super::plan::Batch;
use super::queue::Queue;
use super::row::{RawRow, Replaced};
use super::watch::Watchers;
use crate::{Error, Revision};

/// What is published and in the log, and not in the database yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail {
    /// In the segment that is being taken over.
    sealed: Arc<Batch>,
    /// In the other one.
    open: Arc<Batch>,
}

impl Tail {
    fn append(&mut self, batch: &Batch) {
        if !batch.is_empty() {
            Arc::make_mut(&mut self.open).append(batch);
        }
    }

    /// The open segment is full. Answers what is in it.
    pub fn seal(&mut self) -> Arc<Batch> {
        self.sealed = std::mem::take(&mut self.open);
        self.sealed.clone()
    }

    /// The database has what was sealed.
    pub fn filed(&mut self) {
        self.sealed = Arc::default();
    }

    /// All changes, in order.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.sealed.changes().chain(self.open.changes())
    }

    /// One of the changes.
    pub fn change(&self, at: RowId) -> Option<&Change> {
        self.open.change(at).or_else(|| self.sealed.change(at))
    }
}

/// What is durable and may be seen.
pub(super) struct State {
    pub index: Index,
    pub history: History,
    pub past: Past,
    pub tail: Tail,
    /// Up to here history was forgotten because somebody asked for it.
    pub forgotten: Revision,
    /// Why no more writes are taken.
    pub stopped: Option<Error>,
}

impl State {
    /// As it was found.
    pub fn new(index: Index, past: Past, history: History) -> Self {
        let forgotten = index.compacted;
        Self { index, history, past, tail: Tail::default(), forgotten, stopped: None }
    }

    fn publish(&mut self, batch: &Batch) -> u64 {
        self.tail.append(batch);
        for (id, term) in &batch.leases {
            self.index.set_lease(*id, *term);
        }
        for revised in &batch.revised {
            for change in &revised.changes {
                self.keep(change);
            }
            self.index.apply(revised);
            self.history.push(Shared::clone(revised));
        }
        let Some(compacted) = batch.compacted else { return 0 };
        self.index.compacted = compacted;
        if batch.asked {
            self.forgotten = compacted;
        }
        self.past.forget(compacted)
    }

    /// Keeps the row that a change replaces for readers of the past, and a deletion for watches that begin with it.
    fn keep(&mut self, change: &Change) {
        if let Some(before) = &change.before {
            self.past.keep(change.at.revision, before.replaced());
        }
        if change.after.is_none() {
            self.past.keep(change.at.revision + 1, Replaced { at: change.at, bytes: change.bytes() });
        }
    }

    /// Whether a row is no garbage.
    pub fn keeps(&self, row: RawRow<'_>) -> Result<bool, Error> {
        let entry = self.index.get(row.key()?);
        Ok(entry.is_some_and(|entry| entry.row() == row.at) || self.past.contains(row.at))
    }

    /// What is kept, in bytes on disk.
    pub fn used_bytes(&self) -> u64 {
        self.index.live_bytes + self.past.bytes
    }
}

/// See the module.
pub(super) struct Core {
    pub state: RwLock<State>,
    db: RwLock<Option<Database>>,
    pub queue: Queue,
    /// Between the two threads that write.
    pub desk: Desk,
    pub watchers: Watchers,
    pub clock: Clock,
    /// How often the file was made as small as it can be.
    pub tidied: tokio::sync::watch::Sender<u64>,
}

impl Core {
    /// Over an open database and the state found in it.
    pub fn new(db: Database, state: State, desk: Desk, clock: Clock) -> Self {
        Self {
            state: RwLock::new(state),
            db: RwLock::new(Some(db)),
            queue: Queue::new(),
            desk,
            watchers: Watchers::default(),
            clock,
            tidied: tokio::sync::watch::Sender::new(0),
        }
    }

    /// The database, while it is open. To be held for a moment by all but the filer.
    pub fn db(&self) -> Result<MappedRwLockReadGuard<'_, Database>, Error> {
        RwLockReadGuard::try_map(self.db.read(), Option::as_ref)
            .map_err(|_| Error::Read("the database is closed".into()))
    }

    /// Opens the database anew.
    pub fn use_database(&self, db: Database) {
        *self.db.write() = Some(db);
    }

    /// Why nothing is written any more, other than that the store is being closed.
    pub fn failure(&self) -> Option<Error> {
        self.state.read().stopped.clone().filter(|reason| *reason != Error::Closed)
    }

    /// A view of the file that is at least as new as `state`, and in which all that `state` refers to exists. To
    /// be taken while `state` is locked: a row is removed only once it is published that it is gone.
    pub fn snapshot(&self, state: &State) -> Result<Snapshot, Error> {
        Snapshot::new(&*self.db()?, state.tail.clone())
    }

    /// Makes a durable batch visible: to readers first, then to watchers.
    pub fn publish(&self, batch: &Batch) {
        let garbage = self.state.write().publish(batch);
        self.watchers.announce(&batch.revised);
        self.desk.dropped(garbage);
    }

    /// Ends writing and watching for good; the first reason stays.
    pub fn stop(&self, reason: Error) {
        // Before the queue: closing that ends the writer, whose own last word would come first.
        self.state.write().stopped.get_or_insert(reason.clone());
        self.queue.close(reason);
        self.watchers.wake_all();
        self.tidied.send_modify(|_| {});
    }

    /// Lets the file go.
    pub fn release(&self) {
        self.db.write().take();
    }
}

/// Milliseconds since 1970 that never step back or jump while the process runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    started: Instant,
    started_ms: u64,
}

impl Clock {
    pub fn start() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_ms: since_1970.as_millis() as u64 }
    }

    /// Now.
    pub fn now_ms(&self) -> u64 {
        self.started_ms + self.started.elapsed().as_millis() as u64
    }

    /// The moment when [`Clock::now_ms`] will have reached `ms`; none if that is beyond all reason.
    pub fn instant(&self, ms: u64) -> Option<Instant> {
        // One more, because now_ms rounds down.
        self.started.checked_add(Duration::from_millis(ms.saturating_sub(self.started_ms).saturating_add(1)))
    }
}
