//! What must hold for a history.

use std::collections::{BTreeMap, HashMap};

use super::{Call, History, Watched, What};
use crate::{Event, Key, KeyValue, Op, Revision, Txn, TxnResult};

type State = BTreeMap<Key, KeyValue>;
type Checked = Result<(), String>;

/// Fails with what is wrong.
pub(super) fn check(history: &History) -> Checked {
    let auditor = history.watches.first().ok_or("nobody watched everything")?;
    let truth = Truth::from(auditor)?;
    history.calls.iter().try_for_each(|call| truth.call(call))?;
    truth.accounts_for_everything(&history.calls)?;
    truth.real_time(&history.calls)?;
    history.watches.iter().try_for_each(|watched| truth.watched(watched))
}

/// What happened, revision by revision.
struct Truth {
    /// From revision 2 on.
    events: Vec<Vec<Event>>,
    /// From revision 1 on.
    states: Vec<State>,
}

impl Truth {
    /// From a watch of everything since the beginning.
    fn from(auditor: &Watched) -> Result<Self, String> {
        let mut events: Vec<Vec<Event>> = Vec::new();
        for event in auditor.batches.iter().flat_map(|(_, events)| events) {
            let next = events.len() as Revision + 2;
            match event.revision() {
                revision if revision == next => events.push(vec![event.clone()]),
                revision if revision + 1 == next && !events.is_empty() => {
                    events.last_mut().ok_or("no event")?.push(event.clone());
                }
                revision => return Err(format!("revision {revision} came when {next} was to come")),
            }
        }
        let mut states = vec![State::new()];
        for group in &events {
            let mut state = states.last().cloned().unwrap_or_default();
            group.iter().try_for_each(|event| apply(&mut state, event))?;
            states.push(state);
        }
        Ok(Self { events, states })
    }

    fn at(&self, revision: Revision) -> Result<&State, String> {
        let state = self.states.get(revision as usize - 1);
        state.ok_or_else(|| format!("revision {revision} never happened"))
    }

    fn group(&self, revision: Revision) -> &[Event] {
        revision.checked_sub(2).and_then(|at| self.events.get(at as usize)).map_or(&[], Vec::as_slice)
    }

    /// Whether a client was told the truth.
    fn call(&self, call: &Call) -> Checked {
        match &call.what {
            What::Txn(txn, Some(TxnResult::Committed { revision })) => self.committed(txn, *revision),
            What::Txn(_, None) => Ok(()),
            What::Txn(txn, Some(TxnResult::Conflict { revision, found })) => {
                let state = self.at(*revision)?;
                if revisions(txn, state) != *found || holds(txn, state) {
                    return Err(format!("{call:?} was refused without a reason"));
                }
                Ok(())
            }
            What::Read { asked, revision, items } => {
                let truth = self.at(*revision)?;
                let same = truth.values().eq(items) && (*asked == 0 || asked == revision);
                if same { Ok(()) } else { Err(format!("{call:?} is not {truth:?}")) }
            }
        }
    }

    /// A transaction whose conditions held just before, and which alone made this revision, completely.
    fn committed(&self, txn: &Txn, revision: Revision) -> Checked {
        let before = self.at(revision - 1)?;
        if !holds(txn, before) {
            return Err(format!("{txn:?} did not hold before {revision}"));
        }
        let expected = txn.ops.iter().filter_map(|op| match op {
            Op::Put { key, value, .. } => Some((key, Some(value))),
            Op::Delete { key } => before.contains_key(key).then_some((key, None)),
        });
        let found = self.group(revision).iter().map(|event| match event {
            Event::Put { kv, .. } => (&kv.key, Some(&kv.value)),
            Event::Delete { key, .. } => (key, None),
        });
        if !found.eq(expected) {
            return Err(format!("{revision} is {:?} and not {txn:?}", self.group(revision)));
        }
        Ok(())
    }

    /// Which transaction made each revision: by the values that only it writes.
    fn made_by(&self, calls: &[Call]) -> Result<Vec<(Revision, Call)>, String> {
        let values = calls.iter().filter_map(|call| match &call.what {
            What::Txn(txn, _) => Some((value(txn)?, call)),
            What::Read { .. } => None,
        });
        let by_value: HashMap<_, _> = values.collect();
        let mut made = Vec::new();
        for (revision, group) in (2..).zip(&self.events) {
            let value = group.iter().find_map(|event| match event {
                Event::Put { kv, .. } => Some(kv.value.clone()),
                Event::Delete { .. } => None,
            });
            let call = value.and_then(|value| by_value.get(&value).copied());
            made.push((revision, call.ok_or_else(|| format!("nobody asked for {group:?}"))?.clone()));
        }
        Ok(made)
    }

    /// Every revision was made by one transaction, also by one whose answer was lost, and by none twice.
    fn accounts_for_everything(&self, calls: &[Call]) -> Checked {
        for (revision, call) in self.made_by(calls)? {
            let What::Txn(txn, outcome) = &call.what else { continue };
            match outcome {
                Some(TxnResult::Committed { revision: told }) if *told == revision => {}
                None => self.committed(txn, revision)?,
                other => return Err(format!("{revision} was made by {txn:?}, which was told {other:?}")),
            }
        }
        Ok(())
    }

    /// What was answered before a call began is in what the call sees.
    fn real_time(&self, calls: &[Call]) -> Checked {
        let made: HashMap<u64, Revision> =
            self.made_by(calls)?.into_iter().map(|(revision, call)| (call.invoked, revision)).collect();
        let seen = |call: &Call| match &call.what {
            What::Txn(_, Some(TxnResult::Committed { revision })) => Some((*revision, true)),
            What::Txn(_, None) => made.get(&call.invoked).map(|revision| (*revision, true)),
            What::Txn(_, Some(TxnResult::Conflict { revision, .. })) => Some((*revision, false)),
            What::Read { asked: 0, revision, .. } => Some((*revision, false)),
            What::Read { .. } => None,
        };
        let mut moments: Vec<(u64, bool, &Call)> = Vec::new();
        for call in calls {
            moments.push((call.invoked, false, call));
            moments.push((call.returned, true, call));
        }
        moments.sort_unstable_by_key(|(at, ..)| *at);
        let (mut known, mut least) = (1, HashMap::new());
        for (_, returned, call) in moments {
            let Some((revision, writes)) = seen(call) else { continue };
            if !returned {
                least.insert(call.invoked, known);
                continue;
            }
            let before = least.get(&call.invoked).copied().unwrap_or_default();
            if revision < before || (writes && revision == before) {
                return Err(format!("{call:?} began after {before} was known"));
            }
            if call.returned < u64::MAX {
                known = known.max(revision);
            }
        }
        Ok(())
    }

    /// A watch tells everything from its first revision on, in order, once, whole revisions at a time; and what it says
    /// to have told, it has, and it has happened.
    fn watched(&self, watched: &Watched) -> Checked {
        let mut reached = watched.first - 1;
        for (revision, events) in &watched.batches {
            if *revision < reached {
                return Err(format!("{}: went back from {reached} to {revision}", watched.prefix));
            }
            self.at(*revision)?;
            let wanted = |event: &&Event| event.key().starts_with(watched.prefix.as_bytes());
            let expected = (reached + 1..=*revision).flat_map(|at| self.group(at)).filter(wanted);
            if !expected.map(bare).eq(events.iter().map(bare)) {
                return Err(format!("{}: {events:?} is not {reached}..={revision}", watched.prefix));
            }
            events.iter().try_for_each(|event| self.previous(event))?;
            reached = *revision;
        }
        Ok(())
    }

    fn previous(&self, event: &Event) -> Checked {
        let (Event::Put { previous, .. } | Event::Delete { previous, .. }) = event;
        let was = self.at(event.revision() - 1)?.get(event.key());
        if previous.is_some() && previous.as_ref() != was {
            return Err(format!("{event:?} replaced {was:?}"));
        }
        Ok(())
    }
}

/// An event without what it replaced, which not every watch asks for.
fn bare(event: &Event) -> Event {
    let mut event = event.clone();
    let (Event::Put { previous, previous_revision, .. } | Event::Delete { previous, previous_revision, .. }) =
        &mut event;
    (*previous, *previous_revision) = (None, 0);
    event
}

fn value(txn: &Txn) -> Option<bytes::Bytes> {
    txn.ops.iter().find_map(|op| match op {
        Op::Put { value, .. } => Some(value.clone()),
        Op::Delete { .. } => None,
    })
}

fn revisions(txn: &Txn, state: &State) -> Vec<Revision> {
    let of = |key| state.get(key).map_or(0, |kv: &KeyValue| kv.mod_revision);
    txn.compares.iter().map(|compare| of(&compare.key)).collect()
}

fn holds(txn: &Txn, state: &State) -> bool {
    txn.compares.iter().map(|compare| compare.mod_revision).eq(revisions(txn, state))
}

/// Changes a state by an event, whose numbers must follow from that state.
fn apply(state: &mut State, event: &Event) -> Checked {
    let was = state.remove(event.key());
    let (was_revision, was_version) = was.as_ref().map_or((0, 0), |kv| (kv.mod_revision, kv.version));
    // An etcd tells it with the previous state only, which compaction may have taken away.
    let fits = |revision: u64, previous: &Option<KeyValue>| {
        revision == was_revision || (revision == 0 && previous.is_none())
    };
    let right = match event {
        Event::Put { kv, previous_revision, previous } => {
            state.insert(kv.key.clone(), kv.clone());
            let created = was.as_ref().map_or(kv.mod_revision, |was| was.create_revision);
            (kv.version, kv.create_revision) == (was_version + 1, created)
                && fits(*previous_revision, previous)
        }
        Event::Delete { previous_revision, previous, .. } => {
            was.is_some() && fits(*previous_revision, previous)
        }
    };
    if right { Ok(()) } else { Err(format!("{event:?} does not follow from {was:?}")) }
}

/// Checks that find nothing wrong with a wrong history would be worth nothing.
#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Killable, clients};
    use super::*;

    /// Whether a history is refused after it was tampered with.
    fn refused(history: &History, tamper: impl FnOnce(&mut History)) -> bool {
        let mut tampered = history.clone();
        tamper(&mut tampered);
        check(&tampered).is_err()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn lies_are_found() {
        let history = clients::record(Arc::new(Killable::new()), 2, 400).await;
        check(&history).unwrap();
        let busy = |batch: &&mut (Revision, Vec<Event>)| batch.1.len() > 1;
        let last = history.watches.len() - 1;
        // A watch loses, repeats or reorders an event, or promises too much.
        for tamper in [
            |events: &mut Vec<Event>| drop(events.pop()),
            |events: &mut Vec<Event>| events.extend_from_within(..1),
            |events: &mut Vec<Event>| events.swap(0, 1),
        ] {
            for watch in [0, 1] {
                assert!(refused(&history, |history| {
                    tamper(&mut history.watches[watch].batches.iter_mut().find(busy).unwrap().1);
                }));
            }
        }
        assert!(refused(&history, |history| history.watches[last].batches[0].0 += 1_000));
        // Also when nothing follows that it could contradict.
        assert!(refused(&history, |history| history.watches[last].batches.last_mut().unwrap().0 += 1_000));
        // A read shows an older state, or came too late for what it shows.
        let present =
            |call: &&mut Call| matches!(&call.what, What::Read { asked: 0, revision, .. } if *revision > 9);
        assert!(refused(&history, |history| {
            let call = history.calls.iter_mut().find(present).unwrap();
            if let What::Read { revision, .. } = &mut call.what {
                *revision -= 1;
            }
        }));
        assert!(refused(&history, |history| {
            let call = history.calls.iter_mut().find(present).unwrap();
            (call.invoked, call.returned) = (u64::MAX - 2, u64::MAX - 1);
        }));
        // An acknowledged transaction is lost.
        assert!(refused(&history, |history| {
            let found = history.calls.iter_mut().find_map(|call| match &mut call.what {
                What::Txn(_, Some(TxnResult::Committed { revision })) => Some(revision),
                _ => None,
            });
            *found.unwrap() += 1;
        }));
    }
}
