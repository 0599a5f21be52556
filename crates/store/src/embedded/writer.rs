//! The one writer: a thread that turns whatever requests have come in since its last fsync into one commit.
//!
//! Decide (in memory) → commit (one fsync) → publish → answer, in this order and never another: so nobody hears of
//! a change that a crash could take back. After the first failed commit nothing is written any more, because nobody
//! knows what the disk holds then; opening the store again finds out.
//!
//! A small batch is committed to the [`Log`], while there is room in it. Any commit of the database also takes over what is in
//! the log, so that the database alone always is a whole state: the one that was published when it was committed.
//! With each of them a little housekeeping is done: some heads ([`Saver`]), some garbage ([`Broom`]). What is left of it
//! when nobody writes is done in commits of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::broom::Broom;
use super::core::{Core, Place};
use super::disk::{self, Work};
use super::log::Log;
use super::plan::{Batch, Limits, Plan};
use super::queue::{Reply, Request};
use super::read::Now;
use super::retention::Keeper;
use super::room::{LAST, RESERVE, Room};
use super::saver::{Part, Saver};
use crate::Error;

/// At most so many requests in one commit, so that a commit stays short.
const GROUP: usize = 1024;
/// Commits after which a file that could be made smaller is.
const SHRINKING_COMMITS: u32 = 24;
/// Housekeeping of its own begins when nobody has written for so long.
const QUIET: Duration = Duration::from_millis(5);
/// How long the database is left alone when the disk was full.
const RETRY: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Writer {
    pub core: Arc<Core>,
    pub keeper: Keeper,
    pub saver: Saver,
    pub broom: Broom,
    pub settings: Settings,
    pub log: Log,
    pub room: Room,
    /// Commits still to be made for the sake of the file's size.
    pub shrinking: u32,
    /// The disk was full: when to try again what nobody waits for.
    pub retry: Option<Instant>,
}

/// What the operator decides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    /// The largest transaction taken, in bytes.
    pub txn_bytes: usize,
    /// How much may be kept, in bytes.
    pub quota_bytes: u64,
    /// Rows of so many bytes, or of a quarter of what lives, need not be known to the heads.
    pub unsaved_bytes: u64,
}

impl Writer {
    /// Works until the queue is closed and empty.
    pub fn run(mut self) {
        // If this thread ever dies, callers must hear of it instead of waiting for ever.
        let _bolt = Bolt(self.core.clone());
        let mut company = 0;
        while let Some(requests) = self.core.queue.take(self.deadline(company), company) {
            company = requests.len();
            let mut requests = requests.into_iter();
            loop {
                let group: Vec<Request> = requests.by_ref().take(GROUP).collect();
                self.step(group);
                if requests.len() == 0 {
                    break;
                }
            }
        }
        self.empty_log();
    }

    /// When to get up without a request: soon if there is housekeeping, else for leases and retention. `company`: how many
    /// requests there were last time.
    fn deadline(&self, company: usize) -> Option<Instant> {
        let state = self.core.state.read();
        if state.stopped.is_some() {
            return None;
        }
        let sweeping = self.broom.busy(state.used_bytes(), self.saver.saved());
        let due = if sweeping || self.saver.busy() || self.shrinking > 0 {
            Some(Instant::now() + if company > 0 { QUIET } else { Duration::ZERO })
        } else {
            let times = [state.index.next_expiry(), self.keeper.wake_at(state.index.compacted)];
            times.into_iter().flatten().min().and_then(|ms| self.core.clock.instant(ms))
        };
        due.map(|due| self.retry.map_or(due, |retry| due.max(retry)))
    }

    /// One commit.
    fn step(&mut self, group: Vec<Request>) {
        let (batch, replies) = self.decide(group);
        let outcome = self.commit(&batch);
        match &outcome {
            Ok(place) => self.publish(&batch, *place),
            // Nothing was begun.
            Err(Error::DiskFull { .. }) => {}
            Err(error) => self.core.stop(error.clone()),
        }
        let outcome = outcome.map(drop);
        for reply in replies {
            reply(outcome.clone());
        }
    }

    fn decide(&mut self, group: Vec<Request>) -> (Batch, Vec<Reply>) {
        let now_ms = self.core.clock.now_ms();
        let state = self.core.state.read();
        let quota = self.settings.quota_bytes;
        let over = (state.used_bytes() > quota).then_some(Error::NoSpace { quota });
        let full = over.or_else(|| self.room.less_than(RESERVE));
        let limits = Limits { txn_bytes: self.settings.txn_bytes, full };
        let published = Now { core: &self.core, state: &state };
        let mut plan = Plan::new(&state.index, &published, now_ms, limits);
        plan.expire();
        let replies = group.into_iter().map(|request| (request.decide)(&mut plan)).collect();
        let old = self.keeper.due(now_ms, state.index.revision, state.index.compacted);
        let excess = self.keeper.retention.excess(&state.past, state.index.live_bytes);
        if let Some(due) = old.max(excess.map(|revision| revision.min(state.index.revision))) {
            // Too old a point means that a request has just compacted further: nothing to do.
            let _ = plan.forget(due);
        }
        (plan.finish(), replies)
    }

    fn commit(&mut self, batch: &Batch) -> Result<Place, Error> {
        if let Some(reason) =
            self.core.state.read().stopped.as_ref().filter(|reason| **reason != Error::Closed)
        {
            return Err(reason.clone());
        }
        if self.log.append(batch).map_err(failed)? {
            return Ok(Place::Log);
        }
        if let Some(full) = self.room.less_than(LAST) {
            self.retry = Some(Instant::now() + RETRY);
            return if batch.is_empty() { Ok(Place::Nowhere) } else { Err(full) };
        }
        self.retry = None;
        self.file(batch)
    }

    /// One commit of the database, with what is in the log, and some housekeeping.
    fn file(&mut self, batch: &Batch) -> Result<Place, Error> {
        self.begin_rounds(batch);
        let part = self.saver.part();
        let mut whole = Batch::clone(&self.core.state.read().tail);
        whole.append(batch);
        let work = self.work(&whole, &part);
        if batch.is_empty() && part.saved.is_none() && work.heads.is_empty() && work.sweep.is_none() {
            self.shrink()?;
            return Ok(Place::Nowhere);
        }
        let db = self.core.db()?;
        let keep = |row: super::row::RawRow<'_>| self.core.state.read().keeps(row);
        let swept = disk::commit(&db, &work, keep).map_err(failed)?;
        self.log.restart();
        if self.room.less_than(RESERVE).is_none() {
            self.log.grow(self.core.state.read().used_bytes()).map_err(failed)?;
        }
        self.saver.done(&part);
        if swept.is_some_and(|swept| self.broom.done(swept)) {
            self.shrinking = SHRINKING_COMMITS;
        }
        Ok(Place::Database)
    }

    /// Leaves nothing in the log of a store that is closed. If that fails, opening finds it there.
    fn empty_log(&mut self) {
        let state = self.core.state.read();
        let closed = state.stopped.as_ref().is_some_and(|reason| *reason == Error::Closed);
        if !closed || state.tail.is_empty() || self.room.less_than(LAST).is_some() {
            return;
        }
        let tail = state.tail.clone();
        drop(state);
        let work = Work {
            batch: &tail,
            heads: Vec::new(),
            saved: None,
            sweep: None,
            log: self.log.next_generation(),
        };
        let Ok(db) = self.core.db() else { return };
        if let Err(error) = disk::commit(&db, &work, |_| Ok(true)) {
            tracing::warn!(%error, "the store's log could not be emptied; the next start will do so");
        }
    }

    /// Begins what housekeeping is due.
    fn begin_rounds(&mut self, batch: &Batch) {
        let state = self.core.state.read();
        let revision = state.index.revision;
        if batch.tidy {
            self.saver.begin_all(revision, state.index.keys());
            self.broom.begin_all(revision);
        }
        // Rows that the heads do not know yet cannot be removed.
        let idle = batch.revised.is_empty() && self.broom.wanted(state.used_bytes());
        let most = if idle { 0 } else { self.settings.unsaved_bytes.max(state.index.live_bytes / 4) };
        self.saver.begin(revision, most);
    }

    fn work<'a>(&mut self, batch: &'a Batch, part: &Part) -> Work<'a> {
        let state = self.core.state.read();
        let written = batch.changes().map(|change| change.bytes() as usize).sum();
        // A round over every pack waits for the heads.
        let waits = self.broom.sweeps_all() && self.saver.busy();
        let sweep = match waits {
            true => None,
            false => self.broom.task(written, state.used_bytes(), self.saver.saved()),
        };
        let heads = part.keys.iter().map(|key| (key.clone(), state.index.get(key.as_bytes())));
        let log = self.log.next_generation();
        Work { batch, heads: heads.collect(), saved: part.saved, sweep, log }
    }

    /// Gives the database another occasion to give space back; it does so a part at a time.
    fn shrink(&mut self) -> Result<(), Error> {
        if self.shrinking > 0 {
            self.shrinking -= 1;
            disk::touch(&*self.core.db()?).map_err(failed)?;
            if self.shrinking == 0 {
                self.core.tidied.send_modify(|times| *times += 1);
            }
        }
        Ok(())
    }

    fn publish(&mut self, batch: &Batch, place: Place) {
        let garbage = self.core.publish(batch, place);
        self.broom.dropped(garbage);
        for change in batch.changes() {
            self.saver.changed(&change.key, change.bytes() as usize);
        }
    }
}

fn failed(error: impl Into<redb::Error>) -> Error {
    Error::Failed(error.into().to_string().into())
}

/// Ends the store when the writer ends, however that happens.
struct Bolt(Arc<Core>);

impl Drop for Bolt {
    fn drop(&mut self) {
        self.0.stop(Error::Failed("the writer ended".into()));
    }
}
