//! Endpoints and EndpointSlices of the Services that select pods: two controllers over the same view.
//!
//! Services without a selector are their owners' business, and so are objects that others manage. [`slices`] and
//! [`legacy`] decide; this file feeds them and writes, each object only when it differs.

mod legacy;
pub(crate) mod mirror;
mod services;
mod slices;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Endpoints, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tiphys_api::{Object, Status};
use tiphys_client::typed::{Kind, decode, encode};
use tiphys_client::{Api, Client, DeleteOptions, Informer, Target, WorkQueue, WriteOptions};

use crate::context::{Context, Key, Outcome, enqueue_all, ignore_not_found};
use crate::pods::Pods;
use crate::recent::Recent;
use services::Selectors;

const STALE_PAUSE: Duration = Duration::from_secs(1);
const ZONE: &str = "topology.kubernetes.io/zone";

struct Controller {
    client: Arc<dyn Client>,
    services: Arc<Informer>,
    nodes: Arc<Informer>,
    /// The objects that are written: slices or endpoints.
    written: Arc<Informer>,
    pods: Arc<Pods>,
    recent: Recent,
}

/// Runs the endpointslice controller.
pub(crate) async fn run_slices(context: Arc<Context>) {
    let (controller, queue) = build(&context, "endpointslice-controller", &EndpointSlice::GVR);
    let to = queue.clone();
    controller.written.on_change(Box::new(move |old, new| {
        for meta in [old, new].into_iter().flatten().map(Object::meta) {
            if let Some(service) = meta.labels.get(slices::SERVICE_NAME).filter(|_| managed(meta)) {
                to.add(Key::new(&meta.namespace, service));
            }
        }
    }));
    let informers = controller.informers();
    let reconcile = move |key: Key| {
        let controller = controller.clone();
        async move { controller.reconcile_slices(&key).await }
    };
    context.work(queue, context.config.workers, &informers.each_ref(), reconcile).await;
}

/// Runs the endpoints controller.
pub(crate) async fn run_endpoints(context: Arc<Context>) {
    let (controller, queue) = build(&context, "endpoint-controller", &Endpoints::GVR);
    enqueue_all(&controller.written, &queue);
    let informers = controller.informers();
    let reconcile = move |key: Key| {
        let controller = controller.clone();
        async move { controller.reconcile_endpoints(&key).await }
    };
    context.work(queue, context.config.workers, &informers.each_ref(), reconcile).await;
}

fn managed(meta: &tiphys_api::Meta) -> bool {
    meta.labels.get(slices::MANAGED_BY) == Some(slices::MANAGER)
}

fn build(
    context: &Arc<Context>,
    identity: &str,
    written: &tiphys_api::Gvr,
) -> (Arc<Controller>, Arc<WorkQueue<Key>>) {
    let services = context.informer(&Service::GVR);
    let selectors = Selectors::new(&services);
    let name = if *written == Endpoints::GVR { "endpoint" } else { "endpoint_slice" };
    let queue = WorkQueue::named(name);
    enqueue_all(&services, &queue);
    let to = queue.clone();
    context.pods.informer().on_change(Box::new(move |old, new| {
        for meta in [old, new].into_iter().flatten().map(Object::meta) {
            for service in selectors.of(&meta.namespace, &meta.labels) {
                to.add(Key::new(&meta.namespace, &service));
            }
        }
    }));
    let controller = Controller {
        client: context.client(identity),
        services,
        nodes: context.informer(&Node::GVR),
        written: context.informer(written),
        pods: context.pods.clone(),
        recent: Recent::default(),
    };
    (Arc::new(controller), queue)
}

impl Controller {
    fn informers(&self) -> [Arc<Informer>; 4] {
        [self.services.clone(), self.nodes.clone(), self.written.clone(), self.pods.informer().clone()]
    }

    fn service(&self, key: &Key) -> Result<Option<Service>, Status> {
        let object = self.services.get(&key.namespace, &key.name);
        object.map(|object| decode(&object).map_err(Status::internal)).transpose()
    }

    async fn reconcile_slices(&self, key: &Key) -> Outcome {
        // Slices of a service that is gone go with it, by their owner reference.
        let Some(service) = self.service(key)?.filter(|s| s.metadata.deletion_timestamp.is_none()) else {
            return Ok(None);
        };
        if !view::is_managed(&service) {
            return Ok(None);
        }
        if !self.recent.fresh(service.uid(), self.written.revision()) {
            return Ok(Some(STALE_PAUSE));
        }
        let ours = |slice: &Object| {
            let meta = slice.meta();
            managed(meta)
                && meta.labels.get(slices::SERVICE_NAME) == Some(service.name())
                && meta.deleted.is_none()
        };
        let existing: Result<Vec<EndpointSlice>, _> =
            self.written.filter(&key.namespace, ours).iter().map(decode).collect();
        let pods = view::selected(&service, self.pods.in_namespace(&key.namespace));
        let groups = view::groups(&service, &pods, |node| self.zone(node));
        let plan = slices::plan(&service, groups, existing.map_err(Status::internal)?);
        write_slices(&self.client, &self.recent, service.uid(), &key.namespace, plan).await?;
        Ok(None)
    }

    fn zone(&self, node: &str) -> Option<String> {
        self.nodes.get("", node)?.meta().labels.get(ZONE).map(str::to_owned)
    }

    async fn reconcile_endpoints(&self, key: &Key) -> Outcome {
        let present = self.written.get(&key.namespace, &key.name);
        let Some(service) = self.service(key)? else {
            return self.remove_endpoints(present).await;
        };
        if !view::is_managed(&service) {
            return Ok(None);
        }
        let pods = view::selected(&service, self.pods.in_namespace(&key.namespace));
        let known: Option<Endpoints> = present.as_ref().map(decode).transpose().map_err(Status::internal)?;
        let wanted = legacy::wanted(&service, &pods, known.as_ref());
        if known.as_ref() == Some(&wanted) {
            return Ok(None);
        }
        let api = Api::<Endpoints>::new(self.client.clone(), &key.namespace);
        let written = match known {
            Some(_) => api.update(&wanted).await,
            None => api.create(&wanted).await,
        };
        match written {
            // The cache is behind: its event brings the key back.
            Err(status) if status.is("AlreadyExists") => Ok(Some(STALE_PAUSE)),
            other => other.map(|_| None),
        }
    }

    /// Endpoints of a service that is gone; those that others made are left alone.
    async fn remove_endpoints(&self, present: Option<Object>) -> Outcome {
        let ours = |object: &Object| object.meta().labels.get(legacy::MANAGED_BY) == Some(legacy::MANAGER);
        if let Some(object) = present.filter(ours) {
            let meta = object.meta();
            let options = DeleteOptions::of(meta);
            let api = Api::<Endpoints>::new(self.client.clone(), &meta.namespace);
            ignore_not_found(api.delete(&meta.name, &options).await)?;
        }
        Ok(None)
    }
}

/// Carries a plan out; `uid` is what the slices are of.
async fn write_slices(
    client: &Arc<dyn Client>,
    recent: &Recent,
    uid: &str,
    namespace: &str,
    plan: slices::Plan,
) -> Result<(), Status> {
    let options = WriteOptions::default();
    for slice in &plan.create {
        let target = Target::new(&EndpointSlice::GVR, namespace, "");
        let body = encode(slice).map_err(Status::internal)?;
        let made = client.create(&target, body, &options).await?;
        recent.wrote(uid, &made);
    }
    for slice in &plan.update {
        let target = Target::new(&EndpointSlice::GVR, namespace, slice.name());
        let body = encode(slice).map_err(Status::internal)?;
        let written = client.update(&target, body, &options).await?;
        recent.wrote(uid, &written);
    }
    let api = Api::<EndpointSlice>::new(client.clone(), namespace);
    for slice in &plan.delete {
        ignore_not_found(api.delete(slice.name(), &DeleteOptions::default()).await)?;
    }
    Ok(())
}
