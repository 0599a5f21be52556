//! A Job's pods as far as counting goes, and what a pod failure policy says about the failed ones. Pure.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::{PodFailurePolicy, PodFailurePolicyRule};
use serde::Deserialize;

use crate::pods::{Facts, Phase};

pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often the pods of this index failed before this one; what a policy ignored is counted apart.
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub(super) const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// One pod.
#[derive(Clone, Debug)]
pub(super) struct JobPod {
    pub(super) facts: Arc<Facts>,
    pub(super) index: Option<i32>,
    /// Failures of its index before it: those that count, and those that were ignored.
    pub(super) before: (i32, i32),
    /// It is not counted yet.
    pub(super) tracked: bool,
    statuses: Vec<ContainerStatus>,
    conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw {
    metadata: RawMeta,
    status: RawStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawMeta {
    annotations: Option<std::collections::HashMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawStatus {
    init_container_statuses: Option<Vec<ContainerStatus>>,
    container_statuses: Option<Vec<ContainerStatus>>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ContainerStatus {
    name: String,
    restart_count: i32,
    state: State,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct State {
    terminated: Option<Terminated>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Terminated {
    exit_code: i32,
    #[serde(default)]
    finished_at: Option<jiff::Timestamp>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// What a policy says about a failed pod.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Judgement {
    /// It counts.
    Count,
    /// It does not count.
    Ignore,
    /// It counts, and its index has failed for good.
    FailIndex,
    /// The Job has failed, with this message.
    FailJob(String),
}

impl JobPod {
    pub(super) fn of(facts: &Arc<Facts>) -> Self {
        let raw: Raw = facts.object.decode().unwrap_or_default();
        let number = |name: &str| raw.metadata.annotations.as_ref().and_then(|a| a.get(name)?.parse().ok());
        let init = raw.status.init_container_statuses.into_iter().flatten();
        Self {
            facts: facts.clone(),
            index: number(INDEX),
            before: (number(FAILURES).unwrap_or(0), number(IGNORED).unwrap_or(0)),
            tracked: facts.meta().finalizers.iter().any(|finalizer| **finalizer == *FINALIZER),
            statuses: raw.status.container_statuses.into_iter().flatten().chain(init).collect(),
            conditions: raw.status.conditions.unwrap_or_default(),
        }
    }

    pub(super) fn uid(&self) -> &str {
        &self.facts.meta().uid
    }

    pub(super) fn succeeded(&self) -> bool {
        self.facts.phase == Phase::Succeeded
    }

    /// It failed, or is on its way out without having succeeded. With `only_ended`, only the former.
    pub(super) fn failed(&self, only_ended: bool) -> bool {
        match self.facts.phase {
            Phase::Failed => true,
            Phase::Succeeded => false,
            _ => self.facts.deleting() && !only_ended,
        }
    }

    /// Failures of its index with this pod's own.
    pub(super) fn failures(&self, policy: Option<&PodFailurePolicy>) -> (i32, i32) {
        let (failures, ignored) = self.before;
        match self.judge(policy) {
            Judgement::Ignore => (failures, ignored.saturating_add(1)),
            _ => (failures.saturating_add(1), ignored),
        }
    }

    pub(super) fn restarts(&self) -> i32 {
        self.statuses.iter().map(|status| status.restart_count).sum()
    }

    /// When it ended, as far as it tells.
    pub(super) fn finished_at(&self) -> Option<jiff::Timestamp> {
        let times = self.statuses.iter().filter_map(|status| status.state.terminated.as_ref()?.finished_at);
        times.max().or(self.facts.meta().deleted)
    }

    /// What the first rule that fits says.
    pub(super) fn judge(&self, policy: Option<&PodFailurePolicy>) -> Judgement {
        for (at, rule) in policy.iter().flat_map(|policy| &policy.rules).enumerate() {
            if let Some(why) = self.fits(rule) {
                return match rule.action.as_str() {
                    "Ignore" => Judgement::Ignore,
                    "FailIndex" => Judgement::FailIndex,
                    "FailJob" => Judgement::FailJob(format!("{why} matching FailJob rule at index {at}")),
                    _ => Judgement::Count,
                };
            }
        }
        Judgement::Count
    }

    /// Why a rule fits, if it does.
    fn fits(&self, rule: &PodFailurePolicyRule) -> Option<String> {
        let meta = self.facts.meta();
        if let Some(codes) = &rule.on_exit_codes {
            let fits = |status: &&ContainerStatus| {
                let named = codes.container_name.as_ref().is_none_or(|name| *name == status.name);
                let code = status.state.terminated.as_ref().map(|t| t.exit_code).filter(|code| *code != 0);
                let listed = code.map(|code| codes.values.contains(&code));
                named && listed == Some(codes.operator == "In")
            };
            let status = self.statuses.iter().find(fits)?;
            let code = status.state.terminated.as_ref()?.exit_code;
            let key = format!("{}/{}", meta.namespace, meta.name);
            return Some(format!("Container {} for pod {key} failed with exit code {code}", status.name));
        }
        for pattern in rule.on_pod_conditions.iter().flatten() {
            let status = pattern.status.as_deref().unwrap_or("True");
            let fits = |condition: &Condition| condition.kind == pattern.type_ && condition.status == status;
            if self.conditions.iter().any(fits) {
                let key = format!("{}/{}", meta.namespace, meta.name);
                return Some(format!("Pod {key} has condition {}", pattern.type_));
            }
        }
        None
    }
}
