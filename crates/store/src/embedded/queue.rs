//! Requests on their way to the writer: bounded in bytes, handed over all at once.
//!
//! Submitting waits (asynchronously) while the queue is full. The writer, a thread, sleeps until there is a request
//! or until a time it names; whatever arrived while it was busy becomes its next batch, which is what makes a group
//! commit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::plan::Plan;
use crate::Error;

/// The queue's space, in units of [`UNIT_BYTES`].
const UNITS: usize = 64 * 1024;
const UNIT_BYTES: usize = 1024;
/// Roughly what a request's row takes beside its key and value.
const ROW_BYTES: usize = 64;

/// How long a request may wait for company. Far below what an fsync takes on a busy disk.
const GATHER: Duration = Duration::from_millis(2);
/// With so many requests, a record's own cost is little: there is no waiting for more.
const ENOUGH: usize = 16;

/// Decides a request and gives back how to answer it once the batch is durable (or has failed).
pub(super) type Decide = Box<dyn FnOnce(&mut Plan) -> Reply + Send>;

/// Answers a request.
pub(super) type Reply = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// A request and the space it takes.
pub(super) struct Request {
    pub decide: Decide,
    /// Roughly what it holds.
    pub bytes: usize,
    _space: OwnedSemaphorePermit,
}

struct Inner {
    requests: Vec<Request>,
    /// The writer sleeps until there are so many.
    wanted: usize,
    /// Why there will be no more.
    closed: Option<Error>,
}

/// See the module.
pub(super) struct Queue {
    inner: Mutex<Inner>,
    arrived: Condvar,
    space: Arc<Semaphore>,
}

impl Queue {
    pub fn new() -> Self {
        Self {
            inner: Mutex::new(Inner { requests: Vec::new(), wanted: 1, closed: None }),
            arrived: Condvar::new(),
            space: Arc::new(Semaphore::new(UNITS)),
        }
    }

    /// Hands in a request that holds about `bytes`; waits for space.
    pub async fn submit(&self, bytes: usize, decide: Decide) -> Result<(), Error> {
        let units = (1 + bytes / UNIT_BYTES).min(UNITS) as u32;
        let space = self.space.clone().acquire_many_owned(units).await.map_err(|_| Error::Closed)?;
        let mut inner = self.inner.lock();
        if let Some(reason) = &inner.closed {
            return Err(reason.clone());
        }
        inner.requests.push(Request { decide, bytes: bytes + ROW_BYTES, _space: space });
        if inner.requests.len() >= inner.wanted {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Waits until there is a request, or until `deadline`, and takes all there are; none once closed and empty.
    /// `company`: how many came together last time.
    pub fn take(&self, deadline: Option<Instant>, company: usize) -> Option<Vec<Request>> {
        let mut inner = self.inner.lock();
        while inner.requests.is_empty() && inner.closed.is_none() {
            match deadline {
                None => self.arrived.wait(&mut inner),
                Some(deadline) => {
                    if self.arrived.wait_until(&mut inner, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        if inner.requests.is_empty() && inner.closed.is_some() {
            return None;
        }
        self.gather(&mut inner, company);
        Some(std::mem::take(&mut inner.requests))
    }

    /// Waits for as many requests as came together last time, or [`ENOUGH`]; for [`GATHER`] at most. One writer alone,
    /// or a few who take turns, never wait.
    fn gather(&self, inner: &mut MutexGuard<'_, Inner>, company: usize) {
        let deadline = Instant::now() + GATHER;
        inner.wanted = company.min(ENOUGH);
        while inner.requests.len() < inner.wanted && !inner.requests.is_empty() && inner.closed.is_none() {
            if self.arrived.wait_until(inner, deadline).timed_out() {
                break;
            }
        }
        inner.wanted = 1;
    }

    /// Refuses further requests with `reason` (the first one stays); those already here are still taken.
    pub fn close(&self, reason: Error) {
        self.inner.lock().closed.get_or_insert(reason);
        self.arrived.notify_one();
    }
}
