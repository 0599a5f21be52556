//! `[sig-apps]`: the workload controllers and disruption budgets.

mod daemons;
mod deployments;
mod disruption;
mod jobs;
mod replicas;
mod stateful;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::Table;
use crate::objects::{At, Kind, Objects, POD, REPLICATION_CONTROLLER, names};

/// All of it.
pub const AREA: &[Table] =
    &[deployments::CASES, replicas::CASES, stateful::CASES, daemons::CASES, jobs::CASES, disruption::CASES];

/// Simulated pods that have it come up only after an hour.
const NEVER: &str = r#"{"simulate.tiphys.io/start-delay": "1h"}"#;

/// A workload's spec: its pods have the label `app=NAME` and one container; `more` is added.
fn spec(kind: Kind, name: &str, more: &Value) -> Value {
    let labels = json!({"app": name});
    let selector =
        if kind == REPLICATION_CONTROLLER { labels.clone() } else { json!({"matchLabels": labels}) };
    let pod =
        json!({"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "example/web:1"}]});
    let mut spec = json!({"selector": selector, "template": {"metadata": {"labels": labels}, "spec": pod}});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    spec
}

/// Makes a workload, which has the label of its pods.
fn create<'a>(objects: &'a Objects, kind: Kind, name: &str, more: &Value) -> Result<At<'a>> {
    let workload = objects.at(kind, name);
    workload.create(json!({"metadata": {"labels": {"app": name}}, "spec": spec(kind, name, more)}))?;
    Ok(workload)
}

/// The query for what has the label `app=NAME`.
fn labelled(name: &str) -> String {
    format!("labelSelector=app={name}")
}

/// The patch that gives the pods of a template an image.
fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

/// The same, with pods that never come up.
fn broken_image(image: &str) -> Result<Value> {
    let mut patch = self::image(image);
    patch["spec"]["template"]["metadata"]["annotations"] = serde_json::from_str(NEVER)?;
    Ok(patch)
}

/// A number in a status; 0 if it is not told.
fn count(object: &Value, field: &str) -> i64 {
    object["status"][field].as_i64().unwrap_or(0)
}

/// Whether the status is of the newest spec.
fn observed(object: &Value) -> bool {
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

fn is_deleted(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// The pods of `app=NAME` that are not on their way out, once there are so many and all are Ready.
fn running(objects: &Objects, name: &str, wanted: usize) -> Result<Vec<Value>> {
    let all =
        |pods: &[Value]| pods.len() == wanted && pods.iter().all(|pod| is_ready(pod) && !is_deleted(pod));
    objects.until(POD, &labelled(name), &format!("{wanted} pods are Ready"), all)
}

/// Uids of objects, sorted.
fn uids(items: &[Value]) -> Vec<String> {
    let mut uids: Vec<String> = items.iter().map(|item| item["metadata"]["uid"].to_string()).collect();
    uids.sort_unstable();
    uids
}

/// Images of pods, each once.
fn images(pods: &[Value]) -> Vec<&str> {
    let mut images: Vec<&str> =
        pods.iter().filter_map(|pod| pod["spec"]["containers"][0]["image"].as_str()).collect();
    images.sort_unstable();
    images.dedup();
    images
}

/// Scale is read, replaced and patched, and the workload follows it.
fn scales(workload: &At<'_>) -> Result<()> {
    let scale = workload.sub("scale");
    let found = scale.get()?;
    ensure!(found["kind"] == "Scale" && found["apiVersion"] == "autoscaling/v1", "{found}");
    ensure!(found["spec"]["replicas"] == 1, "{found}");
    let replaced = scale.update(|scale| scale["spec"]["replicas"] = 2.into())?;
    ensure!(replaced["spec"]["replicas"] == 2, "{replaced}");
    workload.until("two replicas are there", |o| observed(o) && count(o, "readyReplicas") == 2)?;
    let patched = scale.merge(&json!({"spec": {"replicas": 4}}))?;
    ensure!(patched["spec"]["replicas"] == 4, "{patched}");
    workload.until("four replicas are there", |o| observed(o) && count(o, "readyReplicas") == 4)?;
    ensure!(scale.get()?["status"]["replicas"] == 4);
    Ok(())
}

fn condition(object: &Value, kind: &str) -> Option<Value> {
    object["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == kind).cloned()
}

/// The status is read, updated and patched, and what was written is there for the next reader.
fn keeps_status(workload: &At<'_>) -> Result<()> {
    let status = workload.sub("status");
    let added = json!({"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "set by a test",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let updated = status.update(|object| match object["status"]["conditions"].as_array_mut() {
        Some(conditions) => conditions.push(added.clone()),
        None => object["status"]["conditions"] = json!([added]),
    })?;
    ensure!(condition(&updated, "StatusUpdate").is_some(), "{updated}");
    let seen = status.get()?;
    ensure!(condition(&seen, "StatusUpdate").is_some_and(|c| c["reason"] == "E2E"), "{seen}");
    let mut patched = added;
    patched["type"] = "StatusPatched".into();
    let spec = json!({"paused": true, "replicas": 77, "minReadySeconds": 77});
    let answer = status.merge(&json!({"status": {"conditions": [patched]}, "spec": spec}))?;
    ensure!(condition(&answer, "StatusPatched").is_some(), "{answer}");
    ensure!(answer["spec"] == updated["spec"], "a status alone is written: {answer}");
    ensure!(condition(&workload.get()?, "StatusPatched").is_some());
    Ok(())
}

/// A collection is listed by label in the namespace and in all of them, and deleted.
fn collection(objects: &Objects, kind: Kind, name: &str) -> Result<()> {
    let other = create_like(objects, kind, name)?;
    let found = objects.items(kind, &labelled(name))?;
    ensure!(names(&found) == [name], "{found:?}");
    let everywhere = objects.get(&format!("{}?{}", kind.path(""), labelled(name)))?;
    ensure!(everywhere["items"].as_array().is_some_and(|all| !all.is_empty()), "{everywhere}");
    objects.delete_all(kind, &labelled(name))?;
    objects.until(kind, &labelled(name), "the collection is gone", <[Value]>::is_empty)?;
    ensure!(other.get()?["metadata"]["name"] == "other", "what was not selected stays");
    other.delete(&Value::Null).map(drop)
}

/// The same as an object, but not of its label.
fn create_like<'a>(objects: &'a Objects, kind: Kind, name: &str) -> Result<At<'a>> {
    let mut like = objects.at(kind, name).get()?;
    let spec: Value = serde_json::from_str(&like["spec"].take().to_string().replace(name, "other"))?;
    let other = objects.at(kind, "other");
    other.create(json!({"metadata": {"labels": {"app": "other"}}, "spec": spec}))?;
    Ok(other)
}
