//! ReplicaSets and ReplicationControllers.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    condition, count, create, image, images, is_deleted, keeps_status, labelled, observed, running, scales,
};
use crate::cases::Run;
use crate::cases::conformance::Table;
use crate::harness::Namespace;
use crate::objects::{Kind, Objects, POD, REPLICA_SET, REPLICATION_CONTROLLER, RESOURCE_QUOTA, names};

pub const CASES: Table = &[
    (
        &[
            "[sig-apps] ReplicaSet Replicaset should have a working scale subresource",
            "[sig-apps] ReplicaSet should validate Replicaset Status endpoints",
            "[sig-apps] ReplicaSet should list and delete a collection of ReplicaSets",
        ],
        Run::Simulated(subresources),
    ),
    (&["[sig-apps] ReplicaSet Replace and Patch tests"], Run::Simulated(replace_and_patch)),
    (
        &["[sig-apps] ReplicaSet should adopt matching pods on creation and release no longer matching pods"],
        Run::Simulated(|ns| adopts_and_releases(ns, REPLICA_SET)),
    ),
    (
        &[
            "[sig-apps] ReplicationController should adopt matching pods on creation",
            "[sig-apps] ReplicationController should release no longer matching pods",
        ],
        Run::Simulated(|ns| adopts_and_releases(ns, REPLICATION_CONTROLLER)),
    ),
    (
        &[
            "[sig-apps] ReplicationController should surface a failure condition on a common issue like exceeded quota",
        ],
        Run::Simulated(surfaces_a_failure),
    ),
    (
        &["[sig-apps] ReplicationController should test the lifecycle of a ReplicationController"],
        Run::Simulated(lifecycle),
    ),
    (
        &[
            "[sig-apps] ReplicaSet should serve a basic image on each replica with a public image",
            "[sig-apps] ReplicationController should serve a basic image on each replica with a public image",
        ],
        Run::Shared(serves),
    ),
];

fn subresources(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let web = create(&objects, REPLICA_SET, "web", &json!({"replicas": 1}))?;
    running(&objects, "web", 1)?;
    keeps_status(&web)?;
    scales(&web)?;
    super::collection(&objects, REPLICA_SET, "web")
}

fn replace_and_patch(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let web = create(&objects, REPLICA_SET, "web", &json!({"replicas": 1}))?;
    running(&objects, "web", 1)?;
    web.update(|web| web["spec"]["replicas"] = 2.into())?;
    running(&objects, "web", 2)?;
    let mut patch = image("example/web:2");
    patch["metadata"]["labels"]["patched"] = "yes".into();
    patch["spec"]["replicas"] = 3.into();
    web.patch(&patch)?;
    let patched = web.until("it is patched", |web| observed(web) && count(web, "readyReplicas") == 3)?;
    ensure!(patched["metadata"]["labels"]["patched"] == "yes", "{patched}");
    // A ReplicaSet leaves the pods that it has, and makes new ones of the new template.
    ensure!(images(&running(&objects, "web", 3)?) == ["example/web:1", "example/web:2"]);
    Ok(())
}

fn adopts_and_releases(ns: &Namespace<'_>, kind: Kind) -> Result<()> {
    let objects = Objects::of(ns)?;
    let pod = objects.at(POD, "orphan");
    let spec = super::spec(kind, "web", &json!({"replicas": 1}))["template"]["spec"].take();
    pod.create(json!({"metadata": {"labels": {"app": "web"}}, "spec": spec}))?;
    // The controller hears of pods and of its own kind apart: one that comes in the same moment may be heard of first.
    pod.until("it runs", |pod| pod["status"]["phase"] == "Running")?;
    create(&objects, kind, "web", &json!({"replicas": 1}))?;
    let owner = |pod: &Value| pod["metadata"]["ownerReferences"][0]["name"].clone();
    pod.until("it is adopted", |pod| owner(pod) == "web")?;
    ensure!(names(&running(&objects, "web", 1)?) == ["orphan"]);
    pod.merge(&json!({"metadata": {"labels": {"app": "debugged"}}}))?;
    pod.until("it is released", |pod| owner(pod).is_null())?;
    let replaced = running(&objects, "web", 1)?;
    ensure!(names(&replaced) != ["orphan"] && owner(&replaced[0]) == "web", "{replaced:?}");
    ensure!(!is_deleted(&pod.get()?), "it is left to itself");
    Ok(())
}

fn surfaces_a_failure(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let quota = objects.at(RESOURCE_QUOTA, "few");
    quota.create(json!({"spec": {"hard": {"pods": "2"}}}))?;
    quota.until("it is counted", |quota| quota["status"]["hard"]["pods"] == "2")?;
    let web = create(&objects, REPLICATION_CONTROLLER, "web", &json!({"replicas": 3}))?;
    let failed = web.until("the refusal is told", |web| condition(web, "ReplicaFailure").is_some())?;
    let failure = condition(&failed, "ReplicaFailure").context("no condition")?;
    ensure!(failure["status"] == "True" && failure["reason"] == "FailedCreate", "{failure}");
    ensure!(failure["message"].as_str().is_some_and(|m| m.contains("exceeded quota: few")), "{failure}");
    web.merge(&json!({"spec": {"replicas": 2}}))?;
    web.until("it is taken back", |web| {
        condition(web, "ReplicaFailure").is_none() && count(web, "readyReplicas") == 2
    })?;
    Ok(())
}

fn lifecycle(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let mut changes = objects.watch(REPLICATION_CONTROLLER, &labelled("web"))?;
    let web = create(&objects, REPLICATION_CONTROLLER, "web", &json!({"replicas": 1}))?;
    changes.expect("ADDED", "web")?;
    web.until("its pod is there", |web| count(web, "readyReplicas") == 1)?;
    web.patch(&json!({"metadata": {"labels": {"patched": "yes"}}}))?;
    ensure!(web.get()?["metadata"]["labels"]["patched"] == "yes");
    let status = json!({"type": "Tested", "status": "True"});
    web.sub("status").patch(&json!({"status": {"conditions": [status]}}))?;
    ensure!(condition(&web.sub("status").get()?, "Tested").is_some());
    web.sub("scale").merge(&json!({"spec": {"replicas": 2}}))?;
    web.until("it is scaled", |web| observed(web) && count(web, "readyReplicas") == 2)?;
    web.update(|web| web["spec"]["replicas"] = 1.into())?;
    web.until("it is updated", |web| observed(web) && count(web, "replicas") == 1)?;
    let found = objects.get(&format!("{}?labelSelector=patched=yes", REPLICATION_CONTROLLER.path("")))?;
    ensure!(found["items"].as_array().is_some_and(|all| !all.is_empty()), "{found}");
    // Unlike others, it leaves its pods behind unless it is told to take them along.
    objects.delete_all(REPLICATION_CONTROLLER, "labelSelector=patched=yes&propagationPolicy=Background")?;
    while changes.next()?.0 != "DELETED" {}
    objects.until(POD, &labelled("web"), "its pods go with it", <[Value]>::is_empty).map(drop)
}

/// Real containers, each of which is asked and says its own name.
fn serves(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    for (kind, name) in [(REPLICA_SET, "set"), (REPLICATION_CONTROLLER, "controller")] {
        let mut spec = super::spec(kind, name, &json!({"replicas": 2}));
        spec["template"]["spec"]["containers"][0]["image"] = "tiphys.local/hello:1".into();
        objects.at(kind, name).create(json!({"spec": spec}))?;
    }
    for name in ["set", "controller"] {
        for pod in running(&objects, name, 2)? {
            let ip = pod["status"]["podIP"].as_str().context("no address")?;
            let name = pod["metadata"]["name"].as_str().context("no name")?;
            let answer = ns.kubectl(&["exec", name, "--", "get", &format!("http://{ip}:8080")])?;
            ensure!(answer.contains(&format!("Hello from pod {name}")), "{answer}");
        }
    }
    Ok(())
}
