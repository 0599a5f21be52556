//! A server of another API group behind an APIService: kubectl cannot tell it from what is built in.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, ensure};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::cases::Run;
use crate::cases::conformance::Table;
use crate::harness::{Namespace, eventually};
use crate::hooks::Hook;
use crate::objects::{Kind, Objects, SERVICE, refusal};

pub const CASES: Table = &[(
    &[
        "[sig-api-machinery] Aggregator Should be able to support the 1.17 Sample API Server using the current Aggregator",
    ],
    Run::Simulated(sample),
)];

const API_SERVICE: Kind = Kind::new("apiregistration.k8s.io/v1", "APIService", "apiservices").cluster();
const GROUP: &str = "wardle.tiphys.example";

/// Flunders by name.
type Flunders = Mutex<BTreeMap<String, Value>>;

fn status(code: u16, reason: &str) -> Option<(u16, Value)> {
    let status =
        json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": reason, "code": code});
    Some((code, status))
}

/// A server of one kind, which it keeps in memory.
fn answer(flunders: &Flunders, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
    let path = path.split('?').next().unwrap_or_default();
    let version = format!("{GROUP}/v1alpha1");
    let root = format!("/apis/{version}");
    let Some(rest) = path.strip_prefix(&root) else { return status(404, "NotFound") };
    let words: Vec<&str> = rest.trim_matches('/').split('/').collect();
    let mut flunders = flunders.lock();
    match (method, words.as_slice()) {
        ("GET", [""]) => Some((
            200,
            json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": [{
                "name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder",
                "verbs": ["create", "delete", "get", "list"]}]}),
        )),
        ("GET", ["namespaces", _, "flunders"] | ["flunders"]) => Some((
            200,
            json!({
            "kind": "FlunderList", "apiVersion": version, "metadata": {"resourceVersion": "1"},
            "items": flunders.values().collect::<Vec<_>>()}),
        )),
        ("POST", ["namespaces", namespace, "flunders"]) => {
            let mut object = body.clone();
            object["metadata"]["namespace"] = (*namespace).into();
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            flunders.insert(name, object.clone());
            Some((201, object))
        }
        ("GET", ["namespaces", _, "flunders", name]) => match flunders.get(*name) {
            Some(object) => Some((200, object.clone())),
            None => status(404, "NotFound"),
        },
        ("DELETE", ["namespaces", _, "flunders", name]) => match flunders.remove(*name) {
            Some(object) => Some((200, object)),
            None => status(404, "NotFound"),
        },
        _ => status(405, "MethodNotAllowed"),
    }
}

fn sample(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let flunders = Flunders::default();
    let answers = move |method: &str, path: &str, body: &Value| answer(&flunders, method, path, body);
    let hook = Hook::serve(ns, &objects, Arc::new(answers))?;
    let service = objects.at(API_SERVICE, &format!("v1alpha1.{GROUP}"));
    service.create(json!({"spec": {
        "group": GROUP, "version": "v1alpha1", "groupPriorityMinimum": 2000, "versionPriority": 200,
        "caBundle": hook.ca, "service": {"namespace": ns.name, "name": "hook", "port": 443}}}))?;
    let available = |wanted: &'static str| {
        move |service: &Value| {
            let conditions = service["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|c| c["type"] == "Available" && c["status"] == wanted)
        }
    };
    service.until("it is available", available("True"))?;
    let printed = ns.kubectl(&["get", "apiservices"])?;
    ensure!(printed.contains("v1.apps") && printed.contains(GROUP), "{printed}");
    eventually("discovery shows the group", || {
        ensure!(ns.kubectl(&["api-resources", "--api-group", GROUP])?.contains("flunders"));
        Ok(())
    })?;
    let manifest =
        json!({"apiVersion": format!("{GROUP}/v1alpha1"), "kind": "Flunder", "metadata": {"name": "a"}});
    ns.feed(&["create", "--validate=false", "-f", "-"], &manifest.to_string())?;
    ensure!(ns.kubectl(&["get", "flunders", "-o", "name"])?.contains("/a"));
    ns.kubectl(&["delete", "flunders", "a"])?;
    ensure!(ns.kubectl(&["get", "flunders"])?.is_empty());
    // Without its Service it is told as unavailable, and comes back with it.
    objects.at(SERVICE, "hook").delete(&Value::Null)?;
    service.until("it is unavailable", available("False"))?;
    let refused = refusal(objects.get(&format!("/apis/{GROUP}/v1alpha1/flunders")))?;
    ensure!(refused.code == 503, "{refused:?}");
    service.delete(&Value::Null)?;
    service.gone()?;
    let groups = objects.get("/apis")?;
    ensure!(!groups.to_string().contains(GROUP), "{groups}");
    Ok(())
}
