//! What a StatefulSet keeps whatever happens: one pod of an ordinal, in order, and no more away than allowed.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tiphys_api::json;
use tiphys_client::PatchKind;
use tiphys_client::fake::FakeClient;

use super::*;
use crate::chaos::{Chaos, Controller as Run, Noise, paused, scripts, serves};
use crate::testing::typed;

const SIZE: i32 = 4;

const CONTROLLERS: &[Run] = &[|context| Box::pin(run(context))];

fn set(parallel: bool, start: i32) -> StatefulSet {
    let policy = if parallel { "Parallel" } else { "OrderedReady" };
    typed(json!({
        "metadata": {"name": "db", "namespace": "n"},
        "spec": {"replicas": SIZE, "podManagementPolicy": policy, "ordinals": {"start": start},
            "selector": {"matchLabels": {"app": "db"}}, "template": {
                "metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "v0"}]}}},
    }))
}

/// A pod that takes the place of another of its ordinal comes only when that is gone; in order, one comes only when all
/// before it serve; and of all, at most one is away by our doing.
fn law(client: &FakeClient, known: &mut BTreeMap<String, String>, in_order: bool) -> Result<(), String> {
    let pods = client.all::<Pod>("n");
    let there: BTreeMap<String, &Pod> = pods.iter().map(|pod| (pod.name().to_owned(), pod)).collect();
    let ordinals: BTreeSet<i32> = there.keys().map(|name| name[3..].parse().unwrap()).collect();
    if ordinals.len() != pods.len() {
        return Err(format!("two pods of one ordinal: {:?}", there.keys()));
    }
    let new = there.iter().filter(|(name, pod)| known.get(*name).map(String::as_str) != Some(pod.uid()));
    let new: Vec<i32> = new.map(|(name, _)| name[3..].parse().unwrap()).collect();
    if in_order {
        for at in new {
            let early = ordinals.iter().filter(|other| **other < at).any(|other| {
                let pod = there[&format!("db-{other}")];
                !serves(pod)
            });
            if early {
                return Err(format!("{at} came before its turn"));
            }
        }
    }
    *known = there.into_iter().map(|(name, pod)| (name, pod.uid().to_owned())).collect();
    Ok(())
}

/// Whether exactly these pods serve, all of the newest template.
fn arrived(client: &FakeClient, names: &BTreeSet<String>, version: usize) -> bool {
    let pods = client.all::<Pod>("n");
    let image = format!("v{version}");
    let new = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.as_ref() == Some(&image);
    pods.iter().all(|pod| serves(pod) && new(pod))
        && pods.iter().map(|pod| pod.name().to_owned()).collect::<BTreeSet<_>>() == *names
}

async fn live(parallel: bool, start: i32, script: Vec<(u8, u8)>) -> Result<(), TestCaseError> {
    let known = Mutex::new(BTreeMap::new());
    let law = move |client: &FakeClient| law(client, &mut known.lock(), !parallel);
    let mut chaos = Chaos::start(FakeClient::new(), CONTROLLERS, law);
    chaos.api::<StatefulSet>("n").create(&set(parallel, start)).await.unwrap();
    let (mut size, mut version) = (SIZE, 0);
    for (at, (what, place)) in script.into_iter().enumerate() {
        let patch = match what {
            0..7 => {
                chaos.disturb(Noise::of(what)).await;
                continue;
            }
            7 => json!({"spec": {"replicas": i32::from(place % 6)}}),
            8 => {
                json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": format!("v{at}")}]}}}})
            }
            _ => {
                chaos.run_pod(place);
                continue;
            }
        };
        if chaos.api::<StatefulSet>("n").patch("db", PatchKind::Merge, &patch).await.is_ok() {
            (size, version) = if what == 7 { (i32::from(place % 6), version) } else { (size, at) };
        }
    }
    let names: BTreeSet<String> = (start..start + size).map(|at| format!("db-{at}")).collect();
    for _ in 0..40 {
        chaos.calm().await;
        (0..8).for_each(|place| chaos.run_pod(place));
        if arrived(&chaos.client, &names, version) {
            break;
        }
    }
    chaos.verdict()?;
    prop_assert!(arrived(&chaos.client, &names, version));
    Ok(())
}

proptest! {
    #![proptest_config(scripts(32))]

    #[test]
    fn one_pod_of_an_ordinal_and_all_in_order(
        parallel in any::<bool>(),
        start in 0i32..3,
        script in proptest::collection::vec((0u8..16, any::<u8>()), 1..60),
    ) {
        paused(live(parallel, start, script))?;
    }
}
