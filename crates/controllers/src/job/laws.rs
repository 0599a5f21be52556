//! What a Job keeps whatever happens: every pod is counted once, and none too many is started.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tiphys_client::fake::FakeClient;
use tiphys_client::{Client, DeleteOptions};

use super::*;
use crate::chaos::{Chaos, Controller as Run, Noise, paused, scripts};
use crate::testing::typed;

const COMPLETIONS: i32 = 5;

const CONTROLLERS: &[Run] = &[|context| Box::pin(run(context))];

fn job(indexed: bool, parallelism: i32) -> Job {
    let mode = if indexed { "Indexed" } else { "NonIndexed" };
    typed(json!({"metadata": {"name": "work", "namespace": "n"}, "spec": {
        "completions": COMPLETIONS, "parallelism": parallelism, "completionMode": mode, "backoffLimit": 1000,
        "selector": {"matchLabels": {"job": "work"}}, "template": {
            "metadata": {"labels": {"job": "work"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}))
}

fn counts(status: &JobStatus) -> (i32, i32) {
    (status.succeeded.unwrap_or(0), status.failed.unwrap_or(0))
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Never more pods at work than asked for, never a count above what is to be done.
fn law(client: &FakeClient, parallelism: usize) -> Result<(), String> {
    let open = |pod: &Pod| phase(pod).is_empty() && pod.metadata.deletion_timestamp.is_none();
    let active = client.all::<Pod>("n").iter().filter(|pod| open(pod)).count();
    let job = client.find::<Job>("n", "work");
    let status = job.and_then(|job| job.status).unwrap_or_default();
    if active > parallelism || counts(&status).0 > COMPLETIONS {
        return Err(format!("{active} of {parallelism} run, {:?} counted", counts(&status)));
    }
    Ok(())
}

/// Ends the pod at a place among those that run, and notes how. Never one success more than there are to be.
fn end_pod(chaos: &Chaos, place: u8, success: bool, ends: &mut BTreeMap<String, bool>) {
    let mut pods = chaos.client.all::<Pod>("n");
    pods.retain(|pod| phase(pod).is_empty() && !ends.contains_key(pod.uid()));
    let Some(mut pod) = pods.get(usize::from(place) % pods.len().max(1)).cloned() else { return };
    pod.status = Some(typed(json!({"phase": if success { "Succeeded" } else { "Failed" },
        "containerStatuses": [{"name": "c", "ready": false, "image": "", "imageID": "", "restartCount": 0,
            "state": {"terminated": {"exitCode": i32::from(!success), "finishedAt": "2020-01-01T00:00:00Z"}}}]})));
    ends.insert(pod.uid().to_owned(), success);
    chaos.client.put(&pod);
}

/// A user deletes a pod that runs: that counts as a failure, and as old as any.
async fn delete_pod(chaos: &Chaos, place: u8, ends: &mut BTreeMap<String, bool>) {
    let mut pods = chaos.client.all::<Pod>("n");
    pods.retain(|pod| phase(pod).is_empty() && !ends.contains_key(pod.uid()));
    let Some(pod) = pods.get(usize::from(place) % pods.len().max(1)) else { return };
    let options = DeleteOptions::default();
    if let Ok(Some(_)) = chaos.people().delete(&Target::new(&Pod::GVR, "n", pod.name()), &options).await {
        ends.insert(pod.uid().to_owned(), false);
        if let Some(mut pod) = chaos.client.find::<Pod>("n", pod.name()) {
            pod.metadata.deletion_timestamp = Some(typed(json!("2020-01-01T00:00:00Z")));
            chaos.client.put(&pod);
        }
    }
}

async fn work(indexed: bool, parallelism: u8, script: Vec<(u8, u8)>) -> Result<(), TestCaseError> {
    let most = usize::from(parallelism);
    let mut chaos = Chaos::start(FakeClient::new(), CONTROLLERS, move |client| law(client, most));
    chaos.api::<Job>("n").create(&job(indexed, parallelism.into())).await.unwrap();
    let mut ends = BTreeMap::new();
    for (what, place) in script {
        match what {
            0..7 => chaos.disturb(Noise::of(what)).await,
            7..10 => end_pod(&chaos, place, true, &mut ends),
            10 => end_pod(&chaos, place, false, &mut ends),
            11 => delete_pod(&chaos, place, &mut ends).await,
            // What is counted may vanish.
            _ => {
                let pods = chaos.client.all::<Pod>("n");
                let counted = |pod: &&Pod| !phase(pod).is_empty() && pod.metadata.finalizers.is_none();
                if let Some(pod) = pods.iter().find(counted) {
                    chaos.client.remove(&Pod::GVR, "n", pod.name());
                }
            }
        }
    }
    for _ in 0..30 {
        chaos.calm().await;
        let status = chaos.client.find::<Job>("n", "work").and_then(|job| job.status);
        if status.is_some_and(|status| plan::is_finished(&status)) {
            break;
        }
        end_pod(&chaos, 0, true, &mut ends);
    }
    chaos.verdict()?;
    let status = chaos.client.find::<Job>("n", "work").unwrap().status.unwrap();
    let of = |success: bool| ends.values().filter(|end| **end == success).count() as i32;
    prop_assert_eq!(counts(&status), (of(true), of(false)), "{:?}", status);
    prop_assert_eq!(counts(&status).0, COMPLETIONS);
    prop_assert!(plan::is_finished(&status));
    prop_assert!(chaos.client.all::<Pod>("n").iter().all(|pod| pod.metadata.finalizers.is_none()));
    Ok(())
}

proptest! {
    #![proptest_config(scripts(32))]

    #[test]
    fn every_pod_is_counted_once(
        indexed in any::<bool>(),
        parallelism in 1u8..4,
        script in proptest::collection::vec((0u8..14, any::<u8>()), 1..60),
    ) {
        paused(work(indexed, parallelism, script))?;
    }
}
