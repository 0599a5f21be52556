//! A Deployment in the middle of a decision: its sets as they will be once the decisions so far are carried out.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use tiphys_client::typed::Kind;

use super::revision;
use super::status;
use super::view::{Numbers, REVISION, annotation, available, wanted};

/// A set to write, and what to tell once it is written.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) set: ReplicaSet,
    pub(super) event: Option<String>,
}

/// The decisions.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) create: Option<Change>,
    pub(super) update: Vec<Change>,
    pub(super) delete: Vec<ReplicaSet>,
    /// The revision to note on the Deployment.
    pub(super) revision: Option<String>,
    pub(super) status: DeploymentStatus,
    /// When time alone may change something.
    pub(super) again: Option<std::time::Duration>,
}

pub(super) struct Work<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) numbers: Numbers,
    /// In order of creation; the newest revision's is at `new`.
    pub(super) sets: Vec<ReplicaSet>,
    pub(super) new: Option<usize>,
    /// Conditions and collision count go on from here.
    pub(super) status: DeploymentStatus,
    pub(super) now: Timestamp,
    changed: Vec<(bool, Option<String>)>,
    created: bool,
    pub(super) deleted: Vec<ReplicaSet>,
}

impl<'a> Work<'a> {
    pub(super) fn new(deployment: &'a Deployment, mut sets: Vec<ReplicaSet>, now: Timestamp) -> Self {
        sets.sort_by(|a, b| {
            let created = |set: &ReplicaSet| set.metadata.creation_timestamp.clone();
            created(a).cmp(&created(b)).then_with(|| a.name().cmp(b.name()))
        });
        Self {
            deployment,
            numbers: Numbers::of(deployment),
            changed: vec![(false, None); sets.len()],
            new: revision::find_new(deployment, &sets),
            sets,
            status: deployment.status.clone().unwrap_or_default(),
            now,
            created: false,
            deleted: Vec::new(),
        }
    }

    /// Places of the sets of old revisions.
    pub(super) fn old(&self) -> Vec<usize> {
        (0..self.sets.len()).filter(|at| Some(*at) != self.new).collect()
    }

    pub(super) fn total_wanted(&self) -> i32 {
        self.sets.iter().map(wanted).sum()
    }

    /// Available pods that stay so: a set that was made smaller, but has not acted on it yet, still shows more.
    pub(super) fn total_available(&self) -> i32 {
        self.sets.iter().map(|set| available(set).min(wanted(set))).sum()
    }

    /// Brings the newest set's revision and annotations up to date, and creates it if there is none and that is wanted.
    pub(super) fn sync_revision(&mut self, create: bool) {
        let next = revision::highest(self.old().into_iter().map(|at| &self.sets[at])) + 1;
        if let Some(at) = self.new {
            let set = &mut self.sets[at];
            let mut changed = revision::annotate(self.deployment, set, next, true);
            let spec = set.spec.get_or_insert_default();
            if spec.min_ready_seconds.unwrap_or(0) != self.numbers.min_ready_seconds {
                spec.min_ready_seconds = Some(self.numbers.min_ready_seconds);
                changed = true;
            }
            self.changed[at].0 |= changed;
            status::found(self);
            return;
        }
        if create {
            self.create(next);
        }
    }

    fn create(&mut self, revision: i64) {
        let set = revision::new_set(self.deployment, &self.numbers, revision);
        let at = self.sets.len();
        let message = format!("Scaled up replica set {} from 0 to", set.name());
        self.sets.push(set);
        self.changed.push((false, None));
        self.new = Some(at);
        self.created = true;
        let replicas = super::scale::new_size(self, at);
        self.sets[at].spec.get_or_insert_default().replicas = Some(replicas);
        if replicas > 0 {
            self.changed[at].1 = Some(format!("{message} {replicas}"));
        }
        status::created(self);
    }

    /// Gives a set a size. Returns whether it had another.
    pub(super) fn resize(&mut self, at: usize, replicas: i32) -> bool {
        let before = wanted(&self.sets[at]);
        if before == replicas {
            return false;
        }
        self.resize_and_annotate(at, replicas);
        true
    }

    /// As [`Self::resize`], and notes the Deployment's size even when the set's stays.
    pub(super) fn resize_and_annotate(&mut self, at: usize, replicas: i32) {
        let set = &mut self.sets[at];
        let before = wanted(set);
        self.changed[at].0 |= revision::annotate_replicas(set, &self.numbers);
        if before == replicas {
            return;
        }
        set.spec.get_or_insert_default().replicas = Some(replicas);
        let direction = if before < replicas { "up" } else { "down" };
        let name = set.name();
        let message = format!("Scaled {direction} replica set {name} from {before} to {replicas}");
        self.changed[at] = (true, Some(message));
    }

    /// Ends the decision.
    pub(super) fn finish(self, status: DeploymentStatus, again: Option<std::time::Duration>) -> Plan {
        let mut plan = Plan { status, again, delete: self.deleted, ..Plan::default() };
        let noted = self.deployment.metadata.annotations.as_ref().and_then(|a| a.get(REVISION));
        let revision = self.new.and_then(|at| annotation(&self.sets[at], REVISION)).map(str::to_owned);
        plan.revision = revision.filter(|revision| Some(revision) != noted);
        for (at, (set, (changed, event))) in self.sets.into_iter().zip(self.changed).enumerate() {
            if self.created && Some(at) == self.new {
                plan.create = Some(Change { set, event });
            } else if changed {
                plan.update.push(Change { set, event });
            }
        }
        plan
    }
}
