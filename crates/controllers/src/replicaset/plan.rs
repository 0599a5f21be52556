//! What a ReplicaSet needs: pods to create or delete, its status, and when to look again. Pure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::kinds::Replicated;
use super::rank;
use crate::context::until;
use crate::pods::Facts;

/// Most pods that one pass creates or deletes. Kubernetes takes 500, to spare its API server; here the number under way at
/// once does that, and a pass more is a wait for the cache more.
const BURST: usize = 5_000;

/// The set and its pods, as far as the caches show.
pub(super) struct Snapshot<'a, S> {
    pub(super) set: &'a S,
    /// Pods that the set owns, without those that it deleted.
    pub(super) pods: &'a [Arc<Facts>],
    /// How many active pods of the same owner (as of all ReplicaSets of one Deployment) each node has.
    pub(super) per_node: &'a HashMap<Box<str>, usize>,
    /// Whether the pods are known to include all that the set created.
    pub(super) fresh: bool,
}

/// What to do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) create: usize,
    pub(super) delete: Vec<Arc<Facts>>,
}

/// A creation or deletion that failed: the reason and message of the condition.
pub(super) type Failure = (&'static str, String);

pub(super) fn plan<S: Replicated>(snapshot: &Snapshot<'_, S>, now: Timestamp) -> Plan {
    let set = snapshot.set;
    if !snapshot.fresh || set.meta().deletion_timestamp.is_some() {
        return Plan::default();
    }
    let active: Vec<&Arc<Facts>> = snapshot.pods.iter().filter(|pod| pod.active()).collect();
    let wanted = replicas(set);
    if active.len() <= wanted {
        return Plan { create: (wanted - active.len()).min(BURST), delete: Vec::new() };
    }
    let surplus = (active.len() - wanted).min(BURST);
    Plan { create: 0, delete: rank::pick(&active, surplus, snapshot.per_node, now) }
}

/// The status that the pods make, given what failed in this pass (or `None` when nothing did).
pub(super) fn status<S: Replicated>(
    set: &S,
    pods: &[Arc<Facts>],
    failure: Option<&Failure>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let labels = set.template().and_then(|template| template.metadata.as_ref()?.labels.as_ref());
    let min_ready = set.min_ready_seconds();
    let active: Vec<&Arc<Facts>> = pods.iter().filter(|pod| pod.active()).collect();
    let count = |pick: &dyn Fn(&Facts) -> bool| active.iter().filter(|pod| pick(pod)).count() as i32;
    let labelled = |pod: &Facts| {
        labels.into_iter().flatten().all(|(key, value)| pod.meta().labels.get(key) == Some(value.as_str()))
    };
    let terminating = pods.iter().filter(|pod| pod.terminating()).count() as i32;
    ReplicaSetStatus {
        replicas: active.len() as i32,
        fully_labeled_replicas: Some(count(&labelled)).filter(|n| *n > 0),
        ready_replicas: Some(count(&Facts::ready)).filter(|n| *n > 0),
        available_replicas: Some(count(&|pod| pod.available(min_ready, now))).filter(|n| *n > 0),
        terminating_replicas: Some(terminating),
        observed_generation: set.meta().generation,
        conditions: conditions(set, failure, now),
    }
}

fn conditions<S: Replicated>(
    set: &S,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = set.conditions();
    let known = conditions.iter().any(|c| c.type_ == "ReplicaFailure");
    match failure {
        None => conditions.retain(|c| c.type_ != "ReplicaFailure"),
        Some(_) if known => {}
        Some((reason, message)) => conditions.push(ReplicaSetCondition {
            type_: "ReplicaFailure".into(),
            status: "True".into(),
            reason: Some((*reason).into()),
            message: Some(message.clone()),
            last_transition_time: Some(Time(now)),
        }),
    }
    Some(conditions).filter(|c| !c.is_empty())
}

/// When a ready pod becomes available next, if one does by time alone.
pub(super) fn look_again<S: Replicated>(set: &S, pods: &[Arc<Facts>], now: Timestamp) -> Option<Duration> {
    let active = pods.iter().filter(|pod| pod.active());
    let moments = active.filter_map(|pod| pod.available_at(set.min_ready_seconds())).filter(|at| *at > now);
    moments.min().map(|at| until(at, now))
}

/// Whether pods have to go.
pub(super) fn has_surplus<S: Replicated>(set: &S, pods: &[Arc<Facts>]) -> bool {
    pods.iter().filter(|pod| pod.active()).count() > replicas(set)
}

fn replicas<S: Replicated>(set: &S) -> usize {
    usize::try_from(set.replicas().unwrap_or(1)).unwrap_or(0)
}
