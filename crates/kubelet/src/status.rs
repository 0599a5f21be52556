//! A pod's status: a pure function of the pod, what is known of it, and the time, in Kubernetes' own words.

pub(crate) mod conditions;
mod containers;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::plan::{self, End};
use crate::pod::{self, RestartPolicy};
use crate::state::State;

/// What of the node shows in a pod's status.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) ip: IpAddr,
    /// As `containerd`: the scheme of container identifiers.
    pub(crate) runtime: String,
}

/// The status as it is now.
pub(crate) fn status(pod: &Pod, state: &State, node: &Node, now: Timestamp) -> PodStatus {
    let before = pod.status.clone().unwrap_or_default();
    let over = over(pod, state);
    let init = containers::statuses(pod, pod::init_containers(pod), state, node, over);
    let apps = containers::statuses(pod, pod::app_containers(pod), state, node, over);
    let plain: Vec<_> = pod::ephemeral_containers(pod).iter().map(pod::plain).collect();
    let ephemeral = containers::statuses(pod, &plain, state, node, over);
    let phase = phase(pod, state, &init, &apps, over);
    let (reason, message) = match &state.verdict {
        Some(verdict) => (Some(verdict.reason.clone()), Some(verdict.message.clone())),
        None => (before.reason.clone(), before.message.clone()),
    };
    let ips = ips(pod, state, node, &before);
    let mut status = PodStatus {
        phase: Some(phase.into()),
        reason,
        message,
        host_ip: Some(node.ip.to_string()),
        host_ips: Some(vec![HostIP { ip: node.ip.to_string() }]),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        start_time: before.start_time.clone().or(state.started.map(|at| Time(whole_seconds(at)))),
        qos_class: Some(pod::qos(pod).name().into()),
        observed_generation: pod.metadata.generation,
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(apps),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        ..before
    };
    status.conditions = Some(conditions::conditions(pod, state, &status, now));
    status
}

/// Whether nothing of the pod runs any more nor will.
fn over(pod: &Pod, state: &State) -> bool {
    let ending = pod.metadata.deletion_timestamp.is_some() || state.gone || plan::end(pod, state).is_some();
    let starting = state.busy.iter().any(|task| matches!(task, plan::Task::Start { .. }));
    ending && !starting && state.running().next().is_none()
}

fn ips(pod: &Pod, state: &State, node: &Node, before: &PodStatus) -> Vec<String> {
    if pod::host_network(pod) {
        return if state.sandbox().is_some() { vec![node.ip.to_string()] } else { Vec::new() };
    }
    match state.sandbox().filter(|sandbox| !sandbox.ips.is_empty()) {
        Some(sandbox) => sandbox.ips.clone(),
        // A pod that ended keeps the address it had, for those who look into what it did.
        None if plan::end(pod, state).is_some() || pod.metadata.deletion_timestamp.is_some() => {
            before.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect()
        }
        None => Vec::new(),
    }
}

/// The API keeps whole seconds.
pub(crate) fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn phase(
    pod: &Pod,
    state: &State,
    init: &[ContainerStatus],
    apps: &[ContainerStatus],
    over: bool,
) -> &'static str {
    match plan::end(pod, state) {
        Some(End::Succeeded) if over => return "Succeeded",
        Some(End::Failed) if over => return "Failed",
        _ => {}
    }
    if over && !apps.is_empty() {
        let failed = apps.iter().any(|status| exit_code(status) != Some(0));
        return if failed { "Failed" } else { "Succeeded" };
    }
    if !init.is_empty() && !plan::initialized(pod, state) {
        return "Pending";
    }
    let is = |pick: fn(&ContainerStatus) -> bool| apps.iter().any(pick);
    let waiting = |status: &ContainerStatus| {
        let never_ran = status.last_state.as_ref().is_none_or(|last| last.terminated.is_none());
        status.state.as_ref().is_some_and(|state| state.waiting.is_some()) && never_ran
    };
    if is(waiting) {
        return "Pending";
    }
    let ran = apps.iter().any(|status| {
        status.state.as_ref().is_some_and(|s| s.running.is_some() || s.terminated.is_some())
            || status.last_state.as_ref().is_some_and(|last| last.terminated.is_some())
    });
    match (ran, pod::restart_policy(pod)) {
        (true, RestartPolicy::Always | RestartPolicy::OnFailure | RestartPolicy::Never) => "Running",
        (false, _) => "Pending",
    }
}

fn exit_code(status: &ContainerStatus) -> Option<i32> {
    let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    let terminated = status.state.as_ref().and_then(|state| state.terminated.as_ref()).or(last);
    terminated.map(|terminated| terminated.exit_code)
}
