//! The garbage collector: what goes with its owner, what stays, and in which order.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::cases::Run;
use crate::cases::conformance::Table;
use crate::harness::Namespace;
use crate::objects::{At, DEPLOYMENT, Kind, Objects, POD, REPLICA_SET, REPLICATION_CONTROLLER};

pub const CASES: Table = &[
    (
        &["[sig-api-machinery] Garbage collector should delete pods created by rc when not orphaning"],
        Run::Simulated(|ns| deletes(ns, REPLICATION_CONTROLLER)),
    ),
    (
        &["[sig-api-machinery] Garbage collector should delete RS created by deployment when not orphaning"],
        Run::Simulated(|ns| deletes(ns, DEPLOYMENT)),
    ),
    (
        &["[sig-api-machinery] Garbage collector should orphan pods created by rc if delete options say so"],
        Run::Simulated(|ns| orphans(ns, REPLICATION_CONTROLLER)),
    ),
    (
        &["[sig-api-machinery] Garbage collector should orphan RS created by deployment when \
             deleteOptions.PropagationPolicy is Orphan"],
        Run::Simulated(|ns| orphans(ns, DEPLOYMENT)),
    ),
    (
        &[
            "[sig-api-machinery] Garbage collector should keep the rc around until all its pods are deleted if the \
             deleteOptions says so",
        ],
        Run::Simulated(foreground),
    ),
    (
        &[
            "[sig-api-machinery] Garbage collector should not delete dependents that have both valid owner and owner \
             that's waiting for dependents to be deleted",
        ],
        Run::Simulated(two_owners),
    ),
    (
        &["[sig-api-machinery] Garbage collector should not be blocked by dependency circle"],
        Run::Simulated(circle),
    ),
];

const PODS: usize = 10;

/// An owner of pods with the label `app=NAME`, once it has them all.
fn owner<'a>(objects: &'a Objects, kind: Kind, name: &str) -> Result<At<'a>> {
    let labels = json!({"app": name});
    let selector =
        if kind == REPLICATION_CONTROLLER { labels.clone() } else { json!({"matchLabels": labels}) };
    let pod = json!({"metadata": {"labels": labels}, "spec": spec()});
    let owner = objects.at(kind, name);
    owner.create(json!({"spec": {"replicas": PODS, "selector": selector, "template": pod}}))?;
    owner.until("it has all its pods", |owner| owner["status"]["readyReplicas"] == PODS)?;
    Ok(owner)
}

fn spec() -> Value {
    json!({"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "example/web:1"}]})
}

fn delete(owner: &At<'_>, policy: &str) -> Result<()> {
    owner.delete(&json!({"propagationPolicy": policy})).map(drop)
}

fn deletes(ns: &Namespace<'_>, kind: Kind) -> Result<()> {
    let objects = Objects::of(ns)?;
    let web = owner(&objects, kind, "web")?;
    delete(&web, "Background")?;
    web.gone()?;
    objects.until(REPLICA_SET, "", "the ReplicaSet is deleted", <[Value]>::is_empty)?;
    objects.until(POD, "", "all pods are deleted", <[Value]>::is_empty).map(drop)
}

fn orphans(ns: &Namespace<'_>, kind: Kind) -> Result<()> {
    let objects = Objects::of(ns)?;
    let web = owner(&objects, kind, "web")?;
    let before = objects.items(POD, "")?;
    delete(&web, "Orphan")?;
    web.gone()?;
    let orphan = |object: &Value| object["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty);
    let pods = objects.items(POD, "")?;
    if kind == DEPLOYMENT {
        let sets = objects.items(REPLICA_SET, "")?;
        ensure!(sets.len() == 1 && orphan(&sets[0]), "{sets:?}");
        ensure!(!pods.iter().any(orphan), "the pods are the ReplicaSet's");
    } else {
        ensure!(pods.iter().all(orphan), "{pods:?}");
    }
    let alive = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_null();
    ensure!(pods.len() == before.len() && pods.iter().all(alive), "{pods:?}");
    Ok(())
}

fn foreground(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let web = owner(&objects, REPLICATION_CONTROLLER, "web")?;
    let mut changes = objects.watch(REPLICATION_CONTROLLER, "")?;
    delete(&web, "Foreground")?;
    let mut waits = false;
    let last = loop {
        let (event, web) = changes.next()?;
        let finalizers = web["metadata"]["finalizers"].to_string();
        waits |= event == "MODIFIED" && finalizers.contains("foregroundDeletion");
        if event == "DELETED" {
            break web;
        }
    };
    ensure!(waits, "it waits for its pods: {last}");
    let left = objects.items(POD, "")?;
    ensure!(left.is_empty(), "they are deleted before it: {left:?}");
    Ok(())
}

fn two_owners(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let going = owner(&objects, REPLICATION_CONTROLLER, "going")?;
    let stays = objects.at(REPLICATION_CONTROLLER, "stays");
    let template = json!({"metadata": {"labels": {"app": "stays"}}, "spec": spec()});
    let made =
        stays.create(json!({"spec": {"replicas": 0, "selector": {"app": "stays"}, "template": template}}))?;
    let second = json!({"apiVersion": "v1", "kind": "ReplicationController", "name": "stays",
        "uid": made["metadata"]["uid"]});
    let pods = objects.items(POD, "labelSelector=app=going")?;
    let (half, _) = pods.split_at(PODS / 2);
    for pod in half {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        objects.at(POD, name).patch(&json!({"metadata": {"ownerReferences": [second]}}))?;
    }
    delete(&going, "Foreground")?;
    going.gone()?;
    let left = objects.items(POD, "labelSelector=app=going")?;
    let owned = |pod: &Value| {
        let owners = pod["metadata"]["ownerReferences"].as_array();
        owners.is_some_and(|owners| owners.len() == 1 && owners[0]["name"] == "stays")
    };
    let alive = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_null();
    ensure!(left.len() == half.len() && left.iter().all(|pod| owned(pod) && alive(pod)), "{left:?}");
    Ok(())
}

fn circle(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let names = ["pod1", "pod2", "pod3"];
    let mut made = Vec::new();
    for name in names {
        made.push(objects.at(POD, name).create(json!({"spec": spec()}))?);
    }
    for (at, name) in names.into_iter().enumerate() {
        let owner = &made[(at + 2) % 3]["metadata"];
        let reference = json!({"apiVersion": "v1", "kind": "Pod", "name": owner["name"], "uid": owner["uid"],
            "controller": true, "blockOwnerDeletion": true});
        objects.at(POD, name).patch(&json!({"metadata": {"ownerReferences": [reference]}}))?;
    }
    delete(&objects.at(POD, "pod1"), "Foreground")?;
    objects.until(POD, "", "all are deleted", <[Value]>::is_empty).map(drop)
}
