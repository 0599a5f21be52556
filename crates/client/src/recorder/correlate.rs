//! Decides what becomes of an event: a new one, a higher count of an old one, or silence. Pure; time is in the notes.
//!
//! The numbers are those of client-go's correlator: 10 different messages of one reason within 10 minutes are combined,
//! and one object may cause 25 events at once and one more every 5 minutes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;

const SIMILAR_MAX: usize = 10;
const SIMILAR_SECONDS: i64 = 600;
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;
/// Entries of each memory; the oldest goes first.
const REMEMBERED: usize = 4096;

/// One call of the recorder.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub(super) about: ObjectReference,
    pub(super) kind: String,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) at: Timestamp,
}

/// Equal events, told as one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    /// Name of the Event object.
    pub(super) name: String,
    pub(super) count: i32,
    pub(super) first: Timestamp,
}

#[derive(Debug)]
pub(super) enum Decision {
    /// Write it; a count over 1 means the Event object exists.
    Write(Box<Note>, Series),
    Drop,
}

/// Which object: kind, namespace, name, uid, and the part of it.
type About = (String, String, String, String, String);
type Similar = (About, String, String);

#[derive(Debug, Default)]
pub(super) struct Correlator {
    buckets: Memory<About, (f64, Timestamp)>,
    similar: Memory<Similar, (HashSet<String>, Timestamp)>,
    series: Memory<(Similar, String), Series>,
}

impl Correlator {
    pub(super) fn decide(&mut self, mut note: Note) -> Decision {
        let about = about(&note.about);
        if !self.allow(&about, note.at) {
            return Decision::Drop;
        }
        let similar = (about, note.kind.clone(), note.reason.clone());
        let mut distinct = note.message.clone();
        if self.combine(&similar, &note) {
            distinct.clear();
            note.message = format!("(combined from similar events): {}", note.message);
        }
        let fresh = || Series { name: name(&note), count: 0, first: note.at };
        let series = self.series.entry((similar, distinct), fresh);
        series.count = series.count.saturating_add(1);
        let series = series.clone();
        Decision::Write(Box::new(note), series)
    }

    /// Takes a token out of the object's bucket, if there is one.
    fn allow(&mut self, about: &About, now: Timestamp) -> bool {
        let (tokens, last) = self.buckets.entry(about.clone(), || (BURST, now));
        let passed = (now.as_second() - last.as_second()).max(0) as f64;
        *tokens = (*tokens + passed / REFILL_SECONDS).min(BURST);
        *last = now;
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }

    /// Whether there were so many different messages of late that they are told as one.
    fn combine(&mut self, similar: &Similar, note: &Note) -> bool {
        let (messages, last) = self.similar.entry(similar.clone(), || (HashSet::new(), note.at));
        if note.at.as_second() - last.as_second() > SIMILAR_SECONDS {
            messages.clear();
        }
        *last = note.at;
        if messages.len() < SIMILAR_MAX {
            messages.insert(note.message.clone());
        }
        messages.len() >= SIMILAR_MAX
    }
}

fn about(about: &ObjectReference) -> About {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    (text(&about.kind), text(&about.namespace), text(&about.name), text(&about.uid), text(&about.field_path))
}

fn name(note: &Note) -> String {
    format!("{}.{:x}", note.about.name.as_deref().unwrap_or_default(), note.at.as_nanosecond())
}

/// A map that forgets its oldest entry when full.
#[derive(Debug)]
struct Memory<K, V> {
    map: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        Self { map: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Clone + Eq + Hash, V> Memory<K, V> {
    fn entry(&mut self, key: K, fresh: impl FnOnce() -> V) -> &mut V {
        if !self.map.contains_key(&key) {
            if self.order.len() >= REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.map.remove(&oldest);
            }
            self.order.push_back(key.clone());
        }
        self.map.entry(key).or_insert_with(fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(message: &str, second: i64) -> Note {
        Note {
            about: ObjectReference { name: Some("web".into()), ..ObjectReference::default() },
            kind: "Normal".into(),
            reason: "Scaled".into(),
            message: message.into(),
            at: Timestamp::from_second(second).unwrap(),
        }
    }

    fn told(correlator: &mut Correlator, message: &str, second: i64) -> Option<(String, i32)> {
        match correlator.decide(note(message, second)) {
            Decision::Write(note, series) => Some((note.message, series.count)),
            Decision::Drop => None,
        }
    }

    #[test]
    fn a_talkative_object_is_slowed_down() {
        let mut correlator = Correlator::default();
        let told_now = (0..40).filter(|_| told(&mut correlator, "same", 1000).is_some()).count();
        assert_eq!(told_now, 25);
        assert_eq!(told(&mut correlator, "same", 1000 + 301), Some(("same".into(), 26)));
        assert_eq!(told(&mut correlator, "same", 1000 + 302), None);
    }

    #[test]
    fn many_similar_messages_are_combined() {
        let mut correlator = Correlator::default();
        for i in 0..9 {
            assert_eq!(told(&mut correlator, &format!("m{i}"), i), Some((format!("m{i}"), 1)));
        }
        assert_eq!(told(&mut correlator, "m9", 9).unwrap(), ("(combined from similar events): m9".into(), 1));
        assert_eq!(
            told(&mut correlator, "m10", 9).unwrap(),
            ("(combined from similar events): m10".into(), 2)
        );
        assert_eq!(told(&mut correlator, "later", 9000).unwrap(), ("later".into(), 1));
    }
}
