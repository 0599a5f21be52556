//! Reading Deployments and ReplicaSets: the numbers, with Kubernetes' defaults and roundings.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";
pub(super) const HASH_LABEL: &str = "pod-template-hash";

/// The number that stands for no deadline and no history limit.
const UNLIMITED: i32 = i32::MAX;

/// A Deployment's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) replicas: i32,
    pub(super) max_surge: i32,
    pub(super) max_unavailable: i32,
    pub(super) min_ready_seconds: i32,
    /// Seconds; `None` without a deadline.
    pub(super) progress_deadline: Option<i32>,
    /// Old sets to keep; `None` for all.
    pub(super) history_limit: Option<i32>,
    pub(super) recreate: bool,
    pub(super) paused: bool,
}

impl Numbers {
    pub(super) fn of(deployment: &Deployment) -> Self {
        let default = DeploymentSpec::default();
        let spec = deployment.spec.as_ref().unwrap_or(&default);
        let replicas = spec.replicas.unwrap_or(1).max(0);
        let strategy = spec.strategy.as_ref();
        let recreate = strategy.and_then(|s| s.type_.as_deref()) == Some("Recreate");
        let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".into());
        let surge = rolling.and_then(|r| r.max_surge.as_ref()).unwrap_or(&quarter);
        let unavailable = rolling.and_then(|r| r.max_unavailable.as_ref()).unwrap_or(&quarter);
        let (max_surge, max_unavailable) = match recreate {
            true => (0, 0),
            false => fence_posts(surge, unavailable, replicas),
        };
        Self {
            replicas,
            max_surge,
            max_unavailable: max_unavailable.min(replicas),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            progress_deadline: Some(spec.progress_deadline_seconds.unwrap_or(600))
                .filter(|n| *n != UNLIMITED),
            history_limit: Some(spec.revision_history_limit.unwrap_or(10)).filter(|n| *n != UNLIMITED),
            recreate,
            paused: spec.paused.unwrap_or(false),
        }
    }
}

/// Surge rounds up, unavailability down; both zero would be a standstill, so one pod may then be unavailable.
fn fence_posts(surge: &IntOrString, unavailable: &IntOrString, replicas: i32) -> (i32, i32) {
    let surge = scaled(surge, replicas, true);
    let unavailable = scaled(unavailable, replicas, false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// A number, or a percentage of a total. What is neither counts as zero: validation lets none in.
pub(crate) fn scaled(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0).max(0);
            let hundredths = percent * i64::from(total);
            let whole = if round_up { (hundredths + 99) / 100 } else { hundredths / 100 };
            i32::try_from(whole).unwrap_or(i32::MAX)
        }
    }
}

/// Replicas that a set is to have.
pub(super) fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Replicas that it has.
pub(super) fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

pub(super) fn ready(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)
}

pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

pub(super) fn annotation<'a>(set: &'a ReplicaSet, name: &str) -> Option<&'a str> {
    set.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

pub(super) fn number(set: &ReplicaSet, name: &str) -> Option<i64> {
    annotation(set, name)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_away_from_a_standstill() {
        let percent = |text: &str| IntOrString::String(text.into());
        assert_eq!(fence_posts(&percent("25%"), &percent("25%"), 10), (3, 2));
        assert_eq!(fence_posts(&percent("25%"), &percent("25%"), 1), (1, 0));
        assert_eq!(fence_posts(&IntOrString::Int(0), &percent("10%"), 5), (0, 1));
        assert_eq!(fence_posts(&IntOrString::Int(2), &IntOrString::Int(0), 5), (2, 0));
    }
}
