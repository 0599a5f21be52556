//! Which Services changed, and what one of them is now, seen from this node.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::RwLock;
use tiphys_api::Object;
use tiphys_client::typed::{self, Kind};
use tiphys_client::{Informer, Informers, Services};

use crate::model::{self, Picture, Place};
use crate::status::Status;
use crate::tables::Key;

/// Label of Services that another proxy serves.
const FOREIGN: &str = "service.kubernetes.io/service-proxy-name";
/// Label of a node's zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// Taint of nodes that the cluster autoscaler is about to delete.
const GOING: &str = "ToBeDeletedByClusterAutoscaler";

/// The cluster as the proxy sees it.
pub(crate) struct Watch {
    services: Arc<Services>,
    node: Arc<Informer>,
    place: Arc<RwLock<Place>>,
}

impl Watch {
    /// Starts to watch.
    pub(crate) fn start(informers: &Informers, node_name: &str, status: Arc<Status>) -> Self {
        let place = Arc::new(RwLock::new(Place { node: node_name.to_owned(), ..Place::default() }));
        let node = informers.scoped(&Node::GVR, "", &format!("metadata.name={node_name}"));
        let services = Arc::new(Services::follow(informers));
        let (stands, following) = (place.clone(), Arc::downgrade(&services));
        node.on_change(Box::new(move |_, new| {
            status.eligible.store(is_eligible(new), Ordering::Relaxed);
            if moved(&stands, new)
                && let Some(services) = following.upgrade()
            {
                services.mark_all();
            }
        }));
        Self { services, node, place }
    }

    /// Waits until all is known.
    pub(crate) async fn synced(&self) {
        self.services.synced().await;
        self.node.synced().await;
    }

    /// Waits until a Service is marked.
    pub(crate) async fn changed(&self) {
        self.services.changed().await;
    }

    /// The Services marked since this was last asked.
    pub(crate) fn take(&self) -> BTreeSet<Key> {
        self.services.take()
    }

    /// What a Service is now; nothing, if it is gone, not ours or has no cluster address.
    pub(crate) fn read(&self, key: &str) -> Picture {
        let ours = |service: &Object| service.meta().labels.get(FOREIGN).is_none();
        let service = self.services.get(key).filter(ours).and_then(|service| decode::<Service>(&service));
        let Some(service) = service.filter(|service| !is_headless(service)) else {
            return Picture::default();
        };
        let slices: Vec<EndpointSlice> = self.services.slices(key).iter().filter_map(decode).collect();
        model::read(&service, &slices, &self.place.read())
    }
}

fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"))
}

/// Whether load balancers may send to this node, as far as is known.
fn is_eligible(node: Option<&Object>) -> bool {
    let Some(node) = node else { return true };
    let taints = decode::<Node>(node).and_then(|node| node.spec?.taints).unwrap_or_default();
    node.meta().deleted.is_none() && taints.iter().all(|taint| taint.key != GOING)
}

/// Takes in what the Node says of where we stand; whether that is news.
fn moved(place: &RwLock<Place>, node: Option<&Object>) -> bool {
    let Some(node) = node else { return false };
    let zone = node.meta().labels.get(ZONE).map(|zone| zone.to_string()).unwrap_or_default();
    let listed = decode::<Node>(node).and_then(|node| node.status?.addresses).unwrap_or_default();
    let addresses = listed.iter().filter_map(|address| address.address.parse().ok()).collect();
    let mut place = place.write();
    let now = Place { node: place.node.clone(), zone, addresses };
    let news = *place != now;
    *place = now;
    news
}

fn decode<T: Kind>(object: &Object) -> Option<T> {
    typed::decode(object)
        .inspect_err(|error| tracing::warn!(%error, object = object.meta().key(), "unreadable object"))
        .ok()
}
