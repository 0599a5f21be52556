use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use tiphys_api::{Value, json};
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

#[tokio::test(start_paused = true)]
async fn a_claim_that_waits_for_its_pod_is_told_the_node_and_the_pod_waits_for_its_volume() {
    use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
    use k8s_openapi::api::storage::v1::StorageClass;
    use tiphys_client::typed::Kind;
    let fake = Arc::new(FakeClient::new());
    let mut host = node("a", "4");
    host["metadata"]["labels"] = json!({"kubernetes.io/hostname": "a"});
    fake.put_value(&NODES, &host);
    let mut pod = waiting("p", "1");
    pod["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
    fake.put_value(&PODS, &pod);
    let stop = CancellationToken::new();
    let task = tokio::spawn(run(Config::default(), fake.clone(), stop.clone()));
    let told = || fake.find::<Pod>("n", "p")?.status?.conditions?.first()?.message.clone();
    let missing = r#"0/1 nodes are available: persistentvolumeclaim "c" not found."#;
    until(|| told().as_deref() == Some(missing)).await;
    let class =
        json!({"metadata": {"name": "s"}, "provisioner": "p", "volumeBindingMode": "WaitForFirstConsumer"});
    fake.put_value(&StorageClass::GVR, &class);
    let mut claim = json!({"metadata": {"name": "c", "namespace": "n"}, "spec": {"storageClassName": "s",
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    fake.put_value(&PersistentVolumeClaim::GVR, &claim);
    let selected = || {
        let claim = fake.find::<PersistentVolumeClaim>("n", "c")?;
        claim.metadata.annotations?.get("volume.kubernetes.io/selected-node").cloned()
    };
    until(|| selected().as_deref() == Some("a")).await;
    let bound = || fake.find::<Pod>("n", "p").and_then(|p| p.spec?.node_name);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(bound(), None);
    let term = |host: &str| {
        json!({"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}]})
    };
    let affinity = json!({"required": {"nodeSelectorTerms": [term("a")]}});
    fake.put_value(
        &PersistentVolume::GVR,
        &json!({"metadata": {"name": "v"}, "spec": {"nodeAffinity": affinity}}),
    );
    claim["metadata"]["annotations"] = json!({"pv.kubernetes.io/bind-completed": "yes"});
    claim["spec"]["volumeName"] = "v".into();
    fake.put_value(&PersistentVolumeClaim::GVR, &claim);
    until(|| bound().as_deref() == Some("a")).await;

    // A second pod of the same volume goes nowhere else.
    fake.remove(&NODES, "", "a");
    fake.put_value(&NODES, &node("b", "4"));
    pod["metadata"]["name"] = "q".into();
    pod["metadata"]["uid"] = "q".into();
    fake.put_value(&PODS, &pod);
    let told = || fake.find::<Pod>("n", "q")?.status?.conditions?.first()?.message.clone();
    let conflict = "0/1 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity.";
    until(|| told().as_deref() == Some(conflict)).await;
    stop.cancel();
    task.await.unwrap();
}

/// As when another was elected meanwhile: its decisions count, not those of before.
#[tokio::test(start_paused = true)]
async fn a_binding_under_way_ends_with_the_scheduler() {
    let fake = FakeClient::new();
    fake.put_value(&NODES, &node("a", "2"));
    fake.put_value(&PODS, &waiting("p", "1"));
    let (slow, asked) = (fake.apart(), Arc::new(tokio::sync::Notify::new()));
    slow.arrive_after(Duration::from_secs(1));
    let binding = asked.clone();
    slow.fail(Box::new(move |_, target| {
        if target.subresource == "binding" {
            binding.notify_one();
        }
        None
    }));
    tokio::select! {
        () = run(Config::default(), Arc::new(slow), CancellationToken::new()) => panic!("it ended by itself"),
        () = asked.notified() => {}
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(fake.find::<Pod>("n", "p").unwrap().spec.unwrap().node_name, None);
}
