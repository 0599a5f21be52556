//! A Deployment's status: counts, and the conditions Available, Progressing and ReplicaFailure as Kubernetes words them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tiphys_client::typed::Kind;

use super::view::{actual, available, ready, wanted};
use super::work::Work;
use crate::context::until;

const PROGRESSING: &str = "Progressing";
const FAILURE: &str = "ReplicaFailure";
const DONE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

fn condition(kind: &str, status: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == kind)
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|c| c.type_ != kind);
    }
    status.conditions = status.conditions.take().filter(|conditions| !conditions.is_empty());
}

/// Sets a condition. The same status for the same reason is no change; the same status keeps its transition time.
fn set(status: &mut DeploymentStatus, mut new: DeploymentCondition) {
    if let Some(old) = find(status, &new.type_) {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        if old.status == new.status {
            new.last_transition_time.clone_from(&old.last_transition_time);
        }
    }
    remove(status, &new.type_);
    status.conditions.get_or_insert_default().push(new);
}

/// The newest set existed already.
pub(super) fn found(work: &mut Work<'_>) {
    if work.numbers.progress_deadline.is_some() && find(&work.status, PROGRESSING).is_none() {
        let message = format!("Found new replica set {:?}", new_name(work).unwrap_or_default());
        set(&mut work.status, condition(PROGRESSING, "True", "FoundNewReplicaSet", message, work.now));
    }
}

/// The newest set will be created.
pub(super) fn created(work: &mut Work<'_>) {
    if work.numbers.progress_deadline.is_some() {
        let message = format!("Created new replica set {:?}", new_name(work).unwrap_or_default());
        set(&mut work.status, condition(PROGRESSING, "True", "NewReplicaSetCreated", message, work.now));
    }
}

/// Creating the newest set failed.
pub(super) fn create_failed(status: &mut DeploymentStatus, name: &str, why: &str, now: Timestamp) {
    let message = format!("Failed to create new replica set {name:?}: {why}");
    set(status, condition(PROGRESSING, "False", "ReplicaSetCreateError", message, now));
}

/// Notes that the Deployment was paused or goes on: its deadline does not run meanwhile.
pub(super) fn note_pause(work: &mut Work<'_>) {
    let reason = find(&work.status, PROGRESSING).and_then(|c| c.reason.as_deref());
    if work.numbers.progress_deadline.is_none() || reason == Some(TIMED_OUT) {
        return;
    }
    let (reason, message) = match (work.numbers.paused, reason == Some(PAUSED)) {
        (true, false) => (PAUSED, "Deployment is paused"),
        (false, true) => ("DeploymentResumed", "Deployment is resumed"),
        _ => return,
    };
    set(&mut work.status, condition(PROGRESSING, "Unknown", reason, message.into(), work.now));
}

fn new_name<'w>(work: &'w Work<'_>) -> Option<&'w str> {
    work.new.map(|at| work.sets[at].name())
}

/// Counts and availability, with the conditions as they are.
pub(super) fn counts(work: &Work<'_>) -> DeploymentStatus {
    let sum = |of: fn(&ReplicaSet) -> i32| work.sets.iter().map(of).sum::<i32>();
    let some = |count: i32| Some(count).filter(|n| *n != 0);
    let terminating: Vec<i32> =
        work.sets.iter().filter_map(|set| set.status.as_ref()?.terminating_replicas).collect();
    let mut status = DeploymentStatus {
        replicas: some(sum(actual)),
        updated_replicas: some(work.new.map_or(0, |at| actual(&work.sets[at]))),
        ready_replicas: some(sum(ready)),
        available_replicas: some(sum(available)),
        unavailable_replicas: some((sum(wanted) - sum(available)).max(0)),
        terminating_replicas: Some(terminating.iter().sum()),
        observed_generation: work.deployment.metadata.generation,
        collision_count: work.status.collision_count,
        conditions: work.status.conditions.clone(),
    };
    let enough = sum(available) >= work.numbers.replicas - work.numbers.max_unavailable;
    let (is, reason, message) = match enough {
        true => ("True", "MinimumReplicasAvailable", "Deployment has minimum availability."),
        false => ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."),
    };
    set(&mut status, condition("Available", is, reason, message.into(), work.now));
    status
}

/// Counts, and how the rollout is getting on.
pub(super) fn progress(work: &Work<'_>) -> DeploymentStatus {
    let mut status = counts(work);
    let Some(deadline) = work.numbers.progress_deadline else {
        remove(&mut status, PROGRESSING);
        note_failures(work, &mut status);
        return status;
    };
    let current = find(&work.status, PROGRESSING).cloned();
    let was_done = current.as_ref().is_some_and(|c| c.reason.as_deref() == Some(DONE));
    if !(was_done && status.replicas == status.updated_replicas) {
        if complete(work, &status) {
            set(
                &mut status,
                condition(PROGRESSING, "True", DONE, about(work, "has successfully progressed."), work.now),
            );
        } else if progressing(work, &status) {
            let message = about(work, "is progressing.");
            let mut new = condition(PROGRESSING, "True", "ReplicaSetUpdated", message, work.now);
            if let Some(current) = current.filter(|c| c.status == "True") {
                new.last_transition_time = current.last_transition_time;
            }
            // Even for the same reason: the deadline counts from the last progress.
            remove(&mut status, PROGRESSING);
            set(&mut status, new);
        } else if timed_out(&status, deadline, work.now) {
            set(
                &mut status,
                condition(
                    PROGRESSING,
                    "False",
                    TIMED_OUT,
                    about(work, "has timed out progressing."),
                    work.now,
                ),
            );
        }
    }
    note_failures(work, &mut status);
    status
}

fn about(work: &Work<'_>, what: &str) -> String {
    match new_name(work) {
        Some(name) => format!("ReplicaSet {name:?} {what}"),
        None => format!("Deployment {:?} {what}", work.deployment.name()),
    }
}

/// Whether all pods are of the newest set and available.
pub(super) fn complete(work: &Work<'_>, status: &DeploymentStatus) -> bool {
    let all = work.numbers.replicas;
    [status.updated_replicas, status.replicas, status.available_replicas]
        .iter()
        .all(|count| count.unwrap_or(0) == all)
}

fn progressing(work: &Work<'_>, status: &DeploymentStatus) -> bool {
    let none = DeploymentStatus::default();
    let before = work.deployment.status.as_ref().unwrap_or(&none);
    let grew = |of: fn(&DeploymentStatus) -> Option<i32>| of(status).unwrap_or(0) > of(before).unwrap_or(0);
    let old = |status: &DeploymentStatus| status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0);
    grew(|s| s.updated_replicas)
        || old(status) < old(before)
        || grew(|s| s.ready_replicas)
        || grew(|s| s.available_replicas)
}

fn timed_out(status: &DeploymentStatus, deadline: i32, now: Timestamp) -> bool {
    expiry(status, deadline).is_some_and(|at| at < now)
}

/// When a rollout that makes no progress will have failed.
fn expiry(status: &DeploymentStatus, deadline: i32) -> Option<Timestamp> {
    let condition = find(status, PROGRESSING)?;
    if matches!(condition.reason.as_deref(), Some(DONE | TIMED_OUT)) {
        return None;
    }
    condition.last_update_time.as_ref()?.0.checked_add(SignedDuration::from_secs(deadline.into())).ok()
}

/// When to look again because the deadline may have passed.
pub(super) fn look_again(work: &Work<'_>, status: &DeploymentStatus) -> Option<Duration> {
    let at = expiry(status, work.numbers.progress_deadline?)?;
    let waiting = !work.numbers.paused && !complete(work, status);
    waiting.then(|| until(at, work.now) + Duration::from_secs(1))
}

/// Takes over a set's failure to make pods: the newest's, else any.
fn note_failures(work: &Work<'_>, status: &mut DeploymentStatus) {
    let failure = |set: &ReplicaSet| {
        set.status.as_ref()?.conditions.iter().flatten().find(|c| c.type_ == FAILURE).cloned()
    };
    let new = work.new.and_then(|at| failure(&work.sets[at]));
    let Some(theirs) = new.or_else(|| work.sets.iter().find_map(failure)) else {
        remove(status, FAILURE);
        return;
    };
    let ours = DeploymentCondition {
        type_: theirs.type_,
        status: theirs.status,
        reason: theirs.reason,
        message: theirs.message,
        last_update_time: theirs.last_transition_time.clone(),
        last_transition_time: theirs.last_transition_time,
    };
    set(status, ours);
}
