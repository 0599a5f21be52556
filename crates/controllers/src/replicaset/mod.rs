//! ReplicaSets: as many pods of a template as asked for.
//!
//! - [`plan`] decides; this file brings in pods (own, adopted, released), carries out and reports.
//! - A pass that cannot be sure to see all its own creations creates and deletes nothing ([`Recent`]); the event that it
//!   waits for wakes it.
//! - Creations start slowly (1, 2, 4, …) so that a template that no admission lets pass costs few requests.

mod plan;
mod rank;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use serde_json::{Value, json};
use tiphys_api::selector::LabelSelector;
use tiphys_api::{Object, Status};
use tiphys_client::typed::{Kind, decode};
use tiphys_client::{Api, Client, DeleteOptions, Informer, Recorder, Target, WorkQueue, WriteOptions};

use crate::claim::{Claim, adopt, claim, release};
use crate::context::{Context, Key, Outcome, enqueue_all, enqueue_owners};
use crate::pods::{Facts, Pods};
use crate::recent::Recent;
use plan::{Failure, Plan, Snapshot};

/// How long a pass waits for its cache when no event is sure to come (a creation that was deleted by others).
const STALE_PAUSE: Duration = Duration::from_secs(1);

struct Controller {
    client: Arc<dyn Client>,
    recorder: Recorder,
    sets: Arc<Informer>,
    pods: Arc<Pods>,
    recent: Recent,
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let client = context.client("replicaset-controller");
    let recorder = context.recorder(&client, "replicaset-controller");
    let sets = context.informer(&ReplicaSet::GVR);
    let pods = context.pods.clone();
    let queue = Arc::new(WorkQueue::new());
    let controller = Arc::new(Controller {
        client,
        recorder,
        sets: sets.clone(),
        pods: pods.clone(),
        recent: Recent::default(),
    });
    forget_gone(&sets, &controller);
    enqueue_all(&sets, &queue);
    enqueue_owners(pods.informer(), "ReplicaSet", &queue);
    enqueue_adopters(pods.informer(), &sets, &queue);
    let reconcile = move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    };
    context.work(queue, context.config.workers, &[&sets, pods.informer()], reconcile).await;
}

/// What was remembered about a set goes with it.
fn forget_gone(sets: &Informer, controller: &Arc<Controller>) {
    let controller = Arc::downgrade(controller);
    sets.on_change(Box::new(move |old, new| {
        if let (Some(gone), None, Some(controller)) = (old, new, controller.upgrade()) {
            controller.recent.forget(&gone.meta().uid);
        }
    }));
}

/// A pod without a controller wakes every set of its namespace that may want it.
fn enqueue_adopters(pods: &Informer, sets: &Arc<Informer>, queue: &Arc<WorkQueue<Key>>) {
    let (sets, queue) = (Arc::downgrade(sets), queue.clone());
    pods.on_change(Box::new(move |_, new| {
        let Some(pod) = new.filter(|pod| pod.meta().controller().is_none()) else { return };
        let Some(sets) = sets.upgrade() else { return };
        for set in sets.list(&pod.meta().namespace) {
            let wants = selector(&set).is_some_and(|selector| selector.matches(&pod.meta().labels));
            if wants {
                queue.add(Key::of(&set));
            }
        }
    }));
}

/// The selector of a set; `None` if it has none or a broken one, which selects nothing.
fn selector(set: &Object) -> Option<LabelSelector> {
    let value: Value = set.value().ok()?;
    LabelSelector::from_value(value.get("spec")?.get("selector")?).ok()
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        let Some(object) = self.sets.get(&key.namespace, &key.name) else {
            return Ok(None);
        };
        let set: ReplicaSet = decode(&object).map_err(Status::internal)?;
        let Some(selector) = selector(&object) else { return Ok(None) };
        // Asked before the pods are read: what it vouches for is in them.
        let fresh = self.recent.fresh(set.uid(), self.pods.revision());
        let pods = self.claim(&set, &selector).await?;
        let per_node = self.neighbours(&object);
        let snapshot = Snapshot { set: &set, pods: &pods, per_node: &per_node, fresh };
        let now = Timestamp::now();
        let result = self.carry_out(&set, plan::plan(&snapshot, now)).await;
        let failure = result.as_ref().err().map(|(reason, status)| (*reason, status.message.clone()));
        self.report(&set, &pods, failure.as_ref(), now).await?;
        match result {
            Err((_, status)) => Err(status),
            Ok(()) if !fresh => Ok(Some(STALE_PAUSE)),
            Ok(()) => Ok(plan::look_again(&set, &pods, now)),
        }
    }

    /// The set's pods, after adopting and releasing, without those that were deleted but are still in the cache.
    async fn claim(&self, set: &ReplicaSet, selector: &LabelSelector) -> Result<Vec<Arc<Facts>>, Status> {
        let deleting = set.metadata.deletion_timestamp.is_some();
        let mut ours = Vec::new();
        let owned = self.pods.controlled_by(set.uid());
        for pod in owned.into_iter().chain(self.pods.orphans(set.namespace())) {
            match claim(set.uid(), deleting, selector, &pod.object) {
                Claim::Ours => ours.push(pod),
                Claim::Adopt if pod.ended() => {}
                Claim::Adopt => {
                    let adopted = adopt::<Pod, _>(self.client.as_ref(), set, &pod.object).await?;
                    self.recent.wrote(set.uid(), &adopted);
                    ours.push(pod);
                }
                Claim::Release => {
                    let released = release::<Pod>(self.client.as_ref(), set.uid(), &pod.object).await;
                    crate::context::ignore_not_found(released.map(drop))?;
                }
                Claim::Ignore => {}
            }
        }
        let cached = ours.iter().filter(|pod| !pod.deleting()).map(|pod| pod.meta().uid.as_ref()).collect();
        let deleted: HashSet<Box<str>> = self.recent.still_cached(set.uid(), &cached);
        ours.retain(|pod| !deleted.contains(&pod.meta().uid));
        Ok(ours)
    }

    /// Active pods by node of all sets with the same controlling owner as this one.
    fn neighbours(&self, set: &Object) -> HashMap<Box<str>, usize> {
        let siblings = match set.meta().controller() {
            Some(owner) => self.sets.by_owner(&owner.uid),
            None => vec![set.clone()],
        };
        let mut per_node = HashMap::new();
        for sibling in siblings {
            for pod in self.pods.controlled_by(&sibling.meta().uid).iter().filter(|pod| pod.active()) {
                *per_node.entry(pod.node.clone()).or_default() += 1;
            }
        }
        per_node
    }

    async fn carry_out(&self, set: &ReplicaSet, plan: Plan) -> Result<(), (&'static str, Status)> {
        if plan.create > 0 {
            return self.create(set, plan.create).await.map_err(|e| ("FailedCreate", e));
        }
        let deletions = plan.delete.iter().map(|pod| self.delete(set, pod));
        match join_all(deletions).await.into_iter().find_map(Result::err) {
            Some(status) => Err(("FailedDelete", status)),
            None => Ok(()),
        }
    }

    /// Creates pods in batches that double, and stops at the first batch with a failure.
    async fn create(&self, set: &ReplicaSet, count: usize) -> Result<(), Status> {
        let body = pod_body(set)?;
        let (mut left, mut batch) = (count, 1);
        while left > 0 {
            let now = batch.min(left);
            let results = join_all((0..now).map(|_| self.create_one(set, body.clone()))).await;
            if let Some(status) = results.into_iter().find_map(Result::err) {
                // A namespace on its way out takes nothing in; the set will go with it.
                return if namespace_terminating(&status) { Ok(()) } else { Err(status) };
            }
            left -= now;
            batch *= 2;
        }
        Ok(())
    }

    async fn create_one(&self, set: &ReplicaSet, body: Bytes) -> Result<(), Status> {
        let target = Target::new(&Pod::GVR, set.namespace(), "");
        match self.client.create(&target, body, &WriteOptions::default()).await {
            Ok(pod) => {
                self.recent.wrote(set.uid(), &pod);
                let message = format!("Created pod: {}", pod.meta().name);
                self.recorder.event(&set.reference(), "Normal", "SuccessfulCreate", message);
                Ok(())
            }
            Err(status) => {
                if !namespace_terminating(&status) {
                    let message = format!("Error creating: {status}");
                    self.recorder.event(&set.reference(), "Warning", "FailedCreate", message);
                }
                Err(status)
            }
        }
    }

    async fn delete(&self, set: &ReplicaSet, pod: &Facts) -> Result<(), Status> {
        let meta = pod.meta();
        let options = DeleteOptions { uid: Some(meta.uid.to_string()), ..DeleteOptions::default() };
        let target = Target::new(&Pod::GVR, &meta.namespace, &meta.name);
        match self.client.delete(&target, &options).await {
            Ok(_) => {
                self.recent.deleted(set.uid(), &meta.uid);
                let message = format!("Deleted pod: {}", meta.name);
                self.recorder.event(&set.reference(), "Normal", "SuccessfulDelete", message);
                Ok(())
            }
            // Somebody else was faster.
            Err(status) if status.is("NotFound") || status.is("Conflict") => {
                self.recent.deleted(set.uid(), &meta.uid);
                Ok(())
            }
            Err(status) => {
                let message = format!("Error deleting: {status}");
                self.recorder.event(&set.reference(), "Warning", "FailedDelete", message);
                Err(status)
            }
        }
    }

    /// Writes the status if it changed.
    async fn report(
        &self,
        set: &ReplicaSet,
        pods: &[Arc<Facts>],
        failure: Option<&Failure>,
        now: Timestamp,
    ) -> Result<(), Status> {
        let status = plan::status(set, pods, failure, now);
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let changed = ReplicaSet { status: Some(status), ..set.clone() };
        let api = Api::<ReplicaSet>::new(self.client.clone(), set.namespace());
        crate::context::ignore_not_found(api.update_status(&changed).await.map(drop))
    }
}

fn namespace_terminating(status: &Status) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    causes.any(|cause| cause.reason == "NamespaceTerminating")
}

/// The pod that a set creates, ready to be sent.
fn pod_body(set: &ReplicaSet) -> Result<Bytes, Status> {
    let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    let PodTemplateSpec { metadata, spec } = template;
    let metadata = metadata.unwrap_or_default();
    let body = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": format!("{}-", set.name()),
            "namespace": set.namespace(),
            "labels": metadata.labels,
            "annotations": metadata.annotations,
            "finalizers": metadata.finalizers,
            "ownerReferences": [set.controller_reference()],
        },
        "spec": spec,
    });
    serde_json::to_vec(&body).map(Bytes::from).map_err(Status::internal)
}
