//! What a simulated kubelet does next about a pod. Pure.
//!
//! Annotations of a pod override the simulator's delays and say how it ends:
//! `simulate.tiphys.io/start-delay`, `.../run-time` (also ends a pod that no Job owns), `.../stop-delay`,
//! `.../exit-code` (other than 0: it fails).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use tiphys_api::{Object, Value, json};

use crate::node::seconds;
use crate::{Config, Delay};

const ANNOTATIONS: &str = "simulate.tiphys.io/";

/// A step in a pod's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It comes up.
    Start,
    /// Its readiness gates have changed.
    Ready,
    /// Its work is done.
    Finish,
    /// It was deleted and ends.
    Stop,
}

/// What of a pod is looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct View {
    metadata: Metadata,
    pub(crate) spec: Spec,
    pub(crate) status: Known,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    annotations: Option<BTreeMap<String, String>>,
    deletion_grace_period_seconds: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Spec {
    pub(crate) node_name: String,
    restart_policy: String,
    host_network: bool,
    containers: Vec<Container>,
    init_containers: Option<Vec<Container>>,
    readiness_gates: Option<Vec<Gate>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Container {
    name: String,
    image: String,
    restart_policy: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Gate {
    condition_type: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Known {
    phase: String,
    #[serde(rename = "podIP")]
    pub(crate) pod_ip: String,
    start_time: Option<String>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl View {
    /// The next step, and how long it takes; `None`: nothing happens by itself.
    pub(crate) fn next(&self, object: &Object, config: &Config) -> Option<(Step, Duration)> {
        let uid = &object.meta().uid;
        let pick = |name: &str, usual: Delay| self.delay(name).unwrap_or(usual).pick(uid);
        if object.meta().deleted.is_some() {
            let grace = Duration::from_secs(self.metadata.deletion_grace_period_seconds.unwrap_or(0));
            return Some((Step::Stop, pick("stop-delay", config.stop_delay).min(grace)));
        }
        match self.status.phase.as_str() {
            "" | "Pending" => Some((Step::Start, pick("start-delay", config.start_delay))),
            "Running" if self.ends(object) => Some((Step::Finish, pick("run-time", config.run_time))),
            "Running" if self.is("Ready") != self.gates_open() => Some((Step::Ready, Duration::ZERO)),
            _ => None,
        }
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(&format!("{ANNOTATIONS}{name}")).map(String::as_str)
    }

    fn delay(&self, name: &str) -> Option<Delay> {
        self.annotation(name)?.parse().ok()
    }

    /// Whether its work comes to an end.
    fn ends(&self, object: &Object) -> bool {
        let of_job = object.meta().controller().is_some_and(|owner| &*owner.kind == "Job");
        self.spec.restart_policy != "Always" && (of_job || self.annotation("run-time").is_some())
    }

    fn is(&self, kind: &str) -> bool {
        self.status.conditions.iter().flatten().any(|c| c.kind == kind && c.status == "True")
    }

    fn gates_open(&self) -> bool {
        self.spec.readiness_gates.iter().flatten().all(|gate| self.is(&gate.condition_type))
    }

    /// The status after a step (not after the last one), as a strategic merge patch.
    pub(crate) fn status(&self, step: Step, pod_ip: &str, host_ip: &str, now: Timestamp) -> Value {
        match step {
            Step::Finish => self.ended(now),
            Step::Start => self.running(pod_ip, host_ip, now),
            Step::Ready | Step::Stop => json!({"conditions": self.readiness(now)}),
        }
    }

    fn running(&self, pod_ip: &str, host_ip: &str, now: Timestamp) -> Value {
        let at = seconds(now);
        let pod_ip = if self.spec.host_network { host_ip } else { pod_ip };
        let state = json!({"running": {"startedAt": at}});
        let containers: Vec<Value> =
            self.spec.containers.iter().map(|c| container(c, &state, true)).collect();
        let done = terminated(0, &at, &at);
        let init = |c: &Container| match c.restart_policy.as_deref() {
            Some("Always") => container(c, &state, true),
            _ => container(c, &done, true),
        };
        let inits: Vec<Value> = self.spec.init_containers.iter().flatten().map(init).collect();
        let mut conditions = self.readiness(now);
        for kind in ["PodReadyToStartContainers", "Initialized", "ContainersReady"] {
            conditions.push(condition(kind, true, None, &at));
        }
        let mut status = json!({
            "phase": "Running", "startTime": self.status.start_time.as_deref().unwrap_or(&at),
            "hostIP": host_ip, "hostIPs": [{"ip": host_ip}], "podIP": pod_ip, "podIPs": [{"ip": pod_ip}],
            "conditions": conditions, "containerStatuses": containers,
        });
        if !inits.is_empty() {
            status["initContainerStatuses"] = inits.into();
        }
        status
    }

    fn readiness(&self, now: Timestamp) -> Vec<Value> {
        let open = self.gates_open();
        vec![condition("Ready", open, (!open).then_some("ReadinessGatesNotReady"), &seconds(now))]
    }

    fn ended(&self, now: Timestamp) -> Value {
        let at = seconds(now);
        let code: i32 = self.annotation("exit-code").and_then(|code| code.parse().ok()).unwrap_or(0);
        let started = self.status.start_time.as_deref().unwrap_or(&at);
        let state = terminated(code, started, &at);
        let containers: Vec<Value> =
            self.spec.containers.iter().map(|c| container(c, &state, false)).collect();
        let (phase, reason) = if code == 0 { ("Succeeded", "PodCompleted") } else { ("Failed", "PodFailed") };
        let conditions =
            ["Ready", "ContainersReady"].map(|kind| condition(kind, false, Some(reason), &at)).to_vec();
        json!({"phase": phase, "conditions": conditions, "containerStatuses": containers})
    }
}

fn condition(kind: &str, ok: bool, reason: Option<&str>, at: &str) -> Value {
    let status = if ok { "True" } else { "False" };
    // A null takes a former reason away.
    json!({"type": kind, "status": status, "reason": reason, "lastProbeTime": null, "lastTransitionTime": at})
}

fn container(container: &Container, state: &Value, ready: bool) -> Value {
    let running = state.get("running").is_some();
    json!({
        "name": container.name, "image": container.image, "imageID": container.image, "restartCount": 0,
        "ready": ready, "started": running, "state": state,
        "containerID": format!("simulated://{}", container.name),
    })
}

fn terminated(code: i32, from: &str, to: &str) -> Value {
    let reason = if code == 0 { "Completed" } else { "Error" };
    json!({"terminated": {"exitCode": code, "reason": reason, "startedAt": from, "finishedAt": to}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_follows_the_gates() {
        let config = crate::tests::config("0");
        let pod = |open: &str, ready: &str| {
            let condition = |kind: &str, status: &str| json!({"type": kind, "status": status});
            let value = json!({
                "metadata": {"name": "p", "uid": "u"},
                "spec": {"restartPolicy": "Always", "readinessGates": [{"conditionType": "open"}]},
                "status": {"phase": "Running", "conditions": [condition("open", open), condition("Ready", ready)]},
            });
            Object::from_value(&value).unwrap()
        };
        let step = |object: &Object| {
            let view: View = object.decode().unwrap();
            let next = view.next(object, &config).map(|(step, _)| step);
            next.map(|step| {
                view.status(step, "", "", Timestamp::UNIX_EPOCH)["conditions"][0]["status"].clone()
            })
        };
        assert_eq!((step(&pod("False", "False")), step(&pod("True", "True"))), (None, None));
        assert_eq!(step(&pod("True", "False")).unwrap(), "True");
        assert_eq!(step(&pod("False", "True")).unwrap(), "False");
    }
}
