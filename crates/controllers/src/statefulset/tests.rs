use k8s_openapi::api::core::v1::Pod;
use tiphys_api::{Value, json};
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

#[tokio::test(start_paused = true)]
async fn an_unhealthy_pod_stops_a_smaller_size() {
    let cluster = start(&json!({"podManagementPolicy": "Parallel"})).await;
    cluster.run_pods().await;
    let unready = |name: &str, ready: &str| {
        let mut pod = cluster.client.find::<Pod>("n", name).unwrap();
        pod.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = ready.into();
        cluster.client.put(&pod);
    };
    let in_order = json!({"metadata": {"name": "db", "namespace": "n"}, "spec": {"podManagementPolicy": "OrderedReady"}});
    cluster.api::<StatefulSet>("n").patch("db", PatchKind::Merge, &in_order).await.unwrap();
    ["db-0", "db-1", "db-2"].iter().for_each(|name| unready(name, "False"));
    patch(&cluster, &json!({"replicas": 0})).await;
    cluster.run_pods().await;
    assert_eq!(pods(&cluster).len(), 3, "none goes while those before it are unhealthy");
    unready("db-2", "True");
    cluster.settle().await;
    cluster.run_pods().await;
    assert_eq!(pods(&cluster), ["db-0 one", "db-1 one"]);
    unready("db-1", "True");
    cluster.settle().await;
    cluster.run_pods().await;
    // The last one hinders nobody.
    cluster.run_pods().await;
    assert!(pods(&cluster).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_has_ended_comes_again() {
    let cluster = start(&json!({"replicas": 1})).await;
    let mut pod = cluster.client.find::<Pod>("n", "db-0").unwrap();
    let uid = pod.metadata.uid.clone();
    pod.status = Some(typed(json!({"phase": "Failed"})));
    cluster.client.put(&pod);
    cluster.settle().await;
    assert_ne!(cluster.client.find::<Pod>("n", "db-0").unwrap().metadata.uid, uid);
    let told = "RecreatingFailedPod: StatefulSet n/db is recreating failed Pod db-0";
    assert!(cluster.events().contains(&told.to_owned()));
}

/// Kinds and names of the owners of every claim.
fn owners(cluster: &Cluster) -> Vec<String> {
    let text = |claim: &PersistentVolumeClaim| {
        let owners = claim.metadata.owner_references.iter().flatten();
        let owners: Vec<String> = owners.map(|owner| format!("{} {}", owner.kind, owner.name)).collect();
        format!("{}: {}", claim.name(), owners.join(","))
    };
    cluster.client.all::<PersistentVolumeClaim>("n").iter().map(text).collect()
}

#[tokio::test(start_paused = true)]
async fn claims_go_with_the_set_or_with_the_size_as_the_policy_says() {
    let cluster = start(&json!({"replicas": 2, "podManagementPolicy": "Parallel"})).await;
    cluster.run_pods().await;
    assert_eq!(owners(&cluster), ["data-db-0: ", "data-db-1: "]);
    let policy = |deleted: &str, scaled: &str| json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}});
    patch(&cluster, &policy("Delete", "Retain")).await;
    assert_eq!(owners(&cluster), ["data-db-0: StatefulSet db", "data-db-1: StatefulSet db"]);
    patch(&cluster, &policy("Delete", "Delete")).await;
    patch(&cluster, &json!({"replicas": 1})).await;
    assert_eq!(owners(&cluster), ["data-db-0: StatefulSet db", "data-db-1: Pod db-1"]);
    cluster.run_pods().await;
    // The set grows before the collector has removed the old claim: its pod waits.
    patch(&cluster, &json!({"replicas": 2})).await;
    assert_eq!(pods(&cluster), ["db-0 one"]);
    cluster.client.remove(&PersistentVolumeClaim::GVR, "n", "data-db-1");
    cluster.settle().await;
    assert_eq!(pods(&cluster), ["db-0 one", "db-1 one"]);
    patch(&cluster, &policy("Retain", "Retain")).await;
    assert_eq!(owners(&cluster), ["data-db-0: ", "data-db-1: "]);
}

#[tokio::test(start_paused = true)]
async fn as_many_are_replaced_at_once_as_may_be_away() {
    let cluster = start(&json!({"replicas": 5, "podManagementPolicy": "Parallel", "ordinals": {"start": 10},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}}))
    .await;
    cluster.run_pods().await;
    assert_eq!(pods(&cluster)[4], "db-14 one");
    patch(&cluster, &json!({"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}})).await;
    let going: Vec<_> = cluster
        .client
        .all::<Pod>("n")
        .into_iter()
        .filter(|p| p.metadata.deletion_timestamp.is_some())
        .collect();
    assert_eq!(going.iter().map(Kind::name).collect::<Vec<_>>(), ["db-13", "db-14"]);
    for _ in 0..8 {
        cluster.run_pods().await;
    }
    assert!(pods(&cluster).iter().all(|pod| pod.ends_with(" two")));
}
