//! The indexes of a Job with `backoffLimitPerIndex`: which have failed for good, and how often the others have. Pure.
//!
//! How often an index failed is written on its pods. So the last failed pod of an index keeps its finalizer, and stays,
//! until a pod that carries the number on has taken its place.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use super::indexes;
use super::plan::{NewPod, Work, pause};
use super::pods::{JobPod, Judgement};

/// What is known about the indexes.
#[derive(Debug, Default)]
pub(super) struct PerIndex {
    limit: i32,
    /// Those that have failed for good.
    pub(super) failed: BTreeSet<i32>,
    /// The last failed pod of every index that waits for its next.
    last: BTreeMap<i32, JobPod>,
}

impl PerIndex {
    pub(super) fn of(work: &Work<'_>) -> Option<Self> {
        let limit = work.spec.backoff_limit_per_index.filter(|_| work.is_indexed())?;
        let failed = work.status.failed_indexes.as_deref().unwrap_or_default();
        let failed = indexes::parse(failed, work.spec.completions.unwrap_or(0));
        Some(Self { limit, failed, last: BTreeMap::new() })
    }

    /// Takes note of what the pods tell. The completed indexes must be known.
    pub(super) fn tally(&mut self, work: &Work<'_>) {
        let policy = work.spec.pod_failure_policy.as_ref();
        let failed = |pod: &&JobPod| pod.tracked && pod.failed(work.only_ended());
        let failed: Vec<(i32, &JobPod)> =
            work.pods.iter().filter(failed).filter_map(|pod| Some((work.index(pod)?, pod))).collect();
        for (index, pod) in &failed {
            let over = match pod.judge(policy) {
                Judgement::FailIndex => true,
                Judgement::Ignore => false,
                _ => pod.before.0 >= self.limit,
            };
            if over && !work.completed.contains(index) {
                self.failed.insert(*index);
            }
        }
        let active: HashSet<i32> = work.active().filter_map(|pod| pod.index).collect();
        let waits = |index: &i32| {
            !work.completed.contains(index) && !self.failed.contains(index) && !active.contains(index)
        };
        let total = |pod: &JobPod| pod.before.0.saturating_add(pod.before.1);
        for (index, pod) in failed.into_iter().filter(|(index, _)| waits(index)) {
            if self.last.get(&index).is_none_or(|known| total(known) <= total(pod)) {
                self.last.insert(index, pod.clone());
            }
        }
    }

    /// Whether the number on this pod is still needed.
    pub(super) fn keeps(&self, pod: &JobPod) -> bool {
        let last = pod.index.and_then(|index| self.last.get(&index));
        last.is_some_and(|last| last.uid() == pod.uid())
    }

    /// Pods for the first of the free indexes whose pause is over, and when the next one's is.
    pub(super) fn create(
        &self,
        work: &Work<'_>,
        free: &[i32],
        most: usize,
    ) -> (Vec<NewPod>, Option<Duration>) {
        let policy = work.spec.pod_failure_policy.as_ref();
        let (mut create, mut again) = (Vec::new(), None::<Duration>);
        for &index in free {
            if create.len() == most {
                break;
            }
            let last = self.last.get(&index);
            let before = last.map_or((0, 0), |pod| pod.failures(policy));
            let failures = usize::try_from(before.0.saturating_add(before.1)).unwrap_or(0);
            let ended = last.and_then(JobPod::finished_at);
            match ended.and_then(|ended| pause(failures, ended, work.now)) {
                Some(left) => again = Some(again.map_or(left, |known| known.min(left))),
                None => create.push(NewPod { index: Some(index), before: Some(before) }),
            }
        }
        (create, again)
    }
}
