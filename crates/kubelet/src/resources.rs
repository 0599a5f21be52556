//! Requests and limits as the kernel takes them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tiphys_runtime::Resources;

use crate::downward::amount;
use crate::pod::{self, Qos, Role};

const PERIOD_MICROS: i64 = 100_000;
const MIN_QUOTA_MICROS: i64 = 1_000;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
/// From here on a priority means that the node needs the pod.
pub(crate) const CRITICAL: i32 = 2_000_000_000;

/// cgroup v1 shares of a CPU request in milli-units.
pub(crate) fn shares(milli: i64) -> i64 {
    match milli {
        0 => MIN_SHARES,
        _ => (milli.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES),
    }
}

fn quota(milli: i64) -> i64 {
    match milli {
        0 => 0,
        _ => (milli.saturating_mul(PERIOD_MICROS) / 1000).max(MIN_QUOTA_MICROS),
    }
}

/// A container's limits. `memory` is the node's memory in bytes; `unified` says whether control groups are v2.
pub(crate) fn of_container(pod: &Pod, container: &Container, memory: i64, unified: bool) -> Resources {
    let empty = BTreeMap::new();
    let of = |list: Option<&BTreeMap<String, Quantity>>, key: &str| amount(Some(list.unwrap_or(&empty)), key);
    let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    let limits = container.resources.as_ref().and_then(|r| r.limits.as_ref());
    let limit = of(limits, "cpu");
    let request = match requests.is_some_and(|list| list.contains_key("cpu")) {
        true => of(requests, "cpu"),
        false => limit,
    };
    let quota = quota(limit);
    let mut resources = Resources {
        cpu_period: PERIOD_MICROS,
        // Without a limit the group must not inherit one.
        cpu_quota: if quota == 0 { -1 } else { quota },
        cpu_shares: shares(request),
        memory_limit: of(limits, "memory"),
        oom_score_adj: oom_score(pod, container, memory),
        ..Resources::default()
    };
    if unified {
        resources.unified.insert("memory.oom.group".into(), "1".into());
    }
    resources
}

/// What a pod costs beside its containers.
pub(crate) fn overhead(of: &BTreeMap<String, Quantity>) -> Resources {
    let cpu = amount(Some(of), "cpu");
    Resources {
        cpu_period: PERIOD_MICROS,
        cpu_quota: quota(cpu),
        cpu_shares: shares(cpu),
        memory_limit: amount(Some(of), "memory"),
        ..Resources::default()
    }
}

/// What all lasting containers of a pod may use together: what the pod says itself, else their sum, and no limit where one
/// of them has none. Runtimes that run pods in
/// machines of their own size them by this.
pub(crate) fn of_pod(pod: &Pod) -> Resources {
    let lasting = || pod::containers(pod).filter(|c| pod::role(pod, &c.name) != Role::Init);
    let list = |c: &Container, limits: bool, key: &str| {
        let resources = c.resources.as_ref();
        amount(resources.and_then(|r| if limits { r.limits.as_ref() } else { r.requests.as_ref() }), key)
    };
    let limit = |key: &str| {
        let all = || lasting().map(|c| list(c, true, key));
        let sum = || if all().any(|limit| limit == 0) { 0 } else { all().sum() };
        pod::own_limit(pod, key).unwrap_or_else(sum)
    };
    let asked = pod::own_request(pod, "cpu");
    Resources {
        cpu_period: PERIOD_MICROS,
        cpu_quota: quota(limit("cpu")),
        cpu_shares: shares(asked.unwrap_or_else(|| lasting().map(|c| list(c, false, "cpu")).sum())),
        memory_limit: limit("memory"),
        ..Resources::default()
    }
}

/// The smaller a container's memory request, the sooner the kernel picks it when memory runs out.
fn oom_score(pod: &Pod, container: &Container, memory: i64) -> i64 {
    if pod::spec(pod).priority.is_some_and(|priority| priority >= CRITICAL) {
        return -997;
    }
    match pod::qos(pod) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let asked = |container: &Container| {
                amount(container.resources.as_ref().and_then(|r| r.requests.as_ref()), "memory")
            };
            // What the pod asks for beyond its containers is theirs in equal parts.
            let lasting = || pod::containers(pod).filter(|c| pod::role(pod, &c.name) != Role::Init);
            let beyond =
                pod::own_request(pod, "memory").map_or(0, |all| all - lasting().map(asked).sum::<i64>());
            let part = beyond.max(0) / i64::try_from(lasting().count()).unwrap_or(1).max(1);
            let score = |container: &Container| {
                let request = i128::from(asked(container).saturating_add(part));
                let score = 1000 - 1000 * request / i128::from(memory.max(1));
                i64::try_from(score).unwrap_or(3).clamp(3, 999)
            };
            let own = score(container);
            // A sidecar must not die before the containers it serves.
            let apps = pod::app_containers(pod).iter().map(score).min();
            match pod::role(pod, &container.name) {
                Role::Sidecar => apps.map_or(own, |apps| own.min(apps)),
                _ => own,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(resources: &serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"uid": "u"}, "spec": {"containers": [{"name": "c", "resources": resources}]}
        }))
        .unwrap()
    }

    #[test]
    fn requests_become_shares_and_limits_quotas() {
        let pod = pod(
            &serde_json::json!({"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": "1500m"}}),
        );
        let r = of_container(&pod, &pod.spec.as_ref().unwrap().containers[0], 4 << 30, false);
        assert_eq!((r.cpu_shares, r.cpu_quota, r.cpu_period), (256, 150_000, 100_000));
        assert_eq!((r.memory_limit, r.oom_score_adj), (0, 750));
    }

    #[test]
    fn what_a_pod_says_itself_holds_for_all_its_containers() {
        let own =
            serde_json::json!({"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}});
        let spec = serde_json::json!({"resources": own, "containers": [{"name": "c"}, {"name": "d"}]});
        let pod: Pod = serde_json::from_value(serde_json::json!({"spec": spec})).unwrap();
        let all = of_pod(&pod);
        assert_eq!((all.cpu_shares, all.cpu_quota, all.memory_limit), (512, 0, 2 << 30));
        assert_eq!(pod::qos(&pod), Qos::Burstable);
        let one = of_container(&pod, &pod::app_containers(&pod)[0], 4 << 30, false);
        // Half of what the pod asked for, of what the node has.
        assert_eq!((one.memory_limit, one.oom_score_adj), (0, 875));
    }

    #[test]
    fn the_classes_have_their_scores() {
        let best = pod(&serde_json::json!({}));
        let r = of_container(&best, &best.spec.as_ref().unwrap().containers[0], 1 << 30, false);
        assert_eq!((r.cpu_shares, r.cpu_quota, r.oom_score_adj), (2, -1, 1000));
        let limits = serde_json::json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        let sure = pod(&limits);
        let r = of_container(&sure, &sure.spec.as_ref().unwrap().containers[0], 1 << 30, false);
        assert_eq!((r.cpu_shares, r.memory_limit, r.oom_score_adj), (1024, 1 << 30, -997));
    }
}
