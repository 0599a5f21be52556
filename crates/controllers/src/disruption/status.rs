//! A budget's status: how many pods are healthy, how many must be, and how many may be disrupted now. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::context::until;
use crate::deployment::view::scaled;
use crate::pods::Facts;

/// An eviction that was let through and whose pod still is not being deleted is forgotten after this.
pub(super) const EVICTION_SECONDS: i64 = 120;
const ALLOWED: &str = "DisruptionAllowed";

/// Whether a budget counts against what the pods' controllers want, and not against the pods there are.
pub(super) fn needs_scale(spec: &PodDisruptionBudgetSpec) -> bool {
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// How many pods must stay healthy, out of so many.
fn desired(spec: &PodDisruptionBudgetSpec, expected: i32) -> i32 {
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => (expected - scaled(most, expected, true)).max(0),
        (None, Some(least)) => scaled(least, expected, true),
        (None, None) => 0,
    }
}

/// Evictions that were let through and whose pods are not gone yet, and when the first of them is forgotten.
fn disrupted(
    old: Option<BTreeMap<String, Time>>,
    pods: &[Arc<Facts>],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<Timestamp>) {
    let (mut disrupted, mut again) = (BTreeMap::new(), None::<Timestamp>);
    for (name, since) in old.into_iter().flatten() {
        let over = since.0.saturating_add(SignedDuration::from_secs(EVICTION_SECONDS));
        let over = over.unwrap_or(Timestamp::MAX);
        let waits = pods.iter().any(|pod| *pod.meta().name == *name && !pod.deleting());
        if waits && over > now {
            again = Some(again.map_or(over, |known| known.min(over)));
            disrupted.insert(name, since);
        }
    }
    (disrupted, again)
}

/// A budget's status out of so many expected pods, and when to look again.
pub(super) fn status(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Facts>],
    expected: i32,
    now: Timestamp,
) -> (PodDisruptionBudgetStatus, Option<Duration>) {
    let old = budget.status.clone().unwrap_or_default();
    let spec = budget.spec.clone().unwrap_or_default();
    let (disrupted, again) = disrupted(old.disrupted_pods, pods, now);
    let stays = |pod: &&Arc<Facts>| {
        pod.ready() && !pod.deleting() && !disrupted.contains_key(pod.meta().name.as_ref())
    };
    let healthy = pods.iter().filter(stays).count() as i32;
    let desired = desired(&spec, expected);
    let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let reason = if allowed > 0 { "SufficientPods" } else { "InsufficientPods" };
    let status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(expected),
        observed_generation: budget.metadata.generation,
        disrupted_pods: Some(disrupted).filter(|pods| !pods.is_empty()),
        conditions: Some(conditions(budget, allowed > 0, reason, String::new(), now)),
    };
    (status, again.map(|at| until(at, now)))
}

/// The status of a budget that cannot be computed: it allows nothing.
pub(super) fn unknown(
    budget: &PodDisruptionBudget,
    why: String,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    PodDisruptionBudgetStatus {
        disruptions_allowed: Some(0),
        conditions: Some(conditions(budget, false, "SyncFailed", why, now)),
        ..budget.status.clone().unwrap_or_default()
    }
}

/// All conditions with ours anew, whose time changes with its status.
fn conditions(
    budget: &PodDisruptionBudget,
    allowed: bool,
    reason: &str,
    message: String,
    now: Timestamp,
) -> Vec<Condition> {
    let status = if allowed { "True" } else { "False" };
    let old = budget.status.as_ref().and_then(|status| status.conditions.clone());
    let mut conditions = old.unwrap_or_default();
    let place = conditions.iter().position(|known| known.type_ == ALLOWED).unwrap_or(conditions.len());
    let same = conditions.get(place).filter(|known| known.status == status);
    let since = same.map_or(Time(now), |known| known.last_transition_time.clone());
    let ours = Condition {
        type_: ALLOWED.into(),
        status: status.into(),
        reason: reason.into(),
        message,
        observed_generation: budget.metadata.generation,
        last_transition_time: since,
    };
    match conditions.get_mut(place) {
        Some(known) => *known = ours,
        None => conditions.push(ours),
    }
    conditions
}
