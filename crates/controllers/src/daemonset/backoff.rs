//! Pauses between the failed pods of one set on one node: a node that refuses a pod would otherwise be asked without end.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// By node: when the last failed pod was removed, and the pause after it.
type Nodes = BTreeMap<String, (Timestamp, Duration)>;

/// The nodes of every set, by its uid.
#[derive(Default)]
pub(super) struct Backoff(Mutex<HashMap<Box<str>, Nodes>>);

impl Backoff {
    /// Until when the failed pods of a set's nodes stay.
    pub(super) fn of(&self, set: &str) -> BTreeMap<String, Timestamp> {
        let sets = self.0.lock();
        let nodes = sets.get(set).into_iter().flatten();
        nodes.map(|(node, (at, pause))| (node.clone(), at.saturating_add(*pause).unwrap_or(*at))).collect()
    }

    /// A failed pod of a set is removed from a node.
    pub(super) fn removed(&self, set: &str, node: &str, now: Timestamp) {
        let mut sets = self.0.lock();
        let nodes = sets.entry(set.into()).or_default();
        // What has been calm for long starts anew.
        let calm = |at: &Timestamp| at.saturating_add(LONGEST * 2).is_ok_and(|over| over < now);
        nodes.retain(|_, (at, _)| !calm(at));
        let pause = nodes.get(node).map_or(FIRST, |(_, pause)| (*pause * 2).min(LONGEST));
        nodes.insert(node.to_owned(), (now, pause));
    }

    /// Forgets a set that is gone.
    pub(super) fn forget(&self, set: &str) {
        self.0.lock().remove(set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end() {
        let backoff = Backoff::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        let pauses: Vec<i64> = (0..12)
            .map(|_| {
                backoff.removed("ds", "n", at(1000));
                backoff.of("ds")["n"].as_second() - 1000
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
        backoff.removed("ds", "n", at(1000 + 1801));
        assert_eq!(backoff.of("ds")["n"], at(1000 + 1802));
        assert!(backoff.of("other").is_empty());
    }
}
