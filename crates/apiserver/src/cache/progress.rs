//! How far the caches have followed the store, and who waits for it.
//!
//! Every write waits here until its own revision has arrived. A batch of the feed wakes those that it serves, each
//! once, and no one else: with many writers at once, waking all to look again would cost more than the writes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

/// See the module.
pub(super) struct Progress {
    reached: AtomicU64,
    waiting: Mutex<BTreeMap<u64, Vec<oneshot::Sender<()>>>>,
    changed: watch::Sender<()>,
}

impl Progress {
    pub(super) fn new() -> Self {
        let (changed, _) = watch::channel(());
        Self { reached: AtomicU64::new(0), waiting: Mutex::default(), changed }
    }

    /// The revision that all caches have reached.
    pub(super) fn reached(&self) -> u64 {
        self.reached.load(Ordering::Acquire)
    }

    /// All caches hold the state of this revision now.
    pub(super) fn set(&self, revision: u64) {
        self.reached.store(revision, Ordering::Release);
        let served = {
            let mut waiting = self.waiting.lock();
            let later = waiting.split_off(&(revision + 1));
            std::mem::replace(&mut *waiting, later)
        };
        for waiter in served.into_values().flatten() {
            // One that gave up is no loss.
            let _ = waiter.send(());
        }
        self.changed.send_replace(());
    }

    /// Ready once a revision has been reached. Dropping the future withdraws the wish.
    pub(super) async fn wait(&self, revision: u64) {
        let waiter = {
            // Under the lock, so that `set` either sees this waiter or is seen by it.
            let mut waiting = self.waiting.lock();
            if self.reached() >= revision {
                return;
            }
            let (served, waiter) = oneshot::channel();
            let queue = waiting.entry(revision).or_default();
            queue.retain(|other| !other.is_closed());
            queue.push(served);
            waiter
        };
        // An error would mean that the caches are gone, and this with them.
        let _ = waiter.await;
    }

    /// Tells of every step.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_waits_for_its_own_revision() {
        let progress = Progress::new();
        progress.wait(0).await;
        let (mut first, mut second) = (Box::pin(progress.wait(5)), Box::pin(progress.wait(7)));
        assert!(futures::poll!(&mut first).is_pending() && futures::poll!(&mut second).is_pending());
        progress.set(6);
        assert!(futures::poll!(&mut first).is_ready() && futures::poll!(&mut second).is_pending());
        progress.set(7);
        second.await;
        assert!(progress.waiting.lock().is_empty());
    }
}
