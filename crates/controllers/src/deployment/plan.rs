//! What a Deployment needs next. Pure; one step at a time, each leading to the next by the changes it makes.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use tiphys_client::typed::Kind;

use super::view::{REVISION, actual, number, wanted};
use super::work::{Plan, Work};
use super::{scale, status};

/// Decides about a Deployment and the ReplicaSets it owns. `running` tells how many pods of a set (by uid) have not ended,
/// terminating ones included.
pub(super) fn plan(
    deployment: &Deployment,
    sets: Vec<ReplicaSet>,
    running: impl Fn(&str) -> usize,
    now: Timestamp,
) -> Plan {
    let mut work = Work::new(deployment, sets, now);
    if deployment.metadata.deletion_timestamp.is_some() {
        let counts = status::counts(&work);
        return work.finish(counts, None);
    }
    status::note_pause(&mut work);
    let step = if work.numbers.paused || scale::is_scaling(&work) {
        resize
    } else if work.numbers.recreate {
        return recreate(work, running);
    } else {
        roll
    };
    step(work)
}

/// Brings a new size to the sets; nothing is rolled out.
fn resize(mut work: Work<'_>) -> Plan {
    work.sync_revision(false);
    scale::spread(&mut work);
    if work.numbers.paused {
        clean_up(&mut work);
    }
    let counts = status::counts(&work);
    work.finish(counts, None)
}

fn roll(mut work: Work<'_>) -> Plan {
    work.sync_revision(true);
    let changed = scale::roll(&mut work);
    conclude(work, !changed)
}

/// Removes all old pods, waits for their end, then creates the new ones.
fn recreate(mut work: Work<'_>, running: impl Fn(&str) -> usize) -> Plan {
    work.sync_revision(false);
    let scaled_down = scale::empty_old(&mut work);
    if scaled_down || work.old().into_iter().any(|at| running(work.sets[at].uid()) > 0) {
        return conclude(work, false);
    }
    work.sync_revision(true);
    if let Some(new) = work.new {
        let replicas = work.numbers.replicas;
        work.resize(new, replicas);
    }
    conclude(work, true)
}

fn conclude(mut work: Work<'_>, settled: bool) -> Plan {
    let status = status::progress(&work);
    if settled && status::complete(&work, &status) {
        clean_up(&mut work);
    }
    let again = status::look_again(&work, &status);
    work.finish(status, again)
}

/// Forgets the oldest revisions beyond the limit, as far as their sets are empty.
fn clean_up(work: &mut Work<'_>) {
    let Some(limit) = work.numbers.history_limit else { return };
    let alive = |at: &usize| work.sets[*at].metadata.deletion_timestamp.is_none();
    let mut old: Vec<usize> = work.old().into_iter().filter(alive).collect();
    let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    old.sort_by_key(|at| number(&work.sets[*at], REVISION).unwrap_or(0));
    for at in old.into_iter().take(surplus) {
        let set = &work.sets[at];
        let observed = set.status.as_ref().and_then(|status| status.observed_generation);
        if actual(set) == 0 && wanted(set) == 0 && set.metadata.generation <= observed {
            work.deleted.push(set.clone());
        }
    }
}
