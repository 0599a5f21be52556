//! A pod's conditions. Those of others (readiness gates, disruption) pass through untouched.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::whole_seconds;
use crate::plan;
use crate::pod::{self, Role};
use crate::state::State;

/// Status, reason and message of one condition.
type Finding = (bool, Option<&'static str>, Option<String>);

const OWN: [&str; 7] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "PodResizePending",
    "PodResizeInProgress",
];

const TRUE: Finding = (true, None, None);

pub(super) fn conditions(pod: &Pod, state: &State, status: &PodStatus, now: Timestamp) -> Vec<PodCondition> {
    let known = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let containers = containers_ready(pod, state, status);
    let ready = ready(pod, &containers, &known);
    let network = state.sandbox().is_some_and(|s| pod::host_network(pod) || !s.ips.is_empty());
    let mut found = vec![
        ("PodReadyToStartContainers", (network, None, None)),
        ("Initialized", initialized(pod, state, status)),
        ("Ready", ready),
        ("ContainersReady", containers),
        ("PodScheduled", TRUE),
    ];
    found.extend(resize(pod, state));
    found.extend(disrupted(state));
    let made = |kind: &str| is_own(kind) || found.iter().any(|(own, _)| *own == kind);
    let foreign: Vec<PodCondition> = known.iter().filter(|c| !made(&c.type_)).cloned().collect();
    let generation = pod.metadata.generation;
    let mut all: Vec<PodCondition> =
        found.iter().map(|(kind, finding)| condition(kind, finding, &known, generation, now)).collect();
    all.extend(foreign);
    all
}

/// A pod that the node ends for reasons of its own says so: its controller need not count that as a failure of the pod's own.
fn disrupted(state: &State) -> Option<(&'static str, Finding)> {
    let verdict = state.verdict.as_ref().filter(|verdict| verdict.disrupts)?;
    let finding = (true, Some("TerminationByKubelet"), Some(verdict.message.clone()));
    Some(("DisruptionTarget", finding))
}

/// Whether this kubelet writes a condition; all others are someone else's.
pub(crate) fn is_own(kind: &str) -> bool {
    OWN.contains(&kind)
}

/// What is told of other sizes for running containers, as long as there is something to tell.
fn resize(pod: &Pod, state: &State) -> Vec<(&'static str, Finding)> {
    let pending = state
        .pending
        .as_ref()
        .map(|pending| ("PodResizePending", (true, Some(pending.reason), Some(pending.message.clone()))));
    let progress = plan::resizing(pod, state).then(|| {
        let failure = state.resize_failure.clone();
        ("PodResizeInProgress", (true, failure.as_ref().map(|_| "Error"), failure))
    });
    pending.into_iter().chain(progress).collect()
}

fn condition(
    kind: &str,
    (ok, reason, message): &Finding,
    known: &[PodCondition],
    generation: Option<i64>,
    now: Timestamp,
) -> PodCondition {
    let status = if *ok { "True" } else { "False" };
    let before = known.iter().find(|c| c.type_ == kind && c.status == status);
    let since = before.and_then(|c| c.last_transition_time.clone());
    PodCondition {
        type_: kind.into(),
        status: status.into(),
        reason: reason.map(str::to_owned),
        message: message.clone(),
        last_probe_time: None,
        last_transition_time: Some(since.unwrap_or_else(|| Time(whole_seconds(now)))),
        observed_generation: generation,
    }
}

fn initialized(pod: &Pod, state: &State, status: &PodStatus) -> Finding {
    if status.phase.as_deref() == Some("Succeeded") {
        return (true, Some("PodCompleted"), None);
    }
    if pod::init_containers(pod).is_empty() || plan::initialized(pod, state) {
        return TRUE;
    }
    let incomplete = status.init_container_statuses.iter().flatten().filter(|status| {
        let sidecar = pod::role(pod, &status.name) == Role::Sidecar;
        if sidecar { status.started != Some(true) } else { !status.ready }
    });
    let message = format!("containers with incomplete status: {}", names(incomplete));
    (false, Some("ContainersNotInitialized"), Some(message))
}

fn containers_ready(pod: &Pod, state: &State, status: &PodStatus) -> Finding {
    match status.phase.as_deref() {
        Some("Succeeded") => return (false, Some("PodCompleted"), None),
        Some("Failed") => return (false, Some("PodFailed"), None),
        _ => {}
    }
    let sidecar = |s: &&ContainerStatus| pod::role(pod, &s.name) == Role::Sidecar;
    let sidecars = status.init_container_statuses.iter().flatten().filter(sidecar);
    let all = sidecars.chain(status.container_statuses.iter().flatten());
    let unready: Vec<&ContainerStatus> = all.filter(|status| !status.ready).collect();
    if unready.is_empty() && (state.sandbox().is_some() || pod::app_containers(pod).is_empty()) {
        return TRUE;
    }
    let message = format!("containers with unready status: {}", names(unready.into_iter()));
    (false, Some("ContainersNotReady"), Some(message))
}

fn names<'a>(statuses: impl Iterator<Item = &'a ContainerStatus>) -> String {
    let names: Vec<&str> = statuses.map(|status| status.name.as_str()).collect();
    format!("[{}]", names.join(" "))
}

fn ready(pod: &Pod, containers: &Finding, known: &[PodCondition]) -> Finding {
    if !containers.0 {
        return containers.clone();
    }
    let gates = pod::spec(pod).readiness_gates.as_deref().unwrap_or_default();
    let complaint = |gate: &str| match known.iter().find(|c| c.type_ == gate) {
        None => Some(format!("corresponding condition of pod readiness gate {gate:?} does not exist.")),
        Some(condition) if condition.status != "True" => {
            let status = &condition.status;
            Some(format!("the status of pod readiness gate {gate:?} is not \"True\", but {status}"))
        }
        Some(_) => None,
    };
    let complaints: Vec<String> = gates.iter().filter_map(|gate| complaint(&gate.condition_type)).collect();
    match complaints.is_empty() {
        true => TRUE,
        false => (false, Some("ReadinessGatesNotReady"), Some(complaints.join(", "))),
    }
}
