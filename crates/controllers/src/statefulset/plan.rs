//! The next step of a StatefulSet: in order of ordinals, or all at once when the policy is parallel. Pure.
//!
//! Law: a pod of an ordinal is made only when there is none; names make sure of it even when a cache is late.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};

use super::identity::{ordinal, range, revision, spec};
use crate::deployment::view::scaled;
use crate::pods::{Facts, Phase};

/// A set, its pods, and the names of its revisions.
pub(super) struct Snapshot<'a> {
    pub(super) set: &'a StatefulSet,
    pub(super) pods: &'a [Arc<Facts>],
    /// What the set comes from; equal to `update` when it has arrived.
    pub(super) current: &'a str,
    /// What the set goes to.
    pub(super) update: &'a str,
    /// Ordinals that must wait until old claims are gone.
    pub(super) stale: &'a BTreeSet<i32>,
    pub(super) now: Timestamp,
}

/// What to do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Ordinals to create, and whether from the new revision.
    pub(super) create: Vec<(i32, bool)>,
    pub(super) delete: Vec<Arc<Facts>>,
    /// Pods that have ended, to be deleted so that new ones take their places.
    pub(super) recreate: Vec<Arc<Facts>>,
}

/// The set in numbers and places.
struct View<'a> {
    snapshot: &'a Snapshot<'a>,
    /// Pods by wanted ordinal.
    replicas: BTreeMap<i32, Option<&'a Arc<Facts>>>,
    /// Pods beyond, highest first.
    condemned: Vec<&'a Arc<Facts>>,
    parallel: bool,
    min_ready: i32,
}

impl<'a> View<'a> {
    fn of(snapshot: &'a Snapshot<'a>) -> Self {
        let spec = spec(snapshot.set);
        let mut replicas: BTreeMap<i32, Option<&Arc<Facts>>> =
            range(snapshot.set).map(|at| (at, None)).collect();
        let mut condemned = Vec::new();
        for pod in snapshot.pods {
            match ordinal(snapshot.set, pod) {
                Some(at) if replicas.contains_key(&at) => drop(replicas.insert(at, Some(pod))),
                Some(at) => condemned.push((at, pod)),
                None => {}
            }
        }
        condemned.sort_by_key(|(at, _)| -at);
        Self {
            snapshot,
            replicas,
            condemned: condemned.into_iter().map(|(_, pod)| pod).collect(),
            parallel: spec.pod_management_policy.as_deref() == Some("Parallel"),
            min_ready: spec.min_ready_seconds.unwrap_or(0),
        }
    }

    fn available(&self, pod: &Facts) -> bool {
        pod.phase == Phase::Running && pod.available(self.min_ready, self.snapshot.now)
    }

    /// Whether a pod is there, runs, is available, and is not on its way out.
    fn healthy(&self, pod: &Facts) -> bool {
        self.available(pod) && !pod.deleting()
    }
}

pub(super) fn plan(snapshot: &Snapshot<'_>) -> Plan {
    let mut plan = Plan::default();
    if snapshot.set.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let view = View::of(snapshot);
    let waits = grow(&view, &mut plan);
    if waits && !view.parallel {
        return plan;
    }
    let waits = shrink(&view, &mut plan);
    if waits && !view.parallel {
        return plan;
    }
    if plan.create.is_empty() && plan.delete.is_empty() && plan.recreate.is_empty() {
        update(&view, &mut plan);
    }
    plan
}

/// Makes what is missing. Returns whether something must be waited for.
fn grow(view: &View<'_>, plan: &mut Plan) -> bool {
    let mut waits = false;
    for (at, pod) in &view.replicas {
        let settled = match pod {
            None if view.snapshot.stale.contains(at) => false,
            None => {
                plan.create.push((*at, is_new(view, *at)));
                false
            }
            Some(pod) if pod.ended() && !pod.deleting() => {
                plan.recreate.push((*pod).clone());
                false
            }
            Some(pod) => view.healthy(pod),
        };
        waits |= !settled;
        if waits && !view.parallel {
            return true;
        }
    }
    waits
}

/// Whether a new pod of an ordinal is of the new revision: those below the partition stay with the old one.
fn is_new(view: &View<'_>, at: i32) -> bool {
    let strategy = spec(view.snapshot.set).update_strategy.unwrap_or_default();
    if strategy.type_.as_deref() == Some("OnDelete") {
        return true;
    }
    at >= range(view.snapshot.set).start
        + strategy.rolling_update.and_then(|rolling| rolling.partition).unwrap_or(0)
}

/// Takes away what is beyond, from the highest ordinal. Returns whether something must be waited for. In order, a pod that is
/// not available stops it, unless it is the lowest such one: then nothing is gained by waiting.
fn shrink(view: &View<'_>, plan: &mut Plan) -> bool {
    let lowest = view.condemned.iter().rev().find(|pod| !view.healthy(pod));
    let blocks = |pod: &Facts| {
        !view.available(pod) && lowest.is_some_and(|lowest| lowest.meta().uid != pod.meta().uid)
    };
    for pod in &view.condemned {
        if !view.parallel && (pod.deleting() || blocks(pod)) {
            return true;
        }
        if pod.deleting() {
            continue;
        }
        plan.delete.push((*pod).clone());
        if !view.parallel {
            return true;
        }
    }
    !view.condemned.is_empty()
}

/// Replaces pods of other revisions, from the highest ordinal, as many as may be unavailable.
fn update(view: &View<'_>, plan: &mut Plan) {
    let spec = spec(view.snapshot.set);
    let strategy = spec.update_strategy.unwrap_or_default();
    if strategy.type_.as_deref() == Some("OnDelete") {
        return;
    }
    let rolling = strategy.rolling_update.unwrap_or_default();
    let replicas = i32::try_from(view.replicas.len()).unwrap_or(i32::MAX);
    let limit = rolling.max_unavailable.map_or(1, |limit| scaled(&limit, replicas, true).max(1));
    let unhealthy = view.replicas.values().filter(|pod| !pod.is_some_and(|pod| view.healthy(pod))).count();
    let mut room = limit - i32::try_from(unhealthy).unwrap_or(i32::MAX);
    for (at, pod) in view.replicas.iter().rev().filter(|(at, _)| is_new(view, **at)) {
        let Some(pod) = pod else { continue };
        if revision(pod) == view.snapshot.update || pod.deleting() {
            continue;
        }
        // One that is not available takes nothing away by going.
        let free = !view.healthy(pod);
        if !free && room <= 0 {
            tracing::trace!(ordinal = at, "waits for its turn");
            return;
        }
        room -= i32::from(!free);
        plan.delete.push((*pod).clone());
        if limit == 1 {
            return;
        }
    }
}

/// The status, and whether the set has arrived at its new revision.
pub(super) fn status(snapshot: &Snapshot<'_>, collisions: Option<i32>) -> StatefulSetStatus {
    let view = View::of(snapshot);
    let pods: Vec<&Arc<Facts>> =
        view.replicas.values().flatten().copied().chain(view.condemned.iter().copied()).collect();
    let count = |pick: &dyn Fn(&&&Arc<Facts>) -> bool| pods.iter().filter(pick).count() as i32;
    let of = |name: &str| count(&|pod| !pod.deleting() && revision(pod) == name);
    let mut status = StatefulSetStatus {
        replicas: pods.len() as i32,
        ready_replicas: Some(count(&|pod| pod.phase == Phase::Running && pod.ready())).filter(|n| *n > 0),
        available_replicas: Some(count(&|pod| view.available(pod))),
        current_replicas: Some(of(snapshot.current)).filter(|n| *n > 0),
        updated_replicas: Some(of(snapshot.update)).filter(|n| *n > 0),
        current_revision: Some(snapshot.current.to_owned()),
        update_revision: Some(snapshot.update.to_owned()),
        collision_count: Some(collisions.unwrap_or(0)),
        observed_generation: snapshot.set.metadata.generation,
        conditions: snapshot.set.status.as_ref().and_then(|status| status.conditions.clone()),
    };
    let on_delete = spec(snapshot.set).update_strategy.and_then(|s| s.type_).as_deref() == Some("OnDelete");
    // Of those that are wanted: while one is missing, what is there does not speak for it.
    let wanted = view.replicas.len() as i32;
    let all = Some(wanted).filter(|n| *n > 0);
    let arrived = status.updated_replicas == all && status.ready_replicas == all && status.replicas == wanted;
    if !on_delete && arrived {
        status.current_revision.clone_from(&status.update_revision);
        status.current_replicas = status.updated_replicas;
    }
    status
}
