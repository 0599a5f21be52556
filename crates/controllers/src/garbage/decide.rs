//! What becomes of an object, given the state of its owners. Pure.

use tiphys_api::{Meta, OwnerRef, Value, json};

use super::graph::{FOREGROUND, ORPHAN};
use crate::claim::reference;

/// How an owner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// It exists.
    Solid,
    /// It is gone: checked with the API.
    Absent,
    /// It is being deleted and waits for its dependents.
    Waiting,
}

/// What to do about a dependent.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Nothing: it has an owner.
    Keep,
    /// Drop the references to owners that are gone or going; another keeps it.
    Unreference(Vec<OwnerRef>),
    /// Delete it.
    Delete {
        propagation: &'static str,
        /// Its references no longer block owners: its own dependents come first, and a circle must not wait for itself.
        unblock: bool,
    },
}

/// Decides about a dependent. `owners` are the states of its references in order.
pub(super) fn verdict(meta: &Meta, owners: &[Owner], dependents: usize, dependents_waiting: bool) -> Verdict {
    let is = |state: Owner| owners.contains(&state);
    if owners.is_empty() {
        return Verdict::Keep;
    }
    if is(Owner::Solid) {
        if owners.iter().all(|owner| *owner == Owner::Solid) {
            return Verdict::Keep;
        }
        let pairs = meta.owners.iter().zip(owners);
        let kept = pairs.filter(|(_, state)| **state == Owner::Solid).map(|(owner, _)| owner.clone());
        return Verdict::Unreference(kept.collect());
    }
    if is(Owner::Waiting) && dependents > 0 {
        return Verdict::Delete { propagation: "Foreground", unblock: dependents_waiting };
    }
    let has = |finalizer: &str| meta.finalizers.iter().any(|f| **f == *finalizer);
    let propagation = match (has(ORPHAN), has(FOREGROUND)) {
        (true, _) => "Orphan",
        (_, true) => "Foreground",
        _ => "Background",
    };
    Verdict::Delete { propagation, unblock: false }
}

/// A merge patch that leaves an object with these owners. The revision makes it safe against changes by others.
pub(super) fn owners_patch<'a>(meta: &Meta, owners: impl Iterator<Item = &'a OwnerRef>) -> Value {
    let owners: Vec<Value> = owners.map(reference).collect();
    patch(meta, "ownerReferences", owners)
}

/// A merge patch that takes a finalizer off an object.
pub(super) fn finalizer_patch(meta: &Meta, finalizer: &str) -> Value {
    let left = meta.finalizers.iter().filter(|f| ***f != *finalizer);
    patch(meta, "finalizers", left.map(|f| json!(f)).collect())
}

fn patch(meta: &Meta, field: &str, list: Vec<Value>) -> Value {
    let list = if list.is_empty() { Value::Null } else { Value::Array(list) };
    json!({"metadata": {
        field: list,
        "resourceVersion": meta.resource_version.to_string(),
        "uid": meta.uid,
    }})
}
