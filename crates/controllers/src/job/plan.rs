//! What a Job needs next: counts that are never wrong by one, pods to create and delete, and how it ends. Pure.
//!
//! A pod is counted in two steps, so that a crash between them loses and doubles nothing: its uid goes into the status
//! (`uncountedTerminatedPods`), then its finalizer is taken off; once the finalizer is seen to be off, the uid becomes
//! part of the number.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::indexes;
use super::pods::{JobPod, Judgement};
use crate::context::until;

/// Most pods that one pass creates or deletes.
const BURST: usize = 500;
/// First pause after a failed pod; doubles with every further one.
const BACKOFF_FIRST: i64 = 10;
const BACKOFF_MAX: i64 = 600;

/// What to do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) status: JobStatus,
    /// Pods to create: their indexes, or none of a job that is not indexed.
    pub(super) create: Vec<Option<i32>>,
    pub(super) delete: Vec<JobPod>,
    /// Pods whose finalizer goes, once the status is written.
    pub(super) release: Vec<JobPod>,
    /// Kind, reason and message.
    pub(super) events: Vec<(&'static str, String, String)>,
    /// When time alone may change something.
    pub(super) again: Option<Duration>,
}

/// A Job in the middle of a decision.
struct Work<'a> {
    spec: JobSpec,
    pods: &'a [JobPod],
    now: Timestamp,
    status: JobStatus,
    completed: BTreeSet<i32>,
    plan: Plan,
}

pub(super) fn plan(job: &Job, pods: &[JobPod], now: Timestamp) -> Plan {
    let spec = job.spec.clone().unwrap_or_default();
    let status = job.status.clone().unwrap_or_default();
    let completed = status.completed_indexes.as_deref().unwrap_or_default();
    let completed = indexes::parse(completed, spec.completions.unwrap_or(0));
    let mut work = Work { spec, pods, now, status, completed, plan: Plan::default() };
    if is_finished(&work.status) {
        // What is left over is let go.
        work.plan.release = pods.iter().filter(|pod| pod.tracked).cloned().collect();
        return work.done();
    }
    work.start();
    work.count();
    let verdict = work.verdict();
    work.act(verdict.as_ref());
    if let Some(verdict) = verdict {
        work.finish(verdict);
    }
    work.done()
}

pub(super) fn is_finished(status: &JobStatus) -> bool {
    let ends = |c: &JobCondition| ["Complete", "Failed"].contains(&c.type_.as_str()) && c.status == "True";
    status.conditions.iter().flatten().any(ends)
}

/// How a job ends: it has succeeded or failed, for a reason.
#[derive(Clone, Debug)]
struct Verdict {
    success: bool,
    reason: String,
    message: String,
}

impl Work<'_> {
    fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    fn only_ended(&self) -> bool {
        self.spec.pod_replacement_policy.as_deref() == Some("Failed")
            || self.spec.pod_failure_policy.is_some()
    }

    fn condition(&self, kind: &str) -> Option<&JobCondition> {
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

    /// Starts the clock, stops it while the job is suspended.
    fn start(&mut self) {
        if self.is_suspended() {
            if self.set_condition("Suspended", "True", "JobSuspended", "Job suspended") {
                self.status.start_time = None;
                self.tell("Normal", "Suspended", "Job suspended");
            }
            return;
        }
        let was = self.condition("Suspended").is_some_and(|condition| condition.status == "True");
        if was {
            self.set_condition("Suspended", "False", "JobResumed", "Job resumed");
            self.tell("Normal", "Resumed", "Job resumed");
        }
        if was || self.status.start_time.is_none() {
            self.status.start_time = Some(Time(self.now));
        }
    }

    /// Both steps of counting.
    fn count(&mut self) {
        let UncountedTerminatedPods { succeeded, failed } =
            self.status.uncounted_terminated_pods.clone().unwrap_or_default();
        let tracked: HashSet<&str> = self.pods.iter().filter(|pod| pod.tracked).map(JobPod::uid).collect();
        let split = |uids: Vec<String>| -> (Vec<String>, Vec<String>) {
            uids.into_iter().partition(|uid| tracked.contains(uid.as_str()))
        };
        let (mut succeeded, counted) = split(succeeded.unwrap_or_default());
        if !self.is_indexed() {
            add(&mut self.status.succeeded, counted.len());
        }
        let (mut failed, counted) = split(failed.unwrap_or_default());
        add(&mut self.status.failed, counted.len());
        for pod in self.pods.iter().filter(|pod| pod.tracked) {
            let uid = pod.uid().to_owned();
            let known = succeeded.contains(&uid) || failed.contains(&uid);
            if pod.succeeded() {
                match pod.index.filter(|_| self.is_indexed()) {
                    Some(index) => drop(self.completed.insert(index)),
                    None if !known => succeeded.push(uid),
                    None => {}
                }
            } else if pod.failed(self.only_ended()) {
                let ignored = pod.judge(self.spec.pod_failure_policy.as_ref()) == Judgement::Ignore;
                if !known && !ignored {
                    failed.push(uid);
                }
            } else {
                continue;
            }
            self.plan.release.push(pod.clone());
        }
        let some = |uids: Vec<String>| Some(uids).filter(|uids| !uids.is_empty());
        self.status.uncounted_terminated_pods =
            Some(UncountedTerminatedPods { succeeded: some(succeeded), failed: some(failed) });
        if self.is_indexed() {
            let completions = self.spec.completions.unwrap_or(0);
            self.completed.retain(|index| *index < completions);
            self.status.completed_indexes =
                Some(indexes::format(&self.completed)).filter(|text| !text.is_empty());
            self.status.succeeded = Some(self.completed.len() as i32).filter(|n| *n > 0);
        }
    }

    fn uncounted(&self) -> (usize, usize) {
        let uncounted = self.status.uncounted_terminated_pods.as_ref();
        let len = |uids: Option<&Vec<String>>| uids.map_or(0, Vec::len);
        (len(uncounted.and_then(|u| u.succeeded.as_ref())), len(uncounted.and_then(|u| u.failed.as_ref())))
    }

    fn succeeded(&self) -> i32 {
        self.status.succeeded.unwrap_or(0) + self.uncounted().0 as i32
    }

    fn failed(&self) -> i32 {
        self.status.failed.unwrap_or(0) + self.uncounted().1 as i32
    }

    fn active(&self) -> Vec<&JobPod> {
        self.pods.iter().filter(|pod| pod.facts.active()).collect()
    }

    /// Whether the job has come to its end.
    fn verdict(&self) -> Option<Verdict> {
        // Decided before, waiting for the pods to end.
        for (kind, success) in [("FailureTarget", false), ("SuccessCriteriaMet", true)] {
            if let Some(decided) = self.condition(kind).filter(|condition| condition.status == "True") {
                let reason = decided.reason.clone().unwrap_or_default();
                let message = decided.message.clone().unwrap_or_default();
                return Some(Verdict { success, reason, message });
            }
        }
        let verdict = |success, reason: &str, message: &str| {
            Some(Verdict { success, reason: reason.into(), message: message.into() })
        };
        for pod in self.pods.iter().filter(|pod| pod.tracked && pod.failed(true)) {
            if let Judgement::FailJob(message) = pod.judge(self.spec.pod_failure_policy.as_ref()) {
                return verdict(false, "PodFailurePolicy", &message);
            }
        }
        let limit = self.spec.backoff_limit.unwrap_or(6);
        if self.failed() > limit || self.restarted_too_often(limit) {
            let message = "Job has reached the specified backoff limit";
            return verdict(false, "BackoffLimitExceeded", message);
        }
        if self.deadline().is_some_and(|deadline| deadline <= self.now) {
            return verdict(false, "DeadlineExceeded", "Job was active longer than specified deadline");
        }
        let complete = match self.spec.completions {
            Some(completions) => self.succeeded() >= completions,
            None => self.succeeded() > 0 && self.active().is_empty(),
        };
        if complete && !self.is_suspended() {
            return verdict(true, "CompletionsReached", "Reached expected number of succeeded pods");
        }
        None
    }

    /// Pods that restart in place count their restarts.
    fn restarted_too_often(&self, limit: i32) -> bool {
        let policy = self.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        let restarts: i32 = self.active().iter().map(|pod| pod.restarts()).sum();
        policy == Some("OnFailure") && if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    fn deadline(&self) -> Option<Timestamp> {
        let seconds = self.spec.active_deadline_seconds.filter(|_| !self.is_suspended())?;
        self.status.start_time.as_ref()?.0.checked_add(SignedDuration::from_secs(seconds)).ok()
    }

    /// Creates and deletes pods.
    fn act(&mut self, verdict: Option<&Verdict>) {
        let active = self.active();
        let ready = active.iter().filter(|pod| pod.facts.ready()).count() as i32;
        let terminating = self.pods.iter().filter(|pod| pod.facts.terminating()).count() as i32;
        let count = active.len() as i32;
        let wanted = match verdict {
            Some(_) => 0,
            None if self.is_suspended() => 0,
            None => self.wanted(count),
        };
        let mut surplus: Vec<JobPod> = active.into_iter().cloned().collect();
        surplus.sort_by_key(|pod| (pod.facts.ready(), std::cmp::Reverse(pod.facts.meta().created)));
        let mut missing = wanted - count;
        if self.spec.pod_replacement_policy.as_deref() == Some("Failed") {
            missing -= terminating;
        }
        let mut active_now = count;
        if count > wanted {
            surplus.truncate((count - wanted) as usize);
            active_now -= surplus.len() as i32;
            self.plan.delete = surplus;
        } else if missing > 0 {
            self.create(missing as usize);
            active_now += self.plan.create.len() as i32;
        }
        self.status.active = Some(active_now).filter(|n| *n > 0);
        // Of those that are being deleted none counts as ready any more.
        self.status.ready = Some(ready.min(active_now));
        self.status.terminating = Some(terminating + count - active_now.min(count));
    }

    fn wanted(&self, active: i32) -> i32 {
        let parallelism = self.spec.parallelism.unwrap_or(1);
        match self.spec.completions {
            Some(completions) => (completions - self.succeeded()).clamp(0, parallelism),
            // A queue of work: once one pod has succeeded, no new ones come.
            None if self.succeeded() > 0 => active.min(parallelism),
            None => parallelism,
        }
    }

    /// Creates pods, unless failures call for a pause.
    fn create(&mut self, missing: usize) {
        if let Some(pause) = self.pause() {
            self.plan.again = Some(pause);
            return;
        }
        let missing = missing.min(BURST);
        if !self.is_indexed() {
            self.plan.create = vec![None; missing];
            return;
        }
        let busy: BTreeSet<i32> = self.active().iter().filter_map(|pod| pod.index).collect();
        let all = 0..self.spec.completions.unwrap_or(0);
        let free = all.filter(|index| !busy.contains(index) && !self.completed.contains(index));
        self.plan.create = free.take(missing).map(Some).collect();
    }

    /// How long failures since the last success hold back the next pod.
    fn pause(&self) -> Option<Duration> {
        let ends = |pick: &dyn Fn(&&JobPod) -> bool| {
            let pods = self.pods.iter().filter(pick);
            pods.filter_map(JobPod::finished_at).collect::<Vec<_>>()
        };
        let success = ends(&|pod| pod.succeeded()).into_iter().max();
        let failures: Vec<Timestamp> =
            ends(&|pod| pod.failed(false)).into_iter().filter(|at| success.is_none_or(|s| *at > s)).collect();
        let last = failures.iter().max()?;
        let doublings = u32::try_from(failures.len() - 1).unwrap_or(6).min(6);
        let seconds = (BACKOFF_FIRST << doublings).min(BACKOFF_MAX);
        let over = last.checked_add(SignedDuration::from_secs(seconds)).ok()?;
        Some(until(over, self.now)).filter(|left| !left.is_zero())
    }

    /// Ends the job: first says how, then, when the last pod is counted, that it has ended.
    fn finish(&mut self, verdict: Verdict) {
        let Verdict { success, reason, message } = verdict;
        let interim = if success { "SuccessCriteriaMet" } else { "FailureTarget" };
        self.set_condition(interim, "True", &reason, &message);
        let open = self.pods.iter().any(|pod| !pod.facts.ended());
        if open || self.uncounted() != (0, 0) || !self.plan.release.is_empty() {
            return;
        }
        self.set_condition(if success { "Complete" } else { "Failed" }, "True", &reason, &message);
        if success {
            self.status.completion_time = Some(Time(self.now));
            self.tell("Normal", "Completed", "Job completed");
        } else {
            self.tell("Warning", &reason, &message);
        }
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

fn add(count: &mut Option<i32>, more: usize) {
    let total = count.unwrap_or(0) + more as i32;
    *count = Some(total).filter(|n| *n > 0);
}
