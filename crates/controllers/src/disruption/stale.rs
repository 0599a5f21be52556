//! Takes back the condition `DisruptionTarget` of a pod that was to be disrupted and is still there minutes later.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use tiphys_api::{Status, json};
use tiphys_client::typed::decode;
use tiphys_client::{Client, Informer, WorkQueue};

use super::status::EVICTION_SECONDS;
use crate::context::{Context, Key, Outcome, until};
use crate::node::set_condition;
use crate::pods::{Facts, Pods};

const CONDITION: &str = "DisruptionTarget";

/// Runs until the context stops.
pub(super) async fn run(context: Arc<Context>) {
    let queue = WorkQueue::named("stale_pod_disruption");
    follow(context.pods.informer(), &queue);
    let (pods, client) = (context.pods.clone(), context.client("disruption-controller"));
    let reconcile = move |key: Key| {
        let (pods, client) = (pods.clone(), client.clone());
        async move { look(&pods, client.as_ref(), &key).await }
    };
    context.work(queue, 1, &[context.pods.informer()], reconcile).await;
}

/// Few pods ever have the condition, so the bytes are searched before they are read.
fn follow(pods: &Informer, queue: &Arc<WorkQueue<Key>>) {
    let queue = queue.clone();
    pods.on_change(Box::new(move |_, new| {
        let named = |pod: &[u8]| pod.windows(CONDITION.len()).any(|part| part == CONDITION.as_bytes());
        if let Some(pod) = new.filter(|pod| pod.meta().deleted.is_none() && named(pod.json())) {
            queue.add(Key::of(pod));
        }
    }));
}

async fn look(pods: &Pods, client: &dyn Client, key: &Key) -> Outcome {
    let Some(facts) = pods.get(&key.namespace, &key.name) else { return Ok(None) };
    let pod: Pod = decode(&facts.object).map_err(Status::internal)?;
    let now = Timestamp::now();
    let Some(over) = stale_at(&facts, &pod) else { return Ok(None) };
    if over > now {
        return Ok(Some(until(over, now)));
    }
    let condition = json!({"type": CONDITION, "status": "False", "reason": "", "message": ""});
    set_condition(client, &facts, &condition, None, now).await?;
    Ok(None)
}

/// When the condition is taken back, if the pod has it and lives on.
fn stale_at(facts: &Facts, pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let told = conditions.iter().find(|c| c.type_ == CONDITION && c.status == "True")?;
    let since = told.last_transition_time.as_ref()?.0;
    let over = since.checked_add(SignedDuration::from_secs(EVICTION_SECONDS)).ok()?;
    facts.active().then_some(over)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Cluster, typed};
    use tiphys_client::fake::FakeClient;

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_stays_loses_the_condition() {
        let client = FakeClient::new();
        let now = Timestamp::now().to_string();
        for (name, since) in [("old", "2020-01-01T00:00:00Z"), ("new", now.as_str())] {
            let pod = json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"containers": []},
                "status": {"phase": "Running", "conditions": [
                    {"type": CONDITION, "status": "True", "lastTransitionTime": since}]}});
            client.put::<Pod>(&typed(pod));
        }
        let cluster = Cluster::start(client);
        cluster.settle().await;
        let status = |name| {
            let pod = cluster.client.find::<Pod>("n", name).unwrap();
            pod.status.unwrap().conditions.unwrap()[0].status.clone()
        };
        assert_eq!((status("old").as_str(), status("new").as_str()), ("False", "True"));
    }
}
