//! What is in use stays: a claim while a pod uses it, a volume while it is bound. A finalizer of each holds its deletion up
//! until then.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use tiphys_api::{Meta, Object, Status, Value, json};
use tiphys_client::typed::Kind;
use tiphys_client::{Client, Informer, ListOptions, Target, WorkQueue, WriteOptions};

use crate::context::{Context, Key, Outcome, enqueue_all, ignore_not_found};
use crate::pods::{Facts, Pods};

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";

struct Claims {
    client: Arc<dyn Client>,
    claims: Arc<Informer>,
    pods: Arc<Pods>,
}

/// Protects claims until the context stops.
pub(crate) async fn run_claims(context: Arc<Context>) {
    let claims = context.informer(&PersistentVolumeClaim::GVR);
    let queue = WorkQueue::named("pvcprotection");
    enqueue_all(&claims, &queue);
    follow_pods(&context.pods, &claims, &queue);
    let controller = Arc::new(Claims {
        client: context.client("pvc-protection-controller"),
        claims: claims.clone(),
        pods: context.pods.clone(),
    });
    let reconcile = move |key: Key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    };
    context.work(queue, 2, &[&claims, context.pods.informer()], reconcile).await;
}

/// A pod that goes or ends may have been the last user of a claim that waits for that.
fn follow_pods(pods: &Arc<Pods>, claims: &Arc<Informer>, queue: &Arc<WorkQueue<Key>>) {
    let (claims, queue) = (Arc::downgrade(claims), queue.clone());
    pods.informer().on_change(Box::new(move |old, new| {
        let (Some(pod), Some(claims)) = (old, claims.upgrade()) else { return };
        if claims.is_empty() || new.is_some_and(|new| Facts::of(new).is_some_and(|facts| !facts.ended())) {
            return;
        }
        let namespace = &pod.meta().namespace;
        for name in Facts::of(pod).iter().flat_map(|facts| facts.claims.iter()) {
            if claims.get(namespace, name).is_some_and(|claim| claim.meta().deleted.is_some()) {
                queue.add(Key::new(namespace, name));
            }
        }
    }));
}

/// Whether a pod keeps a claim: while it is on a node and has not ended.
fn uses(pod: &Facts, claim: &str) -> bool {
    !pod.node.is_empty() && !pod.ended() && pod.claims.iter().any(|name| **name == *claim)
}

impl Claims {
    async fn reconcile(&self, key: &Key) -> Outcome {
        let Some(claim) = self.claims.get(&key.namespace, &key.name) else { return Ok(None) };
        match plan(claim.meta(), CLAIM_FINALIZER, || self.is_used(key)) {
            Step::Nothing => {}
            Step::Protect => set::<PersistentVolumeClaim>(&self.client, &claim, CLAIM_FINALIZER).await?,
            Step::Free if self.is_used_now(key).await? => {}
            Step::Free => drop_from::<PersistentVolumeClaim>(&self.client, &claim, CLAIM_FINALIZER).await?,
        }
        Ok(None)
    }

    fn is_used(&self, key: &Key) -> bool {
        self.pods.in_namespace(&key.namespace).iter().any(|pod| uses(pod, &key.name))
    }

    /// The same, asked of the API server: the cache may be late by a pod that was bound a moment ago.
    async fn is_used_now(&self, key: &Key) -> Result<bool, Status> {
        let pods = self.client.list(&Pod::GVR, &key.namespace, &ListOptions::default()).await?;
        let used = |pod: &Object| Facts::of(pod).is_some_and(|facts| uses(&facts, &key.name));
        Ok(pods.items.iter().any(used))
    }
}

/// Protects volumes until the context stops.
pub(crate) async fn run_volumes(context: Arc<Context>) {
    let volumes = context.informer(&PersistentVolume::GVR);
    let client = context.client("pv-protection-controller");
    let queue = WorkQueue::named("pvprotection");
    enqueue_all(&volumes, &queue);
    let informer = volumes.clone();
    let reconcile = move |key: Key| {
        let (client, volumes) = (client.clone(), informer.clone());
        async move {
            let Some(volume) = volumes.get("", &key.name) else { return Ok(None) };
            let phase = || volume.value().ok().is_some_and(|value| value["status"]["phase"] == "Bound");
            match plan(volume.meta(), VOLUME_FINALIZER, phase) {
                Step::Nothing => {}
                Step::Protect => set::<PersistentVolume>(&client, &volume, VOLUME_FINALIZER).await?,
                Step::Free => drop_from::<PersistentVolume>(&client, &volume, VOLUME_FINALIZER).await?,
            }
            Ok(None)
        }
    };
    context.work(queue, 2, &[&volumes], reconcile).await;
}

#[derive(Debug, PartialEq)]
enum Step {
    Nothing,
    Protect,
    Free,
}

fn plan(meta: &Meta, finalizer: &str, used: impl FnOnce() -> bool) -> Step {
    let held = meta.finalizers.iter().any(|one| **one == *finalizer);
    match (meta.deleted.is_some(), held) {
        (true, true) if !used() => Step::Free,
        (false, false) => Step::Protect,
        _ => Step::Nothing,
    }
}

async fn set<T: Kind>(client: &Arc<dyn Client>, object: &Object, finalizer: &str) -> Result<(), Status> {
    let all = object.meta().finalizers.iter().map(|one| json!(one)).chain([json!(finalizer)]);
    write::<T>(client, object, all.collect()).await
}

/// Takes a finalizer off an object.
pub(super) async fn drop_from<T: Kind>(
    client: &Arc<dyn Client>,
    object: &Object,
    finalizer: &str,
) -> Result<(), Status> {
    let left = object.meta().finalizers.iter().filter(|one| ***one != *finalizer);
    write::<T>(client, object, left.map(|one| json!(one)).collect()).await
}

/// Writes the finalizers; the object's revision makes that safe against changes by others.
async fn write<T: Kind>(
    client: &Arc<dyn Client>,
    object: &Object,
    finalizers: Vec<Value>,
) -> Result<(), Status> {
    let mut value = object.value().map_err(Status::internal)?;
    value["metadata"]["finalizers"] = finalizers.into();
    let target = Target::new(&T::GVR, &object.meta().namespace, &object.meta().name);
    ignore_not_found(
        client.update(&target, value.to_string().into(), &WriteOptions::default()).await.map(drop),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finalizer_goes_when_nobody_uses_what_is_deleted() {
        let meta = |deleted: bool, held: bool| {
            let mut metadata = json!({"name": "c"});
            if deleted {
                metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            }
            if held {
                metadata["finalizers"] = json!(["other", "f"]);
            }
            Object::from_value(&json!({"metadata": metadata})).unwrap().meta().clone()
        };
        let plan = |deleted, held, used| plan(&meta(deleted, held), "f", || used);
        assert_eq!(plan(true, true, true), Step::Nothing);
        assert_eq!(plan(true, true, false), Step::Free);
        assert_eq!(plan(true, false, false), Step::Nothing);
        assert_eq!(plan(false, false, false), Step::Protect);
        assert_eq!(plan(false, true, false), Step::Nothing);
    }
}
