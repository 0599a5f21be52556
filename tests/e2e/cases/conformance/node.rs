//! Pods as containers see them and as the API tells of them: environment, life, probes, security, and the objects they use.

mod containers;
mod env;
mod hooks;
mod objects;
mod pods;
mod probes;
mod sockets;
mod subpaths;
mod taints;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Run, Table};
use crate::harness::{Namespace, eventually};

pub const AREA: &[Table] = &[
    containers::CASES,
    env::CASES,
    hooks::CASES,
    objects::CASES,
    pods::CASES,
    probes::CASES,
    sockets::CASES,
    subpaths::CASES,
    taints::CASES,
];

/// A pod of the hello image; `spec` is indented by two, `containers` are one a line, in braces without the image: `name: c, command: [cat]`.
fn pod(name: &str, spec: &str, containers: &[&str]) -> String {
    let image = "image: 'tiphys.local/hello:1'";
    let mut text =
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{name: {name}}}}}\nspec:\n");
    text.push_str("  terminationGracePeriodSeconds: 1\n");
    for line in spec.lines() {
        text.push_str(&format!("  {line}\n"));
    }
    text.push_str("  containers:\n");
    for container in containers {
        text.push_str(&format!("  - {{{image}, {container}}}\n"));
    }
    text.push_str("---\n");
    text
}

/// Waits until a pod has one of the phases.
fn phase(ns: &Namespace<'_>, pod: &str, wanted: &str) -> Result<Value> {
    eventually("the pod is in its phase", || {
        let seen = ns.get(&["pod", pod])?;
        ensure!(seen["status"]["phase"] == wanted, "not {wanted}: {}", seen["status"]);
        Ok(seen)
    })
}

/// The status of a pod's container.
fn status(pod: &Value, container: &str) -> Result<Value> {
    let lists = ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"];
    let mut all = lists.iter().flat_map(|list| pod["status"][list].as_array().into_iter().flatten());
    all.find(|status| status["name"] == container).cloned().with_context(|| format!("no {container}: {pod}"))
}

/// What a container of a pod has logged.
fn logs(ns: &Namespace<'_>, pod: &str, container: &str) -> Result<String> {
    ns.kubectl(&["logs", pod, "-c", container])
}

/// Waits until events about a pod say something.
fn event(ns: &Namespace<'_>, pod: &str, reason: &str, words: &str) -> Result<()> {
    let fields = format!("--field-selector=involvedObject.name={pod},reason={reason}");
    eventually("the event is there", || {
        let events = ns.kubectl(&["get", "events", &fields])?;
        ensure!(events.contains(words), "{reason} {words:?} is missing in\n{events}");
        Ok(())
    })
}
