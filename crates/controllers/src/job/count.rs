//! Counting a Job's pods: each exactly once, whatever is lost or repeated in between. Pure.
//!
//! A pod is counted in two steps, so that a crash between them loses and doubles nothing: its uid goes into the status
//! (`uncountedTerminatedPods`), then its finalizer is taken off; once the finalizer is seen to be off, the uid becomes
//! part of the number. Of an indexed Job, the index is enough for a success.

use std::collections::HashSet;

use k8s_openapi::api::batch::v1::UncountedTerminatedPods;

use super::indexes;
use super::plan::{BURST, Work};
use super::pods::{JobPod, Judgement};
use super::verdict::Verdict;

/// How a pod ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Succeeded,
    Failed,
    /// It failed, and a policy says that this does not count.
    Ignored,
}

impl Work<'_> {
    /// The second step: what was let go becomes part of the numbers.
    pub(super) fn settle(&mut self) {
        let uncounted = self.status.uncounted_terminated_pods.take().unwrap_or_default();
        let tracked: HashSet<&str> = self.pods.iter().filter(|pod| pod.tracked).map(JobPod::uid).collect();
        let split = |uids: Option<Vec<String>>| -> (Vec<String>, Vec<String>) {
            uids.into_iter().flatten().partition(|uid| tracked.contains(uid.as_str()))
        };
        let (succeeded, counted) = split(uncounted.succeeded);
        if !self.is_indexed() {
            add(&mut self.status.succeeded, counted.len());
        }
        let (failed, counted) = split(uncounted.failed);
        add(&mut self.status.failed, counted.len());
        self.status.uncounted_terminated_pods =
            Some(UncountedTerminatedPods { succeeded: some(succeeded), failed: some(failed) });
    }

    /// Takes note of the indexes that have come to their end.
    pub(super) fn tally(&mut self) {
        if !self.is_indexed() {
            return;
        }
        // One that counted as failed while it was on its way out stays so, even if it succeeded in the end.
        let known = self.known();
        let new = |pod: &&JobPod| pod.tracked && pod.succeeded() && !known.contains(pod.uid());
        let succeeded = self.pods.iter().filter(new);
        let indexes: Vec<i32> = succeeded.filter_map(|pod| self.index(pod)).collect();
        self.completed.extend(indexes);
        if let Some(mut per_index) = self.per_index.take() {
            per_index.tally(self);
            self.per_index = Some(per_index);
        }
    }

    fn end_of(&self, pod: &JobPod) -> Option<End> {
        if pod.succeeded() {
            return Some(End::Succeeded);
        }
        let ignored = || pod.judge(self.spec.pod_failure_policy.as_ref()) == Judgement::Ignore;
        let failed = pod.failed(self.only_ended()) && (!self.is_indexed() || self.index(pod).is_some());
        match failed {
            true if ignored() => Some(End::Ignored),
            true => Some(End::Failed),
            // One without an index of the Job's counts for nothing.
            false => pod.failed(self.only_ended()).then_some(End::Ignored),
        }
    }

    fn known(&self) -> HashSet<&str> {
        let uncounted = self.status.uncounted_terminated_pods.as_ref();
        let lists = uncounted.into_iter().flat_map(|u| [u.succeeded.as_ref(), u.failed.as_ref()]);
        lists.flatten().flatten().map(String::as_str).collect()
    }

    /// Pods that have ended so and that no status tells yet.
    fn fresh(&self, end: End) -> usize {
        let known = self.known();
        let tracked = self.pods.iter().filter(|pod| pod.tracked && !known.contains(pod.uid()));
        tracked.filter(|pod| self.end_of(pod) == Some(end)).count()
    }

    /// How many uids wait for their second step: of successes and of failures.
    pub(super) fn uncounted(&self) -> (usize, usize) {
        let uncounted = self.status.uncounted_terminated_pods.as_ref();
        let len = |uids: Option<&Vec<String>>| uids.map_or(0, Vec::len);
        (len(uncounted.and_then(|u| u.succeeded.as_ref())), len(uncounted.and_then(|u| u.failed.as_ref())))
    }

    /// All successes there are, whatever step they are at.
    pub(super) fn succeeded(&self) -> i32 {
        if self.is_indexed() {
            return self.completed.len() as i32;
        }
        self.status.succeeded.unwrap_or(0) + (self.uncounted().0 + self.fresh(End::Succeeded)) as i32
    }

    /// All failures that count, whatever step they are at.
    pub(super) fn failed(&self) -> i32 {
        self.status.failed.unwrap_or(0) + (self.uncounted().1 + self.fresh(End::Failed)) as i32
    }

    /// The first step. Once the Job has failed, what still runs counts as failed; once it has succeeded, as nothing.
    pub(super) fn count(&mut self, verdict: Option<&Verdict>) {
        let known: HashSet<String> = self.known().into_iter().map(str::to_owned).collect();
        let (mut succeeded, mut failed) = (Vec::new(), Vec::new());
        let mut room = BURST.saturating_sub(known.len());
        for pod in self.pods.iter().filter(|pod| pod.tracked) {
            let Some(end) = self.end_of(pod).or_else(|| verdict.map(ended_by)) else { continue };
            let waits = self.per_index.as_ref().is_some_and(|indexes| indexes.keeps(pod));
            if waits && verdict.is_none() {
                continue;
            }
            if !known.contains(pod.uid()) {
                if room == 0 {
                    continue;
                }
                room -= 1;
                match end {
                    End::Succeeded if self.is_indexed() => {}
                    End::Succeeded => succeeded.push(pod.uid().to_owned()),
                    End::Failed => failed.push(pod.uid().to_owned()),
                    End::Ignored => {}
                }
            }
            self.plan.release.push(pod.clone());
        }
        let uncounted = self.status.uncounted_terminated_pods.get_or_insert_default();
        append(&mut uncounted.succeeded, succeeded);
        append(&mut uncounted.failed, failed);
        self.note_indexes();
    }

    fn note_indexes(&mut self) {
        if !self.is_indexed() {
            return;
        }
        self.status.completed_indexes =
            Some(indexes::format(&self.completed)).filter(|text| !text.is_empty());
        self.status.succeeded = Some(self.completed.len() as i32).filter(|n| *n > 0);
        self.status.failed_indexes = self.per_index.as_ref().map(|all| indexes::format(&all.failed));
    }
}

/// What the end of the Job makes of a pod that still runs.
fn ended_by(verdict: &Verdict) -> End {
    if verdict.success { End::Ignored } else { End::Failed }
}

fn some(uids: Vec<String>) -> Option<Vec<String>> {
    Some(uids).filter(|uids| !uids.is_empty())
}

fn append(list: &mut Option<Vec<String>>, more: Vec<String>) {
    if !more.is_empty() {
        list.get_or_insert_default().extend(more);
    }
}

fn add(count: &mut Option<i32>, more: usize) {
    let total = count.unwrap_or(0) + more as i32;
    *count = Some(total).filter(|n| *n > 0);
}
