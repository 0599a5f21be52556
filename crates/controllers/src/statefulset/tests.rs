use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tiphys_client::PatchKind;
use tiphys_client::fake::FakeClient;

use super::*;
use crate::testing::{Cluster, typed};

fn set(extra: &Value) -> StatefulSet {
    let mut value = json!({
        "metadata": {"name": "db", "namespace": "n", "generation": 1},
        "spec": {"replicas": 3, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "template": {
            "metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]},
    });
    for (key, change) in extra.as_object().unwrap() {
        value["spec"][key] = change.clone();
    }
    typed(value)
}

async fn start(extra: &Value) -> Cluster {
    let cluster = Cluster::start(FakeClient::new());
    cluster.api::<StatefulSet>("n").create(&set(extra)).await.unwrap();
    cluster.settle().await;
    cluster
}

/// `name image` of all pods.
fn pods(cluster: &Cluster) -> Vec<String> {
    let text = |pod: &Pod| {
        let image = pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        format!("{} {image}", pod.name())
    };
    cluster.client.all::<Pod>("n").iter().map(text).collect()
}

async fn patch(cluster: &Cluster, spec: &Value) {
    let patch = json!({"spec": spec});
    cluster.api::<StatefulSet>("n").patch("db", PatchKind::Merge, &patch).await.unwrap();
    cluster.settle().await;
}

#[tokio::test(start_paused = true)]
async fn pods_come_and_go_one_by_one() {
    let cluster = start(&json!({})).await;
    assert_eq!(pods(&cluster), ["db-0 one"]);
    cluster.run_pods().await;
    assert_eq!(pods(&cluster), ["db-0 one", "db-1 one"]);
    cluster.run_pods().await;
    cluster.run_pods().await;
    assert_eq!(cluster.client.all::<PersistentVolumeClaim>("n").len(), 3);
    let spec = cluster.client.find::<Pod>("n", "db-2").unwrap().spec.unwrap();
    assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("db-2"), Some("db")));
    let claim = spec.volumes.unwrap()[0].persistent_volume_claim.clone().unwrap();
    assert_eq!(claim.claim_name, "data-db-2");
    let status = cluster.api::<StatefulSet>("n").get("db").await.unwrap().status.unwrap();
    assert_eq!((status.replicas, status.ready_replicas, status.updated_replicas), (3, Some(3), Some(3)));
    let writes = cluster.client.writes();
    cluster.settle().await;
    assert_eq!(cluster.client.writes(), writes);

    patch(&cluster, &json!({"replicas": 1})).await;
    let going: Vec<_> = cluster
        .client
        .all::<Pod>("n")
        .into_iter()
        .filter(|p| p.metadata.deletion_timestamp.is_some())
        .collect();
    assert_eq!(going.iter().map(Kind::name).collect::<Vec<_>>(), ["db-2"]);
    cluster.run_pods().await;
    cluster.run_pods().await;
    assert_eq!(pods(&cluster), ["db-0 one"]);
    assert!(
        cluster
            .events()
            .contains(&"SuccessfulDelete: delete Pod db-1 in StatefulSet db successful".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn an_update_goes_down_to_its_partition() {
    let cluster = start(&json!({"podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}}))
    .await;
    assert_eq!(pods(&cluster).len(), 3, "all at once");
    cluster.run_pods().await;
    patch(&cluster, &json!({"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}})).await;
    for _ in 0..8 {
        cluster.run_pods().await;
    }
    assert_eq!(pods(&cluster), ["db-0 one", "db-1 two", "db-2 two"]);
    // A pod below the partition comes back as it was.
    cluster.client.remove(&Pod::GVR, "n", "db-0");
    cluster.settle().await;
    assert_eq!(pods(&cluster), ["db-0 one", "db-1 two", "db-2 two"]);
    cluster.run_pods().await;
    patch(&cluster, &json!({"updateStrategy": {"rollingUpdate": {"partition": 0}}})).await;
    for _ in 0..4 {
        cluster.run_pods().await;
    }
    assert_eq!(pods(&cluster)[0], "db-0 two");
    let status = cluster.api::<StatefulSet>("n").get("db").await.unwrap().status.unwrap();
    assert_eq!(status.current_revision, status.update_revision);
}
