use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::{Value, json};
use tiphys_client::fake::FakeClient;
use tokio_util::sync::CancellationToken;

use super::*;

fn node(name: &str, cpu: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name},
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}}})
}

fn waiting(name: &str, cpu: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "n", "uid": name},
        "spec": {"schedulerName": "default-scheduler",
            "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
}

/// Waits for a state that some event brings about; paused time makes the wait free.
async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came about");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_fits_nowhere_says_why_and_is_bound_when_a_node_comes() {
    let fake = Arc::new(FakeClient::new());
    fake.put_value(&NODES, &node("small", "1"));
    fake.put_value(&PODS, &waiting("p", "2"));
    let stop = CancellationToken::new();
    let task = tokio::spawn(run(Config::default(), fake.clone(), stop.clone()));
    let message = |pod: &Pod| pod.status.clone()?.conditions?.first()?.message.clone();
    let told = || fake.find::<Pod>("n", "p").and_then(|p| message(&p));
    until(|| told().as_deref() == Some("0/1 nodes are available: 1 Insufficient cpu.")).await;
    until(|| fake.all::<Event>("n").iter().any(|e| e.reason.as_deref() == Some("FailedScheduling"))).await;
    fake.put_value(&NODES, &node("large", "4"));
    let bound = || fake.find::<Pod>("n", "p").and_then(|p| p.spec?.node_name);
    until(|| bound().as_deref() == Some("large")).await;
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn pods_decided_in_a_burst_never_overfill_a_node() {
    let fake = Arc::new(FakeClient::new());
    fake.put_value(&NODES, &node("a", "2"));
    fake.put_value(&NODES, &node("b", "2"));
    for i in 0..6 {
        fake.put_value(&PODS, &waiting(&format!("p{i}"), "1"));
    }
    let stop = CancellationToken::new();
    let task = tokio::spawn(run(Config::default(), fake.clone(), stop.clone()));
    let on = |node: &str| {
        let all = fake.all::<Pod>("n");
        all.iter().filter(|p| p.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(node)).count()
    };
    until(|| on("a") + on("b") == 4).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((on("a"), on("b")), (2, 2));
    stop.cancel();
    task.await.unwrap();
}
