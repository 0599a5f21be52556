//! Statuses of pods in states that are hard to bring about.

use super::*;
use crate::backoff::Backoff;
use crate::state::{Failure, Image, State};
use serde_json::{Value, json};
use tiphys_runtime::{Container, ContainerState, Sandbox};

fn pod(spec: &Value) -> Pod {
    let meta = json!({"name": "p", "namespace": "n", "uid": "u", "generation": 4});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
}

fn seen(name: &str, attempt: u32, state: ContainerState, exit_code: i32) -> Container {
    Container {
        id: format!("{name}-{attempt}"),
        sandbox: "s".into(),
        name: name.into(),
        attempt,
        state,
        exit_code,
        ..Container::default()
    }
}

fn state(containers: Vec<Container>) -> State {
    let sandbox = Sandbox { id: "s".into(), ready: true, ips: vec!["10.0.0.1".into()], ..Sandbox::default() };
    State { sandboxes: vec![sandbox], containers, ..State::default() }
}

fn told(pod: &Pod, state: &State) -> Value {
    let node = Node { ip: "1.2.3.4".parse().unwrap(), runtime: "containerd".into() };
    serde_json::to_value(status(pod, state, &node, Timestamp::from_second(100).unwrap())).unwrap()
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == kind).unwrap()
}

#[test]
fn a_crash_loop_keeps_the_phase_and_tells_the_pause() {
    let pod = pod(&json!({"containers": [{"name": "c"}]}));
    let mut state = state(vec![seen("c", 1, ContainerState::Exited, 7)]);
    let mut backoff = Backoff::default();
    backoff.next(Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
    state.crash_backoff.insert("c".into(), backoff);
    let status = told(&pod, &state);
    let c = &status["containerStatuses"][0];
    assert_eq!(status["phase"], "Running");
    assert_eq!(c["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(c["state"]["waiting"]["message"], "back-off 10s restarting failed container=c pod=p_n(u)");
    assert_eq!((&c["lastState"]["terminated"]["exitCode"], &c["restartCount"]), (&json!(7), &json!(1)));
    assert_eq!(condition(&status, "Ready")["message"], "containers with unready status: [c]");
}

#[test]
fn init_containers_hold_the_pod_back() {
    let pod = pod(&json!({"initContainers": [{"name": "i"}], "containers": [{"name": "c"}]}));
    let status = told(&pod, &state(vec![seen("i", 0, ContainerState::Running, 0)]));
    assert_eq!(status["phase"], "Pending");
    assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");
    let initialized = condition(&status, "Initialized");
    assert_eq!(initialized["message"], "containers with incomplete status: [i]");
    assert_eq!((&status["observedGeneration"], &initialized["observedGeneration"]), (&json!(4), &json!(4)));
    let done = told(&pod, &state(vec![seen("i", 0, ContainerState::Exited, 0)]));
    assert_eq!(condition(&done, "Initialized")["status"], "True");
    assert_eq!(done["initContainerStatuses"][0]["ready"], true);
}

#[test]
fn ends_follow_the_restart_policy() {
    let cases = [
        ("Never", 0, "Succeeded"),
        ("Never", 1, "Failed"),
        ("OnFailure", 0, "Succeeded"),
        ("OnFailure", 1, "Running"),
        ("Always", 0, "Running"),
    ];
    for (policy, code, phase) in cases {
        let pod = pod(&json!({"restartPolicy": policy, "containers": [{"name": "c"}]}));
        let status = told(&pod, &state(vec![seen("c", 0, ContainerState::Exited, code)]));
        assert_eq!(status["phase"], phase, "{policy} {code}");
    }
    let pod = pod(&json!({"restartPolicy": "Never", "containers": [{"name": "c"}]}));
    let ended = told(&pod, &state(vec![seen("c", 0, ContainerState::Exited, 0)]));
    assert_eq!(condition(&ended, "Ready")["reason"], "PodCompleted");
}

#[test]
fn a_deleted_pod_that_never_ran_has_failed() {
    let mut pod = pod(&json!({"containers": [{"name": "c"}]}));
    pod.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    let status = told(&pod, &State::default());
    assert_eq!(status["phase"], "Failed");
    let terminated = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (&terminated["reason"], &terminated["exitCode"]),
        (&json!("ContainerStatusUnknown"), &json!(137))
    );
}

#[test]
fn pull_failures_and_readiness_gates_are_told() {
    let gated = pod(&json!({"readinessGates": [{"conditionType": "g"}], "containers": [{"name": "c"}]}));
    let mut state = state(Vec::new());
    let failure = Failure { reason: "ErrImagePull".into(), message: "no".into(), retry: Timestamp::MAX };
    state.images.insert("c".into(), Image::Failed(failure));
    let status = told(&gated, &state);
    assert_eq!(
        status["containerStatuses"][0]["state"]["waiting"],
        json!({"reason": "ErrImagePull", "message": "no"})
    );
    state.images.clear();
    state.containers.push(seen("c", 0, ContainerState::Running, 0));
    let status = told(&gated, &state);
    assert_eq!(condition(&status, "ContainersReady")["status"], "True");
    assert_eq!(condition(&status, "Ready")["reason"], "ReadinessGatesNotReady");
}
