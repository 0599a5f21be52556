//! The filer: a thread that has the database take over full segments of the log, and keeps the file in order.
//!
//! Nobody waits for it while there is room in the log. What it takes over is published, so the database is always a
//! whole state that was published some time ago, and the log holds all since then. With each commit a little housekeeping
//! is done: some heads ([`Saver`]), some garbage ([`Broom`]). What is left of it when there is no full segment is done in
//! commits of its own.
//!
//! When the disk has no room, nothing that was acknowledged depends on it: the database is opened again, as after a
//! kill, and the same commit is tried until there is room. Meanwhile the log takes deletes as long as it can. Any other
//! failure ends the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::Database;

use super::broom::{Broom, Task};
use super::core::Core;
use super::desk::{Call, Job};
use super::disk::{self, Work};
use super::file::{Faults, Source};
use super::log::{Mark, is_full};
use super::plan::Batch;
use super::room::{LAST, Room};
use super::row::RawRow;
use super::saver::Saver;
use crate::{Error, Revision};

/// Commits after which a file that could be made smaller is.
const SHRINKING_COMMITS: u32 = 24;
/// Housekeeping of its own begins when no segment was handed in for so long.
const QUIET: Duration = Duration::from_millis(5);
/// How long the database is left alone when the disk was full.
const RETRY: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Filer {
    pub core: Arc<Core>,
    pub source: Source,
    pub faults: Faults,
    pub saver: Saver,
    pub broom: Broom,
    pub room: Room,
    /// What the database knows of the log.
    pub mark: Mark,
    /// The database has everything up to here.
    pub filed: Revision,
    /// Rows of so many bytes, or of a quarter of what lives, need not be known to the heads.
    pub unsaved_bytes: u64,
    /// How long a segment of the log may become, in bytes.
    pub log_bytes: usize,
    /// Commits still to be made for the sake of the file's size.
    pub shrinking: u32,
    /// The disk was full: when to try again what nobody waits for.
    pub retry: Option<Instant>,
}

/// Why nothing was committed.
enum Trouble {
    /// For lack of room. It can be tried again.
    Full(Error),
    /// For good.
    Broken(Error),
}

impl Filer {
    /// Works until the writer has ended.
    pub fn run(mut self) {
        let _leave = Leave(self.core.clone());
        let mut wake = self.wake_at(Duration::ZERO);
        while let Some(call) = self.core.desk.next(wake) {
            match self.answer(call) {
                Ok(quiet) => wake = self.wake_at(quiet),
                Err(error) => return self.core.stop(error),
            }
        }
    }

    /// Does what there is to do. Answers when other work may begin.
    fn answer(&mut self, call: Call) -> Result<Duration, Error> {
        let idle = call.is_empty();
        let mut quiet = QUIET;
        self.broom.dropped(call.garbage);
        if let Some(job) = call.job {
            self.take_over(job)?;
        }
        if call.tidy || idle {
            self.tidy_up(call.tidy)?;
            quiet = Duration::ZERO;
        }
        Ok(quiet)
    }

    /// When to get up without being called.
    fn wake_at(&self, quiet: Duration) -> Option<Instant> {
        let used = self.core.state.read().used_bytes();
        let busy = self.broom.busy(used, self.saver.saved()) || self.saver.busy() || self.shrinking > 0;
        let due = busy.then(|| Instant::now() + quiet)?;
        Some(self.retry.map_or(due, |retry| due.max(retry)))
    }

    /// Has the database take over a segment, and lays it back empty.
    fn take_over(&mut self, job: Job) -> Result<(), Error> {
        let Job { mut segment, batch } = job;
        batch.changes().for_each(|change| self.saver.changed(change));
        self.filed = self.filed.max(batch.revision);
        let goal = segment.done();
        while self.mark != goal {
            match self.commit(&batch, goal) {
                Ok(()) => {}
                Err(Trouble::Broken(error)) => return Err(error),
                Err(Trouble::Full(error)) => {
                    if !self.wait_for_room(error)? {
                        // The next start finds it in the log.
                        return Ok(());
                    }
                }
            }
        }
        let kept = {
            let mut state = self.core.state.write();
            state.tail.filed();
            state.used_bytes()
        };
        match segment.fit(kept, self.log_bytes) {
            Err(error) if !is_full(&error) => return Err(failed(error)),
            _ => self.core.desk.put_back(segment),
        }
        Ok(())
    }

    /// Housekeeping.
    fn tidy_up(&mut self, all: bool) -> Result<(), Error> {
        self.retry = None;
        if all {
            let state = self.core.state.read();
            self.saver.begin_all(self.filed, state.index.entries());
            self.broom.begin_all(self.filed);
        }
        match self.commit(&Batch::default(), self.mark) {
            Ok(()) => {}
            Err(Trouble::Broken(error)) => return Err(error),
            Err(Trouble::Full(error)) => {
                self.open_again()?;
                self.core.desk.set_full(Some(error));
                self.retry = Some(Instant::now() + RETRY);
            }
        }
        Ok(())
    }

    /// One commit of the database: a batch, after which it knows `mark` of the log, and some housekeeping.
    fn commit(&mut self, batch: &Batch, mark: Mark) -> Result<(), Trouble> {
        if let Some(reason) = self.core.failure() {
            return Err(Trouble::Broken(reason));
        }
        if let Some(full) = self.room.less_than(LAST) {
            return Err(Trouble::Full(full));
        }
        let idle = mark == self.mark;
        self.begin_rounds(idle);
        let part = self.saver.part((!idle).then(|| batch.changes().count()));
        let sweep = self.sweep(batch);
        let work = Work { batch, heads: &part.heads, saved: part.saved, sweep, log: mark.generation };
        if idle && part.is_empty() && sweep.is_none() {
            return self.shrink();
        }
        let keep = |row: RawRow<'_>| self.core.state.read().keeps(row);
        let outcome = self.with_database(|db| disk::commit(db, &work, keep));
        match outcome {
            Ok(swept) => {
                self.mark = mark;
                self.saver.done(&part);
                if swept.is_some_and(|swept| self.broom.done(swept)) {
                    self.shrinking = SHRINKING_COMMITS;
                }
                self.core.desk.set_full(None);
                Ok(())
            }
            Err(trouble) => {
                self.saver.undo(part);
                Err(trouble)
            }
        }
    }

    fn with_database<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, Trouble> {
        let db = match self.core.db() {
            Ok(db) => db,
            // It could not be opened again yet.
            Err(_) => return Err(Trouble::Full(self.room.full())),
        };
        work(&db).map_err(|error| self.trouble(error))
    }

    fn trouble(&self, error: redb::Error) -> Trouble {
        match self.faults.only_full() {
            true => Trouble::Full(self.room.full()),
            false => Trouble::Broken(failed(error)),
        }
    }

    /// Begins what housekeeping is due. `idle`: there is no segment to be taken over.
    fn begin_rounds(&mut self, idle: bool) {
        let state = self.core.state.read();
        // Rows that the heads do not know yet cannot be removed.
        let most = match idle && self.broom.wanted(state.used_bytes()) {
            true => 0,
            false => self.unsaved_bytes.max(state.index.live_bytes / 4),
        };
        self.saver.begin(self.filed, most);
    }

    fn sweep(&mut self, batch: &Batch) -> Option<Task> {
        // A round over every pack waits for the heads.
        if self.broom.sweeps_all() && self.saver.busy() {
            return None;
        }
        let written = batch.changes().map(|change| change.bytes() as usize).sum();
        self.broom.task(written, self.core.state.read().used_bytes(), self.saver.saved())
    }

    /// Gives the database another occasion to give space back; it does so a part at a time.
    fn shrink(&mut self) -> Result<(), Trouble> {
        if self.shrinking > 0 {
            self.with_database(disk::touch)?;
            self.shrinking -= 1;
            if self.shrinking == 0 {
                self.core.tidied.send_modify(|times| *times += 1);
            }
        }
        Ok(())
    }

    /// Leaves the disk alone for a while. False: the writer has ended.
    fn wait_for_room(&mut self, reason: Error) -> Result<bool, Error> {
        tracing::warn!(%reason, "the database waits for room");
        self.open_again()?;
        self.core.desk.set_full(Some(reason));
        Ok(self.core.desk.rest(RETRY))
    }

    /// Opens the database again, if a write failed for lack of room. If there is not even room for that, it stays closed.
    fn open_again(&mut self) -> Result<(), Error> {
        if !self.faults.only_full() && self.core.db().is_ok() {
            return Ok(());
        }
        self.core.release();
        match self.source.open(false) {
            Ok((db, faults)) => {
                // The commit may have been done, though it failed.
                self.mark = disk::mark(&db).map_err(failed)?;
                self.faults = faults;
                self.core.use_database(db);
                Ok(())
            }
            Err((error, faults)) if faults.only_full() => {
                tracing::warn!(%error, "the database cannot be opened for lack of room");
                Ok(())
            }
            Err((error, _)) => Err(failed(error)),
        }
    }
}

/// What a failed write means to the caller.
pub(super) fn failed(error: impl Into<redb::Error>) -> Error {
    Error::Failed(error.into().to_string().into())
}

/// Ends the store when the filer ends before the writer, however that happens.
struct Leave(Arc<Core>);

impl Drop for Leave {
    fn drop(&mut self) {
        let ended = || Error::Failed("the filer ended".into());
        self.0.stop(ended());
        let reason = self.0.state.read().stopped.clone();
        self.0.desk.leave(reason.unwrap_or_else(ended));
    }
}
