//! Volumes, as the programme names their behaviours: files of ConfigMaps, Secrets and the downward API, and `emptyDir`s.
//!
//! One pod shows many: it mounts a volume for every behaviour, and its containers are of different users.

mod downward;
mod empty;
mod files;
mod updates;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Table;
use crate::harness::Namespace;

/// All of it.
pub const AREA: &[Table] = &[files::CASES, empty::CASES, downward::CASES, updates::CASES];

/// User of the containers that are not root's.
const USER: u32 = 1000;

/// A pod of containers that stay, each with all volumes mounted at `/v/NAME`. Containers: name and user.
fn pod(name: &str, containers: &[(&str, u32)], volumes: &[(String, Value)]) -> Value {
    let mounts: Vec<Value> =
        volumes.iter().map(|(name, _)| json!({"name": name, "mountPath": format!("/v/{name}")})).collect();
    let containers: Vec<Value> = containers
        .iter()
        .map(|(name, user)| {
            json!({"name": name, "image": "tiphys.local/hello:1", "command": ["/bin/sleep", "3600"],
                "securityContext": {"runAsUser": user}, "volumeMounts": mounts})
        })
        .collect();
    let volumes: Vec<Value> = volumes
        .iter()
        .map(|(name, source)| {
            let mut volume = source.clone();
            volume["name"] = name.as_str().into();
            volume
        })
        .collect();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
            "containers": containers, "volumes": volumes}})
}

/// Runs a tool in a container of the pod `p`; its output.
fn exec(ns: &Namespace<'_>, container: &str, command: &[&str]) -> Result<Vec<u8>> {
    let mut kubectl = ns.kubectl_command();
    let output = kubectl.args(["exec", "p", "-c", container, "--"]).args(command).output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

/// Type and mode in octal of each path, as a container sees them.
fn modes(ns: &Namespace<'_>, container: &str, paths: &[String]) -> Result<Vec<String>> {
    let command: Vec<&str> = ["ls"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    let listed = String::from_utf8(exec(ns, container, &command)?)?;
    let mode = |path: &String| {
        let line = listed.lines().find(|line| line.ends_with(&format!(" {path}")));
        let mode = line.and_then(|line| line.split(' ').next());
        mode.map(str::to_owned).with_context(|| format!("{path} is not listed in\n{listed}"))
    };
    paths.iter().map(mode).collect()
}

/// The contents of all paths, one after the other.
fn contents(ns: &Namespace<'_>, container: &str, paths: &[String]) -> Result<Vec<u8>> {
    let command: Vec<&str> = ["cat"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    exec(ns, container, &command)
}

/// The same as lines.
fn lines(ns: &Namespace<'_>, container: &str, paths: &[String]) -> Result<Vec<String>> {
    let text = String::from_utf8(contents(ns, container, paths)?)?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Makes objects, then a pod, and waits until that is ready.
fn run(ns: &Namespace<'_>, objects: &[Value], pod: &Value) -> Result<()> {
    let list =
        json!({"apiVersion": "v1", "kind": "List", "items": ([objects, std::slice::from_ref(pod)].concat())});
    ns.apply(&list.to_string())?;
    let name = pod["metadata"]["name"].as_str().context("a pod without a name")?;
    ns.wait("condition=Ready", &[&format!("pod/{name}")]).map(drop)
}
