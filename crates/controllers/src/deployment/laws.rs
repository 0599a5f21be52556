//! What a rollout keeps whatever happens, on a whole cluster; [`super::tests`] has the same for the decision alone.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tiphys_api::json;
use tiphys_client::PatchKind;
use tiphys_client::fake::FakeClient;

use super::*;
use crate::chaos::{Chaos, Controller as Run, Noise, paused, ready, scripts, serves};
use crate::testing::typed;
use k8s_openapi::api::core::v1::Pod;

const CONTROLLERS: &[Run] =
    &[|context| Box::pin(run(context)), |context| Box::pin(crate::replicaset::run(context))];

fn deployment(replicas: i32, surge: i32, unavailable: i32) -> Deployment {
    typed(json!({
        "metadata": {"name": "web", "namespace": "n"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "v0"}]}}},
    }))
}

/// Sizes never add up to more than allowed, and enough pods serve. True only once all were up.
fn law(client: &FakeClient, most: i32, least: usize) -> Result<(), String> {
    let sizes: i32 = client.all::<ReplicaSet>("n").iter().map(view::wanted).sum();
    let serving = client.all::<Pod>("n").iter().filter(|pod| serves(pod)).count();
    if sizes > most || serving < least {
        return Err(format!("{sizes} of {most} wanted, {serving} of {least} serve"));
    }
    Ok(())
}

/// Whether all pods are of the newest template and serve.
fn arrived(client: &FakeClient, replicas: i32) -> bool {
    let now = client.find::<Deployment>("n", "web").unwrap();
    let sets = client.all::<ReplicaSet>("n");
    let new = sets.iter().find(|set| revision::same_template(&now, set));
    let pods = client.all::<Pod>("n");
    new.is_some_and(|new| view::wanted(new) == replicas)
        && pods.len() == replicas as usize
        && pods.iter().all(serves)
}

async fn roll(
    replicas: i32,
    (surge, unavailable): (i32, i32),
    script: Vec<(u8, u8)>,
) -> Result<(), TestCaseError> {
    let made = deployment(replicas, surge, unavailable);
    let numbers = view::Numbers::of(&made);
    let (most, least) = (replicas + numbers.max_surge, replicas - numbers.max_unavailable);
    let (least, up) = (usize::try_from(least).unwrap(), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let begun = up.clone();
    let law = move |client: &FakeClient| match begun.load(std::sync::atomic::Ordering::SeqCst) {
        true => law(client, most, least),
        false => Ok(()),
    };
    let mut chaos = Chaos::start(FakeClient::new(), CONTROLLERS, law);
    chaos.api::<Deployment>("n").create(&made).await.unwrap();
    chaos.calm().await;
    for pod in chaos.client.all::<Pod>("n") {
        chaos.client.put(&ready(pod));
    }
    chaos.calm().await;
    up.store(true, std::sync::atomic::Ordering::SeqCst);
    for (at, (what, place)) in script.into_iter().enumerate() {
        match what {
            0..7 => chaos.disturb(Noise::of(what)).await,
            7 => {
                let containers = json!([{"name": "c", "image": format!("v{at}")}]);
                let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
                chaos.api::<Deployment>("n").patch("web", PatchKind::Merge, &patch).await.unwrap();
            }
            _ => chaos.run_pod(place),
        }
    }
    for _ in 0..40 {
        chaos.calm().await;
        (0..20).for_each(|place| chaos.run_pod(place));
        if arrived(&chaos.client, replicas) {
            break;
        }
    }
    prop_assert!(arrived(&chaos.client, replicas));
    chaos.verdict()
}

proptest! {
    #![proptest_config(scripts(16))]

    /// `[sig-apps] Deployment deployment should support rollover`, in the worst of weathers.
    #[test]
    fn a_rollout_keeps_its_bounds_in_any_weather(
        replicas in 1i32..6,
        bounds in (0i32..3, 0i32..3),
        script in proptest::collection::vec((0u8..14, any::<u8>()), 1..60),
    ) {
        paused(roll(replicas, bounds, script))?;
    }
}
