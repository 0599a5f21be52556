//! The workload controllers on a real cluster, by the behaviours that the conformance programme names under `[sig-apps]`.
//!
//! Each case stands for several of them, told in its comment, so that few containers start. What needs no container is
//! tested in the controllers' own crate: proportional scaling, rollover, surge, `Replace`, moved clocks, the laws.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Run, Table};
use crate::harness::{Namespace, eventually};

pub const CASES: Table = &[
    ("sig-apps-deployment", Run::Shared(deployment)),
    ("sig-apps-replicas", Run::Shared(replicas)),
    ("sig-apps-statefulset", Run::Shared(statefulset)),
    ("sig-apps-daemonset", Run::Shared(daemonset)),
    ("sig-apps-job", Run::Shared(job)),
    ("sig-apps-cronjob", Run::Shared(cronjob)),
    ("sig-apps-disruption", Run::Shared(disruption)),
];

/// A workload with one label `app`, whose pods run the hello image and end at once.
fn workload(kind: &str, name: &str, spec: &Value) -> String {
    let labels = json!({"app": name});
    let plain = kind == "ReplicationController";
    let selector = if plain { labels.clone() } else { json!({"matchLabels": labels}) };
    let container = json!({"name": "c", "image": "tiphys.local/hello:1"});
    let mut all = json!({
        "apiVersion": if plain { "v1" } else { "apps/v1" },
        "kind": kind,
        "metadata": {"name": name, "labels": labels},
        "spec": {"selector": selector, "template": {"metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        all["spec"][key] = value.clone();
    }
    all.to_string()
}

fn patch(ns: &Namespace<'_>, what: &str, patch: &Value) -> Result<String> {
    ns.kubectl(&["patch", what, "--type=merge", "-p", &patch.to_string()])
}

fn patch_sub(ns: &Namespace<'_>, what: &str, subresource: &str, patch: &Value) -> Result<String> {
    let subresource = format!("--subresource={subresource}");
    ns.kubectl(&["patch", what, &subresource, "--type=merge", "-p", &patch.to_string()])
}

/// Waits until a field of an object has a value.
fn becomes(ns: &Namespace<'_>, what: &str, pointer: &str, value: &Value) -> Result<()> {
    eventually(&format!("{what} {pointer} becomes {value}"), || {
        let object = ns.get(&[what])?;
        let found = object.pointer(pointer).unwrap_or(&Value::Null);
        ensure!(found == value, "it is {found}");
        Ok(())
    })
}

fn names(ns: &Namespace<'_>, what: &[&str]) -> Result<Vec<String>> {
    let list = ns.kubectl(&[&["get", "-o", "name"], what].concat())?;
    Ok(list.lines().map(str::to_owned).collect())
}

/// `should list and delete a collection`, by the label that all objects of a test have.
fn delete_collection(ns: &Namespace<'_>, path: &str, label: &str) -> Result<()> {
    let (group, resource) = path.rsplit_once('/').context("no resource")?;
    let path = format!("{group}/namespaces/{}/{resource}?labelSelector=app%3D{label}", ns.name);
    let list: Value = serde_json::from_str(&ns.kubectl(&["get", "--raw", &path])?)?;
    ensure!(list["items"].as_array().is_some_and(|items| !items.is_empty()), "{list}");
    ns.kubectl(&["delete", "--raw", &path])?;
    eventually("the collection is gone", || {
        let left = names(ns, &[resource, "-l", &format!("app={label}")])?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
}

/// `should have a working scale subresource`: read, replaced and patched.
fn scales(ns: &Namespace<'_>, path: &str, name: &str) -> Result<()> {
    let (group, resource) = path.rsplit_once('/').context("no resource")?;
    let path = format!("{group}/namespaces/{}/{resource}/{name}/scale", ns.name);
    let mut scale: Value = serde_json::from_str(&ns.kubectl(&["get", "--raw", &path])?)?;
    ensure!(scale["kind"] == "Scale" && scale["spec"]["replicas"] == 1, "{scale}");
    scale["spec"]["replicas"] = 2.into();
    ns.feed(&["replace", "--raw", &path, "-f", "-"], &scale.to_string())?;
    let what = format!("{resource}/{name}");
    becomes(ns, &what, "/status/readyReplicas", &2.into())?;
    patch_sub(ns, &what, "scale", &json!({"spec": {"replicas": 1}}))?;
    becomes(ns, &what, "/status/replicas", &1.into())
}

/// `should validate … Status endpoints`: what a client puts there is there for the next reader.
fn keeps_status(ns: &Namespace<'_>, what: &str) -> Result<()> {
    let condition = json!({"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "set by a test",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let conditions = ns.get(&[what])?["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let conditions = [conditions, vec![condition]].concat();
    patch_sub(ns, what, "status", &json!({"status": {"conditions": conditions}}))?;
    let status = ns.get(&[what])?["status"].take();
    let kept =
        status["conditions"].as_array().is_some_and(|all| all.iter().any(|c| c["type"] == "StatusUpdate"));
    ensure!(kept, "{status}");
    Ok(())
}

/// Deployment: should have a working scale subresource; should validate Deployment Status endpoints; deployment should
/// delete old replica sets; RecreateDeployment should delete old pods and create new ones; should run the lifecycle of a
/// Deployment. And `[sig-autoscaling]`: an autoscaler keeps its target within its bounds.
fn deployment(ns: &Namespace<'_>) -> Result<()> {
    let spec = json!({"replicas": 1, "revisionHistoryLimit": 0, "strategy": {"type": "Recreate"}});
    ns.apply(&workload("Deployment", "web", &spec))?;
    ns.rolled_out("deployment/web")?;
    scales(ns, "/apis/apps/v1/deployments", "web")?;
    keeps_status(ns, "deployment/web")?;
    let old = names(ns, &["pods", "-l", "app=web"])?;
    ns.kubectl(&["set", "image", "deployment/web", "c=tiphys.local/hello:2"])?;
    ns.rolled_out("deployment/web")?;
    let new = names(ns, &["pods", "-l", "app=web"])?;
    ensure!(new.len() == 1 && new != old, "{old:?} {new:?}");
    eventually("the old ReplicaSet is removed", || {
        let sets = names(ns, &["replicasets", "-l", "app=web"])?;
        ensure!(sets.len() == 1, "{sets:?}");
        Ok(())
    })?;
    ns.kubectl(&["autoscale", "deployment", "web", "--min=2", "--max=3", "--cpu=50%"]).or_else(|_| {
        ns.kubectl(&["autoscale", "deployment", "web", "--min=2", "--max=3", "--cpu-percent=50"])
    })?;
    becomes(ns, "deployment/web", "/status/readyReplicas", &2.into())?;
    let told = names(ns, &["events", "--field-selector=reason=SuccessfulRescale"])?;
    ensure!(told.len() == 1, "{told:?}");
    delete_collection(ns, "/apis/apps/v1/deployments", "web")
}

/// ReplicaSet and ReplicationController: should adopt matching pods on creation and release no longer matching pods;
/// should have a working scale subresource; Replace and Patch tests; should validate Replicaset Status endpoints; should
/// list and delete a collection; should surface a failure condition on a common issue like exceeded quota; should test
/// the lifecycle of a ReplicationController.
fn replicas(ns: &Namespace<'_>) -> Result<()> {
    for (kind, path, name) in [
        ("ReplicaSet", "/apis/apps/v1/replicasets", "set"),
        ("ReplicationController", "/api/v1/replicationcontrollers", "controller"),
    ] {
        let orphan = format!("orphan-{name}");
        let label = format!("app={name}");
        ns.kubectl(&["run", &orphan, "--image=tiphys.local/hello:1", "--labels", &label])?;
        ns.apply(&workload(kind, name, &json!({"replicas": 1})))?;
        let pod = format!("pod/{orphan}");
        becomes(ns, &pod, "/metadata/ownerReferences/0/kind", &kind.into())?;
        scales(ns, path, name)?;
        keeps_status(ns, &format!("{kind}/{name}"))?;
        let kept = names(ns, &["pods", "-l", &label])?;
        ns.kubectl(&["label", "--overwrite", &kept[0], "app=debug"])?;
        eventually("a pod that no longer matches is let go and replaced", || {
            let owners = ns.get(&[&kept[0]])?["metadata"]["ownerReferences"].take();
            let pods = names(ns, &["pods", "-l", &label])?;
            ensure!(owners.is_null() && pods.len() == 1, "{owners} {pods:?}");
            Ok(())
        })?;
        ns.kubectl(&["delete", "--now", &kept[0]])?;
    }
    ns.kubectl(&["create", "quota", "few", "--hard=pods=2"])?;
    becomes(ns, "quota/few", "/status/used/pods", &"2".into())?;
    ns.kubectl(&["scale", "replicationcontroller/controller", "--replicas=3"])?;
    let condition = "/status/conditions/0/reason";
    eventually("the refusal is told", || {
        let all = ns.get(&["replicationcontroller/controller"])?["status"]["conditions"].take();
        let told = all.as_array().is_some_and(|all| all.iter().any(|c| c["reason"] == "FailedCreate"));
        ensure!(told, "{condition}: {all}");
        Ok(())
    })?;
    ns.kubectl(&["scale", "replicationcontroller/controller", "--replicas=1"])?;
    eventually("and taken back", || {
        let all = ns.get(&["replicationcontroller/controller"])?["status"]["conditions"].take();
        let told = all.as_array().is_some_and(|all| all.iter().any(|c| c["reason"] == "FailedCreate"));
        ensure!(!told, "{all}");
        Ok(())
    })?;
    delete_collection(ns, "/apis/apps/v1/replicasets", "set")?;
    delete_collection(ns, "/api/v1/replicationcontrollers", "controller")
}

/// StatefulSet: Scaling should happen in predictable order; should have a working scale subresource; should perform canary
/// updates and phased rolling updates of template modifications; should perform rolling updates and roll backs; should
/// validate Statefulset Status endpoints; should list, patch and delete a collection of StatefulSets.
fn statefulset(ns: &Namespace<'_>) -> Result<()> {
    let strategy =
        |partition: i32| json!({"type": "RollingUpdate", "rollingUpdate": {"partition": partition}});
    let spec = json!({"replicas": 1, "serviceName": "db", "updateStrategy": strategy(1)});
    ns.apply(&workload("StatefulSet", "db", &spec))?;
    becomes(ns, "statefulset/db", "/status/readyReplicas", &1.into())?;
    scales(ns, "/apis/apps/v1/statefulsets", "db")?;
    keeps_status(ns, "statefulset/db")?;
    patch(ns, "statefulset/db", &json!({"spec": {"replicas": 2}}))?;
    becomes(ns, "statefulset/db", "/status/readyReplicas", &2.into())?;
    let created = |name: &str| -> Result<String> {
        let pod = ns.get(&[&format!("pod/{name}")])?;
        Ok(pod["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned())
    };
    ensure!(created("db-0")? <= created("db-1")?);
    let image = |name: &str, image: &str| {
        becomes(
            ns,
            &format!("pod/{name}"),
            "/spec/containers/0/image",
            &format!("tiphys.local/hello:{image}").into(),
        )
    };
    ns.kubectl(&["set", "image", "statefulset/db", "c=tiphys.local/hello:2"])?;
    image("db-1", "2")?;
    // A pod below the partition comes back as it was.
    let uid = ns.get(&["pod/db-0"])?["metadata"]["uid"].take();
    ns.kubectl(&["delete", "--now", "pod/db-0"])?;
    eventually("the pod is back", || {
        ensure!(ns.get(&["pod/db-0"])?["metadata"]["uid"] != uid);
        Ok(())
    })?;
    image("db-0", "1")?;
    patch(ns, "statefulset/db", &json!({"spec": {"updateStrategy": strategy(0)}}))?;
    image("db-0", "2")?;
    ns.rolled_out("statefulset/db")?;
    let status = ns.get(&["statefulset/db"])?["status"].take();
    ensure!(status["currentRevision"] == status["updateRevision"], "{status}");
    ns.kubectl(&["rollout", "undo", "statefulset/db"])?;
    image("db-0", "1")?;
    let revisions = names(ns, &["controllerrevisions", "-l", "app=db"])?;
    ensure!(revisions.len() == 2, "a rollback makes no new revision: {revisions:?}");
    delete_collection(ns, "/apis/apps/v1/statefulsets", "db")
}

/// Daemon set: should run and stop simple daemon; should run and stop complex daemon; should retry creating failed daemon
/// pods; should update pod when spec was updated and update strategy is RollingUpdate; should rollback without unnecessary
/// restarts; should verify changes to a daemon set status; should list and delete a collection of DaemonSets.
fn daemonset(ns: &Namespace<'_>) -> Result<()> {
    let node = names(ns, &["nodes"])?.remove(0);
    let mut set: Value = serde_json::from_str(&workload("DaemonSet", "agent", &json!({})))?;
    set["spec"]["template"]["spec"]["nodeSelector"] = json!({"tiphys.test/colour": "blue"});
    ns.apply(&set.to_string())?;
    becomes(ns, "daemonset/agent", "/status/observedGeneration", &1.into())?;
    ensure!(names(ns, &["pods"])?.is_empty(), "no node fits yet");
    ns.kubectl(&["label", &node, "tiphys.test/colour=blue"])?;
    ns.rolled_out("daemonset/agent")?;
    keeps_status(ns, "daemonset/agent")?;
    let pod = names(ns, &["pods"])?.remove(0);
    patch_sub(ns, &pod, "status", &json!({"status": {"phase": "Failed"}}))?;
    eventually("a failed pod is replaced", || {
        let pods = names(ns, &["pods"])?;
        ensure!(pods.len() == 1 && pods[0] != pod, "{pods:?}");
        Ok(())
    })?;
    ns.rolled_out("daemonset/agent")?;
    // An update that cannot work is undone before it has reached the pod.
    patch(ns, "daemonset/agent", &json!({"spec": {"updateStrategy": {"type": "OnDelete"}}}))?;
    let pod = names(ns, &["pods"])?.remove(0);
    ns.kubectl(&["set", "image", "daemonset/agent", "c=tiphys.local/nothing:1"])?;
    becomes(ns, "daemonset/agent", "/status/updatedNumberScheduled", &Value::Null)?;
    ns.kubectl(&["rollout", "undo", "daemonset/agent"])?;
    becomes(ns, "daemonset/agent", "/status/updatedNumberScheduled", &1.into())?;
    ensure!(names(ns, &["pods"])? == [pod], "the pod was not restarted");
    patch(ns, "daemonset/agent", &json!({"spec": {"updateStrategy": {"type": "RollingUpdate"}}}))?;
    ns.kubectl(&["set", "image", "daemonset/agent", "c=tiphys.local/hello:2"])?;
    ns.rolled_out("daemonset/agent")?;
    ns.kubectl(&["label", &node, "tiphys.test/colour-"])?;
    eventually("the daemon leaves a node that fits no longer", || {
        let pods = names(ns, &["pods"])?;
        ensure!(pods.is_empty(), "{pods:?}");
        Ok(())
    })?;
    delete_collection(ns, "/apis/apps/v1/daemonsets", "agent")
}

/// A Job of one container for each command, with a volume that they share.
fn job_manifest(name: &str, spec: &Value, restart: &str, commands: &[&[&str]]) -> String {
    let container = |(at, command): (usize, &&[&str])| {
        json!({"name": format!("c{at}"), "image": "tiphys.local/hello:1", "command": command,
            "volumeMounts": [{"name": "v", "mountPath": "/v"}]})
    };
    let containers: Vec<Value> = commands.iter().enumerate().map(container).collect();
    let mut all = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"template": {"spec": {"restartPolicy": restart, "terminationGracePeriodSeconds": 0,
            "containers": containers, "volumes": [{"name": "v", "emptyDir": {}}]}}}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        all["spec"][key] = value.clone();
    }
    all.to_string()
}

/// Job: should run a job to completion when tasks sometimes fail and are locally restarted; should adopt matching orphans
/// and release non-matching pods; should delete a job; and with indexes, a limit for each, and an end by policy.
fn job(ns: &Namespace<'_>) -> Result<()> {
    // What the first container looks for, the second one makes: the first try fails, one in the same pod does not.
    let (looks, makes): (&[&str], &[&str]) = (&["/bin/cat", "/v/flag"], &["/bin/touch", "/v/flag"]);
    let spec = json!({"completions": 2, "parallelism": 2});
    ns.apply(&job_manifest("again", &spec, "OnFailure", &[looks, makes]))?;
    let rules = json!({"rules": [{"succeededIndexes": "0"}]});
    let spec =
        json!({"completions": 2, "parallelism": 1, "completionMode": "Indexed", "successPolicy": rules});
    ns.apply(&job_manifest("first", &spec, "Never", &[&["/bin/env"]]))?;
    let spec =
        json!({"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 0});
    ns.apply(&job_manifest("fails", &spec, "Never", &[&["/bin/false"]]))?;
    ns.apply(&job_manifest("works", &json!({"parallelism": 2}), "Never", &[&["/bin/sleep", "600"]]))?;
    becomes(ns, "job/works", "/status/ready", &2.into())?;
    let pods = names(ns, &["pods", "-l", "job-name=works"])?;
    patch(ns, &pods[0], &json!({"metadata": {"ownerReferences": null}}))?;
    becomes(ns, &pods[0], "/metadata/ownerReferences/0/name", &"works".into())?;
    ns.kubectl(&[
        "label",
        "--overwrite",
        &pods[0],
        "job-name=other",
        "batch.kubernetes.io/controller-uid-",
        "controller-uid-",
    ])?;
    becomes(ns, &pods[0], "/metadata/ownerReferences", &Value::Null)?;
    becomes(ns, "job/works", "/status/active", &2.into())?;
    ns.kubectl(&["delete", "job/works"])?;
    eventually("the job's pods go with it", || {
        let left = names(ns, &["pods", "-l", "job-name=works"])?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })?;
    ns.wait("condition=Complete", &["job/again", "job/first"])?;
    ns.wait("condition=Failed", &["job/fails"])?;
    becomes(ns, "job/again", "/status/succeeded", &2.into())?;
    let first = ns.get(&["job/first"])?["status"].take();
    ensure!(first["completedIndexes"] == "0", "{first}");
    let fails = ns.get(&["job/fails"])?["status"].take();
    ensure!(fails["failedIndexes"] == "0,1" && fails["failed"] == 2, "{fails}");
    Ok(())
}

/// CronJob: should support CronJob API operations; should not schedule jobs when suspended; should schedule multiple jobs
/// concurrently; should not schedule new jobs when ForbidConcurrent. The clock is not waited for: a time that was missed is
/// made up at once.
fn cronjob(ns: &Namespace<'_>) -> Result<()> {
    let template: Value =
        serde_json::from_str(&job_manifest("tick", &json!({}), "Never", &[&["/bin/sleep", "600"]]))?;
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick", "labels": {"app": "tick"}},
        "spec": {"schedule": "0 0 1 1 *", "suspend": true, "timeZone": "Etc/UTC",
            "jobTemplate": {"metadata": {"labels": {"app": "tick"}}, "spec": template["spec"]}}});
    ns.apply(&cron.to_string())?;
    let missed = |year: i32| json!({"status": {"lastScheduleTime": format!("{year}-12-31T00:00:00Z")}});
    patch_sub(ns, "cronjob/tick", "status", &missed(2024))?;
    ns.kubectl(&["annotate", "cronjob/tick", "seen=yes"])?;
    ensure!(names(ns, &["jobs"])?.is_empty(), "it is suspended");
    patch(ns, "cronjob/tick", &json!({"spec": {"suspend": false}}))?;
    becomes(ns, "cronjob/tick", "/status/active/0/kind", &"Job".into())?;
    // The next time comes while that job runs.
    patch(ns, "cronjob/tick", &json!({"spec": {"concurrencyPolicy": "Forbid", "schedule": "0 0 2 1 *"}}))?;
    eventually("the policy is told", || {
        let told = names(ns, &["events", "--field-selector=reason=JobAlreadyActive"])?;
        ensure!(!told.is_empty());
        Ok(())
    })?;
    ensure!(names(ns, &["jobs"])?.len() == 1);
    patch(ns, "cronjob/tick", &json!({"spec": {"concurrencyPolicy": "Allow"}}))?;
    becomes(ns, "cronjob/tick", "/status/active/1/kind", &"Job".into())?;
    patch(ns, "cronjob/tick", &json!({"spec": {"concurrencyPolicy": "Replace", "schedule": "0 0 3 1 *"}}))?;
    eventually("the job of the newest time replaces the others", || {
        let active = ns.get(&["cronjob/tick"])?["status"]["active"].take();
        ensure!(active.as_array().is_some_and(|all| all.len() == 1), "{active}");
        Ok(())
    })?;
    delete_collection(ns, "/apis/batch/v1/cronjobs", "tick")
}

/// DisruptionController: should create a PodDisruptionBudget; should observe PodDisruptionBudget status updated; should
/// update/patch PodDisruptionBudget status; should block an eviction until the PDB is updated to allow it; Listing
/// PodDisruptionBudgets for all namespaces should list and delete a collection of PodDisruptionBudgets.
fn disruption(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(&workload("ReplicaSet", "web", &json!({"replicas": 1})))?;
    ns.kubectl(&["create", "poddisruptionbudget", "web", "--selector=app=web", "--min-available=1"])?;
    ns.kubectl(&["label", "poddisruptionbudget", "web", "app=web"])?;
    becomes(ns, "poddisruptionbudget/web", "/status/currentHealthy", &1.into())?;
    let pod = names(ns, &["pods"])?.remove(0).replace("pod/", "");
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": ns.name}});
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", ns.name);
    let evict = || ns.feed(&["create", "--raw", &path, "-f", "-"], &eviction.to_string());
    let refused = evict().err().context("the budget allows none")?.to_string();
    ensure!(
        refused.contains("Cannot evict pod as it would violate the pod's disruption budget"),
        "{refused}"
    );
    keeps_status(ns, "poddisruptionbudget/web")?;
    patch(ns, "poddisruptionbudget/web", &json!({"spec": {"minAvailable": 0}}))?;
    becomes(ns, "poddisruptionbudget/web", "/status/disruptionsAllowed", &1.into())?;
    eventually("the eviction goes through", evict)?;
    eventually("the pod is gone", || {
        let left = names(ns, &["pods"])?;
        ensure!(!left.contains(&format!("pod/{pod}")), "{left:?}");
        Ok(())
    })?;
    let all = names(ns, &["poddisruptionbudgets", "--all-namespaces", "-l", "app=web"])?;
    ensure!(!all.is_empty());
    delete_collection(ns, "/apis/policy/v1/poddisruptionbudgets", "web")
}
