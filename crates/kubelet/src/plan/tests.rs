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
    state.stopping = Some(crate::state::Stopping { since: now(), grace: None });
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

/// The containers a plan starts.
fn started(pod: &Pod, state: &State) -> Vec<String> {
    let name = |task: Task| match task {
        Task::Start { container, .. } => Some(container),
        _ => None,
    };
    plan(pod, state, now()).actions.into_iter().filter_map(name).collect()
}

fn ready(names: &[&str], containers: Vec<Seen>) -> State {
    State {
        sandboxes: vec![sandbox(0, true)],
        volumes: Volumes::Ready,
        images: names.iter().map(|name| ((*name).to_owned(), Image::Ready("i".into()))).collect(),
        containers,
        ..State::default()
    }
}

#[test]
fn rules_of_a_container_come_before_the_policy() {
    let rule = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    let pod = pod(&json!({"restartPolicy": "Never", "containers": [
        {"name": "a", "restartPolicy": "Never", "restartPolicyRules": rule}]}));
    for (code, restarts) in [(42, true), (1, false), (0, false)] {
        let state = ready(&["a"], vec![seen("a", 0, ContainerState::Exited, code)]);
        assert_eq!(!started(&pod, &state).is_empty(), restarts, "{code}");
        assert_eq!(end(&pod, &state).is_none(), restarts, "{code}");
    }
}

#[test]
fn a_rule_may_start_all_containers_again() {
    let rule = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "NotIn", "values": [0]}}]);
    let pod = pod(&json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [
        {"name": "a", "restartPolicyRules": rule}, {"name": "b"}]}));
    let names = ["i", "a", "b"];
    let ended = |name: &str, code| Seen {
        finished_at: 10,
        created_at: 1,
        ..seen(name, 0, ContainerState::Exited, code)
    };
    let running = Seen { created_at: 1, ..seen("b", 0, ContainerState::Running, 0) };
    let mut state = ready(&names, vec![ended("i", 0), ended("a", 3), running]);
    state.epoch = epoch(&pod, &state);
    assert_eq!(state.epoch, 10);
    assert!(actions(&pod, &state)[0].starts_with("Kill { id: \"b-0\""), "{:?}", actions(&pod, &state));
    assert!(started(&pod, &state).is_empty(), "nothing starts beside what is to end");
    state.containers[2] = ended("b", 143);
    assert_eq!((started(&pod, &state), end(&pod, &state)), (vec!["i".to_owned()], None));
    let again = |name: &str, life| Seen { created_at: 11, ..seen(name, 1, life, 0) };
    state.containers.push(again("i", ContainerState::Exited));
    assert_eq!(started(&pod, &state), ["a"]);
    state.containers.push(again("a", ContainerState::Running));
    assert_eq!(started(&pod, &state), ["b"]);
}

#[test]
fn ephemeral_containers_run_once_beside_whatever_else_goes_on() {
    let pod = pod(&json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}],
        "ephemeralContainers": [{"name": "debug", "image": "i"}]}));
    let mut state = ready(&["debug"], vec![seen("i", 0, ContainerState::Running, 0)]);
    assert_eq!(started(&pod, &state), ["debug"]);
    state.containers.push(seen("debug", 0, ContainerState::Exited, 1));
    assert!(started(&pod, &state).is_empty());
    state.sandboxes.clear();
    assert!(!actions(&pod, &state).iter().any(|task| task.contains("debug")));
}

#[test]
fn a_probes_own_grace_period_holds_for_its_kill() {
    let pod = pod(&json!({"terminationGracePeriodSeconds": 600, "containers": [{"name": "a"}]}));
    let mut state = ready(&[], vec![seen("a", 0, ContainerState::Running, 0)]);
    let condemned = Condemned { grace: Some(3), ..Condemned::new("failed".into()) };
    state.condemned.insert("a-0".into(), condemned);
    let planned = plan(&pod, &state, now()).actions;
    assert!(
        matches!(&planned[0], Task::Kill { deadline, .. } if *deadline == add_seconds(now(), 3)),
        "{planned:?}"
    );
}

#[test]
fn readiness_is_still_asked_for_while_a_pod_ends() {
    let probe = json!({"exec": {"command": ["x"]}});
    let mut pod =
        pod(&json!({"containers": [{"name": "a", "readinessProbe": probe, "livenessProbe": probe}]}));
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    let state = ready(&[], vec![seen("a", 0, ContainerState::Running, 0)]);
    let probes: Vec<_> =
        plan(&pod, &state, now()).actions.into_iter().filter(|t| matches!(t, Task::Probe { .. })).collect();
    assert!(matches!(probes.as_slice(), [Task::Probe { kind: Probing::Readiness, .. }]), "{probes:?}");
}

#[test]
fn other_sizes_are_given_in_place_or_by_a_restart() {
    let of = |policy: &str| {
        pod(&json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "2"}},
            "resizePolicy": [{"resourceName": "cpu", "restartPolicy": policy}]}]}))
    };
    let mut state = ready(&[], vec![seen("a", 0, ContainerState::Running, 0)]);
    let had = serde_json::from_value(json!({"requests": {"cpu": "1"}})).unwrap();
    state.sized.insert("a-0".into(), had);
    let in_place = [Task::Resize { id: "a-0".into(), container: "a".into() }];
    assert_eq!(plan(&of("NotRequired"), &state, now()).actions, in_place);
    let killed = actions(&of("RestartContainer"), &state);
    assert!(killed.len() == 1 && killed[0].contains("Container a resize requires restart"), "{killed:?}");
    state.sized.insert("a-0".into(), serde_json::from_value(json!({"requests": {"cpu": "2000m"}})).unwrap());
    assert!(plan(&of("NotRequired"), &state, now()).actions.is_empty());
}

#[test]
fn one_that_the_runtime_has_lost_is_killed_before_another_is_made() {
    let pod = pod(&json!({"containers": [{"name": "a"}]}));
    let mut state = State {
        sandboxes: vec![sandbox(0, true)],
        containers: vec![seen("a", 0, ContainerState::Unknown, 0)],
        volumes: Volumes::Ready,
        images: [("a".to_owned(), Image::Ready("i".into()))].into(),
        ..State::default()
    };
    let planned = plan(&pod, &state, now()).actions;
    assert!(
        matches!(planned.as_slice(), [Task::Kill { why, .. }] if why.contains("unknown state")),
        "{planned:?}"
    );
    state.containers[0].state = ContainerState::Exited;
    let start = Task::Start { container: "a".into(), attempt: 1, image: "i".into() };
    assert_eq!(plan(&pod, &state, now()).actions, [start]);
}

#[test]
fn nothing_is_given_before_it_is_written_down() {
    let sizes = json!({"resources": {"requests": {"cpu": "1"}}, "name": "a"});
    let mut pod = pod(&json!({"containers": [sizes]}));
    let promised = allocation::sizes(&mut pod);
    let mut state = State {
        sandboxes: vec![sandbox(0, true)],
        volumes: Volumes::Ready,
        images: [("a".to_owned(), Image::Ready("i".into()))].into(),
        promised: promised.clone(),
        ..State::default()
    };
    assert_eq!(plan(&pod, &state, now()).actions, [Task::Remember]);
    state.remembered = promised;
    let start = Task::Start { container: "a".into(), attempt: 0, image: "i".into() };
    assert_eq!(plan(&pod, &state, now()).actions, [start]);
}
