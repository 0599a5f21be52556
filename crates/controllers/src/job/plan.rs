//! What a Job needs next: counts that are never wrong by one, pods to create and delete, and how it ends. Pure.
//!
//! - [`super::count`] counts, [`super::verdict`] tells how the Job ends, [`super::per_index`] keeps the indexes of a Job with
//!   a limit of failures for each; this file puts them together and decides about pods.
//! - What ends the Job is told first (`FailureTarget`, `SuccessCriteriaMet`); that it has ended, once nothing runs and
//!   everything is counted.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::indexes;
use super::per_index::PerIndex;
use super::pods::JobPod;
use super::verdict::Verdict;
use crate::context::until;
use crate::pods::Facts;
use crate::replicaset::rank;

/// Most pods that one pass creates, deletes or counts.
pub(super) const BURST: usize = 500;
/// First pause after a failed pod; doubles with every further one.
const BACKOFF_FIRST: i64 = 10;
const BACKOFF_MAX: i64 = 600;

/// What to do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// `active` does not hold what is created yet.
    pub(super) status: JobStatus,
    pub(super) create: Vec<NewPod>,
    pub(super) delete: Vec<Arc<Facts>>,
    /// Pods whose finalizer goes, once the status is written.
    pub(super) release: Vec<JobPod>,
    /// Kind, reason and message.
    pub(super) events: Vec<(&'static str, String, String)>,
    /// When time alone may change something.
    pub(super) again: Option<Duration>,
}

/// A pod to create.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NewPod {
    /// None of a Job that is not indexed.
    pub(super) index: Option<i32>,
    /// Failures of its index before, of a Job with a limit for each index: those that count, and those ignored.
    pub(super) before: Option<(i32, i32)>,
}

/// A Job in the middle of a decision.
pub(super) struct Work<'a> {
    pub(super) spec: JobSpec,
    pub(super) pods: &'a [JobPod],
    pub(super) now: Timestamp,
    pub(super) status: JobStatus,
    /// Indexes that have succeeded, those that no status tells yet included.
    pub(super) completed: BTreeSet<i32>,
    /// Of a Job with a limit of failures for each index.
    pub(super) per_index: Option<PerIndex>,
    pub(super) plan: Plan,
}

pub(super) fn plan(job: &Job, pods: &[JobPod], now: Timestamp) -> Plan {
    let mut work = Work::new(job, pods, now);
    if is_finished(&work.status) {
        // What is left over is let go.
        work.plan.release = pods.iter().filter(|pod| pod.tracked).cloned().collect();
        return work.done();
    }
    if !work.is_suspended() && work.status.start_time.is_none() {
        work.status.start_time = Some(Time(now));
    }
    work.settle();
    work.tally();
    let verdict = work.verdict();
    work.count(verdict.as_ref());
    match verdict {
        Some(verdict) => work.end(&verdict),
        None => {
            work.note_suspension();
            let wanted = if work.is_suspended() { 0 } else { work.wanted() };
            work.size(wanted);
        }
    }
    work.done()
}

pub(super) fn is_finished(status: &JobStatus) -> bool {
    let ends = |c: &JobCondition| ["Complete", "Failed"].contains(&c.type_.as_str()) && c.status == "True";
    status.conditions.iter().flatten().any(ends)
}

impl<'a> Work<'a> {
    fn new(job: &Job, pods: &'a [JobPod], now: Timestamp) -> Self {
        let spec = job.spec.clone().unwrap_or_default();
        let status = job.status.clone().unwrap_or_default();
        let completed = status.completed_indexes.as_deref().unwrap_or_default();
        let completed = indexes::parse(completed, spec.completions.unwrap_or(0));
        let mut work = Self { spec, pods, now, status, completed, per_index: None, plan: Plan::default() };
        work.per_index = PerIndex::of(&work);
        work
    }

    pub(super) fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    /// Whether a pod on its way out counts only when it has ended.
    pub(super) fn only_ended(&self) -> bool {
        self.spec.pod_replacement_policy.as_deref() == Some("Failed")
            || self.spec.pod_failure_policy.is_some()
    }

    /// A pod's index, if it is one of the Job's.
    pub(super) fn index(&self, pod: &JobPod) -> Option<i32> {
        pod.index.filter(|index| (0..self.spec.completions.unwrap_or(0)).contains(index))
    }

    pub(super) fn active(&self) -> impl Iterator<Item = &'a JobPod> {
        self.pods.iter().filter(|pod| pod.facts.active())
    }

    fn terminating(&self) -> impl Iterator<Item = &'a JobPod> {
        self.pods.iter().filter(|pod| pod.facts.terminating())
    }

    pub(super) fn condition(&self, kind: &str) -> Option<&JobCondition> {
        self.status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
    }

    fn set_condition(&mut self, kind: &str, status: &str, reason: &str, message: &str) -> bool {
        if self.condition(kind).is_some_and(|c| c.status == status && c.reason.as_deref() == Some(reason)) {
            return false;
        }
        let time = Some(Time(self.now));
        let conditions = self.status.conditions.get_or_insert_default();
        conditions.retain(|condition| condition.type_ != kind);
        conditions.push(JobCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_probe_time: time.clone(),
            last_transition_time: time,
        });
        true
    }

    fn tell(&mut self, kind: &'static str, reason: &str, message: &str) {
        self.plan.events.push((kind, reason.into(), message.into()));
    }

    /// Stops the clock while the Job is suspended, and starts it anew when it goes on.
    fn note_suspension(&mut self) {
        if self.is_suspended() {
            if self.set_condition("Suspended", "True", "JobSuspended", "Job suspended") {
                self.status.start_time = None;
                self.tell("Normal", "Suspended", "Job suspended");
            }
        } else if self.condition("Suspended").is_some_and(|condition| condition.status == "True") {
            self.set_condition("Suspended", "False", "JobResumed", "Job resumed");
            self.status.start_time = Some(Time(self.now));
            self.tell("Normal", "Resumed", "Job resumed");
        }
    }

    /// How many pods are to run.
    fn wanted(&self) -> usize {
        let parallelism = self.spec.parallelism.unwrap_or(1).max(0);
        let wanted = match self.spec.completions {
            Some(completions) => {
                let failed = self.per_index.as_ref().map_or(0, |indexes| indexes.failed.len() as i32);
                (completions - self.succeeded() - failed).clamp(0, parallelism)
            }
            // A queue of work: once one pod has succeeded, no new ones come, and those there work on.
            None if self.succeeded() > 0 => return self.active().count(),
            None => parallelism,
        };
        usize::try_from(wanted).unwrap_or(0)
    }

    /// Brings the number of running pods to what is wanted.
    fn size(&mut self, wanted: usize) {
        let strays = self.strays();
        let stray = |pod: &&JobPod| strays.iter().any(|stray| stray.meta().uid == pod.facts.meta().uid);
        let kept: Vec<&Arc<Facts>> = self.active().filter(|pod| !stray(pod)).map(|pod| &pod.facts).collect();
        let surplus = kept.len().saturating_sub(wanted);
        let mut missing = wanted.saturating_sub(kept.len() + strays.len());
        if self.only_ended() {
            missing = missing.saturating_sub(self.terminating().count());
        }
        let mut delete = rank::pick(&kept, surplus, &HashMap::new(), self.now);
        delete.extend(strays);
        delete.truncate(BURST);
        self.plan.delete = delete;
        if missing > 0 && surplus == 0 {
            self.create(missing);
        }
        self.note_pods();
    }

    /// Running pods that no index needs: without one, of one that is not the Job's, or beside another of the same.
    fn strays(&self) -> Vec<Arc<Facts>> {
        if !self.is_indexed() {
            return Vec::new();
        }
        let indexes: HashMap<&str, i32> =
            self.active().filter_map(|pod| Some((pod.uid(), self.index(pod)?))).collect();
        let mut ranked: Vec<&Arc<Facts>> = self.active().map(|pod| &pod.facts).collect();
        rank::sort(&mut ranked, &HashMap::new(), self.now);
        // The most valuable of an index comes last and stays.
        let mut seen = HashSet::new();
        let needless = ranked
            .into_iter()
            .rev()
            .filter(|pod| indexes.get(pod.meta().uid.as_ref()).is_none_or(|index| !seen.insert(*index)));
        needless.cloned().collect()
    }

    /// Counts of running pods, as they are once the decisions are carried out; what is created is not among them.
    fn note_pods(&mut self) {
        let deleted = self.plan.delete.len();
        let gone: HashSet<&str> = self.plan.delete.iter().map(|pod| pod.meta().uid.as_ref()).collect();
        let stays = self.active().filter(|pod| !gone.contains(pod.uid()));
        let ready = stays.filter(|pod| pod.facts.ready()).count();
        let active = self.active().count() - deleted;
        self.status.active = Some(active as i32).filter(|n| *n > 0);
        self.status.ready = Some(ready as i32);
        self.status.terminating = Some((self.terminating().count() + deleted) as i32);
    }

    /// Creates pods, unless failures call for a pause.
    fn create(&mut self, missing: usize) {
        let missing = missing.min(BURST);
        if let Some(indexes) = &self.per_index {
            let (create, again) = indexes.create(self, &self.free(), missing);
            (self.plan.create, self.plan.again) = (create, again);
            return;
        }
        if let Some(pause) = self.pause() {
            self.plan.again = Some(pause);
            return;
        }
        if self.is_indexed() {
            let free = self.free().into_iter().take(missing);
            self.plan.create = free.map(|at| NewPod { index: Some(at), before: None }).collect();
        } else {
            self.plan.create = vec![NewPod::default(); missing];
        }
    }

    /// The indexes that need a pod, lowest first.
    fn free(&self) -> Vec<i32> {
        let mut busy: HashSet<i32> = self.active().filter_map(|pod| pod.index).collect();
        if self.only_ended() {
            busy.extend(self.terminating().filter_map(|pod| pod.index));
        }
        let failed =
            |index: &i32| self.per_index.as_ref().is_some_and(|indexes| indexes.failed.contains(index));
        let all = 0..self.spec.completions.unwrap_or(0);
        all.filter(|at| !busy.contains(at) && !self.completed.contains(at) && !failed(at)).collect()
    }

    /// How long failures since the last success hold back the next pod.
    fn pause(&self) -> Option<Duration> {
        let ends = |pick: &dyn Fn(&&JobPod) -> bool| {
            let pods = self.pods.iter().filter(pick);
            pods.filter_map(JobPod::finished_at).collect::<Vec<_>>()
        };
        let success = ends(&|pod| pod.succeeded()).into_iter().max();
        let failed = ends(&|pod| pod.failed(self.only_ended()));
        let failures: Vec<Timestamp> =
            failed.into_iter().filter(|at| success.is_none_or(|success| *at > success)).collect();
        let last = failures.iter().max()?;
        pause(failures.len(), *last, self.now)
    }

    /// Ends the Job: first says how, then, when the last pod is gone and counted, that it has ended.
    fn end(&mut self, verdict: &Verdict) {
        let Verdict { success, reason, message } = verdict;
        let interim = if *success { "SuccessCriteriaMet" } else { "FailureTarget" };
        self.set_condition(interim, "True", reason, message);
        // A pod is deleted once it is let go, so that its end is not counted as one of its own doing.
        let released: HashSet<&str> = self.plan.release.iter().map(JobPod::uid).collect();
        let free = |pod: &&JobPod| !pod.tracked || released.contains(pod.uid());
        let delete: Vec<_> = self.active().filter(free).map(|pod| pod.facts.clone()).collect();
        self.plan.delete = delete;
        self.note_pods();
        let open = self.pods.iter().any(|pod| !pod.facts.ended() || pod.tracked);
        if open || self.uncounted() != (0, 0) {
            return;
        }
        self.set_condition(if *success { "Complete" } else { "Failed" }, "True", reason, message);
        if !success {
            return self.tell("Warning", reason, message);
        }
        self.status.completion_time = Some(Time(self.now));
        if self.spec.completions.is_some_and(|wanted| self.status.succeeded > Some(wanted)) {
            let message = "Too many succeeded pods after completion count reached";
            self.tell("Warning", "TooManySucceededPods", message);
        }
        self.tell("Normal", "Completed", "Job completed");
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let seconds = self.spec.active_deadline_seconds.filter(|_| !self.is_suspended())?;
        self.status.start_time.as_ref()?.0.checked_add(SignedDuration::from_secs(seconds)).ok()
    }

    fn done(mut self) -> Plan {
        let deadline = self.deadline().map(|deadline| until(deadline, self.now));
        if !is_finished(&self.status) {
            self.plan.again = self.plan.again.into_iter().chain(deadline).min();
        }
        self.plan.status = self.status;
        self.plan
    }
}

/// What is left of the pause that so many failures call for, the last at this time; `None` if nothing.
pub(super) fn pause(failures: usize, last: Timestamp, now: Timestamp) -> Option<Duration> {
    let doublings = u32::try_from(failures.checked_sub(1)?).unwrap_or(6).min(6);
    let seconds = (BACKOFF_FIRST << doublings).min(BACKOFF_MAX);
    let over = last.checked_add(SignedDuration::from_secs(seconds)).ok()?;
    Some(until(over, now)).filter(|left| !left.is_zero())
}
