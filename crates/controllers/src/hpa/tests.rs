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
    let full = [Ok(Reading::Total(25_000))];
    assert_eq!(size_of(&decide(&hpa, 0, &[], &full)), None, "people set it to zero, not we");
    let mut idle = decide(&hpa, 1, &pods(1, 0), &[Ok(Reading::Total(0))]);
    assert_eq!(size_of(&idle), Some(0));
    plan::rescaled(&mut idle.status, 0, Ok(()), now());
    assert_eq!(condition(&idle, "ScaledToZero"), ("True".into(), "ScaledToZero".into()));
    hpa.status = Some(idle.status);
    let mut back = decide(&hpa, 0, &[], &full);
    assert_eq!(size_of(&back), Some(3));
    plan::rescaled(&mut back.status, 3, Ok(()), now());
    assert_eq!(condition(&back, "ScaledToZero"), ("False".into(), "NotScaledToZero".into()));
    hpa.spec.min_replicas = Some(2);
    assert_eq!(size_of(&decide(&hpa, 0, &[], &full)), Some(2), "it may not stay at zero any more");
}

/// Each kind of metric that is not of the pods' own resources, as its API answers for it.
#[tokio::test(start_paused = true)]
async fn custom_and_external_metrics_are_asked_of_their_apis() {
    let stage = Stage::start(2).await;
    let custom = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/n";
    let at = "2026-01-01T00:00:00Z";
    let value =
        |name: &str, value: &str| json!({"describedObject": {"name": name}, "timestamp": at, "value": value});
    let each: Vec<Value> = stage.pods().iter().map(|name| value(name, "20")).collect();
    let pods = format!("{custom}/pods/*/rps?labelSelector=app%3Dweb&metricLabelSelector=verb%3DGET");
    let deployment = format!("{custom}/deployments.apps/web/waiting");
    // An older server: only the first version is there.
    let namespace = "/apis/custom.metrics.k8s.io/v1beta1/namespaces/n/metrics/load";
    let external = "/apis/external.metrics.k8s.io/v1beta1/namespaces/n/queue?labelSelector=topic%3Dorders";
    let serve = |path: &str, items: &[Value]| stage.cluster.client.serve_path(path, &json!({"items": items}));
    serve(&pods, &each);
    serve(&deployment, &[value("web", "90")]);
    serve(namespace, &[value("n", "1")]);
    serve(external, &[value("", "40"), value("", "60")]);
    let selector = |key: &str, value: &str| json!({"matchLabels": {(key): value}});
    let target = |kind: &str, field: &str, value: &str| json!({"type": kind, (field): value});
    let about = |api: &str, kind: &str, name: &str| json!({"apiVersion": api, "kind": kind, "name": name});
    let metrics = [
        (
            json!({"type": "Pods", "pods": {"metric": {"name": "rps", "selector": selector("verb", "GET")},
            "target": target("AverageValue", "averageValue", "10")}}),
            4,
            "pods metric rps",
        ),
        (
            json!({"type": "Object", "object": {"metric": {"name": "waiting"},
            "describedObject": about("apps/v1", "Deployment", "web"),
            "target": target("AverageValue", "averageValue", "30")}}),
            3,
            "Deployment metric waiting",
        ),
        (
            json!({"type": "Object", "object": {"metric": {"name": "load"},
            "describedObject": about("v1", "Namespace", "n"),
            "target": target("Value", "value", "500m")}}),
            4,
            "Namespace metric load",
        ),
        (
            json!({"type": "External", "external": {"metric": {"name": "queue", "selector": selector("topic", "orders")},
            "target": target("AverageValue", "averageValue", "25")}}),
            4,
            "external metric queue",
        ),
    ];
    for (metric, size, name) in metrics {
        let told = stage.autoscale(&json!([metric])).await;
        assert_eq!(told, format!("SuccessfulRescale: New size: {size}; reason: {name} above target"));
    }
    let missing = json!([{"type": "Pods", "pods": {"metric": {"name": "none"},
        "target": target("AverageValue", "averageValue", "10")}}]);
    let told = stage.autoscale(&missing).await;
    assert!(told.starts_with("FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1)"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn two_autoscalers_of_one_pod_scale_nothing() {
    let stage = Stage::start(2).await;
    let client = &stage.cluster.client;
    let external = json!([{"type": "External", "external": {"metric": {"name": "queue"},
        "target": {"type": "AverageValue", "averageValue": "1"}}}]);
    client.serve_path(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/n/queue",
        &json!({"items": [{"timestamp": "2026-01-01T00:00:00Z", "value": "2"}]}),
    );
    let mut second = hpa(&external, &json!(null));
    client.put(&second);
    stage.cluster.settle().await;
    second.metadata.name = Some("web-too".into());
    client.put(&second);
    tokio::time::sleep(PERIOD * 2).await;
    for name in ["web", "web-too"] {
        let status = client.find::<HorizontalPodAutoscaler>("n", name).unwrap().status.unwrap();
        let told = status.conditions.unwrap().into_iter().find(|one| one.type_ == "ScalingActive").unwrap();
        assert_eq!((told.status.as_str(), told.reason.as_deref()), ("False", Some("AmbiguousSelector")));
        let why = "pods by selector app=web are controlled by multiple HPAs: [n/web n/web-too]";
        assert_eq!(told.message.as_deref(), Some(why));
    }
    client.remove(&HorizontalPodAutoscaler::GVR, "n", "web-too");
    tokio::time::sleep(PERIOD * 2).await;
    let status = client.find::<HorizontalPodAutoscaler>("n", "web").unwrap().status.unwrap();
    assert!(status.conditions.unwrap().iter().any(|one| one.reason.as_deref() == Some("ValidMetricFound")));
}

#[test]
fn a_container_alone_can_be_measured_and_tolerances_are_the_users() {
    let container = json!([{"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c",
        "target": {"type": "Utilization", "averageUtilization": 50}}}]);
    let size = |behavior: &Value, milli: i64| {
        size_of(&decide(&hpa(&container, behavior), 10, &pods(10, 0), &[Ok(reading(&[milli; 10]))]))
    };
    assert_eq!(size(&json!(null), 540), None, "a tenth is tolerated");
    assert_eq!(size(&json!({"scaleUp": {"tolerance": "0.05"}}), 540), Some(11));
    let both = json!({"scaleUp": {"tolerance": "0"},
        "scaleDown": {"tolerance": "0.5", "stabilizationWindowSeconds": 0}});
    assert_eq!(size(&both, 510), Some(11));
    assert_eq!(size(&both, 260), None, "down, a half is tolerated");
    assert_eq!(size(&both, 240), Some(5));
}

#[test]
fn the_request_of_a_pod_as_a_whole_comes_before_its_containers() {
    let view = |whole: Value| {
        let request = json!({"requests": {"cpu": "1"}});
        let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"resources": whole,
            "containers": [{"name": "a", "resources": request}, {"name": "b", "resources": request}]}});
        PodView::of(&crate::pods::Facts::of(&Object::from_value(&pod).unwrap()).unwrap())
    };
    assert_eq!(view(json!({})).request("cpu", None), Ok(2000));
    let whole = view(json!({"requests": {"cpu": "5"}}));
    assert_eq!((whole.request("cpu", None), whole.request("cpu", Some("a"))), (Ok(5000), Ok(1000)));
    assert!(whole.request("memory", None).unwrap_err().starts_with("missing pod-level request for memory"));
}

/// A Deployment with its pods at work, to be autoscaled.
struct Stage {
    cluster: Cluster,
}

impl Stage {
    async fn start(replicas: i32) -> Self {
        let client = FakeClient::new();
        crate::testing::serve_discovery(&client);
        let namespaces =
            json!({"name": "namespaces", "kind": "Namespace", "namespaced": false, "verbs": ["get"]});
        let pods =
            json!({"name": "pods", "kind": "Pod", "namespaced": true, "verbs": ["get", "list", "watch"]});
        client.serve_path("/api/v1", &json!({"resources": [namespaces, pods]}));
        let config = Config { disabled: vec!["garbage-collector".into()], ..Config::default() };
        let cluster = Cluster::start_with(client, config);
        let deployment: Deployment = typed(json!({
            "metadata": {"name": "web", "namespace": "n"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}}},
        }));
        cluster.client.put(&deployment);
        cluster.settle().await;
        cluster.run_pods().await;
        Self { cluster }
    }

    fn pods(&self) -> Vec<String> {
        let pods = self.cluster.client.all::<k8s_openapi::api::core::v1::Pod>("n");
        pods.iter().map(|pod| pod.name().to_owned()).collect()
    }

    /// What comes of a fresh autoscaler with these metrics, of a Deployment that is brought back to two.
    async fn autoscale(&self, metrics: &Value) -> String {
        let client = &self.cluster.client;
        client.put(&hpa(metrics, &json!(null)));
        self.cluster.settle().await;
        let ours = ["SuccessfulRescale", "FailedComputeMetricsReplicas"];
        let mut told = self.cluster.events().into_iter();
        let told = told.rfind(|event| ours.iter().any(|reason| event.starts_with(reason)));
        client.remove(&HorizontalPodAutoscaler::GVR, "n", "web");
        let size = json!({"spec": {"replicas": 2}});
        let deployments = self.cluster.api::<Deployment>("n");
        deployments.patch("web", tiphys_client::PatchKind::Merge, &size).await.unwrap();
        self.cluster.settle().await;
        self.cluster.run_pods().await;
        told.unwrap()
    }
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
