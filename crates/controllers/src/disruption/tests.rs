use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tiphys_api::{Value, json};
use tiphys_client::DeleteOptions;
use tiphys_client::fake::FakeClient;

use super::*;
use crate::chaos::{self, Chaos, Noise, paused, ready, scripts, serves};
use crate::testing::{Cluster, facts, typed};

fn allowed(spec: &Value, expected: i32) -> i32 {
    let budget: PodDisruptionBudget = typed(json!({"metadata": {"name": "b"}, "spec": spec}));
    let pods =
        [facts("a", "n", Some(0)), facts("b", "n", Some(0)), facts("c", "n", Some(0)), facts("d", "n", None)];
    status::status(&budget, &pods, expected, Timestamp::UNIX_EPOCH).0.disruptions_allowed.unwrap()
}

#[test]
fn budgets_count_healthy_pods() {
    assert_eq!(allowed(&json!({"minAvailable": 2}), 4), 1);
    assert_eq!(allowed(&json!({"minAvailable": 3}), 4), 0);
    assert_eq!(allowed(&json!({"minAvailable": "50%"}), 4), 1);
    assert_eq!(allowed(&json!({"maxUnavailable": 1}), 4), 0, "one is unavailable already");
    assert_eq!(allowed(&json!({"maxUnavailable": 2}), 4), 1);
}

#[tokio::test(start_paused = true)]
async fn a_budget_follows_its_pods() {
    let cluster = Cluster::start(FakeClient::new());
    cluster.client.put::<PodDisruptionBudget>(&typed(json!({"metadata": {"name": "b", "namespace": "n"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}})));
    cluster
        .api::<ReplicaSet>("n")
        .create(&typed(json!({"metadata": {"name": "web", "namespace": "n"}, "spec": {
        "replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template":
            {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}}})))
        .await
        .unwrap();
    cluster.settle().await;
    cluster.run_pods().await;
    let status = cluster.client.find::<PodDisruptionBudget>("n", "b").unwrap().status.unwrap();
    assert_eq!(
        (status.disruptions_allowed, status.expected_pods, status.desired_healthy),
        (Some(1), Some(3), Some(2))
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_told_allows_nothing() {
    let client = FakeClient::new();
    let budget = |name: &str, spec: Value| {
        let mut spec = spec;
        spec["selector"] = json!({"matchLabels": {"app": name}});
        client.put::<PodDisruptionBudget>(&typed(
            json!({"metadata": {"name": name, "namespace": "n"}, "spec": spec}),
        ));
        let owner =
            json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "j", "controller": true}]);
        let owners = if name == "alone" { Value::Null } else { owner };
        let pod = json!({"metadata": {"name": name, "namespace": "n", "labels": {"app": name}, "ownerReferences": owners},
            "spec": {"containers": []}});
        client.put(&ready(typed(pod)));
    };
    budget("owned", json!({"maxUnavailable": 1}));
    budget("alone", json!({"maxUnavailable": 1}));
    budget("counted", json!({"minAvailable": 0}));
    let cluster = Cluster::start(client.clone());
    cluster.settle().await;
    let told = |name: &str| {
        let status = client.find::<PodDisruptionBudget>("n", name).unwrap().status.unwrap();
        (status.disruptions_allowed.unwrap(), status.conditions.unwrap()[0].reason.clone())
    };
    assert_eq!(told("owned"), (0, "SyncFailed".into()));
    assert_eq!(told("alone"), (0, "InsufficientPods".into()));
    assert_eq!(told("counted"), (1, "SufficientPods".into()));
    let events = cluster.events();
    let why = "CalculateExpectedPodCountFailed: Failed to calculate the number of expected pods: found no controllers";
    assert!(events.iter().any(|event| event.starts_with(why)), "{events:?}");
    assert!(events.iter().any(|event| event.starts_with("UnmanagedPods: ")));
}

const CONTROLLERS: &[chaos::Controller] =
    &[|context| Box::pin(run(context)), |context| Box::pin(crate::replicaset::run(context))];

/// What the API server does with an eviction: it takes one disruption from the budget, then deletes the pod.
async fn evict(chaos: &Chaos, place: u8) {
    let pods: Vec<Pod> = chaos.client.all::<Pod>("n").into_iter().filter(serves).collect();
    let Some(pod) = pods.get(usize::from(place) % pods.len().max(1)) else { return };
    let mut budget = chaos.client.find::<PodDisruptionBudget>("n", "b").unwrap();
    let generation = budget.metadata.generation;
    let Some(status) = budget.status.as_mut() else { return };
    let allowed = status.disruptions_allowed.unwrap_or(0);
    if allowed == 0 || status.observed_generation < generation {
        return;
    }
    status.disruptions_allowed = Some(allowed - 1);
    let now = typed(json!(Timestamp::now().to_string()));
    status.disrupted_pods.get_or_insert_default().insert(pod.name().to_owned(), now);
    if chaos.api::<PodDisruptionBudget>("n").update_status(&budget).await.is_ok() {
        // A refusal by chance: the budget is spent for nothing, which breaks no law.
        let _ = chaos.api::<Pod>("n").delete(pod.name(), &DeleteOptions::default()).await;
    }
}

async fn drain(size: i32, spec: Value, least: usize, script: Vec<(u8, u8)>) -> Result<(), TestCaseError> {
    let up = Arc::new(AtomicBool::new(false));
    let begun = up.clone();
    let law = move |client: &FakeClient| {
        let serving = client.all::<Pod>("n").iter().filter(|pod| serves(pod)).count();
        let broken = begun.load(Ordering::SeqCst) && serving < least;
        if broken { Err(format!("{serving} of {least} serve")) } else { Ok(()) }
    };
    let mut chaos = Chaos::start(FakeClient::new(), CONTROLLERS, law);
    let labels = json!({"matchLabels": {"app": "web"}});
    let mut budget = json!({"metadata": {"name": "b", "namespace": "n"}, "spec": spec});
    budget["spec"]["selector"] = labels.clone();
    chaos.api::<PodDisruptionBudget>("n").create(&typed(budget)).await.unwrap();
    let set = json!({"metadata": {"name": "web", "namespace": "n"}, "spec": {"replicas": size, "selector": labels,
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}}});
    chaos.api::<ReplicaSet>("n").create(&typed(set)).await.unwrap();
    chaos.calm().await;
    chaos.client.all::<Pod>("n").into_iter().for_each(|pod| drop(chaos.client.put(&ready(pod))));
    chaos.calm().await;
    up.store(true, Ordering::SeqCst);
    for (what, place) in script {
        match what {
            0..7 => chaos.disturb(Noise::of(what)).await,
            7..11 => evict(&chaos, place).await,
            _ => chaos.run_pod(place),
        }
    }
    chaos.calm().await;
    chaos.verdict()
}

proptest! {
    #![proptest_config(scripts(32))]

    /// However many evict at once, whatever the controllers miss: enough pods serve.
    #[test]
    fn evictions_never_break_a_budget(
        size in 1i32..6,
        least in 0i32..6,
        by_scale in any::<bool>(),
        script in proptest::collection::vec((0u8..16, any::<u8>()), 1..60),
    ) {
        let least = least.min(size);
        let spec = if by_scale { json!({"maxUnavailable": size - least}) } else { json!({"minAvailable": least}) };
        paused(drain(size, spec, usize::try_from(least).unwrap(), script))?;
    }
}
