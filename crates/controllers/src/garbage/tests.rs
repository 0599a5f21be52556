use tiphys_api::{Value, json};
use tiphys_client::fake::FakeClient;

use super::*;
use crate::testing::{Cluster, serve_discovery};

const SETS: Gvr = Gvr::new("apps", "v1", "replicasets");
const DEPLOYMENTS: Gvr = Gvr::new("apps", "v1", "deployments");
const MAPS: Gvr = Gvr::new("", "v1", "configmaps");

fn owner(kind: &str, uid: &str) -> Value {
    json!({"apiVersion": if kind == "ConfigMap" { "v1" } else { "apps/v1" }, "kind": kind, "name": uid, "uid": uid,
        "blockOwnerDeletion": true})
}

fn put(client: &FakeClient, gvr: &Gvr, name: &str, owners: &[Value]) {
    let metadata = json!({"name": name, "namespace": "n", "uid": name, "ownerReferences": owners});
    client.put_value(gvr, &json!({"metadata": metadata}));
}

async fn exists(client: &FakeClient, gvr: &Gvr, name: &str) -> bool {
    client.get(&Target::new(gvr, "n", name)).await.is_ok()
}

fn only_collecting() -> crate::Config {
    let others = ["deployment", "replicaset"].map(String::from).to_vec();
    crate::Config { disabled: others, ..crate::Config::default() }
}

/// map `leaf` belongs to set `mid` belongs to deployment `top`.
async fn chain() -> Cluster {
    let client = FakeClient::new();
    serve_discovery(&client);
    put(&client, &DEPLOYMENTS, "top", &[]);
    put(&client, &SETS, "mid", &[owner("Deployment", "top")]);
    put(&client, &MAPS, "leaf", &[owner("ReplicaSet", "mid")]);
    let cluster = Cluster::start_with(client, only_collecting());
    cluster.settle().await;
    cluster
}

async fn delete_top(cluster: &Cluster, propagation: &'static str) {
    let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
    cluster.client.delete(&Target::new(&DEPLOYMENTS, "n", "top"), &options).await.unwrap();
    cluster.settle().await;
}

#[tokio::test(start_paused = true)]
async fn dependents_follow_their_owner() {
    for propagation in ["Background", "Foreground"] {
        let cluster = chain().await;
        assert!(exists(&cluster.client, &MAPS, "leaf").await, "nothing goes while the owner lives");
        delete_top(&cluster, propagation).await;
        for (gvr, name) in [(&DEPLOYMENTS, "top"), (&SETS, "mid"), (&MAPS, "leaf")] {
            assert!(!exists(&cluster.client, gvr, name).await, "{name} after {propagation}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_foreground_owner_waits_for_the_last_of_its_dependents() {
    let cluster = chain().await;
    let merge = async |finalizers: Value| {
        let patch = json!({"metadata": {"finalizers": finalizers}}).to_string();
        let leaf = Target::new(&MAPS, "n", "leaf");
        let options = WriteOptions::default();
        cluster.client.patch(&leaf, PatchKind::Merge, patch.into(), &options).await.unwrap();
    };
    merge(json!(["example.com/hold"])).await;
    delete_top(&cluster, "Foreground").await;
    assert!(
        exists(&cluster.client, &DEPLOYMENTS, "top").await && exists(&cluster.client, &SETS, "mid").await
    );
    merge(Value::Null).await;
    cluster.settle().await;
    assert!(
        !exists(&cluster.client, &DEPLOYMENTS, "top").await && !exists(&cluster.client, &SETS, "mid").await
    );
}

#[tokio::test(start_paused = true)]
async fn orphans_are_left_alone() {
    let cluster = chain().await;
    delete_top(&cluster, "Orphan").await;
    assert!(!exists(&cluster.client, &DEPLOYMENTS, "top").await);
    let mid = cluster.client.get(&Target::new(&SETS, "n", "mid")).await.unwrap();
    assert!(mid.meta().owners.is_empty());
    assert!(exists(&cluster.client, &MAPS, "leaf").await);
}

#[tokio::test(start_paused = true)]
async fn absence_is_checked_before_anything_goes() {
    let client = FakeClient::new();
    serve_discovery(&client);
    put(&client, &SETS, "alive", &[]);
    put(&client, &MAPS, "two-owners", &[owner("ReplicaSet", "alive"), owner("ReplicaSet", "gone")]);
    put(&client, &MAPS, "no-owner-left", &[owner("ReplicaSet", "gone")]);
    // The name exists, but it is another object.
    put(&client, &SETS, "reborn", &[]);
    let mut old = owner("ReplicaSet", "reborn");
    old["uid"] = "older".into();
    put(&client, &MAPS, "of-the-former", &[old]);
    let unknown = json!({"apiVersion": "example.com/v1", "kind": "Thing", "name": "t", "uid": "t"});
    put(&client, &MAPS, "of-the-unknown", &[unknown]);
    let cluster = Cluster::start_with(client.clone(), only_collecting());
    cluster.settle().await;
    assert!(!exists(&client, &MAPS, "no-owner-left").await);
    assert!(!exists(&client, &MAPS, "of-the-former").await);
    assert!(exists(&client, &MAPS, "of-the-unknown").await);
    let kept = client.get(&Target::new(&MAPS, "n", "two-owners")).await.unwrap();
    let names: Vec<_> = kept.meta().owners.iter().map(|owner| owner.name.as_ref()).collect();
    assert_eq!(names, ["alive"]);
    drop(cluster);
}

#[tokio::test(start_paused = true)]
async fn custom_resources_own_and_are_owned_as_soon_as_they_are_served() {
    const THINGS: Gvr = Gvr::new("example.com", "v1", "things");
    let client = FakeClient::new();
    serve_discovery(&client);
    let cluster = Cluster::start_with(client.clone(), only_collecting());
    cluster.settle().await;
    serve_things(&client);
    let definition = json!({"metadata": {"name": "things.example.com", "uid": "definition"}});
    client.put_value(&Gvr::new("apiextensions.k8s.io", "v1", "customresourcedefinitions"), &definition);
    let thing = |uid: &str| json!({"apiVersion": "example.com/v1", "kind": "Thing", "name": uid, "uid": uid});
    put(&client, &THINGS, "top", &[]);
    put(&client, &THINGS, "mid", &[thing("top")]);
    put(&client, &MAPS, "leaf", &[thing("mid")]);
    put(&client, &MAPS, "lost", &[thing("never")]);
    cluster.settle().await;
    assert!(exists(&client, &MAPS, "leaf").await && !exists(&client, &MAPS, "lost").await);
    let options = DeleteOptions { propagation: Some("Background"), ..DeleteOptions::default() };
    client.delete(&Target::new(&THINGS, "n", "top"), &options).await.unwrap();
    cluster.settle().await;
    assert!(!exists(&client, &THINGS, "mid").await && !exists(&client, &MAPS, "leaf").await);
}

/// Discovery of one custom resource more.
fn serve_things(client: &FakeClient) {
    let group = |name: &str| {
        let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
        json!({"name": name, "versions": [version], "preferredVersion": version})
    };
    client.serve_path("/apis", &json!({"groups": [group("apps"), group("example.com")]}));
    let verbs = ["create", "delete", "get", "list", "patch", "update", "watch"];
    let things = json!({"name": "things", "kind": "Thing", "namespaced": true, "verbs": verbs});
    client.serve_path("/apis/example.com/v1", &json!({"resources": [things]}));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_listed_holds_nothing_else_up() {
    let client = FakeClient::new();
    serve_discovery(&client);
    client.fail(Box::new(|verb, target| {
        let refused = verb == "list" && target.gvr == MAPS;
        refused.then(|| Status::unavailable("conversion webhook does not answer"))
    }));
    put(&client, &SETS, "left", &[owner("Deployment", "gone")]);
    put(&client, &MAPS, "unseen", &[owner("Deployment", "gone")]);
    let cluster = Cluster::start_with(client.clone(), only_collecting());
    tokio::time::sleep(FIRST_LISTS).await;
    cluster.settle().await;
    assert!(!exists(&client, &SETS, "left").await && exists(&client, &MAPS, "unseen").await);
    // Who is to leave dependents behind waits until all of them are known.
    put(&client, &DEPLOYMENTS, "top", &[]);
    put(&client, &MAPS, "kept", &[owner("Deployment", "top")]);
    delete_top(&cluster, "Orphan").await;
    assert!(exists(&client, &DEPLOYMENTS, "top").await);
    // What is seen at last goes, too.
    client.fail(Box::new(|_, _| None));
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(!exists(&client, &MAPS, "unseen").await && !exists(&client, &DEPLOYMENTS, "top").await);
    assert!(exists(&client, &MAPS, "kept").await);
}
