//! The one writer: a thread that turns whatever requests have come in since its last fsync into one commit.
//!
//! Decide (in memory) → commit (one fsync) → publish → answer, in this order and never another: so nobody hears of
//! a change that a crash could take back. After the first failed commit nothing is written any more, because nobody
//! knows what the disk holds then; opening the store again finds out.

use std::sync::Arc;
use std::time::Instant;

use super::core::Core;
use super::disk::{self, Scrub};
use super::plan::{Batch, Plan};
use super::queue::{Reply, Request};
use super::retention::Keeper;
use crate::{Error, Revision};

/// At most so many requests in one commit, so that a commit stays short.
const GROUP: usize = 1024;

/// How many rows of the compacted past one commit looks at, beyond twice what it writes.
const SCRUB_ROWS: usize = 256;

/// See the module.
pub(super) struct Writer {
    pub core: Arc<Core>,
    pub keeper: Keeper,
    /// The compacted past is removed up to here.
    pub scrubbed: Revision,
    /// The largest transaction taken.
    pub limit_bytes: usize,
}

impl Writer {
    /// Works until the queue is closed and empty.
    pub fn run(mut self) {
        // If this thread ever dies, callers must hear of it instead of waiting for ever.
        let _bolt = Bolt(self.core.clone());
        let mut company = 0;
        while let Some(requests) = self.core.queue.take(self.deadline(), company) {
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
    }

    /// When to get up without a request: at once if there is something to scrub, else for leases and retention.
    fn deadline(&self) -> Option<Instant> {
        let state = self.core.state.read();
        if state.stopped.is_some() {
            return None;
        }
        if self.scrubbed < state.index.compacted {
            return Some(Instant::now());
        }
        let times = [state.index.next_expiry(), self.keeper.wake_at(state.index.compacted)];
        times.into_iter().flatten().min().and_then(|ms| self.core.clock.instant(ms))
    }

    /// One commit.
    fn step(&mut self, group: Vec<Request>) {
        let (batch, replies, scrub) = self.decide(group);
        let outcome = self.commit(&batch, scrub);
        match &outcome {
            Ok(()) => self.core.publish(&batch),
            Err(error) => self.core.stop(error.clone()),
        }
        for reply in replies {
            reply(outcome.clone());
        }
    }

    fn decide(&mut self, group: Vec<Request>) -> (Batch, Vec<Reply>, Scrub) {
        let now_ms = self.core.clock.now_ms();
        let state = self.core.state.read();
        let mut plan = Plan::new(&state.index, now_ms, self.limit_bytes);
        plan.expire();
        let replies = group.into_iter().map(|request| (request.decide)(&mut plan)).collect();
        if let Some(due) = self.keeper.due(now_ms, state.index.revision, state.index.compacted) {
            // Too old a point means that a request has just compacted further: nothing to do.
            let _ = plan.compact(due);
        }
        let batch = plan.finish();
        let rows = SCRUB_ROWS + 2 * batch.rows();
        (batch, replies, Scrub { from: self.scrubbed, to: state.index.compacted, rows })
    }

    fn commit(&mut self, batch: &Batch, scrub: Scrub) -> Result<(), Error> {
        if let Some(reason) =
            self.core.state.read().stopped.as_ref().filter(|reason| **reason != Error::Closed)
        {
            return Err(reason.clone());
        }
        if batch.is_empty() && scrub.from >= scrub.to {
            return Ok(());
        }
        let db = self.core.db()?;
        let scrubbed =
            disk::commit(&db, batch, scrub).map_err(|error| Error::Failed(error.to_string().into()))?;
        self.scrubbed = scrubbed;
        Ok(())
    }
}

/// Ends the store when the writer ends, however that happens.
struct Bolt(Arc<Core>);

impl Drop for Bolt {
    fn drop(&mut self) {
        self.0.stop(Error::Failed("the writer ended".into()));
    }
}
