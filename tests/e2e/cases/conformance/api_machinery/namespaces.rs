//! Namespaces, and what goes with them.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::cases::Run;
use crate::cases::conformance::Table;
use crate::harness::Namespace;
use crate::objects::{Kind, NAMESPACE, Objects, POD, SERVICE};

pub const CASES: Table = &[
    (
        &[
            "[sig-api-machinery] Namespaces [Serial] should ensure that all pods are removed when a namespace is deleted",
            "[sig-api-machinery] Namespaces [Serial] should ensure that all services are removed when a namespace is \
             deleted",
        ],
        Run::Simulated(removes_all),
    ),
    (&["[sig-api-machinery] Namespaces [Serial] should patch a Namespace"], Run::Simulated(patch)),
];

const SERVICE_ACCOUNT: Kind = Kind::new("v1", "ServiceAccount", "serviceaccounts");

fn removes_all(ns: &Namespace<'_>) -> Result<()> {
    let name = format!("{}-2", ns.name);
    let objects = Objects::of(ns)?.within(&name);
    let namespace = objects.at(NAMESPACE, &name);
    namespace.create(json!({}))?;
    // Without it, no pod is admitted.
    objects.at(SERVICE_ACCOUNT, "default").until("there is a service account", |found| !found.is_null())?;
    let pod = objects.at(POD, "pod");
    pod.create(json!({"spec": {"containers": [{"name": "c", "image": "example/web:1"}]}}))?;
    pod.until("it is Running", |pod| pod["status"]["phase"] == "Running")?;
    objects
        .at(SERVICE, "service")
        .create(json!({"spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}))?;
    namespace.delete(&json!({}))?;
    namespace.gone()?;
    namespace.create(json!({}))?;
    for kind in [POD, SERVICE] {
        let left = objects.items(kind, "")?;
        ensure!(left.is_empty(), "{left:?}");
    }
    namespace.delete(&json!({})).map(drop)
}

fn patch(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let namespace = objects.at(NAMESPACE, &ns.name);
    namespace.patch(&json!({"metadata": {"labels": {"tested": "yes"}}}))?;
    let labels = namespace.get()?["metadata"]["labels"].take();
    ensure!(labels["tested"] == "yes", "{labels}");
    let own = labels["kubernetes.io/metadata.name"].as_str().context("its own label is lost")?;
    ensure!(own == ns.name, "{own}");
    Ok(())
}
