use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use tiphys_api::{Value, json};
use tiphys_client::fake::FakeClient;
use tiphys_client::typed::Kind;

use super::*;
use crate::testing::{Cluster, typed};

fn claim(name: &str, class: &str, size: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "n", "uid": format!("uid-{name}"),
            "finalizers": ["kubernetes.io/pvc-protection"]},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "resources": {"requests": {"storage": size}}},
        "status": {"phase": "Pending"},
    })
}

fn volume(name: &str, class: &str, size: &str) -> Value {
    json!({
        "metadata": {"name": name, "finalizers": ["kubernetes.io/pv-protection"]},
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, "storageClassName": class,
            "hostPath": {"path": "/x"}, "persistentVolumeReclaimPolicy": "Retain"},
        "status": {"phase": "Pending"},
    })
}

struct Store(FakeClient, Cluster);

impl Store {
    async fn with(objects: &[(&tiphys_api::Gvr, Value)]) -> Self {
        let client = FakeClient::new();
        objects.iter().for_each(|(gvr, value)| drop(client.put_value(gvr, value)));
        let cluster = Cluster::start(client.clone());
        cluster.settle().await;
        Self(client, cluster)
    }

    fn claim(&self, name: &str) -> PersistentVolumeClaim {
        self.0.find("n", name).unwrap()
    }

    fn volume(&self, name: &str) -> PersistentVolume {
        self.0.find("", name).unwrap()
    }

    fn phases(&self, claim: &str, volume: &str) -> (String, String) {
        (claim_phase(&self.claim(claim)).to_owned(), volume_phase(&self.volume(volume)).to_owned())
    }

    async fn delete<T: Kind>(&self, namespace: &str, name: &str) {
        let options = tiphys_client::DeleteOptions::default();
        self.1.api::<T>(namespace).delete(name, &options).await.unwrap();
        self.1.settle().await;
    }
}

const CLAIMS: &tiphys_api::Gvr = &PersistentVolumeClaim::GVR;
const VOLUMES: &tiphys_api::Gvr = &PersistentVolume::GVR;

#[tokio::test(start_paused = true)]
async fn a_claim_gets_the_smallest_volume_that_suits_and_keeps_it_while_a_pod_uses_it() {
    let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"nodeName": "n1", "containers": [],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}, "status": {"phase": "Running"}});
    let store = Store::with(&[
        (VOLUMES, volume("big", "", "10Gi")),
        (VOLUMES, volume("small", "", "1Gi")),
        (VOLUMES, volume("right", "", "5Gi")),
        (VOLUMES, volume("other", "x", "5Gi")),
        (CLAIMS, claim("c", "", "3Gi")),
        (&Pod::GVR, pod),
    ])
    .await;
    assert_eq!(store.phases("c", "right"), ("Bound".into(), "Bound".into()));
    let bound = store.claim("c");
    assert_eq!(volume_name(&bound), "right");
    assert_eq!(annotation(&bound.metadata, BIND_COMPLETED), Some("yes"));
    assert_eq!(bound.status.unwrap().capacity.unwrap()["storage"].0, "5Gi");
    assert_eq!(volume_phase(&store.volume("big")), "Available");
    let writes = store.0.writes();
    store.1.settle().await;
    assert_eq!(store.0.writes(), writes, "a bound claim is at rest");

    store.delete::<PersistentVolume>("", "right").await;
    store.delete::<PersistentVolumeClaim>("n", "c").await;
    assert!(store.claim("c").metadata.deletion_timestamp.is_some(), "the pod uses it");
    store.0.remove(&Pod::GVR, "n", "p");
    store.1.settle().await;
    assert!(store.0.find::<PersistentVolumeClaim>("n", "c").is_none());
    assert!(store.0.find::<PersistentVolume>("", "right").is_none(), "its deletion waited for the claim's");
}

#[tokio::test(start_paused = true)]
async fn of_two_claims_one_gets_the_volume_and_the_other_the_next_that_comes() {
    let store = Store::with(&[
        (VOLUMES, volume("v", "", "1Gi")),
        (CLAIMS, claim("a", "", "1Gi")),
        (CLAIMS, claim("b", "", "1Gi")),
    ])
    .await;
    let phases = || [store.claim("a"), store.claim("b")].map(|claim| claim_phase(&claim).to_owned());
    let mut before = phases();
    before.sort();
    assert_eq!(before, ["Bound", "Pending"]);
    store.0.put_value(VOLUMES, &volume("w", "", "1Gi"));
    store.1.settle().await;
    assert_eq!(phases(), ["Bound", "Bound"]);
    // A bound claim whose volume is gone has lost its data.
    let lost = if volume_name(&store.claim("a")) == "v" { "a" } else { "b" };
    store.0.remove(VOLUMES, "", "v");
    store.1.settle().await;
    assert_eq!(claim_phase(&store.claim(lost)), "Lost");
    assert!(
        store.1.events().iter().any(|event| event.starts_with("ClaimLost: Bound claim has lost its Pers"))
    );
}

#[tokio::test(start_paused = true)]
async fn the_default_class_makes_a_directory_where_the_first_pod_runs_and_removes_it() {
    let node = json!({"metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "host-1"}}});
    let store = Store::with(&[(&Node::GVR, node), (CLAIMS, claim("c", "local-path", "2Gi"))]).await;
    let class = store.0.find::<StorageClass>("", "local-path").unwrap();
    assert!(waits_for_pod(&class));
    assert_eq!(claim_phase(&store.claim("c")), "Pending");
    let told = store.1.events();
    assert!(
        told.iter().any(|e| e.starts_with("WaitForFirstConsumer: waiting for first consumer")),
        "{told:?}"
    );
    let mut chosen = store.claim("c");
    annotate(&mut chosen.metadata, SELECTED_NODE, "n1");
    store.0.put(&chosen);
    store.1.settle().await;
    let name = format!("pvc-{}", chosen.uid());
    assert_eq!(store.phases("c", &name), ("Bound".into(), "Bound".into()));
    let spec = store.volume(&name).spec.unwrap();
    let path = spec.host_path.unwrap().path;
    assert_eq!(path, format!("/var/lib/tiphys/storage/{name}_n_c"));
    let affinity = Value::of(spec.node_affinity).unwrap();
    assert_eq!(
        affinity.pointer("/required/nodeSelectorTerms/0/matchExpressions/0/values/0").unwrap(),
        "host-1"
    );

    // It grows by word alone.
    let mut larger = store.claim("c");
    larger.spec.as_mut().unwrap().resources = typed(json!({"requests": {"storage": "4Gi"}}));
    store.0.put(&larger);
    store.1.settle().await;
    assert_eq!(store.claim("c").status.unwrap().capacity.unwrap()["storage"].0, "4Gi");
    assert_eq!(capacity(&store.volume(&name)).to_string(), "4Gi");

    store.delete::<PersistentVolumeClaim>("n", "c").await;
    assert_eq!(volume_phase(&store.volume(&name)), "Released");
    let mut remover = store.0.find::<Pod>("kube-system", &format!("remove-{name}")).unwrap();
    let spec = remover.spec.clone().unwrap();
    assert_eq!(spec.containers[0].command.clone().unwrap(), ["/bin/rm", &format!("/volumes/{name}_n_c")]);
    remover.status = typed(json!({"phase": "Succeeded"}));
    store.0.put(&remover);
    store.1.settle().await;
    assert!(store.0.find::<PersistentVolume>("", &name).is_none());
    let left = store.0.find::<Pod>("kube-system", &format!("remove-{name}"));
    assert!(left.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some()));
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_volume_is_a_claim_of_its_pod() {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"accessModes": ["ReadWriteOnce"],
        "storageClassName": "s", "resources": {"requests": {"storage": "1Gi"}}}});
    let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "pod"}, "spec": {"containers": [],
        "volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": template}}]}});
    let store = Store::with(&[(&Pod::GVR, pod)]).await;
    let made = store.claim("p-v");
    assert_eq!(made.metadata.owner_references.unwrap()[0].uid, "pod");
    assert_eq!(made.metadata.labels.unwrap()["a"], "b");
    let told = store.1.events();
    let missing = r#"ProvisioningFailed: storageclass.storage.k8s.io "s" not found"#;
    assert!(told.iter().any(|event| event == missing), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn volumes_of_drivers_are_attached_where_pods_need_them() {
    use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
    let node = json!({"metadata": {"name": "n1"}});
    let csi = json!({"driver": "d.example", "volumeHandle": "h"});
    let mut of_driver = volume("v", "", "1Gi");
    of_driver["spec"]["csi"] = csi;
    of_driver["spec"]["hostPath"] = Value::Null;
    let mut bound = claim("c", "", "1Gi");
    bound["spec"]["volumeName"] = "v".into();
    let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"nodeName": "n1", "containers": [],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}, "status": {"phase": "Running"}});
    let driver = json!({"metadata": {"name": "d.example"}, "spec": {"attachRequired": true}});
    let store = Store::with(&[
        (&CSIDriver::GVR, driver),
        (&Node::GVR, node),
        (VOLUMES, of_driver),
        (CLAIMS, bound),
        (&Pod::GVR, pod),
    ])
    .await;
    let mut made = store.0.all::<VolumeAttachment>("");
    assert_eq!(made.len(), 1);
    // What sha256sum makes of "hd.examplen1".
    assert!(made[0].name().starts_with("csi-") && made[0].name().len() == 4 + 64, "{}", made[0].name());
    assert_eq!(made[0].spec.source.persistent_volume_name.as_deref(), Some("v"));
    made[0].status = typed(json!({"attached": true}));
    store.0.put(&made[0]);
    store.1.settle().await;
    let told = || {
        store.0.find::<Node>("", "n1").unwrap().status.and_then(|s| s.volumes_attached).unwrap_or_default()
    };
    assert_eq!(told()[0].name, "kubernetes.io/csi/d.example^h");
    store.0.remove(&Pod::GVR, "n", "p");
    store.1.settle().await;
    assert!(store.0.all::<VolumeAttachment>("").is_empty() && told().is_empty());
}
