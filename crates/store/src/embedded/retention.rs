//! How much of the past is kept, decided from a clock and the revision alone.

use std::collections::VecDeque;
use std::time::Duration;

use super::past::Past;
use crate::Revision;

/// How much history an engine keeps before it compacts by itself; whichever bound is reached first counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Revisions older than this go. Kubernetes promises clients some minutes.
    pub age: Duration,
    /// More revisions than this are not kept.
    pub revisions: u64,
    /// What was replaced may take so many bytes, or two fifths of what lives, if that is more. Reading page after
    /// page takes the longer the more lives; so what is kept for it is in proportion.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Duration::from_secs(5 * 60), revisions: 250_000, bytes: 256 << 10 }
    }
}

impl Retention {
    /// Everything is kept until somebody asks to compact.
    pub const FOR_EVER: Self =
        Self { age: Duration::from_secs(100 * 365 * 24 * 3600), revisions: u64::MAX, bytes: u64::MAX };

    /// Where to compact to because too much was replaced.
    pub(super) fn excess(&self, past: &Past, live_bytes: u64) -> Option<Revision> {
        let most = self.bytes.max(live_bytes / 5 * 2);
        // In larger steps.
        if past.bytes <= most.saturating_add(most / STEPS) { None } else { past.point(most) }
    }
}

/// Remembers, in few marks, which revision was current when.
#[derive(Debug)]
pub(super) struct Keeper {
    pub retention: Retention,
    marks: VecDeque<(u64, Revision)>,
}

/// The age is measured in so many steps, and the count may be exceeded by one of so many parts.
const STEPS: u64 = 8;

impl Keeper {
    pub fn new(retention: Retention) -> Self {
        Self { retention, marks: VecDeque::new() }
    }

    /// Where to compact to now, if anywhere. To be called now and then, at least when [`Keeper::wake_at`] says.
    pub fn due(&mut self, now_ms: u64, revision: Revision, compacted: Revision) -> Option<Revision> {
        self.mark(now_ms, revision);
        let mut target = 0;
        while let Some((_, old)) = self.marks.front().filter(|(at, _)| at + self.age_ms() <= now_ms) {
            target = *old;
            self.marks.pop_front();
        }
        let kept = self.retention.revisions;
        if revision.saturating_sub(compacted) > kept.saturating_add(kept / STEPS) {
            target = target.max(revision - kept);
        }
        (target > compacted).then_some(target)
    }

    /// When the next history comes of age, in the clock of [`Keeper::due`]; none while nothing is to be forgotten.
    pub fn wake_at(&self, compacted: Revision) -> Option<u64> {
        self.marks.iter().find(|(_, revision)| *revision > compacted).map(|(at, _)| at + self.age_ms())
    }

    fn mark(&mut self, now_ms: u64, revision: Revision) {
        let step = self.age_ms() / STEPS;
        let due = self.marks.back().is_none_or(|(at, last)| now_ms >= at + step && revision != *last);
        if due {
            self.marks.push_back((now_ms, revision));
        }
    }

    fn age_ms(&self) -> u64 {
        self.retention.age.as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeper(age_ms: u64, revisions: u64) -> Keeper {
        Keeper::new(Retention { age: Duration::from_millis(age_ms), revisions, ..Retention::FOR_EVER })
    }

    #[test]
    fn forgets_what_is_older_than_the_age() {
        let mut keeper = keeper(80, 1_000);
        assert_eq!(keeper.due(0, 10, 1), None);
        assert_eq!(keeper.due(50, 20, 1), None);
        assert_eq!(keeper.wake_at(1), Some(80));
        assert_eq!(keeper.due(80, 30, 1), Some(10));
        assert_eq!(keeper.due(130, 30, 10), Some(20));
    }

    #[test]
    fn forgets_what_is_beyond_the_count_in_larger_steps() {
        let mut keeper = keeper(1_000_000, 80);
        assert_eq!(keeper.due(0, 90, 1), None);
        assert_eq!(keeper.due(1, 92, 1), Some(12));
        assert_eq!(keeper.due(2, 93, 12), None);
    }
}
