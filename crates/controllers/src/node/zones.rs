//! How fast pods are driven out of lost nodes, zone by zone.
//!
//! One node after the other; more slowly, or not at all, where most of a zone is lost, for then the network is more likely
//! broken than the machines. When no zone has a node left, we ourselves are cut off, and nobody leaves. Pure.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Between two nodes of a healthy zone, or of one that is lost as a whole: kube-controller-manager's default.
const PAUSE: Duration = Duration::from_secs(10);
/// Between two nodes of a large zone that is mostly lost. In a small one nobody leaves.
const SLOW_PAUSE: Duration = Duration::from_secs(100);
/// A zone with more nodes than this is large.
const LARGE: usize = 50;
/// From this share of lost nodes on, a zone is mostly lost.
const MOSTLY_PERCENT: usize = 55;
/// Fewer lost nodes than this never make a zone mostly lost.
const FEW: usize = 3;

/// The nodes of one zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) ready: usize,
    pub(super) lost: usize,
}

/// What may be done to a lost node now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Its pods shall leave.
    Now,
    /// Others are first; look again then.
    In(Duration),
    /// Its pods stay while things are as they are.
    Stay,
    /// They stay, and who was to leave may stay, too.
    Lift,
}

/// When the next node of each zone is due.
#[derive(Debug, Default)]
pub(super) struct Zones(HashMap<String, Instant>);

impl Zones {
    /// Asks for a lost node's turn. A turn that is given is used up.
    pub(super) fn turn(&mut self, zone: &str, counts: &HashMap<String, Count>, now: Instant) -> Turn {
        if counts.values().all(|count| count.ready == 0) {
            return Turn::Lift;
        }
        let count = counts.get(zone).copied().unwrap_or_default();
        let Some(pause) = pause(count) else { return Turn::Stay };
        let due = self.0.entry(zone.to_owned()).or_insert(now);
        if *due > now {
            return Turn::In(due.duration_since(now));
        }
        *due = now + pause;
        Turn::Now
    }
}

/// Between two nodes of a zone; `None`: nobody leaves.
fn pause(count: Count) -> Option<Duration> {
    let all = count.ready + count.lost;
    let mostly = count.lost >= FEW && count.lost * 100 >= all * MOSTLY_PERCENT;
    match (count.ready > 0 && mostly, all > LARGE) {
        (false, _) => Some(PAUSE),
        (true, true) => Some(SLOW_PAUSE),
        (true, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(zones: &[(&str, usize, usize)]) -> HashMap<String, Count> {
        let zone = |(name, ready, lost): &(&str, usize, usize)| {
            ((*name).to_owned(), Count { ready: *ready, lost: *lost })
        };
        zones.iter().map(zone).collect()
    }

    #[test]
    fn zones_are_emptied_as_their_state_allows() {
        assert_eq!(pause(Count { ready: 10, lost: 5 }), Some(PAUSE));
        assert_eq!(pause(Count { ready: 1, lost: 2 }), Some(PAUSE), "too few to tell");
        assert_eq!(pause(Count { ready: 4, lost: 6 }), None);
        assert_eq!(pause(Count { ready: 20, lost: 40 }), Some(SLOW_PAUSE));
        assert_eq!(pause(Count { ready: 0, lost: 6 }), Some(PAUSE), "the zone is down as a whole");
    }

    #[test]
    fn nodes_of_a_zone_take_turns() {
        let (mut zones, now) = (Zones::default(), Instant::now());
        let some = counts(&[("a", 9, 2), ("b", 9, 1)]);
        assert_eq!(zones.turn("a", &some, now), Turn::Now);
        assert_eq!(zones.turn("a", &some, now), Turn::In(PAUSE));
        assert_eq!(zones.turn("b", &some, now), Turn::Now);
        assert_eq!(zones.turn("a", &some, now + PAUSE), Turn::Now);
        assert_eq!(zones.turn("a", &counts(&[("a", 4, 6), ("b", 9, 1)]), now + PAUSE * 9), Turn::Stay);
        assert_eq!(zones.turn("a", &counts(&[("a", 0, 9), ("b", 0, 1)]), now + PAUSE * 9), Turn::Lift);
        assert_eq!(zones.turn("a", &counts(&[("a", 0, 9), ("b", 1, 1)]), now + PAUSE * 9), Turn::Now);
    }
}
