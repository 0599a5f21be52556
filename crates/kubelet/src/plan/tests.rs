//! Plans of single situations, and laws that hold in all of them.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use tiphys_runtime::Sandbox;

fn pod(spec: &Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "spec": spec})).unwrap()
}

fn seen(name: &str, attempt: u32, state: ContainerState, exit_code: i32) -> Seen {
    let id = format!("{name}-{attempt}");
    Seen { id, sandbox: "s0".into(), name: name.into(), attempt, state, exit_code, ..Seen::default() }
}

fn sandbox(attempt: u32, ready: bool) -> Sandbox {
    Sandbox { id: format!("s{attempt}"), attempt, ready, ..Sandbox::default() }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

fn actions(pod: &Pod, state: &State) -> Vec<String> {
    plan(pod, state, now()).actions.iter().map(|task| format!("{task:?}")).collect()
}

#[test]
fn a_new_pod_prepares_everything_at_once() {
    let pod = pod(&json!({"containers": [{"name": "a"}, {"name": "b"}]}));
    let planned = plan(&pod, &State::default(), now()).actions;
    let image = |container: &str| Task::Image { container: container.into() };
    assert_eq!(planned, [Task::Volumes, Task::Sandbox { attempt: 0 }, image("a"), image("b")]);
    let state = State { busy: planned.into_iter().collect(), ..State::default() };
    assert_eq!(plan(&pod, &state, now()), Plan::default());
}

#[test]
fn containers_start_in_order_one_at_a_time() {
    let pod = pod(&json!({"containers": [{"name": "a"}, {"name": "b"}]}));
    let mut state = State { sandboxes: vec![sandbox(0, true)], volumes: Volumes::Ready, ..State::default() };
    state.images = [("b".to_owned(), Image::Ready("i".into()))].into();
    // The image of the first is still on its way.
    assert_eq!(plan(&pod, &state, now()).actions, [Task::Image { container: "a".into() }]);
    state.images.insert("a".into(), Image::Ready("i".into()));
    let start = |name: &str| Task::Start { container: name.into(), attempt: 0, image: "i".into() };
    assert_eq!(plan(&pod, &state, now()).actions, [start("a")]);
    state.busy.insert(start("a"));
    assert!(plan(&pod, &state, now()).actions.is_empty());
    state.busy.clear();
    state.containers.push(seen("a", 0, ContainerState::Running, 0));
    assert_eq!(plan(&pod, &state, now()).actions, [start("b")]);
}

#[test]
fn a_dead_sandbox_is_stopped_then_replaced_and_restarts_are_counted_on() {
    let pod = pod(&json!({"containers": [{"name": "a"}]}));
    let mut state = State {
        sandboxes: vec![sandbox(0, false)],
        containers: vec![seen("a", 3, ContainerState::Exited, 137)],
        volumes: Volumes::Ready,
        images: [("a".to_owned(), Image::Ready("i".into()))].into(),
        ..State::default()
    };
    assert_eq!(plan(&pod, &state, now()).actions, [Task::StopSandbox { id: "s0".into() }]);
    state.stopped.insert("s0".into());
    assert_eq!(plan(&pod, &state, now()).actions, [Task::Sandbox { attempt: 1 }]);
    state.sandboxes.push(sandbox(1, true));
    let start = Task::Start { container: "a".into(), attempt: 4, image: "i".into() };
    assert_eq!(plan(&pod, &state, now()).actions, [start]);
}

#[test]
fn deletion_stops_apps_then_sidecars_then_the_sandbox_then_tells() {
    let mut pod = pod(&json!({"terminationGracePeriodSeconds": 5, "containers": [{"name": "a"}],
        "initContainers": [{"name": "s1", "restartPolicy": "Always"}, {"name": "s2", "restartPolicy": "Always"}]}));
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    let names = ["s1", "s2", "a"];
    let mut state =
        State { sandboxes: vec![sandbox(0, true)], cleaned: true, reported: true, ..State::default() };
    state.containers = names.iter().map(|name| seen(name, 0, ContainerState::Running, 0)).collect();
    for name in ["a", "s2", "s1"] {
        let planned = actions(&pod, &state);
        assert!(
            planned.len() == 1 && planned[0].starts_with(&format!("Kill {{ id: \"{name}-0\"")),
            "{planned:?}"
        );
        let ended = state.containers.iter_mut().find(|c| c.name == name).unwrap();
        ended.state = ContainerState::Exited;
    }
    assert_eq!(plan(&pod, &state, now()).actions, [Task::StopSandbox { id: "s0".into() }]);
    state.sandboxes[0].ready = false;
    state.stopped.insert("s0".into());
    assert_eq!(plan(&pod, &state, now()).actions, [Task::Delete]);
    state.gone = true;
    assert_eq!(plan(&pod, &state, now()).actions, [Task::RemoveSandbox { id: "s0".into() }]);
    state.sandboxes.clear();
    assert_eq!(plan(&pod, &state, now()).actions, [Task::Purge]);
}

#[test]
fn a_shorter_grace_period_kills_again_and_sooner() {
    let mut pod = pod(&json!({"terminationGracePeriodSeconds": 30, "containers": [{"name": "a"}]}));
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    let mut state = State { containers: vec![seen("a", 0, ContainerState::Running, 0)], ..State::default() };
    state.stopping = Some(crate::state::Stopping { since: now() });
    state.busy = plan(&pod, &state, now()).actions.into_iter().collect();
    assert!(plan(&pod, &state, now()).actions.is_empty());
    pod.metadata.deletion_grace_period_seconds = Some(1);
    let again = actions(&pod, &state);
    assert!(again.len() == 1 && again[0].starts_with("Kill"), "{again:?}");
}

fn life() -> impl Strategy<Value = (ContainerState, i32)> {
    prop_oneof![
        Just((ContainerState::Created, 0)),
        Just((ContainerState::Running, 0)),
        (0..2_i32).prop_map(|code| (ContainerState::Exited, code)),
    ]
}

proptest! {
    /// Whatever was seen: a running container is never started again, a plan never repeats itself, and starting what
    /// it names leaves nothing to be started twice.
    #[test]
    fn nothing_is_started_twice(
        lives in prop::collection::vec(prop::option::of(life()), 3),
        policy in prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")],
        ready in any::<bool>(),
    ) {
        let pod = pod(&json!({"restartPolicy": policy, "initContainers": [{"name": "c0"}],
            "containers": [{"name": "c1"}, {"name": "c2"}]}));
        let mut state = State { sandboxes: vec![sandbox(0, ready)], volumes: Volumes::Ready, ..State::default() };
        for (index, life) in lives.iter().enumerate() {
            let name = format!("c{index}");
            state.images.insert(name.clone(), Image::Ready("i".into()));
            state.containers.extend(life.map(|(life, code)| seen(&name, 0, life, code)));
        }
        let first = plan(&pod, &state, now()).actions;
        for task in &first {
            if let Task::Start { container, .. } = task {
                prop_assert!(!state.running().any(|c| c.name == *container));
            }
        }
        state.busy = first.iter().cloned().collect();
        prop_assert_eq!(state.busy.len(), first.len());
        let second = plan(&pod, &state, now()).actions;
        prop_assert!(second.iter().all(|task| !matches!(task, Task::Start { .. })), "{:?}", second);
    }
}
