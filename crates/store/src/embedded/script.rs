//! Scripts, decided: the part of a [`Plan`] that only etcd's API asks for.
//!
//! A script is played on a [`Draft`] beside the plan, which takes the draft over once every step has gone well. So an
//! error in the middle leaves nothing behind.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::index::{Change, Entry, RowId};
use super::plan::Plan;
use crate::{
    Condition, Done, Error, Key, KeyValue, Operand, Put, Range, RangeResult, Revision, Script, ScriptResult,
    Span, Step,
};

/// What a script has done so far.
pub(super) struct Draft {
    /// The revision of its changes.
    revision: Revision,
    /// The changes, in order.
    pub changes: Vec<Change>,
    written: BTreeMap<Key, Option<Entry>>,
}

impl Draft {
    fn at(&self) -> RowId {
        // A script's size limit keeps the number of its changes far below 2^32.
        RowId { revision: self.revision, sub: self.changes.len() as u32 }
    }

    fn push(&mut self, change: Change) {
        let entry = change.after.as_ref().map(|(entry, _)| *entry);
        self.written.insert(change.key.clone(), entry);
        self.changes.push(change);
    }

    /// The revision that reads see as the present.
    fn present(&self) -> Revision {
        if self.changes.is_empty() { self.revision - 1 } else { self.revision }
    }
}

impl Plan<'_> {
    /// Decides a script.
    pub fn run(&mut self, script: Script) -> Result<ScriptResult, Error> {
        self.check_size(size(&script))?;
        overlaps(&script)?;
        if writes(&script) {
            self.check_space()?;
        }
        let revision = self.revision() + 1;
        let mut draft = Draft { revision, changes: Vec::new(), written: BTreeMap::new() };
        let mut result = self.play(script, &mut draft)?;
        stamp(&mut result, draft.present());
        self.take(draft);
        Ok(result)
    }

    /// Conditions, inner ones too, are judged by what was there before the script.
    fn play(&self, script: Script, draft: &mut Draft) -> Result<ScriptResult, Error> {
        let mut held = true;
        for condition in &script.conditions {
            held = held && self.holds(condition)?;
        }
        let branch = if held { script.then } else { script.otherwise };
        let steps = branch.into_iter().map(|step| self.step(step, draft)).collect::<Result<_, _>>()?;
        Ok(ScriptResult { revision: 0, held, steps })
    }

    fn step(&self, step: Step, draft: &mut Draft) -> Result<Done, Error> {
        Ok(match step {
            Step::Range(range) => Done::Range(self.read(&range, draft)?),
            Step::Put(put) => Done::Put { previous: self.put(put, draft)? },
            Step::Delete { span, previous } => self.delete(&span, previous, draft)?,
            Step::Script(script) => Done::Script(self.play(script, draft)?),
        })
    }

    fn holds(&self, condition: &Condition) -> Result<bool, Error> {
        let found = self.present(&condition.span, None);
        if found.is_empty() {
            return Ok(stands(condition, &Entry::default(), None));
        }
        for (_, entry) in found {
            let value = match condition.to {
                Operand::Value(_) => Some(self.value(entry, None)?),
                _ => None,
            };
            if !stands(condition, &entry, value.as_ref()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn read(&self, range: &Range, draft: &Draft) -> Result<RangeResult, Error> {
        let revision = draft.present();
        if range.revision != 0 && range.revision != revision {
            return self.past(range);
        }
        let found = self.present(&range.span, Some(draft));
        let remaining = found.len().saturating_sub(range.most()) as u64;
        let picked = found.into_iter().take(range.most()).map(|(key, entry)| -> Result<_, Error> {
            let value = if range.keys_only { Bytes::new() } else { self.value(entry, Some(draft))? };
            Ok(entry.key_value(key, value))
        });
        Ok(RangeResult { revision, items: picked.collect::<Result<_, _>>()?, remaining })
    }

    fn put(&self, put: Put, draft: &mut Draft) -> Result<Option<KeyValue>, Error> {
        let Put { key, value, lease, previous } = put;
        let before = self.current(&key, Some(draft));
        let kept = || before.ok_or_else(|| Error::KeyNotFound(key.clone()));
        let lease = lease.map_or_else(|| kept().map(|entry| entry.lease), Ok)?;
        if lease != 0 {
            self.lease(lease)?;
        }
        let value = value.map_or_else(|| self.value(kept()?, Some(draft)), Ok)?;
        let told = self.told(previous, &key, before, draft)?;
        draft.push(Change::put(key, draft.at(), before, lease, value));
        Ok(told)
    }

    fn delete(&self, span: &Span, previous: bool, draft: &mut Draft) -> Result<Done, Error> {
        let found = self.present(span, Some(draft));
        let (deleted, mut gone) = (found.len() as u64, Vec::new());
        for (key, entry) in found {
            gone.extend(self.told(previous, &key, Some(entry), draft)?);
            let at = draft.at();
            draft.push(Change { key, at, before: Some(entry), after: None });
        }
        Ok(Done::Delete { deleted, previous: gone })
    }

    /// What was there, if it is to be told.
    fn told(
        &self,
        wanted: bool,
        key: &Key,
        before: Option<Entry>,
        draft: &Draft,
    ) -> Result<Option<KeyValue>, Error> {
        let Some(entry) = before.filter(|_| wanted) else { return Ok(None) };
        Ok(Some(entry.key_value(key.clone(), self.value(entry, Some(draft))?)))
    }

    fn current(&self, key: &Key, draft: Option<&Draft>) -> Option<Entry> {
        match draft.and_then(|draft| draft.written.get(key)) {
            Some(entry) => *entry,
            None => self.entry(key),
        }
    }

    /// The keys of a span with all that was decided so far.
    fn present(&self, span: &Span, draft: Option<&Draft>) -> Vec<(Key, Entry)> {
        if let Some(key) = span.only() {
            return self.current(key, draft).map(|entry| (key.clone(), entry)).into_iter().collect();
        }
        let mut found = self.living(span);
        for (key, entry) in draft.into_iter().flat_map(|draft| &draft.written) {
            if span.contains(key.as_bytes()) {
                found.insert(key.clone(), *entry);
            }
        }
        found.into_iter().filter_map(|(key, entry)| Some((key, entry?))).collect()
    }

    fn value(&self, entry: Entry, draft: Option<&Draft>) -> Result<Bytes, Error> {
        let row = entry.row();
        let drafted = draft.filter(|draft| draft.revision == row.revision);
        match drafted.and_then(|draft| draft.changes.get(row.sub as usize)) {
            Some(change) => Ok(change.after.as_ref().map(|(_, value)| value.clone()).unwrap_or_default()),
            None => self.decided_value(row),
        }
    }
}

fn stands(condition: &Condition, entry: &Entry, value: Option<&Bytes>) -> bool {
    let found: Ordering = match &condition.to {
        Operand::Version(version) => entry.version.cmp(version),
        Operand::CreateRevision(revision) => entry.create_revision.cmp(revision),
        Operand::ModRevision(revision) => entry.mod_revision.cmp(revision),
        Operand::Lease(lease) => entry.lease.cmp(lease),
        Operand::Value(wanted) => match value {
            Some(value) => value.cmp(wanted),
            None => return false,
        },
    };
    condition.is.holds(found)
}

fn stamp(result: &mut ScriptResult, revision: Revision) {
    result.revision = revision;
    for done in &mut result.steps {
        if let Done::Script(inner) = done {
            stamp(inner, revision);
        }
    }
}

fn branches(script: &Script) -> impl Iterator<Item = &Step> {
    script.then.iter().chain(&script.otherwise)
}

/// The bytes a script brings.
pub(super) fn size(script: &Script) -> usize {
    let of = |step: &Step| match step {
        Step::Put(put) => put.key.as_bytes().len() + put.value.as_ref().map_or(0, Bytes::len),
        Step::Range(Range { span, .. }) | Step::Delete { span, .. } => span.start.as_bytes().len(),
        Step::Script(script) => size(script),
    };
    branches(script).map(of).sum()
}

fn writes(script: &Script) -> bool {
    branches(script).any(|step| match step {
        Step::Put(_) => true,
        Step::Script(script) => writes(script),
        Step::Range(_) | Step::Delete { .. } => false,
    })
}

/// The keys that some steps may write, and the spans they may delete.
#[derive(Default)]
struct Touched<'a> {
    puts: BTreeSet<&'a Key>,
    deletes: Vec<&'a Span>,
}

/// A key may be written once, and not be deleted as well, on every way through a script.
pub(crate) fn overlaps(script: &Script) -> Result<(), Error> {
    touched(&script.then)?;
    touched(&script.otherwise).map(drop)
}

fn touched(steps: &[Step]) -> Result<Touched<'_>, Error> {
    let mut all = Touched::default();
    let (mut inner, mut puts) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Delete { span, .. } => all.deletes.push(span),
            Step::Put(put) => puts.push(&put.key),
            Step::Script(script) => inner.push((touched(&script.then)?, touched(&script.otherwise)?)),
            Step::Range(_) => {}
        }
    }
    for (then, otherwise) in inner {
        // Both branches of one script may touch the same key: only one is taken.
        all.refuse(&then)?;
        all.refuse(&otherwise)?;
        all.merge(then);
        all.merge(otherwise);
    }
    for key in puts {
        let own = Touched { puts: BTreeSet::from([key]), deletes: Vec::new() };
        all.refuse(&own)?;
        all.merge(own);
    }
    Ok(all)
}

impl<'a> Touched<'a> {
    /// Whether something else may touch the same keys.
    fn refuse(&self, other: &Self) -> Result<(), Error> {
        let deleted = |spans: &[&Span], key: &Key| spans.iter().any(|span| span.contains(key.as_bytes()));
        let again = other.puts.iter().find(|key| self.puts.contains(*key) || deleted(&self.deletes, key));
        match again.or_else(|| self.puts.iter().find(|key| deleted(&other.deletes, key))) {
            Some(key) => Err(Error::DuplicateKey((*key).clone())),
            None => Ok(()),
        }
    }

    fn merge(&mut self, other: Self) {
        self.puts.extend(other.puts);
        self.deletes.extend(other.deletes);
    }
}
