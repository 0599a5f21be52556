//! PodDisruptionBudgets: how many of their pods may be evicted now. The eviction API counts down from that.
//!
//! [`status`] is the whole decision and pure; the shell finds pods and the sizes that their controllers want.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::ReplicationController;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::Deserialize;
use tiphys_api::{Object, OwnerRef, Status};
use tiphys_client::typed::{Kind, decode};
use tiphys_client::{Api, Client, Informer, WorkQueue};

use crate::context::{Context, Key, Outcome, enqueue_all, ignore_not_found, until};
use crate::deployment::view::scaled;
use crate::pod_control::selector;
use crate::pods::{Facts, Pods};

/// An eviction that was let through and whose pod still is not being deleted is forgotten after this.
const EVICTION_SECONDS: i64 = 120;

struct Controller {
    client: Arc<dyn Client>,
    budgets: Arc<Informer>,
    pods: Arc<Pods>,
    /// What controllers of pods are kept in, by kind.
    owners: BTreeMap<&'static str, Arc<Informer>>,
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let budgets = context.informer(&PodDisruptionBudget::GVR);
    let pods = context.pods.clone();
    let queue = Arc::new(WorkQueue::new());
    enqueue_all(&budgets, &queue);
    follow_pods(&pods, &budgets, &queue);
    let owners = BTreeMap::from([
        ("Deployment", context.informer(&Deployment::GVR)),
        ("ReplicaSet", context.informer(&ReplicaSet::GVR)),
        ("ReplicationController", context.informer(&ReplicationController::GVR)),
        ("StatefulSet", context.informer(&StatefulSet::GVR)),
    ]);
    let mut informers: Vec<Arc<Informer>> = owners.values().cloned().collect();
    informers.extend([budgets.clone(), pods.informer().clone()]);
    let informers: Vec<&Arc<Informer>> = informers.iter().collect();
    let client = context.client("disruption-controller");
    let controller = Arc::new(Controller { client, budgets, pods, owners });
    let reconcile = move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    };
    context.work(queue, context.config.workers, &informers, reconcile).await;
}

/// A pod's change wakes the budgets that select it.
fn follow_pods(pods: &Arc<Pods>, budgets: &Arc<Informer>, queue: &Arc<WorkQueue<Key>>) {
    let (budgets, queue) = (Arc::downgrade(budgets), queue.clone());
    pods.informer().on_change(Box::new(move |old, new| {
        let Some(budgets) = budgets.upgrade().filter(|budgets| !budgets.is_empty()) else { return };
        for meta in [old, new].into_iter().flatten().map(Object::meta) {
            for budget in budgets.list(&meta.namespace) {
                if selector(&budget).is_some_and(|selector| selector.matches(&meta.labels)) {
                    queue.add(Key::of(&budget));
                }
            }
        }
    }));
}

#[derive(Deserialize)]
struct Sized {
    spec: Replicas,
}

#[derive(Deserialize)]
struct Replicas {
    replicas: Option<i32>,
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        let Some(object) = self.budgets.get(&key.namespace, &key.name) else { return Ok(None) };
        let budget: PodDisruptionBudget = decode(&object).map_err(Status::internal)?;
        let Some(selector) = selector(&object) else { return Ok(None) };
        let mut pods = self.pods.in_namespace(&key.namespace);
        pods.retain(|pod| selector.matches(&pod.meta().labels));
        let now = Timestamp::now();
        let (status, again) = status(&budget, &pods, self.expected(&pods), now);
        if budget.status.as_ref() != Some(&status) {
            let changed = PodDisruptionBudget { status: Some(status), ..budget };
            let api = Api::<PodDisruptionBudget>::new(self.client.clone(), &key.namespace);
            ignore_not_found(api.update_status(&changed).await.map(drop))?;
        }
        Ok(again)
    }

    /// How many pods the controllers of these pods want together; `None` when a pod has none that tells.
    fn expected(&self, pods: &[Arc<Facts>]) -> Option<i32> {
        let (mut seen, mut total) = (HashSet::new(), 0);
        for pod in pods {
            let owner = pod.meta().controller()?;
            if !seen.insert(owner.uid.clone()) {
                continue;
            }
            let object = self.owner(&pod.meta().namespace, owner)?;
            // A ReplicaSet's Deployment decides over it.
            let above =
                object.meta().controller().and_then(|above| self.owner(&object.meta().namespace, above));
            let object = match above {
                Some(above) if !seen.insert(above.meta().uid.clone()) => continue,
                Some(above) => above,
                None => object,
            };
            total += object.decode::<Sized>().ok()?.spec.replicas.unwrap_or(1);
        }
        Some(total)
    }

    fn owner(&self, namespace: &str, owner: &OwnerRef) -> Option<Object> {
        let found = self.owners.get(owner.kind.as_ref())?.get(namespace, &owner.name)?;
        (found.meta().uid == owner.uid).then_some(found)
    }
}

/// How many pods must stay healthy, and out of how many; `None` if that cannot be told.
fn desired(spec: &PodDisruptionBudgetSpec, pods: usize, expected: Option<i32>) -> Option<(i32, i32)> {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::{Int, String};
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => {
            let expected = expected?;
            Some(((expected - scaled(most, expected, true)).max(0), expected))
        }
        (None, Some(Int(least))) => Some((*least, i32::try_from(pods).unwrap_or(i32::MAX))),
        (None, Some(least @ String(_))) => {
            let expected = expected?;
            Some((scaled(least, expected, true), expected))
        }
        (None, None) => Some((0, i32::try_from(pods).unwrap_or(i32::MAX))),
    }
}

/// A budget's status, and when an eviction that came to nothing is forgotten.
fn status(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Facts>],
    expected: Option<i32>,
    now: Timestamp,
) -> (PodDisruptionBudgetStatus, Option<Duration>) {
    let old = budget.status.clone().unwrap_or_default();
    let spec = budget.spec.clone().unwrap_or_default();
    let (mut disrupted, mut again) = (BTreeMap::new(), None::<Timestamp>);
    for (name, since) in old.disrupted_pods.into_iter().flatten() {
        let over =
            since.0.saturating_add(SignedDuration::from_secs(EVICTION_SECONDS)).unwrap_or(Timestamp::MAX);
        let waits = pods.iter().any(|pod| *pod.meta().name == *name && !pod.deleting());
        if waits && over > now {
            again = Some(again.map_or(over, |known| known.min(over)));
            disrupted.insert(name, since);
        }
    }
    let stays = |pod: &&Arc<Facts>| {
        pod.ready() && !pod.deleting() && !disrupted.contains_key(pod.meta().name.as_ref())
    };
    let healthy = pods.iter().filter(stays).count() as i32;
    // What cannot be told allows nothing.
    let known = desired(&spec, pods.len(), expected);
    let (desired, expected) = known.unwrap_or((healthy, 0));
    let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let reason = match (known, allowed) {
        (None, _) => "SyncFailed",
        (Some(_), 0) => "InsufficientPods",
        _ => "SufficientPods",
    };
    let condition = Condition {
        type_: "DisruptionAllowed".into(),
        status: if allowed > 0 { "True" } else { "False" }.into(),
        reason: reason.into(),
        message: String::new(),
        observed_generation: budget.metadata.generation,
        last_transition_time: Time(now),
    };
    let status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(expected),
        observed_generation: budget.metadata.generation,
        disrupted_pods: Some(disrupted).filter(|pods| !pods.is_empty()),
        conditions: Some(vec![keep_time(condition, old.conditions.as_deref().unwrap_or_default())]),
    };
    (status, again.map(|at| until(at, now)))
}

fn keep_time(mut new: Condition, old: &[Condition]) -> Condition {
    if let Some(same) = old.iter().find(|old| old.type_ == new.type_ && old.status == new.status) {
        new.last_transition_time = same.last_transition_time.clone();
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Cluster, facts, typed};
    use serde_json::{Value, json};
    use tiphys_client::fake::FakeClient;

    fn allowed(spec: &Value, expected: Option<i32>) -> i32 {
        let budget: PodDisruptionBudget = typed(json!({"metadata": {"name": "b"}, "spec": spec}));
        let pods = [
            facts("a", "n", Some(0)),
            facts("b", "n", Some(0)),
            facts("c", "n", Some(0)),
            facts("d", "n", None),
        ];
        status(&budget, &pods, expected, Timestamp::UNIX_EPOCH).0.disruptions_allowed.unwrap()
    }

    #[test]
    fn budgets_count_healthy_pods() {
        assert_eq!(allowed(&json!({"minAvailable": 2}), None), 1);
        assert_eq!(allowed(&json!({"minAvailable": 3}), None), 0);
        assert_eq!(allowed(&json!({"minAvailable": "50%"}), Some(4)), 1);
        assert_eq!(allowed(&json!({"maxUnavailable": 1}), Some(4)), 0, "one is unavailable already");
        assert_eq!(allowed(&json!({"maxUnavailable": 2}), Some(4)), 1);
        assert_eq!(allowed(&json!({"maxUnavailable": 2}), None), 0, "what cannot be told allows nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_follows_its_pods() {
        let cluster = Cluster::start(FakeClient::new());
        cluster
            .client
            .put::<PodDisruptionBudget>(&typed(json!({"metadata": {"name": "b", "namespace": "n"},
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
}
