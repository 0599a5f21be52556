//! Pods that wait for a node: those to try now, in order of priority and age; those that failed and wait out a pause; and
//! those that nothing but a change of the cluster can help.
//!
//! A pure structure over given times; the shell asks [`Queue::next_due`] when to look again. Source: the documentation's
//! "Scheduling queue"; pauses as kube-scheduler's defaults (1 s doubling to 10 s).

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_LONGEST: Duration = Duration::from_secs(10);

/// Order in which waiting pods are tried.
type Rank = (Reverse<i32>, u64, String);

#[derive(Debug)]
struct Entry {
    rank: Rank,
    attempts: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In `active`.
    Active,
    /// Being decided.
    Taken,
    /// No node fits; a change of the cluster ends it, but not before this time.
    Unschedulable(Instant),
    /// To be tried again at this time.
    Paused(Instant),
}

/// Waiting pods by `namespace/name`. Every operation costs the logarithm of their number, but for the release of those
/// that a change may help, which costs theirs.
#[derive(Debug, Default)]
pub struct Queue {
    entries: HashMap<String, Entry>,
    active: BTreeSet<Rank>,
    paused: BTreeSet<(Instant, String)>,
    stuck: BTreeSet<(Instant, String)>,
    age: u64,
    /// Counts changes of the cluster, so that one that came during a decision is not missed.
    changes: u64,
}

impl Queue {
    /// A pod waits for a node. One that is waiting already is tried at once: it may have changed.
    pub fn add(&mut self, key: &str, priority: i32) {
        self.age += 1;
        let (age, attempts) = match self.entries.get(key) {
            Some(entry) => (entry.rank.1, entry.attempts),
            None => (self.age, 0),
        };
        self.remove(key);
        let rank = (Reverse(priority), age, key.to_owned());
        self.active.insert(rank.clone());
        self.entries.insert(key.to_owned(), Entry { rank, attempts, state: State::Active });
    }

    /// A pod waits no longer.
    pub fn remove(&mut self, key: &str) {
        let Some(entry) = self.entries.remove(key) else { return };
        match entry.state {
            State::Active => self.active.remove(&entry.rank),
            State::Paused(at) => self.paused.remove(&(at, key.to_owned())),
            State::Unschedulable(at) => self.stuck.remove(&(at, key.to_owned())),
            State::Taken => true,
        };
    }

    /// The first pod to decide on, and the mark of the cluster's state to give back with a failure.
    pub fn pop(&mut self, now: Instant) -> Option<(String, u64)> {
        self.release(now);
        let rank = self.active.pop_first()?;
        let entry = self.entries.get_mut(&rank.2)?;
        entry.state = State::Taken;
        entry.attempts += 1;
        Some((rank.2, self.changes))
    }

    /// No node fits. If the cluster changed since the pod was taken, it is tried again after its pause.
    pub fn unschedulable(&mut self, key: &str, mark: u64, now: Instant) {
        if self.changes != mark {
            return self.retry(key, now);
        }
        if let Some((at, entry)) = self.put_back(key, now) {
            entry.state = State::Unschedulable(at);
            self.stuck.insert((at, key.to_owned()));
        }
    }

    /// The attempt itself failed, as a binding that was refused.
    pub fn retry(&mut self, key: &str, now: Instant) {
        if let Some((at, entry)) = self.put_back(key, now) {
            entry.state = State::Paused(at);
            self.paused.insert((at, key.to_owned()));
        }
    }

    /// Something changed that may help pods that fit nowhere.
    pub fn cluster_changed(&mut self) {
        self.changes += 1;
        for (at, key) in std::mem::take(&mut self.stuck) {
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.state = State::Paused(at);
                self.paused.insert((at, key));
            }
        }
    }

    /// When the first pause ends.
    pub fn next_due(&self) -> Option<Instant> {
        self.paused.first().map(|(at, _)| *at)
    }

    /// How many pods wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// One that was added anew meanwhile is active already, and stays so.
    fn put_back(&mut self, key: &str, now: Instant) -> Option<(Instant, &mut Entry)> {
        let entry = self.entries.get_mut(key).filter(|e| e.state == State::Taken)?;
        Some((now + pause(entry.attempts), entry))
    }

    fn release(&mut self, now: Instant) {
        while let Some((_, key)) = self.paused.first().filter(|(at, _)| *at <= now).cloned() {
            self.paused.pop_first();
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.state = State::Active;
                self.active.insert(entry.rank.clone());
            }
        }
    }
}

fn pause(attempts: u32) -> Duration {
    PAUSE_FIRST.saturating_mul(1 << attempts.saturating_sub(1).min(10)).min(PAUSE_LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_then_age() {
        let mut queue = Queue::default();
        let now = Instant::now();
        queue.add("old", 0);
        queue.add("new", 0);
        queue.add("high", 10);
        let order: Vec<String> = std::iter::from_fn(|| queue.pop(now).map(|(key, _)| key)).collect();
        assert_eq!(order, ["high", "old", "new"]);
    }

    #[test]
    fn what_fits_nowhere_waits_for_a_change() {
        let mut queue = Queue::default();
        let start = Instant::now();
        queue.add("p", 0);
        let (_, mark) = queue.pop(start).unwrap();
        queue.unschedulable("p", mark, start);
        let later = start + Duration::from_secs(3600);
        assert_eq!((queue.pop(later), queue.next_due()), (None, None));
        queue.cluster_changed();
        assert_eq!(queue.pop(start), None, "the pause is kept");
        assert_eq!(queue.next_due(), Some(start + PAUSE_FIRST));
        assert_eq!(queue.pop(start + PAUSE_FIRST).unwrap().0, "p");
    }

    #[test]
    fn a_change_during_the_decision_is_not_missed() {
        let mut queue = Queue::default();
        let now = Instant::now();
        queue.add("p", 0);
        let (_, mark) = queue.pop(now).unwrap();
        queue.cluster_changed();
        queue.unschedulable("p", mark, now);
        assert!(queue.next_due().is_some());
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        assert_eq!([1, 2, 3, 4, 5, 60].map(|n| pause(n).as_secs()), [1, 2, 4, 8, 10, 10]);
    }
}
