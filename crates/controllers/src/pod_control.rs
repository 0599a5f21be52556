//! What every controller of pods does alike: claim its own, create from a template, delete, tell, and remember.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use tiphys_api::selector::LabelSelector;
use tiphys_api::{Object, Status, Value, json};
use tiphys_client::typed::Kind;
use tiphys_client::{
    Client, DeleteOptions, Informer, ListOptions, Recorder, Target, WorkQueue, WriteOptions,
};
use tokio::task::JoinSet;

use crate::claim::{Claim, adopt, claim, release};
use crate::context::{Context, Key, ignore_not_found};
use crate::pods::{Facts, Pods};
use crate::recent::Recent;

/// Most pods that are being created for one owner at once. What the pods themselves cause (bindings, statuses) is under way
/// at the same time, 64 of each, and all take turns: the more creations wait, the sooner all pods are there; the longer
/// others wait for their turn.
const AT_ONCE: usize = 512;

pub(crate) struct PodControl {
    pub(crate) client: Arc<dyn Client>,
    pub(crate) recorder: Recorder,
    pub(crate) pods: Arc<Pods>,
    pub(crate) recent: Recent,
}

impl PodControl {
    /// For a controller with this identity, which is also the source of its events.
    pub(crate) fn new(context: &Context, identity: &str, source: &str) -> Self {
        let client = context.client(identity);
        let recorder = context.recorder(&client, source);
        Self { client, recorder, pods: context.pods.clone(), recent: Recent::default() }
    }

    /// Whether the facts show all that was written for an owner. To be asked before the pods are read.
    pub(crate) async fn fresh<O: Kind>(&self, owner: &O, selector: &LabelSelector) -> Result<bool, Status> {
        if self.recent.doubtful(owner.uid()) {
            self.settle(owner, selector).await?;
        }
        Ok(self.recent.fresh(owner.uid(), self.pods.revision()))
    }

    /// Asks the server what became of writes whose answers were lost. What the selector leaves out is none of the owner's
    /// any more, as if it were deleted.
    async fn settle<O: Kind>(&self, owner: &O, selector: &LabelSelector) -> Result<(), Status> {
        let options = ListOptions { labels: selector.to_string(), ..ListOptions::default() };
        let list = self.client.list(&Pod::GVR, owner.namespace(), &options).await?;
        let ours = |pod: &&Object| pod.meta().controller().is_some_and(|by| *by.uid == *owner.uid());
        let there: HashMap<&str, u64> = list
            .items
            .iter()
            .filter(ours)
            .map(|pod| (pod.meta().uid.as_ref(), pod.meta().resource_version))
            .collect();
        for pod in self.pods.controlled_by(owner.uid()) {
            if !there.contains_key(pod.meta().uid.as_ref()) {
                self.recent.deleted(owner.uid(), &pod.meta().uid);
            }
        }
        self.recent.settled(owner.uid(), there.into_values().max().unwrap_or(0));
        Ok(())
    }

    /// The owner's pods, after adopting and releasing, without those that were deleted but are still in the cache.
    pub(crate) async fn claim<O: Kind>(
        &self,
        owner: &O,
        selector: &LabelSelector,
    ) -> Result<Vec<Arc<Facts>>, Status> {
        let deleting = owner.meta().deletion_timestamp.is_some();
        let mut ours = Vec::new();
        let owned = self.pods.controlled_by(owner.uid());
        for pod in owned.into_iter().chain(self.pods.orphans(owner.namespace())) {
            match claim(owner.uid(), deleting, selector, &pod.object) {
                Claim::Ours => ours.push(pod),
                Claim::Adopt if pod.ended() => {}
                Claim::Adopt => {
                    let adopted = adopt::<Pod, _>(self.client.as_ref(), owner, &pod.object).await?;
                    self.recent.wrote(owner.uid(), &adopted);
                    ours.push(pod);
                }
                Claim::Release => {
                    let released = release::<Pod>(self.client.as_ref(), owner.uid(), &pod.object).await;
                    ignore_not_found(released.map(drop))?;
                }
                Claim::Ignore => {}
            }
        }
        let cached = ours.iter().filter(|pod| !pod.deleting()).map(|pod| pod.meta().uid.as_ref()).collect();
        let deleted: HashSet<Box<str>> = self.recent.still_cached(owner.uid(), &cached);
        ours.retain(|pod| !deleted.contains(&pod.meta().uid));
        Ok(ours)
    }

    /// As [`Self::create_counted`], for whom the count does not matter.
    pub(crate) async fn create_all<O: Kind>(&self, owner: &O, bodies: &[Bytes]) -> Result<(), Status> {
        self.create_counted(owner, bodies).await.1
    }

    /// Creates pods side by side: one, and with every success one more at once, so a template that no admission lets pass
    /// costs few requests. After a failure, none is begun. Returns how many were created.
    pub(crate) async fn create_counted<O: Kind>(
        &self,
        owner: &O,
        bodies: &[Bytes],
    ) -> (usize, Result<(), Status>) {
        let (mut left, mut under_way) = (bodies.iter(), JoinSet::new());
        let (mut window, mut created, mut failure) = (1, 0, None);
        loop {
            let room = if failure.is_some() { 0 } else { window - under_way.len() };
            for body in left.by_ref().take(room) {
                under_way.spawn(create(self.client.clone(), owner.namespace().to_owned(), body.clone()));
            }
            let Some(outcome) = under_way.join_next().await else { break };
            match self.created(owner, outcome.unwrap_or_else(|panic| Err(Status::internal(panic)))) {
                Ok(()) => (created, window) = (created + 1, AT_ONCE.min(window + 1)),
                Err(status) => failure = failure.or(Some(status)),
            }
        }
        // A namespace on its way out takes nothing in; the owner will go with it.
        (created, failure.filter(|status| !namespace_terminating(status)).map_or(Ok(()), Err))
    }

    /// Remembers and tells what came of a creation.
    fn created<O: Kind>(&self, owner: &O, outcome: Result<Object, Status>) -> Result<(), Status> {
        match outcome {
            Ok(pod) => {
                self.recent.wrote(owner.uid(), &pod);
                self.tell(owner, "Normal", "SuccessfulCreate", format!("Created pod: {}", pod.meta().name));
                Ok(())
            }
            Err(status) => {
                self.recent.failed(owner.uid(), &status);
                if !namespace_terminating(&status) {
                    self.tell(owner, "Warning", "FailedCreate", format!("Error creating: {status}"));
                }
                Err(status)
            }
        }
    }

    /// Creates a pod of this name and remembers it.
    pub(crate) async fn create_silently<O: Kind>(
        &self,
        owner: &O,
        name: &str,
        body: Bytes,
    ) -> Result<Object, Status> {
        let target = Target::new(&Pod::GVR, owner.namespace(), name);
        let outcome = self.client.create(&target, body, &WriteOptions::default()).await;
        match &outcome {
            Ok(pod) => self.recent.wrote(owner.uid(), pod),
            Err(status) => self.recent.failed(owner.uid(), status),
        }
        outcome
    }

    /// Deletes pods, all at once; returns the first failure.
    pub(crate) async fn delete_all<O: Kind>(&self, owner: &O, pods: &[Arc<Facts>]) -> Result<(), Status> {
        let outcomes = join_all(pods.iter().map(|pod| self.delete(owner, pod))).await;
        outcomes.into_iter().collect()
    }

    async fn delete<O: Kind>(&self, owner: &O, pod: &Facts) -> Result<(), Status> {
        let name = &pod.meta().name;
        match self.delete_silently(owner, pod).await {
            Ok(true) => self.tell(owner, "Normal", "SuccessfulDelete", format!("Deleted pod: {name}")),
            Ok(false) => {}
            Err(status) if status.is("Conflict") => return Err(status),
            Err(status) => {
                self.tell(owner, "Warning", "FailedDelete", format!("Error deleting: {status}"));
                return Err(status);
            }
        }
        Ok(())
    }

    /// Deletes a pod and remembers it; false if somebody else was faster.
    pub(crate) async fn delete_silently<O: Kind>(&self, owner: &O, pod: &Facts) -> Result<bool, Status> {
        let meta = pod.meta();
        let options = DeleteOptions::of(meta);
        let target = Target::new(&Pod::GVR, &meta.namespace, &meta.name);
        let deleted = match self.client.delete(&target, &options).await {
            Ok(_) => true,
            Err(status) if status.is("NotFound") => false,
            // Another pod of that name, which the cache will show, or a write in between: it is not deleted.
            Err(status) => {
                self.recent.failed(owner.uid(), &status);
                return Err(status);
            }
        };
        self.recent.deleted(owner.uid(), &meta.uid);
        Ok(deleted)
    }

    /// An event about the owner.
    pub(crate) fn tell<O: Kind>(&self, owner: &O, kind: &str, reason: &str, message: String) {
        self.recorder.event(&owner.reference(), kind, reason, message);
    }
}

/// Creates a pod; the server makes its name.
async fn create(client: Arc<dyn Client>, namespace: String, body: Bytes) -> Result<Object, Status> {
    client.create(&Target::new(&Pod::GVR, &namespace, ""), body, &WriteOptions::default()).await
}

/// A pod without a controller wakes every owner of its namespace that may want it.
pub(crate) fn enqueue_adopters(pods: &Informer, owners: &Arc<Informer>, queue: &Arc<WorkQueue<Key>>) {
    let (owners, queue) = (Arc::downgrade(owners), queue.clone());
    pods.on_change(Box::new(move |_, new| {
        let Some(pod) = new.filter(|pod| pod.meta().controller().is_none()) else { return };
        let Some(owners) = owners.upgrade() else { return };
        for owner in owners.list(&pod.meta().namespace) {
            if selector(&owner).is_some_and(|selector| selector.matches(&pod.meta().labels)) {
                queue.add(Key::of(&owner));
            }
        }
    }));
}

/// The `spec.selector` of an owner; `None` if it has none or a broken one, which selects nothing.
pub(crate) fn selector(owner: &Object) -> Option<LabelSelector> {
    let value: Value = owner.value().ok()?;
    let selector = value.get("spec")?.get("selector")?;
    match labels(selector) {
        Some(labels) => Some(LabelSelector::from_labels(labels)),
        None => LabelSelector::from_value(selector).ok(),
    }
}

/// The labels of a selector that is a plain map of them, as a ReplicationController's is.
fn labels(selector: &Value) -> Option<Vec<(&str, &str)>> {
    let map = selector.as_object().filter(|map| !map.is_empty())?;
    map.iter().map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect()
}

/// Whether a creation was refused because the namespace is on its way out.
pub(crate) fn namespace_terminating(status: &Status) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    causes.any(|cause| cause.reason == "NamespaceTerminating")
}

/// The pod that an owner creates from a template, ready to be sent, with a name or one that the server makes.
pub(crate) fn pod_body<O: Kind>(
    owner: &O,
    template: PodTemplateSpec,
    name: Option<&str>,
) -> Result<Bytes, Status> {
    let PodTemplateSpec { metadata, spec } = template;
    let metadata = metadata.unwrap_or_default();
    let mut body = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": owner.namespace(),
            "labels": metadata.labels,
            "annotations": metadata.annotations,
            "finalizers": metadata.finalizers,
            "ownerReferences": [owner.controller_reference()],
        },
        "spec": spec,
    });
    match name {
        Some(name) => body["metadata"]["name"] = name.into(),
        None => body["metadata"]["generateName"] = format!("{}-", owner.name()).into(),
    }
    serde_json::to_vec(&body).map(Bytes::from).map_err(Status::internal)
}
