//! PodDisruptionBudgets: how many of their pods may be evicted now. The eviction API counts down from that.
//!
//! [`status`] is the whole decision and pure; this file finds pods and the sizes that their controllers want.

mod stale;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::ReplicationController;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Deserialize;
use tiphys_api::{Object, OwnerRef, Status};
use tiphys_client::typed::{Kind, decode};
use tiphys_client::{Api, Client, Informer, Recorder, Target, WorkQueue};

use crate::context::{Context, Key, Outcome, enqueue_all, ignore_not_found};
use crate::pod_control::selector;
use crate::pods::{Facts, Pods};
use crate::resources::Resources;

struct Controller {
    client: Arc<dyn Client>,
    recorder: Recorder,
    resources: Resources,
    budgets: Arc<Informer>,
    pods: Arc<Pods>,
    /// What controllers of pods are kept in, by kind.
    owners: BTreeMap<&'static str, Arc<Informer>>,
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let budgets = context.informer(&PodDisruptionBudget::GVR);
    let pods = context.pods.clone();
    let queue = WorkQueue::named("disruption");
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
    let recorder = context.recorder(&client, "controllermanager");
    let resources = context.resources.clone();
    let controller = Arc::new(Controller { client, recorder, resources, budgets, pods, owners });
    let reconcile = move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    };
    let work = context.work(queue, context.config.workers, &informers, reconcile);
    tokio::join!(work, stale::run(context.clone()));
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
        if pods.is_empty() {
            self.tell(&budget, "Normal", "NoPods", "No matching pods found".into());
        }
        let (status, again) = match self.expected(&budget, &pods).await {
            Ok(expected) => status::status(&budget, &pods, expected, now),
            Err(why) => {
                let message = format!("Failed to calculate the number of expected pods: {why}");
                self.tell(&budget, "Warning", "CalculateExpectedPodCountFailed", message);
                (status::unknown(&budget, why, now), None)
            }
        };
        if budget.status.as_ref() != Some(&status) {
            let changed = PodDisruptionBudget { status: Some(status), ..budget };
            let api = Api::<PodDisruptionBudget>::new(self.client.clone(), &key.namespace);
            ignore_not_found(api.update_status(&changed).await.map(drop))?;
        }
        Ok(again)
    }

    fn tell(&self, budget: &PodDisruptionBudget, kind: &str, reason: &str, message: String) {
        self.recorder.event(&budget.reference(), kind, reason, message);
    }

    /// How many pods there should be: as many as there are, or as their controllers want together.
    async fn expected(&self, budget: &PodDisruptionBudget, pods: &[Arc<Facts>]) -> Result<i32, String> {
        if !budget.spec.as_ref().is_some_and(status::needs_scale) {
            return Ok(i32::try_from(pods.len()).unwrap_or(i32::MAX));
        }
        let (mut seen, mut total, mut unmanaged) = (HashSet::new(), 0, false);
        for pod in pods {
            let Some(owner) = pod.meta().controller() else {
                unmanaged = true;
                continue;
            };
            if seen.insert(owner.uid.clone()) {
                total += self.wanted(pod, owner, &mut seen).await?;
            }
        }
        if unmanaged {
            let message = "Pods selected by this PodDisruptionBudget were found to be unmanaged. As a result, the \
                status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account \
                for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.";
            self.tell(budget, "Warning", "UnmanagedPods", message.into());
        }
        Ok(total)
    }

    /// How many pods the controller of a pod wants, or that controller's own controller; 0 if that was asked before.
    async fn wanted(
        &self,
        pod: &Facts,
        owner: &OwnerRef,
        seen: &mut HashSet<Box<str>>,
    ) -> Result<i32, String> {
        let namespace = &pod.meta().namespace;
        let none = || format!("found no controllers for pod {:?}", pod.meta().name);
        let Some(object) = self.owner(namespace, owner) else {
            return self.scale(namespace, owner).await.ok_or_else(none);
        };
        // A ReplicaSet's Deployment decides over it.
        let above = object.meta().controller().and_then(|above| self.owner(namespace, above));
        let object = match above {
            Some(above) if !seen.insert(above.meta().uid.clone()) => return Ok(0),
            Some(above) => above,
            None => object,
        };
        Ok(object.decode::<Sized>().map_err(|error| error.to_string())?.spec.replicas.unwrap_or(1))
    }

    /// What a controller of another kind wants, if it can be scaled.
    async fn scale(&self, namespace: &str, owner: &OwnerRef) -> Option<i32> {
        let found = self.resources.now();
        let served = found.by_kind(&owner.api_version, &owner.kind)?;
        let target = Target::new(&served.gvr, namespace, &owner.name).sub("scale");
        let scale = self.client.get(&target).await.ok()?;
        (*scale.meta().uid == *owner.uid).then_some(())?;
        Some(scale.decode::<Sized>().ok()?.spec.replicas.unwrap_or(0))
    }

    fn owner(&self, namespace: &str, owner: &OwnerRef) -> Option<Object> {
        let found = self.owners.get(owner.kind.as_ref())?.get(namespace, &owner.name)?;
        (found.meta().uid == owner.uid).then_some(found)
    }
}
