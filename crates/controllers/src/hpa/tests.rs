use k8s_openapi::api::apps::v1::Deployment;
use proptest::prelude::*;
use tiphys_api::{Value, json};
use tiphys_client::fake::FakeClient;

use super::limits::{Bounded, Wish, bound};
use super::*;
use crate::Config;
use crate::testing::{Cluster, typed};

fn hpa(metrics: &Value, behavior: &Value) -> HorizontalPodAutoscaler {
    typed(json!({
        "metadata": {"name": "web", "namespace": "n", "generation": 1},
        "spec": {"minReplicas": 1, "maxReplicas": 100, "behavior": behavior, "metrics": metrics,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    }))
}

fn cpu(percent: i32) -> Value {
    json!([{"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": percent}}}])
}

/// Pods that run, each with a request of 1 CPU, ready for long; the last `unready` of them are pending.
fn pods(count: usize, unready: usize) -> Vec<PodView> {
    let pod = |at: usize| {
        let phase = if at < count - unready { "Running" } else { "Pending" };
        let pod = json!({
            "metadata": {"name": format!("p{at}"), "namespace": "n"},
            "spec": {"nodeName": "x", "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
            "status": {"phase": phase, "startTime": "2020-01-01T00:00:00Z", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:10Z"}]},
        });
        PodView::of(&crate::pods::Facts::of(&Object::from_value(&pod).unwrap()).unwrap())
    };
    (0..count).map(pod).collect()
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// A reading of so many milli-CPUs of each of the first pods.
fn reading(values: &[i64]) -> Reading {
    let sample = |(at, value): (usize, &i64)| {
        let window = jiff::SignedDuration::from_secs(30);
        (format!("p{at}"), metrics::Sample { value: *value, at: now(), window })
    };
    Reading::Pods(values.iter().enumerate().map(sample).collect())
}

fn decide(
    hpa: &HorizontalPodAutoscaler,
    size: i32,
    pods: &[PodView],
    readings: &[Result<Reading, String>],
) -> Plan {
    let scale: Scale = typed(json!({"metadata": {"name": "web", "namespace": "n"},
        "spec": {"replicas": size}, "status": {"replicas": size, "selector": "app=web"}}));
    let snapshot = Snapshot { hpa, scale: &scale, pods, readings, now: now() };
    plan::plan(&snapshot, &mut History::default())
}

fn size_of(plan: &Plan) -> Option<i32> {
    plan.rescale.as_ref().map(|(replicas, _)| *replicas)
}

fn condition(plan: &Plan, kind: &str) -> (String, String) {
    let all = plan.status.conditions.as_ref().unwrap();
    let found = all.iter().find(|condition| condition.type_ == kind).unwrap();
    (found.status.clone(), found.reason.clone().unwrap())
}

#[test]
fn utilization_sets_the_size() {
    let hpa = hpa(&cpu(50), &json!(null));
    let size = |pods: &[PodView], values: &[i64]| {
        let count = i32::try_from(pods.len()).unwrap();
        size_of(&decide(&hpa, count, pods, &[Ok(reading(values))]))
    };
    assert_eq!(size(&pods(4, 0), &[750, 750, 750, 750]), Some(6));
    assert_eq!(size(&pods(4, 0), &[520, 520, 520, 520]), None, "close enough");
    // What is not known counts as idle when more is called for, and as busy when less is.
    assert_eq!(size(&pods(4, 1), &[900, 900, 900]), Some(6));
    assert_eq!(size(&pods(4, 0), &[900, 900, 900]), Some(6));
    assert_eq!(size(&pods(4, 0), &[10, 10, 10]), None);
    let plan = decide(&hpa, 4, &pods(4, 0), &[Ok(reading(&[750; 4]))]);
    let measured = plan.status.current_metrics.unwrap()[0].resource.clone().unwrap().current;
    assert_eq!(measured.average_utilization, Some(75));
    assert_eq!(measured.average_value.unwrap().0, "750m");
    let why = plan.rescale.unwrap().1;
    assert_eq!(why, "cpu resource utilization (percentage of request) above target");
}

#[test]
fn a_metric_that_fails_stops_only_a_smaller_size() {
    let two = json!([cpu(50)[0], {"type": "External", "external": {"metric": {"name": "queue"},
        "target": {"type": "AverageValue", "averageValue": "10"}}}]);
    let hpa = hpa(&two, &json!(null));
    let failed = || Err("unable to get external metric n/queue/: none".to_owned());
    let more = decide(&hpa, 2, &pods(2, 0), &[Ok(reading(&[900, 900])), failed()]);
    assert_eq!(size_of(&more), Some(4));
    let less = decide(&hpa, 2, &pods(2, 0), &[Ok(reading(&[10, 10])), failed()]);
    assert_eq!(size_of(&less), None);
    assert_eq!(condition(&less, "ScalingActive"), ("False".into(), "FailedGetExternalMetric".into()));
    assert!(less.events.iter().any(|(_, reason, message)| {
        *reason == "FailedComputeMetricsReplicas"
            && message.starts_with("invalid metrics (1 invalid out of 2)")
    }));
}

#[test]
fn the_bounds_come_before_the_metrics_and_zero_switches_off() {
    let hpa = hpa(&cpu(50), &json!(null));
    assert_eq!(size_of(&decide(&hpa, 200, &[], &[])), Some(100));
    let off = decide(&hpa, 0, &[], &[]);
    assert_eq!(size_of(&off), None);
    assert_eq!(condition(&off, "ScalingActive"), ("False".into(), "ScalingDisabled".into()));
}

#[test]
fn an_idle_queue_takes_the_target_to_zero_and_a_full_one_back() {
    let queue = json!([{"type": "External", "external": {"metric": {"name": "queue"},
        "target": {"type": "Value", "value": "10"}}}]);
    let mut hpa = hpa(&queue, &json!({"scaleDown": {"stabilizationWindowSeconds": 0}}));
    hpa.spec.min_replicas = Some(0);
    assert_eq!(size_of(&decide(&hpa, 1, &pods(1, 0), &[Ok(Reading::Total(0))])), Some(0));
    assert_eq!(size_of(&decide(&hpa, 0, &[], &[Ok(Reading::Total(25_000))])), Some(3));
}

fn run(rules: &Rules, history: &mut History, current: i32, desired: i32, second: i64) -> Bounded {
    let wish = Wish { current, desired, min: 1, max: 100 };
    let bounded = bound(wish, rules, history, Timestamp::from_second(1_000_000 + second).unwrap());
    let at = Timestamp::from_second(1_000_000 + second).unwrap();
    history.scaled(current, bounded.desired, rules, at);
    bounded
}

#[test]
fn policies_bound_the_speed_and_windows_hold_back() {
    let behavior = json!({
        "scaleUp": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]},
        "scaleDown": {"stabilizationWindowSeconds": 30, "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}]},
    });
    let rules = Rules::of(&hpa(&json!([]), &behavior).spec);
    let mut history = History::default();
    let first = run(&rules, &mut history, 10, 50, 0);
    assert_eq!((first.desired, first.limited, first.why.0), (12, true, "ScaleUpLimit"));
    assert_eq!(run(&rules, &mut history, 12, 50, 30).desired, 12, "two a minute");
    assert_eq!(run(&rules, &mut history, 12, 50, 61).desired, 14);
    let held = run(&rules, &mut history, 14, 2, 80);
    assert_eq!((held.desired, held.able.0), (14, "ScaleDownStabilized"));
    let down = run(&rules, &mut history, 14, 2, 130);
    assert_eq!((down.desired, down.why.0), (7, "ScaleDownLimit"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever the metrics say: within the bounds, never the wrong way, never faster than the policy allows.
    #[test]
    fn sizes_keep_their_bounds(
        start in 1i32..50,
        wishes in proptest::collection::vec((0i32..200, 1i64..40), 1..60),
        speed in 1i32..10,
        up in any::<bool>(),
    ) {
        let limited = json!({"stabilizationWindowSeconds": 0,
            "policies": [{"type": "Pods", "value": speed, "periodSeconds": 60}]});
        let disabled = json!({"selectPolicy": "Disabled"});
        let (grow, shrink) = if up { (&limited, &disabled) } else { (&disabled, &limited) };
        let rules = Rules::of(&hpa(&json!([]), &json!({"scaleUp": grow, "scaleDown": shrink})).spec);
        let (mut history, mut second, mut past) = (History::default(), 0, vec![(0, start)]);
        for (desired, pause) in wishes {
            let before = past.last().unwrap().1;
            second += pause;
            let size = run(&rules, &mut history, before, desired, second).desired;
            past.push((second, size));
            let minute_ago = past.iter().rev().find(|(at, _)| *at <= second - 60).map_or(start, |(_, n)| *n);
            prop_assert!((1..=100).contains(&size));
            let right_way = if up { size >= before } else { size <= before };
            prop_assert!(right_way);
            prop_assert!((size - minute_ago).abs() <= speed, "{past:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_deployment_follows_its_metrics() {
    let client = FakeClient::new();
    crate::testing::serve_discovery(&client);
    let config = Config { disabled: vec!["garbage-collector".into()], ..Config::default() };
    let cluster = Cluster::start_with(client, config);
    let deployment: Deployment = typed(json!({
        "metadata": {"name": "web", "namespace": "n"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
                {"name": "c", "resources": {"requests": {"memory": "100Mi"}}}]}}},
    }));
    cluster.api::<Deployment>("n").create(&deployment).await.unwrap();
    cluster.settle().await;
    cluster.run_pods().await;
    let memory = json!([{"type": "Resource", "resource": {"name": "memory",
        "target": {"type": "AverageValue", "averageValue": "50Mi"}}}]);
    cluster.api::<HorizontalPodAutoscaler>("n").create(&hpa(&memory, &json!(null))).await.unwrap();
    cluster.settle().await;
    let status = || cluster.client.find::<HorizontalPodAutoscaler>("n", "web").unwrap().status.unwrap();
    let reasons = || -> Vec<String> {
        status().conditions.unwrap().into_iter().map(|condition| condition.reason.unwrap()).collect()
    };
    assert_eq!(reasons(), ["SucceededGetScale", "FailedGetResourceMetric"]);

    let pods = cluster.client.all::<k8s_openapi::api::core::v1::Pod>("n");
    let item = |pod: &k8s_openapi::api::core::v1::Pod| {
        json!({"metadata": {"name": pod.name()}, "timestamp": "2026-01-01T00:00:00Z", "window": "30s",
            "containers": [{"name": "c", "usage": {"memory": "100Mi"}}]})
    };
    let items: Vec<Value> = pods.iter().map(item).collect();
    let path = "/apis/metrics.k8s.io/v1beta1/namespaces/n/pods?labelSelector=app%3Dweb";
    cluster.client.serve_path(path, &json!({"items": items}));
    tokio::time::sleep(PERIOD).await;
    assert_eq!(cluster.client.find::<Deployment>("n", "web").unwrap().spec.unwrap().replicas, Some(4));
    assert_eq!(reasons(), ["SucceededRescale", "ValidMetricFound", "DesiredWithinRange"]);
    assert_eq!((status().current_replicas, status().desired_replicas), (Some(2), 4));
    let told = "SuccessfulRescale: New size: 4; reason: memory resource above target";
    assert!(cluster.events().contains(&told.to_owned()), "{:?}", cluster.events());
}
