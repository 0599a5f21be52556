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

#[test]
fn a_container_that_cannot_be_started_is_told_as_such_and_then_as_a_crash_loop() {
    let pod = pod(&json!({"containers": [{"name": "c"}]}));
    let mut state = state(vec![seen("c", 0, ContainerState::Exited, 128)]);
    let failure = Failure {
        reason: "RunContainerError".into(),
        message: "no such file".into(),
        retry: Timestamp::UNIX_EPOCH,
    };
    state.failures.insert("c".into(), failure);
    let waiting = |state: &State| told(&pod, state)["containerStatuses"][0]["state"]["waiting"].clone();
    assert_eq!(waiting(&state), json!({"reason": "RunContainerError", "message": "no such file"}));
    let mut backoff = Backoff::default();
    backoff.next(Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
    state.crash_backoff.insert("c".into(), backoff);
    assert_eq!(waiting(&state)["reason"], "CrashLoopBackOff");
}

#[test]
fn ephemeral_containers_have_a_list_of_their_own_and_decide_nothing() {
    let pod =
        pod(&json!({"containers": [{"name": "c"}], "ephemeralContainers": [{"name": "d", "image": "i"}]}));
    let mut state = state(vec![seen("c", 0, ContainerState::Running, 0)]);
    let status = told(&pod, &state);
    assert_eq!(status["ephemeralContainerStatuses"][0]["state"]["waiting"]["reason"], "ContainerCreating");
    assert_eq!(
        (&status["phase"], &condition(&status, "Ready")["status"]),
        (&json!("Running"), &json!("True"))
    );
    state.containers.push(seen("d", 0, ContainerState::Exited, 3));
    let status = told(&pod, &state);
    assert_eq!(status["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"], 3);
    assert_eq!(status["phase"], "Running");
}

#[test]
fn other_sizes_are_told_until_they_are_there() {
    let resources = json!({"requests": {"cpu": "2"}});
    let pod = pod(&json!({"containers": [{"name": "c", "resources": resources}]}));
    let mut state = state(vec![seen("c", 0, ContainerState::Running, 0)]);
    let had = json!({"requests": {"cpu": "1"}});
    state.sized.insert("c-0".into(), serde_json::from_value(had.clone()).unwrap());
    state.pending = Some(crate::state::Pending { reason: "Deferred", message: "later".into() });
    let status = told(&pod, &state);
    let pending = condition(&status, "PodResizePending");
    assert_eq!((&pending["reason"], &pending["message"]), (&json!("Deferred"), &json!("later")));
    assert_eq!(condition(&status, "PodResizeInProgress")["status"], "True");
    let c = &status["containerStatuses"][0];
    assert_eq!((&c["resources"], &c["allocatedResources"]), (&had, &resources["requests"]));
    state.sized.insert("c-0".into(), serde_json::from_value(resources).unwrap());
    state.pending = None;
    let status = told(&pod, &state);
    assert!(
        status["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .all(|c| !c["type"].as_str().unwrap().contains("Resize"))
    );
}

#[test]
fn the_last_words_of_many_containers_are_cut() {
    let containers: Vec<Value> = (0..4).map(|n| json!({"name": format!("c{n}")})).collect();
    let pod = pod(&json!({"restartPolicy": "Never", "containers": containers}));
    let mut state = state((0..4).map(|n| seen(&format!("c{n}"), 0, ContainerState::Exited, 1)).collect());
    state.last_words.insert("c0-0".into(), "é".repeat(2048));
    let status = told(&pod, &state);
    let message = status["containerStatuses"][0]["state"]["terminated"]["message"].as_str().unwrap();
    assert_eq!(message.len(), 3072);
}
