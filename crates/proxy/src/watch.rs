//! Which Services changed, and what one of them is now: an index over informers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::{Mutex, RwLock};
use tiphys_api::Object;
use tiphys_client::typed::{self, Kind};
use tiphys_client::{Informer, Informers};
use tokio::sync::Notify;

use crate::model::{self, Picture, Place};
use crate::tables::Key;

/// Label that says which Service a slice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label of Services that another proxy serves.
const FOREIGN: &str = "service.kubernetes.io/service-proxy-name";
/// Label of slices for Services without a cluster address.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Label of a node's zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// The cluster as the proxy sees it.
pub(crate) struct Watch {
    services: Arc<Informer>,
    slices: Arc<Informer>,
    node: Arc<Informer>,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    marked: Mutex<BTreeSet<Key>>,
    /// Names of the slices of a Service.
    slices: Mutex<BTreeMap<Key, BTreeSet<Box<str>>>>,
    place: RwLock<Place>,
    changed: Notify,
}

impl Watch {
    /// Starts to watch.
    pub(crate) fn start(informers: &Informers, node_name: &str) -> Self {
        let seen = Arc::new(Seen::default());
        seen.place.write().node = node_name.to_owned();
        let node = informers.scoped(&Node::GVR, "", &format!("metadata.name={node_name}"));
        let watch = Self {
            services: informers.of(&Service::GVR),
            slices: informers.of(&EndpointSlice::GVR),
            node,
            seen,
        };
        let seen = watch.seen.clone();
        watch.services.on_change(Box::new(move |old, new| {
            if let Some(service) = new.or(old) {
                seen.mark([key(service, &service.meta().name)]);
            }
        }));
        let seen = watch.seen.clone();
        watch.slices.on_change(Box::new(move |old, new| seen.slice(old, new)));
        let (seen, services) = (watch.seen.clone(), Arc::downgrade(&watch.services));
        watch.node.on_change(Box::new(move |_, new| {
            if seen.moved(new)
                && let Some(services) = services.upgrade()
            {
                seen.mark(services.list("").iter().map(|service| key(service, &service.meta().name)));
            }
        }));
        watch
    }

    /// Waits until all is known.
    pub(crate) async fn synced(&self) {
        for informer in [&self.services, &self.slices, &self.node] {
            informer.synced().await;
        }
    }

    /// Waits until a Service is marked.
    pub(crate) async fn changed(&self) {
        self.seen.changed.notified().await;
    }

    /// The Services marked since this was last asked.
    pub(crate) fn take(&self) -> BTreeSet<Key> {
        std::mem::take(&mut *self.seen.marked.lock())
    }

    /// What a Service is now; nothing, if it is gone or not ours.
    pub(crate) fn read(&self, key: &str) -> Picture {
        let (namespace, name) = key.split_once('/').unwrap_or_default();
        let ours = |service: &Object| service.meta().labels.get(FOREIGN).is_none();
        let service = self.services.get(namespace, name).filter(ours);
        let Some(service) = service.and_then(|service| decode::<Service>(&service)) else {
            return Picture::default();
        };
        let names = self.seen.slices.lock().get(key).cloned().unwrap_or_default();
        let slices = names.iter().filter_map(|name| self.slices.get(namespace, name));
        let slices: Vec<EndpointSlice> = slices.filter_map(|slice| decode(&slice)).collect();
        model::read(&service, &slices, &self.seen.place.read())
    }
}

impl Seen {
    fn mark(&self, keys: impl IntoIterator<Item = Key>) {
        self.marked.lock().extend(keys);
        self.changed.notify_one();
    }

    fn slice(&self, old: Option<&Object>, new: Option<&Object>) {
        let (before, after) = (old.and_then(service_of), new.and_then(service_of));
        let Some(name) = new.or(old).map(|slice| slice.meta().name.clone()) else { return };
        let mut slices = self.slices.lock();
        if let Some(service) = before.as_ref().filter(|service| after.as_ref() != Some(service))
            && let Some(names) = slices.get_mut(service)
        {
            names.remove(&name);
            if names.is_empty() {
                slices.remove(service);
            }
        }
        if let Some(service) = &after {
            slices.entry(service.clone()).or_default().insert(name);
        }
        drop(slices);
        self.mark(before.into_iter().chain(after));
    }

    /// Takes in what the Node says of where we stand; whether that is news.
    fn moved(&self, node: Option<&Object>) -> bool {
        let Some(node) = node else { return false };
        let zone = node.meta().labels.get(ZONE).map(|zone| zone.to_string()).unwrap_or_default();
        let listed = decode::<Node>(node).and_then(|node| node.status?.addresses).unwrap_or_default();
        let addresses = listed.iter().filter_map(|address| address.address.parse().ok()).collect();
        let mut place = self.place.write();
        let now = Place { node: place.node.clone(), zone, addresses };
        let news = *place != now;
        *place = now;
        news
    }
}

/// The Service of a slice, unless it is headless.
fn service_of(slice: &Object) -> Option<Key> {
    let labels = &slice.meta().labels;
    let name = labels.get(SERVICE_NAME).filter(|_| labels.get(HEADLESS).is_none())?;
    Some(key(slice, name))
}

fn key(object: &Object, name: &str) -> Key {
    format!("{}/{name}", object.meta().namespace).into()
}

fn decode<T: Kind>(object: &Object) -> Option<T> {
    typed::decode(object)
        .inspect_err(|error| tracing::warn!(%error, object = object.meta().key(), "unreadable object"))
        .ok()
}
