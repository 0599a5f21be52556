use k8s_openapi::api::core::v1::Pod;
use tiphys_client::fake::FakeClient;
use tiphys_client::{DeleteOptions, PatchKind};

use super::*;
use crate::testing::{Cluster, typed};

fn node(name: &str, taint: Option<&str>) -> Node {
    let taints: Vec<_> =
        taint.into_iter().map(|effect| json!({"key": "dedicated", "effect": effect})).collect();
    typed(json!({"metadata": {"name": name}, "spec": {"taints": taints}, "status": {"conditions": [
        {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]}}))
}

fn set(image: &str) -> DaemonSet {
    typed(json!({
        "metadata": {"name": "agent", "namespace": "n", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": {
            "metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [{"name": "c", "image": image}]}}},
    }))
}

/// Schedules pods to the nodes they are meant for and makes them ready; removes those under deletion.
async fn run_pods(cluster: &Cluster) {
    for mut pod in cluster.client.all::<Pod>("n") {
        if pod.metadata.deletion_timestamp.is_some() {
            cluster.client.remove(&Pod::GVR, "n", pod.name());
        } else if pod.status.as_ref().is_none_or(|status| status.phase.is_none()) {
            let target = plan::target(&Facts::of(&cluster.client.put(&pod)).unwrap());
            pod.spec.as_mut().unwrap().node_name = target;
            pod.status =
                Some(typed(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})));
            cluster.client.put(&pod);
        }
    }
    cluster.settle().await;
}

/// `node image` of all pods.
fn pods(cluster: &Cluster) -> Vec<String> {
    let text = |pod: &Pod| {
        let spec = pod.spec.as_ref().unwrap();
        format!(
            "{} {}",
            spec.node_name.clone().unwrap_or_default(),
            spec.containers[0].image.clone().unwrap()
        )
    };
    let mut all: Vec<_> = cluster.client.all::<Pod>("n").iter().map(text).collect();
    all.sort();
    all
}

async fn start() -> Cluster {
    let client = FakeClient::new();
    for (name, taint) in [("a", None), ("b", None), ("c", None), ("tainted", Some("NoSchedule"))] {
        client.put(&node(name, taint));
    }
    let cluster = Cluster::start(client);
    cluster.api::<DaemonSet>("n").create(&set("one")).await.unwrap();
    cluster.settle().await;
    run_pods(&cluster).await;
    cluster
}

#[tokio::test(start_paused = true)]
async fn every_fitting_node_gets_one() {
    let cluster = start().await;
    assert_eq!(pods(&cluster), ["a one", "b one", "c one"]);
    let status = cluster.api::<DaemonSet>("n").get("agent").await.unwrap().status.unwrap();
    assert_eq!(
        (status.desired_number_scheduled, status.number_ready, status.number_unavailable),
        (3, 3, None)
    );
    let writes = cluster.client.writes();
    cluster.settle().await;
    assert_eq!(cluster.client.writes(), writes);

    cluster.client.put(&node("d", None));
    cluster.client.put(&node("a", Some("NoExecute")));
    cluster.settle().await;
    run_pods(&cluster).await;
    run_pods(&cluster).await;
    assert_eq!(pods(&cluster), ["b one", "c one", "d one"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_template_goes_node_by_node() {
    let cluster = start().await;
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}});
    cluster.api::<DaemonSet>("n").patch("agent", PatchKind::Merge, &patch).await.unwrap();
    cluster.settle().await;
    let going =
        cluster.client.all::<Pod>("n").iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()).count();
    assert_eq!(going, 1, "one may be unavailable");
    for _ in 0..12 {
        run_pods(&cluster).await;
    }
    assert_eq!(pods(&cluster), ["a two", "b two", "c two"]);
    assert_eq!(cluster.client.all::<ControllerRevision>("n").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_ended_or_deleted_pod_is_replaced() {
    let cluster = start().await;
    let name = cluster.client.all::<Pod>("n")[0].name().to_owned();
    cluster.api::<Pod>("n").delete(&name, &DeleteOptions::default()).await.unwrap();
    let mut failed = cluster.client.all::<Pod>("n").remove(1);
    failed.status = Some(typed(json!({"phase": "Failed"})));
    cluster.client.put(&failed);
    for _ in 0..4 {
        cluster.settle().await;
        run_pods(&cluster).await;
    }
    assert_eq!(pods(&cluster), ["a one", "b one", "c one"]);
    assert!(
        cluster.events().iter().any(|event| event.starts_with("FailedDaemonPod: Found failed daemon pod n/"))
    );
}
