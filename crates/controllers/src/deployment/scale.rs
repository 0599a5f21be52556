//! How many pods each ReplicaSet of a Deployment is to have: rolling update, recreation, and proportional scaling.
//!
//! Laws, tested over random runs: the sets' sizes never add up to more than replicas + maxSurge by our doing, and no set
//! is made smaller when fewer than replicas - maxUnavailable pods would be left available.

use k8s_openapi::api::apps::v1::ReplicaSet;

use super::view::{DESIRED, MAX, Numbers, available, number, wanted};
use super::work::Work;

/// The size that the newest set may have now.
pub(super) fn new_size(work: &Work<'_>, new: usize) -> i32 {
    let numbers = work.numbers;
    let size = wanted(&work.sets[new]);
    if numbers.recreate {
        return numbers.replicas;
    }
    let room = numbers.replicas + numbers.max_surge - work.total_wanted();
    size + room.min(numbers.replicas - size).max(0)
}

/// One step of a rolling update. Returns whether a size changed.
pub(super) fn roll(work: &mut Work<'_>) -> bool {
    let Some(new) = work.new else { return false };
    let size = match wanted(&work.sets[new]) {
        too_many if too_many > work.numbers.replicas => work.numbers.replicas,
        _ => new_size(work, new),
    };
    work.resize(new, size) || roll_down(work, new)
}

/// Takes pods from old sets: those that are not available first, then as many as availability allows.
fn roll_down(work: &mut Work<'_>, new: usize) -> bool {
    let old = work.old();
    let min_available = work.numbers.replicas - work.numbers.max_unavailable;
    let new_unavailable = wanted(&work.sets[new]) - available(&work.sets[new]);
    let most = work.total_wanted() - min_available - new_unavailable;
    if most <= 0 || old.iter().all(|at| wanted(&work.sets[*at]) == 0) {
        return false;
    }
    let cleaned = take(work, &old, most, |set| wanted(set) - available(set));
    let spare = work.total_available() - min_available;
    let scaled = take(work, &old, spare, wanted);
    cleaned + scaled > 0
}

/// Takes up to `most` pods from the sets in turn, of each at most what `of` says. Returns how many.
fn take(work: &mut Work<'_>, sets: &[usize], most: i32, of: impl Fn(&ReplicaSet) -> i32) -> i32 {
    let mut taken = 0;
    for &at in sets {
        let set = &work.sets[at];
        let now = of(set).min(wanted(set)).min(most - taken).max(0);
        if now > 0 {
            let left = wanted(set) - now;
            work.resize(at, left);
            taken += now;
        }
    }
    taken
}

/// Takes all pods from old sets. Returns whether there were any.
pub(super) fn empty_old(work: &mut Work<'_>) -> bool {
    let old = work.old();
    old.into_iter().filter(|at| work.resize(*at, 0)).count() > 0
}

/// Whether the Deployment was given another size since its sets last heard of it.
pub(super) fn is_scaling(work: &Work<'_>) -> bool {
    let desired =
        |set: &ReplicaSet| number(set, DESIRED).is_some_and(|n| n != i64::from(work.numbers.replicas));
    work.sets.iter().any(|set| wanted(set) > 0 && desired(set))
}

/// Brings a new size of the Deployment to its sets, in proportion when several have pods.
pub(super) fn spread(work: &mut Work<'_>) {
    let active: Vec<usize> = (0..work.sets.len()).filter(|at| wanted(&work.sets[*at]) > 0).collect();
    let only = match active.as_slice() {
        [] => work.new.or(work.sets.len().checked_sub(1)),
        [one] => Some(*one),
        _ => None,
    };
    if active.len() < 2 {
        if let Some(at) = only {
            let replicas = work.numbers.replicas;
            work.resize(at, replicas);
        }
        return;
    }
    if work.new.is_some_and(|new| saturated(&work.sets[new], &work.numbers)) {
        empty_old(work);
    } else if !work.numbers.recreate {
        spread_in_proportion(work, active);
    }
}

fn saturated(new: &ReplicaSet, numbers: &Numbers) -> bool {
    let all = numbers.replicas;
    number(new, DESIRED) == Some(all.into()) && wanted(new) == all && available(new) == all
}

fn spread_in_proportion(work: &mut Work<'_>, mut active: Vec<usize>) {
    let numbers = work.numbers;
    let allowed = if numbers.replicas > 0 { numbers.replicas + numbers.max_surge } else { 0 };
    let to_add = allowed - active.iter().map(|at| wanted(&work.sets[*at])).sum::<i32>();
    // The larger sets take the rest; among equals the newer one grows first and the older one shrinks first.
    active.sort_by_key(|at| (-wanted(&work.sets[*at]), if to_add > 0 { -(*at as i64) } else { *at as i64 }));
    let mut added = 0;
    let mut sizes = Vec::new();
    for &at in &active {
        let set = &work.sets[at];
        let part = proportion(set, work.status.replicas.unwrap_or(0), &numbers, to_add, added);
        sizes.push(wanted(set) + part);
        added += part;
    }
    if let Some(first) = sizes.first_mut().filter(|_| to_add != 0) {
        *first = (*first + to_add - added).max(0);
    }
    for (at, size) in active.into_iter().zip(sizes) {
        work.resize_and_annotate(at, size);
    }
}

/// The part of `to_add` that is this set's, given what others took.
fn proportion(set: &ReplicaSet, known_replicas: i32, numbers: &Numbers, to_add: i32, added: i32) -> i32 {
    if wanted(set) == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let fraction = fraction(set, known_replicas, numbers);
    let allowed = to_add - added;
    if to_add > 0 { fraction.min(allowed) } else { fraction.max(allowed) }
}

/// By how much the set would change if it grew as the Deployment did.
fn fraction(set: &ReplicaSet, known_replicas: i32, numbers: &Numbers) -> i32 {
    let size = wanted(set);
    if numbers.replicas == 0 {
        return -size;
    }
    let before = number(set, MAX).unwrap_or(known_replicas.into());
    if before == 0 {
        return 0;
    }
    let after = f64::from(numbers.replicas + numbers.max_surge);
    (f64::from(size) * after / before as f64).round() as i32 - size
}
