//! Which pods go first when there are too many: the ones that cost the least, as Kubernetes ranks them.
//!
//! In order: unbound before bound; pending before unknown before running; not ready before ready; lower deletion cost;
//! on nodes with more pods of the same owner; ready for a shorter time; more restarts; younger. Times count by powers of
//! two, so that of pods of about the same age any may go; their uid decides, to be the same in every pass.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::pods::Facts;

/// Picks so many of the pods.
pub(crate) fn pick(
    pods: &[&Arc<Facts>],
    count: usize,
    per_node: &HashMap<Box<str>, usize>,
    now: Timestamp,
) -> Vec<Arc<Facts>> {
    let mut ranked = pods.to_vec();
    if count < ranked.len() {
        sort(&mut ranked, per_node, now);
    }
    ranked.into_iter().take(count).cloned().collect()
}

/// Puts the pods in the order in which they are to go.
pub(crate) fn sort(pods: &mut [&Arc<Facts>], per_node: &HashMap<Box<str>, usize>, now: Timestamp) {
    pods.sort_by(|a, b| order(a, b, per_node, now));
}

fn order(a: &Facts, b: &Facts, per_node: &HashMap<Box<str>, usize>, now: Timestamp) -> Ordering {
    let on_node = |pod: &Facts| per_node.get(&pod.node).copied().unwrap_or(0);
    let bound = |pod: &Facts| !pod.node.is_empty();
    let ready_for = |pod: &Facts| pod.ready_since.map(|since| magnitude(since, now));
    let age = |pod: &Facts| pod.meta().created.map(|created| magnitude(created, now));
    bound(a)
        .cmp(&bound(b))
        .then_with(|| a.phase.cmp(&b.phase))
        .then_with(|| a.ready().cmp(&b.ready()))
        .then_with(|| a.deletion_cost.cmp(&b.deletion_cost))
        .then_with(|| on_node(b).cmp(&on_node(a)))
        .then_with(|| ready_for(a).cmp(&ready_for(b)))
        .then_with(|| b.restarts.cmp(&a.restarts))
        .then_with(|| age(a).cmp(&age(b)))
        .then_with(|| a.meta().uid.cmp(&b.meta().uid))
}

/// The power of two of the seconds passed; 0 for less than one.
fn magnitude(since: Timestamp, now: Timestamp) -> u32 {
    let seconds = u64::try_from(now.duration_since(since).as_secs()).unwrap_or(0);
    u64::BITS - seconds.leading_zeros()
}
