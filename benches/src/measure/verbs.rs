//! What clusters do with objects all day, beside making and listing them: 64 in flight, on 5,000 pods.

use anyhow::Result;
use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::cluster::{Ground, Running, Site};
use crate::load::{create, drive, namespace};
use crate::objects::parked_pod;
use crate::process::{Process, megabytes};
use crate::report::Row;
use crate::wire::{Request, Wire};

const COUNT: usize = 5_000;
const IN_FLIGHT: usize = 64;
/// A multiple of those in flight: so each lease is renewed by one client alone, as by its holder.
const LEASES: usize = 15 * IN_FLIGHT;
const POD_PATH: &str = "/api/v1/namespaces/bench/pods";
const LEASE_PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/bench/leases";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// What is measured, the request of a number, and what kube-apiserver with etcd was measured at.
type Verb = (&'static str, fn(usize) -> Request, &'static str);

const VERBS: &[Verb] = &[
    ("get Pods", get, "4,039 /s, p99 43 ms; 421 µs"),
    ("patch Pods (strategic), a label", patch, "609 /s, p99 303 ms; 2,768 µs"),
    ("apply Pods (server-side), a label and an image", apply, "570 /s, p99 275 ms; 3,280 µs"),
    ("patch Pods' status", status, "579 /s, p99 337 ms; 3,095 µs"),
    ("delete Pods", delete, "723 /s, p99 184 ms; 2,437 µs"),
];

pub async fn run(ground: &Ground) -> Result<Vec<Row>> {
    let site = Site::new(ground)?;
    let running = site.start_ready().await?;
    let wires = namespace(&site, "bench").await?;
    create(&running, &wires, POD_PATH, (COUNT, IN_FLIGHT), |n| parked_pod(&format!("pod-{n}"))).await?;
    let mut rows = vec![renewals(&running, &wires).await?];
    for (measure, request, reference) in VERBS {
        let outcome = drive(&running, &wires, (COUNT, IN_FLIGHT), request, |_, _| {}).await?;
        rows.push(Row::new(*measure, outcome.text()).reference(reference));
    }
    let memory = Process::new(running.pid()?).memory()?;
    rows.push(Row::new("memory after all of these", megabytes(memory.rss)));
    site.stop(running).await?;
    Ok(rows)
}

/// A pod's path; numbers that follow each other are far apart, so that no cache is helped by their order.
fn pod(number: usize) -> String {
    format!("{POD_PATH}/pod-{}", number * 2_477 % COUNT)
}

fn get(number: usize) -> Request {
    Request::new(Method::GET, pod(number), "")
}

fn patch(number: usize) -> Request {
    let label = json!({"metadata": {"labels": {"round": format!("patch-{number}")}}});
    Request::new(Method::PATCH, pod(number), label.to_string()).form(STRATEGIC)
}

fn apply(number: usize) -> Request {
    let path = pod(number);
    let name = path.rsplit('/').next().unwrap_or_default();
    let image = json!({"name": "server", "image": format!("registry.example/shop/front:2.0.{number}")});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"applied": format!("apply-{number}")}},
        "spec": {"containers": [image]},
    });
    let path = format!("{path}?fieldManager=bench&force=true");
    Request::new(Method::PATCH, path, pod.to_string()).form(APPLY)
}

/// As a kubelet tells that a pod has started.
fn status(number: usize) -> Request {
    let now = now("%Y-%m-%dT%H:%M:%SZ");
    let ip = format!("10.42.{}.{}", number / 250, number % 250 + 1);
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now});
    let container = |name: &str, image: &str| {
        json!({"name": name, "image": image, "imageID": "", "ready": true, "started": true, "restartCount": number,
            "state": {"running": {"startedAt": now}}})
    };
    let status: Value = json!({
        "phase": "Running", "startTime": now, "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": "192.0.2.1",
        "conditions": [condition("Initialized"), condition("Ready"), condition("ContainersReady")],
        "containerStatuses": [container("server", "shop/front"), container("logs", "tools/logs")],
    });
    let body = json!({"status": status}).to_string();
    Request::new(Method::PATCH, format!("{}/status", pod(number)), body).form(STRATEGIC)
}

/// Renewals tell the revision that they build on, as Kubernetes wants it for leases.
async fn renewals(running: &Running, wires: &[Wire]) -> Result<Row> {
    let revisions = Mutex::new(vec![String::new(); LEASES]);
    let keep = |number: usize, answer: &[u8]| {
        let lease: Value = serde_json::from_slice(answer).unwrap_or_default();
        let revision = lease["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        revision.clone_into(&mut revisions.lock()[number % LEASES]);
    };
    let make = |number| Request::new(Method::POST, LEASE_PATH, lease(number, ""));
    drive(running, wires, (LEASES, IN_FLIGHT), make, keep).await?;
    let renew = |number| {
        let path = format!("{LEASE_PATH}/lease-{}", number % LEASES);
        Request::new(Method::PUT, path, lease(number, &revisions.lock()[number % LEASES]))
    };
    let outcome = drive(running, wires, (COUNT, IN_FLIGHT), renew, keep).await?;
    Ok(Row::new("update Leases", outcome.text()).reference("2,305 /s, p99 67 ms; 735 µs"))
}

fn lease(number: usize, revision: &str) -> String {
    let spec = json!({"holderIdentity": "bench", "leaseDurationSeconds": 40,
        "renewTime": now("%Y-%m-%dT%H:%M:%S%.6fZ"), "leaseTransitions": number});
    let mut meta = json!({"name": format!("lease-{}", number % LEASES), "namespace": "bench"});
    if !revision.is_empty() {
        meta["resourceVersion"] = revision.into();
    }
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec})
        .to_string()
}

fn delete(number: usize) -> Request {
    Request::new(Method::DELETE, pod(number), r#"{"gracePeriodSeconds":0}"#)
}

fn now(format: &str) -> String {
    jiff::Timestamp::now().strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pod_is_met_once() {
        let paths: std::collections::BTreeSet<String> = (0..COUNT).map(pod).collect();
        assert_eq!(paths.len(), COUNT);
    }
}
