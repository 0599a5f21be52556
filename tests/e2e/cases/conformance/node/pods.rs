//! Pods as objects: how they come and go, what is told of them, and what is changed while they run.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Run, Table, phase, pod, status};
use crate::harness::{Namespace, eventually};

pub const CASES: Table = &[
    (
        &[
            "[sig-node] Pods should be submitted and removed [NodeConformance]",
            "[sig-node] Pods should be updated [NodeConformance]",
            "[sig-node] Pods should get a host IP [NodeConformance]",
            "[sig-node] Pods should allow activeDeadlineSeconds to be updated [NodeConformance]",
            "[sig-node] Pods Extended Pods Set QOS Class should be set on Pods with matching resource requests and limits for memory and cpu",
        ],
        Run::Shared(life),
    ),
    (
        &[
            "[sig-node] Pods should delete a collection of pods",
            "[sig-node] Pods should run through the lifecycle of Pods and PodStatus",
        ],
        Run::Shared(collection),
    ),
];

fn life(ns: &Namespace<'_>) -> Result<()> {
    let sizes = "resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: 100m, memory: 64Mi}}";
    ns.apply(&pod("life", "", &[&format!("name: c, {sizes}")]))?;
    ns.wait("condition=Ready", &["pod/life"])?;
    let listed = ns.get(&["pods", "-l", "name=life"])?;
    let found = &listed["items"][0];
    ensure!(found["metadata"]["name"] == "life" && found["status"]["qosClass"] == "Guaranteed", "{listed}");
    let host: std::net::IpAddr = found["status"]["hostIP"].as_str().context("no address")?.parse()?;
    ensure!(found["status"]["hostIPs"] == json!([{"ip": host}]), "{found}");
    ns.kubectl(&["label", "pod", "life", "time=later"])?;
    ensure!(ns.get(&["pods", "-l", "time=later"])?["items"][0]["metadata"]["name"] == "life");
    // Watched from before the deletion: what it tells is the deletion itself.
    let before = ns.get(&["pod", "life"])?["metadata"]["resourceVersion"].clone();
    ns.kubectl(&["delete", "pod", "life"])?;
    let events = watched(ns, &before)?;
    let deleting =
        |e: &Value| e["type"] == "MODIFIED" && !e["object"]["metadata"]["deletionTimestamp"].is_null();
    ensure!(events.iter().any(deleting), "{events:?}");
    ensure!(events.iter().any(|e| e["type"] == "DELETED"), "{events:?}");
    ensure!(ns.get(&["pods", "-l", "name=life"])?["items"] == json!([]));
    ns.apply(&pod("deadline", "", &["name: c"]))?;
    ns.wait("condition=Ready", &["pod/deadline"])?;
    ns.kubectl(&["patch", "pod", "deadline", "-p", r#"{"spec":{"activeDeadlineSeconds":1}}"#])?;
    let failed = phase(ns, "deadline", "Failed")?;
    let told = &failed["status"];
    ensure!(told["reason"] == "DeadlineExceeded", "{told}");
    ensure!(told["message"] == "Pod was active on the node longer than the specified deadline", "{told}");
    Ok(())
}

/// Events about pods since a revision.
fn watched(ns: &Namespace<'_>, since: &Value) -> Result<Vec<Value>> {
    let since = since.as_str().context("no revision")?;
    // What has happened already comes at once; a second is the least that can be asked for.
    let path =
        format!("/api/v1/namespaces/{}/pods?watch=true&timeoutSeconds=1&resourceVersion={since}", ns.name);
    let events = ns.kubectl(&["get", "--raw", &path])?;
    events.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn collection(ns: &Namespace<'_>) -> Result<()> {
    let of = |name: &str| pod(name, "", &["name: c"]).replacen("labels: {", "labels: {set: three, ", 1);
    ns.apply(&[of("one"), of("two"), of("three")].concat())?;
    ensure!(ns.get(&["pods", "-l", "set=three"])?["items"].as_array().map(Vec::len) == Some(3));
    ns.wait("condition=Ready", &["pod", "-l", "set=three"])?;
    let patch = r#"{"metadata":{"labels":{"patched":"yes"}},"spec":{"containers":[{"name":"c","image":"tiphys.local/pause:1"}]}}"#;
    ns.kubectl(&["patch", "pod", "one", "-p", patch])?;
    eventually("the other image runs", || {
        let pod = ns.get(&["pod", "one"])?;
        let seen = status(&pod, "c")?;
        ensure!(pod["metadata"]["labels"]["patched"] == "yes", "{pod}");
        ensure!(seen["restartCount"].as_i64() >= Some(1) && seen["ready"] == true, "{seen}");
        Ok(())
    })?;
    // A status that somebody else replaces is told anew by the kubelet, but for what is not its own.
    let condition = json!({"type": "example.com/Seen", "status": "True"});
    let patch = json!({"status": {"conditions": [condition, {"type": "Ready", "status": "False"}]}});
    ns.kubectl(&["patch", "pod", "two", "--subresource=status", "-p", &patch.to_string()])?;
    eventually("the kubelet tells what is", || {
        let pod = ns.get(&["pod", "two"])?;
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is = |kind: &str| conditions.iter().any(|c| c["type"] == kind && c["status"] == "True");
        ensure!(is("example.com/Seen") && is("Ready"), "{conditions:?}");
        Ok(())
    })?;
    let all = format!("/api/v1/namespaces/{}/pods?labelSelector=set%3Dthree", ns.name);
    ns.kubectl(&["delete", "--raw", &all])?;
    eventually("all are gone", || {
        ensure!(ns.get(&["pods", "-l", "set=three"])?["items"] == json!([]));
        Ok(())
    })
}
