//! Deployments.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{broken_image, count, create, image, images, keeps_status, labelled, observed, running, scales};
use crate::cases::Run;
use crate::cases::conformance::Table;
use crate::harness::Namespace;
use crate::objects::{DEPLOYMENT, EVENT, Kind, Objects, POD, REPLICA_SET};

pub const CASES: Table = &[
    (
        &[
            "[sig-apps] Deployment Deployment should have a working scale subresource",
            "[sig-apps] Deployment should validate Deployment Status endpoints",
        ],
        Run::Simulated(subresources),
    ),
    (
        &["[sig-apps] Deployment RecreateDeployment should delete old pods and create new ones"],
        Run::Simulated(recreate),
    ),
    (
        &[
            "[sig-apps] Deployment RollingUpdateDeployment should delete old pods and create new ones",
            "[sig-apps] Deployment deployment should delete old replica sets",
        ],
        Run::Simulated(rolling_update),
    ),
    (
        &["[sig-apps] Deployment deployment should support proportional scaling"],
        Run::Simulated(proportional_scaling),
    ),
    (&["[sig-apps] Deployment deployment should support rollover"], Run::Simulated(rollover)),
    (&["[sig-apps] Deployment should run the lifecycle of a Deployment"], Run::Simulated(lifecycle)),
    (&["horizontal-pod-autoscaler-keeps-its-bounds"], Run::Simulated(autoscaled)),
];

/// All replicas are of the newest template and available.
fn is_done(deployment: &Value, replicas: i64) -> bool {
    let all = ["replicas", "updatedReplicas", "availableReplicas"];
    observed(deployment) && all.iter().all(|field| count(deployment, field) == replicas)
}

fn subresources(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let web = create(&objects, DEPLOYMENT, "web", &json!({"replicas": 1}))?;
    running(&objects, "web", 1)?;
    web.until("it is done", |web| is_done(web, 1))?;
    keeps_status(&web)?;
    scales(&web)
}

fn recreate(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let recreate = json!({"replicas": 3, "strategy": {"type": "Recreate"}});
    let web = create(&objects, DEPLOYMENT, "web", &recreate)?;
    web.until("it is done", |web| is_done(web, 3))?;
    let mut changes = objects.watch(POD, &labelled("web"))?;
    for _ in 0..3 {
        changes.next()?;
    }
    web.patch(&image("example/web:2"))?;
    let mut old = 3;
    loop {
        let (event, pod) = changes.next()?;
        let is_new = images(&[pod]) == ["example/web:2"];
        old -= i32::from(!is_new && event == "DELETED");
        ensure!(!is_new || old == 0, "a new pod beside {old} old ones");
        if is_new {
            break;
        }
    }
    web.until("it is done", |web| is_done(web, 3))?;
    ensure!(images(&running(&objects, "web", 3)?) == ["example/web:2"]);
    Ok(())
}

/// The ReplicaSets' sizes by image; those without pods are left out.
fn sizes(sets: &[Value]) -> Vec<(&str, i64)> {
    let size = |set: &'_ Value| count(set, "replicas");
    let mut sizes: Vec<(&str, i64)> = sets
        .iter()
        .filter(|set| size(set) > 0)
        .filter_map(|set| {
            Some((set["spec"]["template"]["spec"]["containers"][0]["image"].as_str()?, size(set)))
        })
        .collect();
    sizes.sort_unstable();
    sizes
}

fn rolling_update(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    // Pods and their ReplicaSet are older than the Deployment, which takes them over.
    create(&objects, REPLICA_SET, "web", &json!({"replicas": 1}))?;
    let old = running(&objects, "web", 1)?;
    let mut new = super::spec(DEPLOYMENT, "web", &json!({"replicas": 1, "revisionHistoryLimit": 0}));
    new["template"]["spec"]["containers"][0]["image"] = "example/web:2".into();
    let web = objects.at(DEPLOYMENT, "web");
    web.create(json!({"metadata": {"labels": {"app": "web"}}, "spec": new}))?;
    web.until("it is done", |web| is_done(web, 1))?;
    let pods = running(&objects, "web", 1)?;
    ensure!(images(&pods) == ["example/web:2"] && super::uids(&pods) != super::uids(&old), "{pods:?}");
    objects.until(REPLICA_SET, &labelled("web"), "the old ReplicaSet is deleted", |sets| {
        sets.len() == 1 && sets[0]["metadata"]["name"] != "web"
    })?;
    Ok(())
}

fn proportional_scaling(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let bounds = json!({"maxSurge": 3, "maxUnavailable": 2});
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": bounds});
    let web = create(&objects, DEPLOYMENT, "web", &json!({"replicas": 10, "strategy": strategy}))?;
    web.until("it is done", |web| is_done(web, 10))?;
    web.patch(&broken_image("example/web:404")?)?;
    let sets = |what: &str, wanted: [(&str, i64); 2]| {
        objects.until(REPLICA_SET, &labelled("web"), what, |sets| sizes(sets) == wanted)
    };
    sets("two are taken down, five are to come up", [("example/web:1", 8), ("example/web:404", 5)])?;
    web.merge(&json!({"spec": {"replicas": 30}}))?;
    sets("both grow in proportion", [("example/web:1", 20), ("example/web:404", 13)])?;
    Ok(())
}

fn rollover(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let bounds = json!({"maxSurge": 1, "maxUnavailable": 0});
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": bounds});
    let web = create(&objects, DEPLOYMENT, "web", &json!({"replicas": 2, "strategy": strategy}))?;
    web.until("it is done", |web| is_done(web, 2))?;
    web.patch(&broken_image("example/web:404")?)?;
    objects.until(REPLICA_SET, &labelled("web"), "the rollout is stuck", |sets| {
        sizes(sets) == [("example/web:1", 2), ("example/web:404", 1)]
    })?;
    // The template is changed once more before that was rolled out.
    let mut fixed = image("example/web:3");
    fixed["spec"]["template"]["metadata"]["annotations"] = Value::Null;
    web.patch(&fixed)?;
    web.until("it is done", |web| is_done(web, 2))?;
    ensure!(images(&running(&objects, "web", 2)?) == ["example/web:3"]);
    objects.until(REPLICA_SET, &labelled("web"), "the others have no pods", |sets| {
        sets.len() == 3 && sizes(sets) == [("example/web:3", 2)]
    })?;
    Ok(())
}

fn lifecycle(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let mut changes = objects.watch(DEPLOYMENT, &labelled("web"))?;
    let web = create(&objects, DEPLOYMENT, "web", &json!({"replicas": 1}))?;
    changes.expect("ADDED", "web")?;
    web.until("it is done", |web| is_done(web, 1))?;
    let mut patch = image("example/web:2");
    patch["metadata"]["labels"]["patched"] = "yes".into();
    patch["spec"]["replicas"] = 2.into();
    web.patch(&patch)?;
    web.until("the patch is rolled out", |web| is_done(web, 2))?;
    ensure!(objects.items(DEPLOYMENT, "labelSelector=patched=yes")?.len() == 1);
    web.sub("scale").merge(&json!({"spec": {"replicas": 3}}))?;
    web.until("it is scaled", |web| is_done(web, 3))?;
    let status = web.sub("status");
    ensure!(status.get()?["status"]["readyReplicas"] == 3);
    status.patch(&json!({"status": {"conditions": [{"type": "Tested", "status": "True"}]}}))?;
    web.until("the condition is kept", |web| super::condition(web, "Tested").is_some())?;
    objects.delete_all(DEPLOYMENT, &labelled("web"))?;
    let last = loop {
        let (event, web) = changes.next()?;
        if event == "DELETED" {
            break web;
        }
    };
    ensure!(last["spec"]["replicas"] == 3, "{last}");
    objects.until(POD, &labelled("web"), "its pods go with it", <[Value]>::is_empty).map(drop)
}

const AUTOSCALER: Kind = Kind::new("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers");

/// No metrics are needed to keep a Deployment within the bounds.
fn autoscaled(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let web = create(&objects, DEPLOYMENT, "web", &json!({"replicas": 1}))?;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let spec = json!({"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 3});
    let scaler = objects.at(AUTOSCALER, "web");
    scaler.create(json!({"spec": spec}))?;
    web.until("there are enough", |web| is_done(web, 2))?;
    let told = objects
        .until(EVENT, "fieldSelector=reason=SuccessfulRescale", "it is told", |events| !events.is_empty())?;
    let message = told[0]["message"].as_str().context("no message")?;
    ensure!(message.starts_with("New size: 2"), "{message}");
    scaler.delete(&Value::Null).map(drop)
}
