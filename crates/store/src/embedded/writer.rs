//! The one writer: a thread that turns whatever requests have come in since its last fsync into one record of the log.
//!
//! Decide (in memory) → write to the log (one fsync) → publish → answer, in this order and never another: so nobody hears
//! of a change that a crash could take back. After the first failed fsync nothing is written any more, because nobody
//! knows what the disk holds then; opening the store again finds out.
//!
//! The database gets it all later, from the [`Filer`](super::filer). Only if the log is full before that has taken over
//! its other half, does the writer wait for it.

use std::iter::Peekable;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::core::Core;
use super::desk::Job;
use super::filer::failed;
use super::log::{Log, Unwritten};
use super::plan::{Batch, Limits, Plan};
use super::queue::{Reply, Request};
use super::read::Now;
use super::retention::Keeper;
use super::room::{LAST, RESERVE, Room};
use crate::Error;

/// At most so many requests in one record, so that it is soon written.
const GROUP: usize = 1024;
/// The same, in bytes.
const GROUP_BYTES: usize = 1 << 20;
/// How long nothing is begun that nobody waits for, when the disk was full.
const RETRY: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Writer {
    pub core: Arc<Core>,
    pub keeper: Keeper,
    pub settings: Settings,
    pub log: Log,
    pub room: Room,
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
}

impl Writer {
    /// Works until the queue is closed and empty.
    pub fn run(mut self) {
        // If this thread ever dies, callers must hear of it instead of waiting for ever.
        let _bolt = Bolt(self.core.clone());
        let mut company = 0;
        while let Some(requests) = self.core.queue.take(self.deadline(), company) {
            company = requests.len();
            let mut requests = requests.into_iter().peekable();
            loop {
                let group = group(&mut requests);
                self.step(group);
                if requests.peek().is_none() {
                    break;
                }
            }
        }
        self.leave_nothing();
    }

    /// When to get up without a request: for leases and retention.
    fn deadline(&self) -> Option<Instant> {
        let state = self.core.state.read();
        if state.stopped.is_some() {
            return None;
        }
        let times = [state.index.next_expiry(), self.keeper.wake_at(state.index.compacted)];
        let due = times.into_iter().flatten().min().and_then(|ms| self.core.clock.instant(ms));
        due.map(|due| self.retry.map_or(due, |retry| due.max(retry)))
    }

    /// One record.
    fn step(&mut self, group: Vec<Request>) {
        let (batch, replies) = self.decide(group);
        let outcome = self.commit(&batch);
        match &outcome {
            Ok(()) => {
                self.core.publish(&batch);
                if batch.tidy {
                    self.tidy();
                }
            }
            // Nothing was begun.
            Err(Error::DiskFull { .. }) => self.retry = Some(Instant::now() + RETRY),
            Err(error) => self.core.stop(error.clone()),
        }
        for reply in replies {
            reply(outcome.clone());
        }
    }

    fn decide(&mut self, group: Vec<Request>) -> (Batch, Vec<Reply>) {
        let now_ms = self.core.clock.now_ms();
        let state = self.core.state.read();
        let quota = self.settings.quota_bytes;
        let over = (state.used_bytes() > quota).then_some(Error::NoSpace { quota });
        let full = over.or_else(|| self.room.less_than(RESERVE)).or_else(|| self.core.desk.full());
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

    fn commit(&mut self, batch: &Batch) -> Result<(), Error> {
        if let Some(reason) = self.core.failure() {
            return Err(reason);
        }
        if let Some(full) = self.room.less_than(LAST).filter(|_| batch.tidy) {
            return Err(full);
        }
        if batch.is_empty() {
            return Ok(());
        }
        if !self.log.fits(batch) {
            self.turn()?;
        }
        match self.log.append(batch) {
            Ok(()) => self.retry = None,
            Err(Unwritten::Full) => return Err(self.room.full()),
            Err(Unwritten::Broken(error)) => return Err(failed(error)),
        }
        Ok(())
    }

    /// Goes on in the log's other segment, once that is empty, and has this one taken over.
    fn turn(&mut self) -> Result<(), Error> {
        let segment = self.log.turn(self.core.desk.take_free()?);
        let batch = self.core.state.write().tail.seal();
        self.core.desk.hand_in(Job { segment, batch });
        Ok(())
    }

    /// Has the file made small, with all that is in the log.
    fn tidy(&mut self) {
        // If it cannot be taken over now, it is not in the file, which is made smaller without it.
        if !self.log.is_empty() && self.turn().is_err() {
            tracing::warn!("the log is not emptied before the database is made smaller");
        }
        self.core.desk.tidy();
    }

    /// Leaves nothing in the log of a store that is closed. If that fails, opening finds it there.
    fn leave_nothing(&mut self) {
        let hopeless = self.log.is_empty() || self.core.failure().is_some();
        if !hopeless && self.turn().is_err() {
            tracing::warn!("the store's log could not be emptied; the next start will do so");
        }
    }
}

/// The next requests for one record.
fn group(requests: &mut Peekable<impl Iterator<Item = Request>>) -> Vec<Request> {
    let mut bytes = 0;
    let taken = std::iter::from_fn(|| {
        let request = requests.next_if(|request| bytes == 0 || bytes + request.bytes <= GROUP_BYTES)?;
        bytes += request.bytes;
        Some(request)
    });
    taken.take(GROUP).collect()
}

/// Ends the store when the writer ends, however that happens.
struct Bolt(Arc<Core>);

impl Drop for Bolt {
    fn drop(&mut self) {
        self.0.stop(Error::Failed("the writer ended".into()));
        self.0.desk.close();
    }
}
