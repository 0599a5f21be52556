//! How many replicas a metric calls for. Pure.
//!
//! Pods of which nothing is known count against a change: they are taken as idle when the others call for more, and as
//! busy when they call for less.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::limits::Rules;
use super::metrics::Sample;
use super::pods::{Groups, PodView};

/// What the calculation looks at.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) pods: &'a [PodView],
    /// Replicas as the target's spec wants them.
    pub(super) wanted: i32,
    /// Replicas as its status tells.
    pub(super) actual: i32,
    pub(super) rules: &'a Rules,
    pub(super) now: Timestamp,
}

/// A proposal, with what was measured: utilization in percent where there is one, and the value in milli-units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proposal {
    pub(super) replicas: i32,
    pub(super) utilization: Option<i32>,
    pub(super) value: i64,
}

const NO_PODS: &str = "no pods returned by selector while calculating replica count";
const NO_METRICS: &str = "did not receive metrics for targeted pods (pods might be unready)";

impl Ground<'_> {
    /// Whether a metric is so close to its target that nothing changes.
    fn is_close(&self, ratio: f64) -> bool {
        (1.0 - self.rules.down.tolerance..=1.0 + self.rules.up.tolerance).contains(&ratio)
    }

    /// For an average value of pods.
    pub(super) fn by_average(
        &self,
        samples: &BTreeMap<String, Sample>,
        target: i64,
        is_cpu: bool,
    ) -> Result<Proposal, String> {
        let groups = self.groups(samples, is_cpu)?;
        let average = |all: &BTreeMap<&str, i64>| all.values().sum::<i64>() / all.len().max(1) as i64;
        let ratio = |all: &BTreeMap<&str, i64>| Ok(average(all) as f64 / target as f64);
        let value = average(&groups.ready);
        let replicas = self.weigh(groups, ratio, |_| target)?;
        Ok(Proposal { replicas, utilization: None, value })
    }

    /// For a utilization, in percent of what the pods request of a resource.
    pub(super) fn by_utilization(
        &self,
        samples: &BTreeMap<String, Sample>,
        target: i32,
        resource: &str,
        container: Option<&str>,
    ) -> Result<Proposal, String> {
        let groups = self.groups(samples, resource == "cpu")?;
        let mut requests = BTreeMap::new();
        for pod in self.pods {
            requests.insert(pod.name.as_str(), pod.request(resource, container)?);
        }
        let utilization = |all: &BTreeMap<&str, i64>| -> Result<i32, String> {
            let requested: i64 = all.keys().filter_map(|name| requests.get(name)).sum();
            let used: i64 = all.values().sum();
            let percent = used.saturating_mul(100).checked_div(requested);
            let percent = percent.ok_or("no metrics returned matched known pods")?;
            Ok(i32::try_from(percent).unwrap_or(i32::MAX))
        };
        let ratio = |all: &BTreeMap<&str, i64>| Ok(f64::from(utilization(all)?) / f64::from(target));
        let busy = i64::from(target.max(100));
        let full = |name: &str| requests.get(name).copied().unwrap_or(0) * busy / 100;
        let value = groups.ready.values().sum::<i64>() / groups.ready.len().max(1) as i64;
        let percent = utilization(&groups.ready)?;
        let replicas = self.weigh(groups, ratio, full)?;
        Ok(Proposal { replicas, utilization: Some(percent), value })
    }

    fn groups(&self, samples: &BTreeMap<String, Sample>, is_cpu: bool) -> Result<Groups<'_>, String> {
        if self.pods.is_empty() {
            return Err(NO_PODS.into());
        }
        let groups = Groups::of(self.pods, samples, is_cpu, self.now);
        if groups.ready.is_empty() { Err(NO_METRICS.into()) } else { Ok(groups) }
    }

    /// Replicas by the ratio of use to target. `full` is what a busy pod would use.
    fn weigh(
        &self,
        groups: Groups<'_>,
        ratio: impl Fn(&BTreeMap<&str, i64>) -> Result<f64, String>,
        full: impl Fn(&str) -> i64,
    ) -> Result<i32, String> {
        let Groups { ready: mut metrics, unready, missing } = groups;
        let first = ratio(&metrics)?;
        let with_unready = !unready.is_empty() && first > 1.0;
        if !with_unready && missing.is_empty() {
            let all = scaled(first, metrics.len());
            return Ok(if self.is_close(first) { self.wanted } else { all });
        }
        for name in missing {
            if first != 1.0 {
                metrics.insert(name, if first < 1.0 { full(name) } else { 0 });
            }
        }
        if with_unready {
            metrics.extend(unready.into_iter().map(|name| (name, 0)));
        }
        let second = ratio(&metrics)?;
        let turned = (first < 1.0 && second > 1.0) || (first > 1.0 && second < 1.0);
        let replicas = scaled(second, metrics.len());
        let against = (second < 1.0 && replicas > self.wanted) || (second > 1.0 && replicas < self.wanted);
        Ok(if self.is_close(second) || turned || against { self.wanted } else { replicas })
    }

    /// For one value that stands for all pods.
    pub(super) fn by_value(&self, value: i64, target: i64) -> Result<Proposal, String> {
        let ratio = value as f64 / target as f64;
        let replicas = if self.wanted == 0 {
            ratio.ceil() as i32
        } else if self.is_close(ratio) {
            self.wanted
        } else if self.pods.is_empty() {
            return Err(NO_PODS.into());
        } else {
            scaled(ratio, self.pods.iter().filter(|pod| pod.counts()).count())
        };
        Ok(Proposal { replicas, utilization: None, value })
    }

    /// For one value that the pods share.
    pub(super) fn by_share(&self, value: i64, target: i64) -> Proposal {
        let ratio = value as f64 / (target as f64 * f64::from(self.actual));
        let enough = (value as f64 / target as f64).ceil() as i32;
        let replicas = if self.is_close(ratio) { self.actual } else { enough };
        let share = (value as f64 / f64::from(self.actual.max(1))).ceil() as i64;
        Proposal { replicas, utilization: None, value: share }
    }
}

fn scaled(ratio: f64, pods: usize) -> i32 {
    (ratio * pods as f64).ceil() as i32
}
