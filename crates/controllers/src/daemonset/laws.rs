//! What a rollout over nodes keeps whatever happens.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tiphys_client::PatchKind;
use tiphys_client::fake::FakeClient;

use super::*;
use crate::chaos::{Chaos, Controller as Run, Noise, paused, ready, scripts, serves};
use crate::testing::typed;

const CONTROLLERS: &[Run] = &[|context| Box::pin(run(context))];

/// How many nodes may be without a pod that serves, and how many may have a second one.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    nodes: usize,
    unavailable: usize,
    surge: usize,
}

fn set(bounds: Bounds) -> DaemonSet {
    let rolling = json!({"maxSurge": bounds.surge, "maxUnavailable": bounds.unavailable});
    typed(json!({
        "metadata": {"name": "agent", "namespace": "n", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "agent"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [{"name": "c", "image": "v0"}]}}},
    }))
}

/// The node that a pod is meant for.
fn node(pod: &Pod) -> Option<String> {
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    required.node_selector_terms.first()?.match_fields.as_ref()?.first()?.values.as_ref()?.first().cloned()
}

/// On which nodes pods serve, and how many are not on their way out.
fn census(client: &FakeClient) -> BTreeMap<String, (bool, usize)> {
    let mut nodes: BTreeMap<String, (bool, usize)> = BTreeMap::new();
    for pod in client.all::<Pod>("n") {
        let (serving, count) = nodes.entry(node(&pod).unwrap()).or_default();
        *serving |= serves(&pod);
        *count += usize::from(pod.metadata.deletion_timestamp.is_none());
    }
    nodes
}

fn law(client: &FakeClient, bounds: Bounds) -> Result<(), String> {
    let census = census(client);
    let serving = census.values().filter(|(serving, _)| *serving).count();
    let doubled = census.values().filter(|(serving, count)| *serving && *count > 1).count();
    if serving + bounds.unavailable < bounds.nodes || doubled > bounds.surge {
        return Err(format!("{bounds:?}: {census:?}"));
    }
    Ok(())
}

/// A kubelet at work on the pod at a place among all.
fn run_pod(client: &FakeClient, place: usize) {
    let pods = client.all::<Pod>("n");
    let Some(pod) = pods.get(place % pods.len().max(1)) else { return };
    if pod.metadata.deletion_timestamp.is_some() {
        client.remove(&Pod::GVR, "n", pod.name());
    } else if !serves(pod) {
        let mut running = ready(pod.clone());
        running.spec.as_mut().unwrap().node_name = node(pod);
        client.put(&running);
    }
}

/// Whether every node has one pod, of the newest template, that serves.
fn arrived(client: &FakeClient, nodes: usize) -> bool {
    let newest = client.find::<DaemonSet>("n", "agent").unwrap().spec.unwrap().template.spec.unwrap();
    let new = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image == newest.containers[0].image;
    let census = census(client);
    census.len() == nodes
        && census.values().all(|found| *found == (true, 1))
        && client.all::<Pod>("n").iter().all(|pod| new(pod) && serves(pod))
}

async fn settle(chaos: &Chaos, nodes: usize) {
    for _ in 0..40 {
        chaos.calm().await;
        (0..3 * nodes).for_each(|place| run_pod(&chaos.client, place));
        if arrived(&chaos.client, nodes) {
            break;
        }
    }
}

async fn roll(bounds: Bounds, script: Vec<(u8, u8)>) -> Result<(), TestCaseError> {
    let (client, up) = (FakeClient::new(), Arc::new(AtomicBool::new(false)));
    for name in 0..bounds.nodes {
        client.put::<Node>(&typed(json!({"metadata": {"name": format!("node-{name}")}})));
    }
    let begun = up.clone();
    let law = move |client: &FakeClient| match begun.load(Ordering::SeqCst) {
        true => law(client, bounds),
        false => Ok(()),
    };
    let mut chaos = Chaos::start(client, CONTROLLERS, law);
    chaos.api::<DaemonSet>("n").create(&set(bounds)).await.unwrap();
    settle(&chaos, bounds.nodes).await;
    prop_assert!(arrived(&chaos.client, bounds.nodes), "{:?}", census(&chaos.client));
    up.store(true, Ordering::SeqCst);
    for (at, (what, place)) in script.into_iter().enumerate() {
        match what {
            0..7 => chaos.disturb(Noise::of(what)).await,
            7 => {
                let containers = json!([{"name": "c", "image": format!("v{}", at + 1)}]);
                let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
                chaos.api::<DaemonSet>("n").patch("agent", PatchKind::Merge, &patch).await.unwrap();
            }
            _ => run_pod(&chaos.client, place.into()),
        }
    }
    settle(&chaos, bounds.nodes).await;
    chaos.verdict()?;
    prop_assert!(arrived(&chaos.client, bounds.nodes), "{:?}", census(&chaos.client));
    Ok(())
}

proptest! {
    #![proptest_config(scripts(24))]

    #[test]
    fn a_rollout_over_nodes_keeps_its_bounds(
        nodes in 1usize..5,
        limit in 1usize..3,
        surges in any::<bool>(),
        script in proptest::collection::vec((0u8..14, any::<u8>()), 1..60),
    ) {
        let (unavailable, surge) = if surges { (0, limit) } else { (limit, 0) };
        paused(roll(Bounds { nodes, unavailable, surge }, script))?;
    }
}
