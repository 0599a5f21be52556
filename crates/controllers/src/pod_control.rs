//! What every controller of pods does alike: claim its own, create from a template, delete, tell, and remember.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use tiphys_api::selector::LabelSelector;
use tiphys_api::{Object, Status, Value, json};
use tiphys_client::typed::Kind;
use tiphys_client::{Client, DeleteOptions, Informer, Recorder, Target, WorkQueue, WriteOptions};

use crate::claim::{Claim, adopt, claim, release};
use crate::context::{Context, Key, ignore_not_found};
use crate::pods::{Facts, Pods};
use crate::recent::Recent;

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
    pub(crate) fn fresh(&self, uid: &str) -> bool {
        self.recent.fresh(uid, self.pods.revision())
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

    /// Creates pods in batches that double, and stops at the first batch with a failure: a template that no admission
    /// lets pass costs few requests. Returns how many were created.
    pub(crate) async fn create_counted<O: Kind>(
        &self,
        owner: &O,
        bodies: &[Bytes],
    ) -> (usize, Result<(), Status>) {
        let (mut left, mut batch, mut created) = (bodies, 1, 0);
        while !left.is_empty() {
            let (now, later) = left.split_at(batch.min(left.len()));
            let results = join_all(now.iter().map(|body| self.create(owner, body.clone()))).await;
            created += results.iter().filter(|result| result.is_ok()).count();
            if let Some(status) = results.into_iter().find_map(Result::err) {
                // A namespace on its way out takes nothing in; the owner will go with it.
                let outcome = if namespace_terminating(&status) { Ok(()) } else { Err(status) };
                return (created, outcome);
            }
            (left, batch) = (later, batch * 2);
        }
        (created, Ok(()))
    }

    async fn create<O: Kind>(&self, owner: &O, body: Bytes) -> Result<(), Status> {
        match self.create_silently(owner, "", body).await {
            Ok(pod) => {
                self.tell(owner, "Normal", "SuccessfulCreate", format!("Created pod: {}", pod.meta().name));
                Ok(())
            }
            Err(status) => {
                if !namespace_terminating(&status) {
                    self.tell(owner, "Warning", "FailedCreate", format!("Error creating: {status}"));
                }
                Err(status)
            }
        }
    }

    /// Creates a pod and remembers it. The name is in the body, or is made by the server.
    pub(crate) async fn create_silently<O: Kind>(
        &self,
        owner: &O,
        name: &str,
        body: Bytes,
    ) -> Result<Object, Status> {
        let target = Target::new(&Pod::GVR, owner.namespace(), name);
        let pod = self.client.create(&target, body, &WriteOptions::default()).await?;
        self.recent.wrote(owner.uid(), &pod);
        Ok(pod)
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
        let options = DeleteOptions { uid: Some(meta.uid.to_string()), ..DeleteOptions::default() };
        let target = Target::new(&Pod::GVR, &meta.namespace, &meta.name);
        let deleted = match self.client.delete(&target, &options).await {
            Ok(_) => true,
            Err(status) if status.is("NotFound") => false,
            // Another pod of that name, which the cache will show, or a write in between: it is not deleted.
            Err(status) => return Err(status),
        };
        self.recent.deleted(owner.uid(), &meta.uid);
        Ok(deleted)
    }

    /// An event about the owner.
    pub(crate) fn tell<O: Kind>(&self, owner: &O, kind: &str, reason: &str, message: String) {
        self.recorder.event(&owner.reference(), kind, reason, message);
    }
}

/// What was remembered about an owner goes with it.
pub(crate) fn forget_gone<T: Send + Sync + 'static>(
    owners: &Informer,
    controller: &Arc<T>,
    control: impl Fn(&T) -> &PodControl + Send + Sync + 'static,
) {
    let controller = Arc::downgrade(controller);
    owners.on_change(Box::new(move |old, new| {
        if let (Some(gone), None, Some(controller)) = (old, new, controller.upgrade()) {
            control(&controller).recent.forget(&gone.meta().uid);
        }
    }));
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
