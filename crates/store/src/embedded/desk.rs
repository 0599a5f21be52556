//! The desk between the writer and the filer: full segments of the log go one way, empty ones the other.
//!
//! There are two segments. So at most one is here or with the filer, and the writer waits here only if its own is full
//! before the other one comes back.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::log::Segment;
use super::plan::Batch;
use crate::Error;

/// A segment to be taken over, and what is in it.
#[derive(Debug)]
pub(super) struct Job {
    pub segment: Segment,
    pub batch: std::sync::Arc<Batch>,
}

/// What the filer is to do, and what it is to know.
#[derive(Debug, Default)]
pub(super) struct Call {
    pub job: Option<Job>,
    /// The file is to be made as small as it can be.
    pub tidy: bool,
    /// So many bytes on disk became garbage.
    pub garbage: u64,
}

impl Call {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.job.is_none() && !self.tidy && self.garbage == 0
    }
}

#[derive(Debug, Default)]
struct Inner {
    call: Call,
    free: Option<Segment>,
    /// Why the filer cannot go on for now.
    full: Option<Error>,
    /// The writer has ended.
    closed: bool,
    /// Why the filer has ended.
    gone: Option<Error>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Desk {
    inner: Mutex<Inner>,
    called: Condvar,
    answered: Condvar,
}

impl Desk {
    /// With the segment that the writer does not have.
    pub fn new(free: Segment) -> Self {
        let inner = Inner { free: Some(free), ..Inner::default() };
        Self { inner: Mutex::new(inner), called: Condvar::new(), answered: Condvar::new() }
    }

    /// The writer takes the empty segment; it waits for the filer to lay it here, unless that cannot be soon.
    pub fn take_free(&self) -> Result<Segment, Error> {
        let mut inner = self.inner.lock();
        loop {
            if let Some(free) = inner.free.take() {
                return Ok(free);
            }
            if let Some(reason) = inner.gone.as_ref().or(inner.full.as_ref()) {
                return Err(reason.clone());
            }
            self.answered.wait(&mut inner);
        }
    }

    /// The writer hands in a full segment.
    pub fn hand_in(&self, job: Job) {
        self.call(|call| call.job = Some(job));
    }

    /// The writer asks for the file to be made as small as it can be.
    pub fn tidy(&self) {
        self.call(|call| call.tidy = true);
    }

    /// The writer tells of garbage.
    pub fn dropped(&self, bytes: u64) {
        if bytes > 0 {
            self.call(|call| call.garbage += bytes);
        }
    }

    fn call(&self, tell: impl FnOnce(&mut Call)) {
        tell(&mut self.inner.lock().call);
        self.called.notify_one();
    }

    /// The writer has ended.
    pub fn close(&self) {
        self.inner.lock().closed = true;
        self.called.notify_one();
    }

    /// The filer waits for a call, or (an empty one) until a time. None once the writer has ended and all is done.
    pub fn next(&self, deadline: Option<Instant>) -> Option<Call> {
        let mut inner = self.inner.lock();
        while inner.call.is_empty() && !inner.closed {
            match deadline {
                None => self.called.wait(&mut inner),
                Some(deadline) if self.called.wait_until(&mut inner, deadline).timed_out() => break,
                Some(_) => {}
            }
        }
        let last = inner.closed && inner.call.job.is_none();
        (!last).then(|| std::mem::take(&mut inner.call))
    }

    /// The filer lays down an empty segment.
    pub fn put_back(&self, free: Segment) {
        self.inner.lock().free = Some(free);
        self.answered.notify_one();
    }

    /// The filer tells whether something keeps it from its work.
    pub fn set_full(&self, full: Option<Error>) {
        self.inner.lock().full = full;
        self.answered.notify_one();
    }

    /// Why the filer cannot work for now, if so.
    pub fn full(&self) -> Option<Error> {
        self.inner.lock().full.clone()
    }

    /// The filer waits for better times. False: the writer has ended.
    pub fn rest(&self, time: Duration) -> bool {
        let (mut inner, deadline) = (self.inner.lock(), Instant::now() + time);
        while !inner.closed && !self.called.wait_until(&mut inner, deadline).timed_out() {}
        !inner.closed
    }

    /// The filer has ended.
    pub fn leave(&self, reason: Error) {
        self.inner.lock().gone = Some(reason);
        self.answered.notify_one();
    }
}
