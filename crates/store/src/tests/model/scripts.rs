//! What the model does with a script, and random scripts.

use proptest::prelude::*;

use super::{KEYS, Model};
use crate::{
    Condition, Done, Is, KeyValue, Op, Operand, Put, Range, RangeResult, Script, ScriptResult, Span, Step,
};

/// One condition: the key, whether all that begin with it, the relation, the property, a guess.
type Guess = (usize, bool, u8, u8, u8);
/// One step: the key, what to do with it.
type Act = (usize, u8);

/// Numbers that become a script when it is run.
#[derive(Debug, Clone)]
pub(super) struct Sketch {
    conditions: Vec<Guess>,
    then: Vec<Act>,
    otherwise: Vec<Act>,
}

pub(super) fn sketch() -> impl Strategy<Value = Sketch> {
    let guesses = prop::collection::vec((0..KEYS.len(), any::<bool>(), 0..4u8, 0..5u8, any::<u8>()), 0..3);
    let acts = || prop::collection::vec((0..KEYS.len(), any::<u8>()), 0..4);
    (guesses, acts(), acts()).prop_map(|(conditions, then, otherwise)| Sketch { conditions, then, otherwise })
}

impl Model {
    /// Makes a script of a sketch: guesses are near what is there.
    pub(super) fn script(&self, sketch: Sketch) -> Script {
        let conditions = sketch.conditions.into_iter().map(|guess| self.condition(guess)).collect();
        let (then, otherwise) = (self.steps(sketch.then), self.steps(sketch.otherwise));
        Script { conditions, then, otherwise }
    }

    fn condition(&self, (key, prefix, is, property, guess): Guess) -> Condition {
        let span = if prefix { Span::prefix(KEYS[key]) } else { Span::key(KEYS[key]) };
        let kv = self.now().get(KEYS[key]).cloned().unwrap_or_else(none);
        let near = |number: u64| (number + u64::from(guess % 3)).saturating_sub(1);
        let to = match property {
            0 => Operand::Version(near(kv.version)),
            1 => Operand::CreateRevision(near(kv.create_revision)),
            2 => Operand::ModRevision(near(kv.mod_revision)),
            3 => Operand::Lease(near(kv.lease)),
            _ => Operand::Value(kv.value),
        };
        let is = [Is::Equal, Is::NotEqual, Is::Greater, Is::Less][usize::from(is)];
        Condition { span, is, to }
    }

    fn steps(&self, acts: Vec<Act>) -> Vec<Step> {
        let (mut steps, mut written, mut deleted) = (Vec::new(), Vec::new(), Vec::<Span>::new());
        for (key, act) in acts {
            let (key, span) = (KEYS[key], Span::prefix(KEYS[key]));
            let touched = written.contains(&key) || deleted.iter().any(|span| span.contains(key.as_bytes()));
            match act {
                0..120 if !touched => {
                    written.push(key);
                    let value = format!("{}.{act}", self.revision());
                    steps.push(Step::Put(Put { previous: act % 2 == 0, ..Put::new(key, value) }));
                }
                120..180 if !written.iter().any(|key| span.contains(key.as_bytes())) => {
                    deleted.push(span.clone());
                    steps.push(Step::Delete { span, previous: act % 2 == 0 });
                }
                _ => steps.push(Step::Range(Range::from(span).limit(usize::from(act % 3)))),
            }
        }
        steps
    }

    /// Runs a script.
    pub(super) fn run(&mut self, script: &Script) -> ScriptResult {
        let held = script.conditions.iter().all(|condition| self.holds(condition));
        let before = self.revision();
        let (mut ops, mut steps) = (Vec::new(), Vec::new());
        for step in if held { &script.then } else { &script.otherwise } {
            // What the steps so far would make of the present.
            let so_far = self.after(&ops);
            steps.push(match step {
                Step::Range(range) => Done::Range(so_far.read(range)),
                Step::Put(put) => {
                    let previous = so_far.now().get(put.key.as_str().unwrap()).cloned();
                    let value = put.value.clone().unwrap();
                    ops.push(Op::Put { key: put.key.clone(), value, lease: 0 });
                    Done::Put { previous: previous.filter(|_| put.previous) }
                }
                Step::Delete { span, previous } => {
                    let gone = so_far.read(&Range::from(span.clone())).items;
                    ops.extend(gone.iter().map(|kv| Op::delete(kv.key.clone())));
                    Done::Delete {
                        deleted: gone.len() as u64,
                        previous: if *previous { gone } else { Vec::new() },
                    }
                }
                Step::Script(_) => unreachable!("no sketch has one"),
            });
        }
        self.apply(&ops);
        assert!(self.revision() <= before + 1);
        ScriptResult { revision: self.revision(), held, steps }
    }

    fn after(&self, ops: &[Op]) -> Model {
        let mut model =
            Model { events: Vec::new(), leases: Vec::new(), states: self.states.clone(), ..*self };
        model.apply(ops);
        model
    }

    fn read(&self, range: &Range) -> RangeResult {
        let items = self.now().values().filter(|kv| range.span.contains(kv.key.as_bytes()));
        let mut items: Vec<_> = items.cloned().collect();
        let remaining = items.len().saturating_sub(range.most()) as u64;
        items.truncate(range.most());
        RangeResult { revision: self.revision(), items, remaining }
    }

    fn holds(&self, condition: &Condition) -> bool {
        let mut found = self.read(&Range::from(condition.span.clone())).items;
        let absent = found.is_empty();
        if absent {
            found.push(none());
        }
        found.iter().all(|kv| {
            let order = match &condition.to {
                Operand::Version(version) => kv.version.cmp(version),
                Operand::CreateRevision(revision) => kv.create_revision.cmp(revision),
                Operand::ModRevision(revision) => kv.mod_revision.cmp(revision),
                Operand::Lease(lease) => kv.lease.cmp(lease),
                Operand::Value(_) if absent => return false,
                Operand::Value(value) => kv.value.cmp(value),
            };
            condition.is.holds(order)
        })
    }
}

/// A key that does not exist.
fn none() -> KeyValue {
    let value = bytes::Bytes::new();
    KeyValue { key: "".into(), value, create_revision: 0, mod_revision: 0, version: 0, lease: 0 }
}
