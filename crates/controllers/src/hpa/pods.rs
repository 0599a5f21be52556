//! The pods of a scale target, sorted by what their metrics are worth. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::metrics::{Sample, amount};
use crate::pods::{Condition, Facts, Phase};

/// Until then, the CPU that a pod takes may be that of its start. Seconds.
const CPU_INITIALIZATION: i64 = 300;
/// A pod that became unready so soon after its start has never been ready. Seconds.
const INITIAL_READINESS: i64 = 30;

/// One pod, as far as autoscaling goes.
#[derive(Clone, Debug, Default)]
pub(super) struct PodView {
    pub(super) name: String,
    deleting: bool,
    phase: Phase,
    started: Option<Timestamp>,
    ready: Option<Condition>,
    /// Requests by container, in milli-units.
    requests: Vec<(String, HashMap<String, i64>)>,
    /// Those of the pod as a whole.
    whole: HashMap<String, i64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw {
    spec: RawSpec,
    status: RawStatus,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawSpec {
    containers: Vec<RawContainer>,
    init_containers: Option<Vec<RawContainer>>,
    resources: RawResources,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawContainer {
    name: String,
    restart_policy: Option<String>,
    resources: RawResources,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawResources {
    requests: Option<HashMap<String, String>>,
}

impl RawResources {
    fn amounts(self) -> HashMap<String, i64> {
        let all = self.requests.into_iter().flatten();
        all.filter_map(|(name, text)| Some((name, amount(&text)?))).collect()
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawStatus {
    start_time: Option<Timestamp>,
    conditions: Option<Vec<Condition>>,
}

impl PodView {
    pub(super) fn of(facts: &Facts) -> Self {
        let raw: Raw = facts.object.decode().unwrap_or_default();
        let sidecars = raw.spec.init_containers.into_iter().flatten();
        let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
        let requests = |container: RawContainer| (container.name, container.resources.amounts());
        Self {
            name: facts.meta().name.to_string(),
            deleting: facts.deleting(),
            phase: facts.phase,
            started: raw.status.start_time,
            ready: Condition::find(raw.status.conditions.iter().flatten(), "Ready").cloned(),
            requests: raw.spec.containers.into_iter().chain(sidecars).map(requests).collect(),
            whole: raw.spec.resources.amounts(),
        }
    }

    /// What it runs and is ready, for metrics that are not of pods.
    pub(super) fn counts(&self) -> bool {
        self.phase == Phase::Running && self.ready.as_ref().is_some_and(Condition::is_true)
    }

    /// Its request of a resource, or that of one container, in milli-units.
    pub(super) fn request(&self, resource: &str, container: Option<&str>) -> Result<i64, String> {
        if container.is_none() && !self.whole.is_empty() {
            return self.whole_request(resource);
        }
        let named = |name: &str| container.is_none_or(|wanted| wanted == name);
        let mut sum = 0;
        for (name, requests) in self.requests.iter().filter(|(name, _)| named(name)) {
            let missing =
                || format!("missing request for {resource} in container {name} of Pod {}", self.name);
            sum += requests.get(resource).ok_or_else(missing)?;
        }
        Ok(sum)
    }

    /// The request of a pod that has some of its own: what it does not say of itself, its containers do.
    fn whole_request(&self, resource: &str) -> Result<i64, String> {
        let of_containers = self.requests.iter().filter_map(|(_, requests)| requests.get(resource).copied());
        let known = self.whole.get(resource).copied().or_else(|| of_containers.reduce(|sum, one| sum + one));
        known.ok_or_else(|| format!("missing pod-level request for {resource} in Pod {}", self.name))
    }

    /// Whether its CPU says nothing about the load yet.
    fn starts(&self, sample: &Sample, now: Timestamp) -> bool {
        let (Some(ready), Some(started)) = (&self.ready, self.started) else { return true };
        let (since, ready) = (ready.last_transition_time.unwrap_or_default(), ready.status != "False");
        if after(started, CPU_INITIALIZATION) > now {
            let settled = since.checked_add(sample.window).unwrap_or(since);
            return !ready || sample.at < settled;
        }
        !ready && after(started, INITIAL_READINESS) > since
    }
}

fn after(time: Timestamp, seconds: i64) -> Timestamp {
    time.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// Pods by what is known of them.
#[derive(Debug, Default)]
pub(super) struct Groups<'a> {
    /// Metrics of those whose metrics count.
    pub(super) ready: BTreeMap<&'a str, i64>,
    pub(super) unready: BTreeSet<&'a str>,
    /// They should have metrics and have none.
    pub(super) missing: BTreeSet<&'a str>,
}

impl<'a> Groups<'a> {
    pub(super) fn of(
        pods: &'a [PodView],
        samples: &BTreeMap<String, Sample>,
        is_cpu: bool,
        now: Timestamp,
    ) -> Self {
        let mut groups = Groups::default();
        for pod in pods.iter().filter(|pod| !pod.deleting && pod.phase != Phase::Failed) {
            let name = pod.name.as_str();
            match samples.get(name) {
                _ if pod.phase == Phase::Pending => drop(groups.unready.insert(name)),
                None => drop(groups.missing.insert(name)),
                Some(sample) if is_cpu && pod.starts(sample, now) => drop(groups.unready.insert(name)),
                Some(sample) => drop(groups.ready.insert(name, sample.value)),
            }
        }
        groups
    }
}
