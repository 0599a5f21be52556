//! Keyed work queues between events and reconcilers, with client-go's semantics.
//!
//! - Stingy: a key added many times before it is taken is delivered once.
//! - Never twice at once: a key added while it is being worked on is delivered again only after [`WorkQueue::done`].
//! - Fair: keys come in the order they were added.
//! - Delays and back-off live in the same structure; whoever waits in [`WorkQueue::get`] also waits for the earliest
//!   timer, so an idle queue has no task, no tick and no cost.
//! - One that has a name tells what it does ([`render_metrics`]).

mod told;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt::{Debug, Display};
use std::future::Future;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use told::render as render_metrics;
use told::{Counts, Present, Told};

/// First pause after a failure; doubles with every further failure of the same key.
const BACKOFF_FIRST: Duration = Duration::from_millis(5);
/// Longest pause after failures.
const BACKOFF_MAX: Duration = Duration::from_secs(1000);
/// Failures of one key in a row from which on they are worth a warning: conflicts settle before.
const WARN_AFTER: u32 = 4;

/// What a queue's keys must be able to do.
pub trait Key: Clone + Eq + Hash + Debug + Send + Sync + 'static {}
impl<T: Clone + Eq + Hash + Debug + Send + Sync + 'static> Key for T {}

/// A de-duplicating queue of keys. Any number of producers and consumers.
#[derive(Debug)]
pub struct WorkQueue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
    /// None for a queue without a name.
    counts: Option<Counts>,
}

#[derive(Debug)]
struct State<K> {
    /// Keys to be taken, in order, and since when. All of them are also in `dirty`.
    ready: VecDeque<(K, Instant)>,
    /// Keys that need work, whether ready or waiting for the present work on them to end.
    dirty: HashSet<K>,
    /// Keys that were taken and are not done, and since when.
    processing: HashMap<K, Instant>,
    /// Keys to be added later, by time. The number tells equal times apart.
    delayed: BTreeMap<(Instant, u64), K>,
    /// Place of each delayed key in `delayed`; a key waits at most once, for its earliest time.
    timers: HashMap<K, (Instant, u64)>,
    next_timer: u64,
    failures: HashMap<K, u32>,
    closed: bool,
}

/// What [`State::take`] found.
enum Next<K> {
    /// A key, and how long it has waited.
    Key(K, Duration),
    Wait(Option<Instant>),
    Closed,
}

impl<K: Key> Default for WorkQueue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Key> WorkQueue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            processing: HashMap::new(),
            delayed: BTreeMap::new(),
            timers: HashMap::new(),
            next_timer: 0,
            failures: HashMap::new(),
            closed: false,
        };
        Self { state: Mutex::new(state), wake: Notify::new(), counts: None }
    }

    /// An empty queue that is told of under a name, that of its controller.
    pub fn named(name: &'static str) -> Arc<Self> {
        let queue = Arc::new(Self { counts: Some(Counts::new(name)), ..Self::new() });
        let known: Arc<dyn Told> = queue.clone();
        told::register(Arc::downgrade(&known));
        queue
    }

    /// Marks a key as needing work.
    pub fn add(&self, key: K) {
        let added = self.state.lock().add(key, Instant::now());
        if added == Added::No {
            return;
        }
        self.count(|counts| counts.adds.add(1));
        if added == Added::Ready {
            self.wake.notify_one();
        }
    }

    fn count(&self, count: impl FnOnce(&Counts)) {
        if let Some(counts) = &self.counts {
            count(counts);
        }
    }

    /// Adds the key after a pause. If it already waits for an earlier time, that time stays.
    pub fn add_after(&self, key: K, pause: Duration) {
        if pause.is_zero() {
            return self.add(key);
        }
        if self.state.lock().delay(key, Instant::now() + pause) {
            self.wake.notify_one();
        }
    }

    /// Adds the key after the pause that its failures in a row call for.
    pub fn add_rate_limited(&self, key: K) {
        let pause = self.state.lock().failed(&key);
        self.count(|counts| counts.retries.add(1));
        self.add_after(key, pause);
    }

    /// Ends a key's run of failures.
    pub fn forget(&self, key: &K) {
        self.state.lock().failures.remove(key);
    }

    /// How often the key failed in a row.
    pub fn failures(&self, key: &K) -> u32 {
        self.state.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// Waits for a key to work on; `None` once the queue is shut down and empty. [`Self::done`] must follow.
    pub async fn get(&self) -> Option<K> {
        loop {
            let mut woken = std::pin::pin!(self.wake.notified());
            woken.as_mut().enable();
            let (next, more) = {
                let mut state = self.state.lock();
                let next = state.take(Instant::now());
                (next, !state.ready.is_empty())
            };
            if more {
                // One wake-up may have stood for several keys: pass it on.
                self.wake.notify_one();
            }
            match next {
                Next::Key(key, waited) => {
                    self.count(|counts| counts.waited.observe(waited.as_secs_f64()));
                    return Some(key);
                }
                Next::Closed => return None,
                Next::Wait(None) => woken.await,
                Next::Wait(Some(until)) => {
                    tokio::select! { () = woken => {}, () = tokio::time::sleep_until(until) => {} }
                }
            }
        }
    }

    /// Ends the work on a key. If it was added meanwhile, it becomes ready again.
    pub fn done(&self, key: &K) {
        let (took, again) = self.state.lock().done(key, Instant::now());
        if let Some(took) = took {
            self.count(|counts| counts.worked.observe(took.as_secs_f64()));
        }
        if again {
            self.wake.notify_one();
        }
    }

    /// Keys that are ready now.
    pub fn len(&self) -> usize {
        self.state.lock().ready.len()
    }

    /// Whether no key is ready now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Refuses further keys, drops those that wait for a time, and lets consumers drain the rest.
    pub fn shut_down(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.delayed.clear();
        state.timers.clear();
        drop(state);
        self.wake.notify_waiters();
    }
}

impl<K: Key> Told for WorkQueue<K> {
    fn counts(&self) -> Option<&Counts> {
        self.counts.as_ref()
    }

    fn present(&self) -> Present {
        let (state, now) = (self.state.lock(), Instant::now());
        let times = state.processing.values().map(|since| now.saturating_duration_since(*since));
        let (unfinished, longest) = times.fold((Duration::ZERO, Duration::ZERO), |(sum, longest), time| {
            (sum.saturating_add(time), longest.max(time))
        });
        Present { depth: state.ready.len(), unfinished, longest }
    }
}

/// What became of a key that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Added {
    /// It is there already, or the queue is closed.
    No,
    /// It will be ready once the present work on it is done.
    Later,
    /// It is ready.
    Ready,
}

impl<K: Key> State<K> {
    fn add(&mut self, key: K, now: Instant) -> Added {
        if self.closed || !self.dirty.insert(key.clone()) {
            return Added::No;
        }
        if self.processing.contains_key(&key) {
            return Added::Later;
        }
        self.ready.push_back((key, now));
        Added::Ready
    }

    /// Returns whether the earliest timer may have changed.
    fn delay(&mut self, key: K, at: Instant) -> bool {
        if self.closed {
            return false;
        }
        if let Some(old) = self.timers.get(&key) {
            if old.0 <= at {
                return false;
            }
            self.delayed.remove(old);
        }
        let place = (at, self.next_timer);
        self.next_timer += 1;
        self.timers.insert(key.clone(), place);
        self.delayed.insert(place, key);
        true
    }

    fn take(&mut self, now: Instant) -> Next<K> {
        while let Some(due) = self.delayed.first_entry().filter(|first| first.key().0 <= now) {
            let key = due.remove();
            self.timers.remove(&key);
            self.add(key, now);
        }
        if let Some((key, since)) = self.ready.pop_front() {
            self.dirty.remove(&key);
            self.processing.insert(key.clone(), now);
            return Next::Key(key, now.saturating_duration_since(since));
        }
        match self.closed {
            true => Next::Closed,
            false => Next::Wait(self.delayed.first_key_value().map(|(place, _)| place.0)),
        }
    }

    /// Returns how long the key was worked on, and whether it became ready again.
    fn done(&mut self, key: &K, now: Instant) -> (Option<Duration>, bool) {
        let since = self.processing.remove(key);
        let again = since.is_some() && self.dirty.contains(key);
        if again {
            self.ready.push_back((key.clone(), now));
        }
        (since.map(|since| now.saturating_duration_since(since)), again)
    }

    fn failed(&mut self, key: &K) -> Duration {
        let failures = self.failures.entry(key.clone()).or_insert(0);
        let pause = BACKOFF_FIRST.saturating_mul(1 << (*failures).min(20)).min(BACKOFF_MAX);
        *failures = failures.saturating_add(1);
        pause
    }
}

/// Works on a queue's keys with so many workers until the queue is shut down and drained.
///
/// `reconcile` returns `Ok(None)` when the key is settled, `Ok(Some(pause))` to see it again, `Err` to see it again
/// after a growing pause. A panic counts as an error: one bad object must not stop the others. Dropping the returned
/// future stops the workers at their next await.
pub async fn run_workers<K, F, Fut, E>(queue: Arc<WorkQueue<K>>, workers: usize, reconcile: F)
where
    K: Key,
    F: Fn(K) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Option<Duration>, E>> + Send + 'static,
    E: Display + Send + 'static,
{
    let reconcile = Arc::new(reconcile);
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let (queue, reconcile) = (queue.clone(), reconcile.clone());
        tasks.spawn(async move {
            while let Some(key) = queue.get().await {
                let outcome = AssertUnwindSafe(async { reconcile(key.clone()).await }).catch_unwind().await;
                settle(&queue, key, outcome);
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

fn settle<K: Key, E: Display, P>(
    queue: &WorkQueue<K>,
    key: K,
    outcome: Result<Result<Option<Duration>, E>, P>,
) {
    match outcome {
        Ok(Ok(again)) => {
            queue.forget(&key);
            queue.done(&key);
            if let Some(pause) = again {
                queue.add_after(key, pause);
            }
            return;
        }
        Ok(Err(error)) if queue.failures(&key) < WARN_AFTER => {
            tracing::debug!(?key, %error, "reconciling failed, will retry");
        }
        Ok(Err(error)) => tracing::warn!(?key, %error, "reconciling keeps failing, will retry"),
        Err(_) => tracing::error!(?key, "reconciling panicked, will retry"),
    }
    queue.done(&key);
    queue.add_rate_limited(key);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_millis(1);

    async fn nothing_now(queue: &WorkQueue<&'static str>) -> bool {
        timeout(SOON, queue.get()).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_delivered_once_and_never_to_two() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.get().await, Some("a"));
        queue.add("a");
        assert_eq!(queue.get().await, Some("b"));
        assert!(nothing_now(&queue).await, "a is being worked on");
        queue.done(&"a");
        assert_eq!(queue.get().await, Some("a"));
        queue.done(&"a");
        queue.done(&"b");
        assert!(nothing_now(&queue).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_delay_wins() {
        let queue = WorkQueue::new();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(9));
        queue.add_after("a", Duration::from_secs(3));
        queue.add_after("a", Duration::from_secs(6));
        assert_eq!(queue.get().await, Some("a"));
        assert_eq!(start.elapsed().as_secs(), 3);
        queue.done(&"a");
        assert!(timeout(Duration::from_secs(60), queue.get()).await.is_err(), "it waited only once");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_and_forget_resets() {
        let queue = WorkQueue::new();
        let mut pauses = Vec::new();
        for _ in 0..4 {
            let start = Instant::now();
            queue.add_rate_limited("a");
            queue.get().await;
            queue.done(&"a");
            pauses.push(start.elapsed().as_millis());
        }
        assert_eq!(pauses, [5, 10, 20, 40]);
        queue.forget(&"a");
        let start = Instant::now();
        queue.add_rate_limited("a");
        queue.get().await;
        assert_eq!(start.elapsed().as_millis(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn shutting_down_drains_what_is_ready() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add_after("late", SOON);
        queue.shut_down();
        queue.add("refused");
        assert_eq!(queue.get().await, Some("a"));
        assert_eq!(queue.get().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn every_waiter_is_woken_for_its_key() {
        let queue = Arc::new(WorkQueue::new());
        let held = Arc::new(AtomicUsize::new(0));
        let counter = held.clone();
        let hold = move |_: u32| {
            let held = counter.clone();
            async move {
                held.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok::<_, String>(None)
            }
        };
        let workers = tokio::spawn(run_workers(queue.clone(), 8, hold));
        tokio::time::sleep(SOON).await;
        (0..8).for_each(|key| queue.add(key));
        tokio::time::sleep(SOON).await;
        assert_eq!(held.load(Ordering::SeqCst), 8, "all eight work at the same time");
        queue.shut_down();
        workers.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn errors_and_panics_are_retried() {
        let queue = Arc::new(WorkQueue::new());
        let calls = Arc::new(AtomicUsize::new(0));
        let (inner, counter) = (queue.clone(), calls.clone());
        queue.add("a");
        run_workers(queue, 2, move |_| {
            let call = counter.fetch_add(1, Ordering::SeqCst);
            assert_ne!(call, 1, "the second call panics");
            if call == 3 {
                inner.shut_down();
            }
            let outcome = if call == 0 { Err("first fails") } else { Ok((call == 2).then_some(SOON)) };
            async move { outcome }
        })
        .await;
        assert_eq!(calls.load(Ordering::SeqCst), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_named_queue_tells_what_it_does() {
        let queue = WorkQueue::named("test-of-names");
        queue.add("a");
        queue.add("b");
        queue.add("b");
        tokio::time::advance(Duration::from_secs(5)).await;
        queue.get().await;
        tokio::time::advance(Duration::from_secs(2)).await;
        queue.add_rate_limited("c");
        let text = || {
            let mut out = String::new();
            render_metrics(&mut out);
            out
        };
        for line in [
            "workqueue_adds_total{name=\"test-of-names\"} 2\n",
            "workqueue_retries_total{name=\"test-of-names\"} 1\n",
            "workqueue_depth{name=\"test-of-names\"} 1\n",
            "workqueue_unfinished_work_seconds{name=\"test-of-names\"} 2\n",
            "workqueue_longest_running_processor_seconds{name=\"test-of-names\"} 2\n",
            "workqueue_queue_duration_seconds_sum{name=\"test-of-names\"} 5\n",
        ] {
            assert!(text().contains(line), "{line}{}", text());
        }
        queue.done(&"a");
        assert!(text().contains("workqueue_work_duration_seconds_sum{name=\"test-of-names\"} 2\n"));
        drop(queue);
        assert!(!text().contains("test-of-names"));
    }
}
