//! StatefulSets. Pods whose health a case decides have a readiness gate, which the case opens and closes.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    count, create, image, images, is_deleted, is_ready, keeps_status, labelled, observed, running, scales,
    uids,
};
use crate::cases::Run;
use crate::cases::conformance::Table;
use crate::harness::Namespace;
use crate::objects::{At, CONTROLLER_REVISION, Changes, Objects, POD, STATEFUL_SET, names};

pub const CASES: Table = &[
    (
        &[
            "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Scaling should happen in \
             predictable order and halt if any stateful pod is unhealthy [Slow]",
        ],
        Run::Simulated(ordered),
    ),
    (
        &[
            "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Burst scaling should run to \
             completion even with unhealthy pods [Slow]",
        ],
        Run::Simulated(burst),
    ),
    (
        &[
            "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Should recreate evicted \
             statefulset",
        ],
        Run::Simulated(evicted),
    ),
    (
        &[
            "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should have a working scale \
             subresource",
            "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should validate Statefulset \
             Status endpoints",
            "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should list, patch and delete a \
             collection of StatefulSets",
        ],
        Run::Simulated(subresources),
    ),
    (
        &[
            "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should perform canary updates \
             and phased rolling updates of template modifications",
        ],
        Run::Simulated(canary),
    ),
    (
        &[
            "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should perform rolling updates \
             and roll backs of template modifications",
        ],
        Run::Simulated(rolling_updates),
    ),
];

/// A StatefulSet `db` of so many pods, each with a gate.
fn gated<'a>(objects: &'a Objects, replicas: u32, policy: &str) -> Result<At<'a>> {
    let mut template = super::spec(STATEFUL_SET, "db", &json!({}))["template"].take();
    template["spec"]["readinessGates"] = json!([{"conditionType": "gate"}]);
    let spec = json!({"serviceName": "db", "replicas": replicas, "podManagementPolicy": policy, "template": template});
    create(objects, STATEFUL_SET, "db", &spec)
}

/// Opens or closes a pod's gate, and waits for its readiness to follow.
fn gate(objects: &Objects, name: &str, open: bool) -> Result<()> {
    let pod = objects.at(POD, name);
    pod.until("it is Running", |pod| pod["status"]["phase"] == "Running")?;
    let status = if open { "True" } else { "False" };
    let conditions = json!([{"type": "gate", "status": status}]);
    pod.sub("status").patch(&json!({"status": {"conditions": conditions}}))?;
    pod.until("its readiness follows the gate", |pod| is_ready(pod) == open).map(drop)
}

/// The next pod that comes, or goes.
fn next(changes: &mut Changes<'_>, wanted: &str) -> Result<String> {
    loop {
        let (event, pod) = changes.next()?;
        if event == wanted {
            return Ok(pod["metadata"]["name"].as_str().context("no name")?.to_owned());
        }
    }
}

fn ordered(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let mut changes = objects.watch(POD, &labelled("db"))?;
    let db = gated(&objects, 3, "OrderedReady")?;
    for (at, name) in ["db-0", "db-1", "db-2"].into_iter().enumerate() {
        ensure!(next(&mut changes, "ADDED")? == name);
        let running = |pod: &Value| pod["status"]["phase"] == "Running";
        objects.at(POD, name).until("it is Running", running)?;
        let seen = db.until("it is counted", |db| observed(db) && count(db, "replicas") == at as i64 + 1)?;
        ensure!(count(&seen, "readyReplicas") == at as i64, "{seen}");
        ensure!(objects.items(POD, &labelled("db"))?.len() == at + 1, "the next waits for this one's health");
        gate(&objects, name, true)?;
    }
    running(&objects, "db", 3)?;
    for name in ["db-0", "db-1", "db-2"] {
        gate(&objects, name, false)?;
    }
    db.until("none is healthy", |db| count(db, "readyReplicas") == 0)?;
    db.merge(&json!({"spec": {"replicas": 0}}))?;
    db.until("it is known", observed)?;
    let pods = objects.items(POD, &labelled("db"))?;
    ensure!(pods.len() == 3 && !pods.iter().any(is_deleted), "scaling down waits for health: {pods:?}");
    // The last one left unhealthy is the one to go, and those before it follow while they are healthy.
    for name in ["db-0", "db-1"] {
        gate(&objects, name, true)?;
    }
    for name in ["db-2", "db-1", "db-0"] {
        ensure!(next(&mut changes, "DELETED")? == name);
    }
    Ok(())
}

fn burst(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let db = gated(&objects, 1, "Parallel")?;
    db.until("one is there", |db| count(db, "replicas") == 1)?;
    db.merge(&json!({"spec": {"replicas": 3}}))?;
    let seen = db.until("all are there", |db| observed(db) && count(db, "replicas") == 3)?;
    ensure!(count(&seen, "readyReplicas") == 0, "{seen}");
    db.merge(&json!({"spec": {"replicas": 0}}))?;
    objects.until(POD, &labelled("db"), "all are gone, healthy or not", <[Value]>::is_empty)?;
    db.until("it is counted", |db| observed(db) && count(db, "replicas") == 0).map(drop)
}

fn evicted(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    create(&objects, STATEFUL_SET, "db", &json!({"serviceName": "db", "replicas": 1}))?;
    let before = running(&objects, "db", 1)?;
    let status =
        json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."});
    objects.at(POD, "db-0").sub("status").merge(&json!({"status": status}))?;
    let again = objects.until(POD, &labelled("db"), "it is made again", |pods| {
        pods.len() == 1 && is_ready(&pods[0]) && uids(pods) != uids(&before)
    })?;
    ensure!(names(&again) == ["db-0"] && again[0]["status"]["phase"] == "Running", "{again:?}");
    Ok(())
}

fn subresources(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let db = create(&objects, STATEFUL_SET, "db", &json!({"serviceName": "db", "replicas": 1}))?;
    running(&objects, "db", 1)?;
    keeps_status(&db)?;
    scales(&db)?;
    let patched = db.patch(&image("example/web:2"))?;
    ensure!(images_of(&patched) == "example/web:2", "{patched}");
    super::collection(&objects, STATEFUL_SET, "db")
}

fn images_of(set: &Value) -> &Value {
    &set["spec"]["template"]["spec"]["containers"][0]["image"]
}

/// Waits until the pods, by ordinal, have these versions of the image and run.
fn versions(objects: &Objects, wanted: [u32; 3]) -> Result<Vec<Value>> {
    objects.until(POD, &labelled("db"), &format!("the versions are {wanted:?}"), |pods| {
        let has = |(ordinal, version): (usize, &u32)| {
            let name = format!("db-{ordinal}");
            let pod = pods.iter().find(|pod| pod["metadata"]["name"] == name.as_str());
            pod.is_some_and(|pod| {
                images(std::slice::from_ref(pod)) == [format!("example/web:{version}")] && is_ready(pod)
            })
        };
        pods.len() == 3 && wanted.iter().enumerate().all(has)
    })
}

fn canary(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let strategy =
        |partition: u32| json!({"type": "RollingUpdate", "rollingUpdate": {"partition": partition}});
    let spec = json!({"serviceName": "db", "replicas": 3, "updateStrategy": strategy(3)});
    let db = create(&objects, STATEFUL_SET, "db", &spec)?;
    let before = versions(&objects, [1, 1, 1])?;
    let phase = |partition: u32| db.merge(&json!({"spec": {"updateStrategy": strategy(partition)}}));
    db.patch(&image("example/web:2"))?;
    let seen = db.until("the update is known", |db| {
        observed(db) && db["status"]["updateRevision"] != db["status"]["currentRevision"]
    })?;
    ensure!(count(&seen, "updatedReplicas") == 0, "{seen}");
    ensure!(uids(&objects.items(POD, &labelled("db"))?) == uids(&before), "all are below the partition");
    phase(2)?;
    let canary = versions(&objects, [1, 1, 2])?;
    // Deleted pods come back on their side of the partition.
    for name in ["db-0", "db-2"] {
        objects.at(POD, name).delete(&Value::Null)?;
    }
    objects.until(POD, &labelled("db"), "both are restored", |pods| {
        let kept = uids(pods).into_iter().filter(|uid| uids(&canary).contains(uid)).count();
        pods.len() == 3 && kept == 1
    })?;
    versions(&objects, [1, 1, 2])?;
    phase(1)?;
    versions(&objects, [1, 2, 2])?;
    phase(0)?;
    versions(&objects, [2, 2, 2])?;
    let done = db.until("the update is current", |db| {
        db["status"]["updateRevision"] == db["status"]["currentRevision"]
    })?;
    ensure!(count(&done, "currentReplicas") == 3, "{done}");
    Ok(())
}

fn rolling_updates(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let db = create(&objects, STATEFUL_SET, "db", &json!({"serviceName": "db", "replicas": 3}))?;
    versions(&objects, [1, 1, 1])?;
    let is_current = |db: &Value| {
        observed(db)
            && db["status"]["updateRevision"] == db["status"]["currentRevision"]
            && count(db, "readyReplicas") == 3
    };
    let first = db.until("it is current", is_current)?["status"]["currentRevision"].take();
    let mut changes = objects.watch(POD, &labelled("db"))?;
    db.patch(&image("example/web:2"))?;
    for name in ["db-2", "db-1", "db-0"] {
        ensure!(next(&mut changes, "DELETED")? == name, "one at a time, from the last");
    }
    let pods = versions(&objects, [2, 2, 2])?;
    let second = db.until("it is current", is_current)?["status"]["currentRevision"].take();
    ensure!(first != second, "{first}");
    let hashes = |pods: &[Value], wanted: &Value| {
        pods.iter().all(|pod| pod["metadata"]["labels"]["controller-revision-hash"] == *wanted)
    };
    ensure!(hashes(&pods, &second), "{pods:?}");
    db.patch(&image("example/web:1"))?;
    for name in ["db-2", "db-1", "db-0"] {
        ensure!(next(&mut changes, "DELETED")? == name, "one at a time, from the last");
    }
    let pods = versions(&objects, [1, 1, 1])?;
    let back = db.until("it is current", is_current)?["status"]["currentRevision"].take();
    ensure!(back == first && hashes(&pods, &first), "{back} {first}");
    let revisions = objects.items(CONTROLLER_REVISION, "")?;
    ensure!(revisions.len() == 2, "a roll back makes no revision: {revisions:?}");
    Ok(())
}
