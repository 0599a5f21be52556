//! EndpointSlices of hand-made Endpoints: what people write in the older form is mirrored into the newer one, which proxies
//! and DNS read.
//!
//! Only Endpoints of a Service without a selector are mirrored, unless they are labelled not to be or serve for leader
//! election.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use tiphys_api::{Meta, Object, Status};
use tiphys_client::typed::{Kind, decode};
use tiphys_client::{Client, Informer, WorkQueue};

use super::slices::{self, Frame, Plan};
use super::view::{Family, Group};
use super::{STALE_PAUSE, write_slices};
use crate::context::{Context, Key, Outcome, enqueue_all};
use crate::recent::Recent;

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Addresses of a subset that are mirrored.
const MAX: usize = 1000;

struct Controller {
    client: Arc<dyn Client>,
    services: Arc<Informer>,
    endpoints: Arc<Informer>,
    slices: Arc<Informer>,
    recent: Recent,
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let controller = Arc::new(Controller {
        client: context.client("endpointslicemirroring-controller"),
        services: context.informer(&Service::GVR),
        endpoints: context.informer(&Endpoints::GVR),
        slices: context.informer(&EndpointSlice::GVR),
        recent: Recent::default(),
    });
    let queue = WorkQueue::named("endpoint_slice_mirroring");
    enqueue_all(&controller.services, &queue);
    enqueue_all(&controller.endpoints, &queue);
    let to = queue.clone();
    controller.slices.on_change(Box::new(move |old, new| {
        for meta in [old, new].into_iter().flatten().map(Object::meta).filter(|meta| ours(meta)) {
            if let Some(service) = meta.labels.get(slices::SERVICE_NAME) {
                to.add(Key::new(&meta.namespace, service));
            }
        }
    }));
    let informers = [&controller.services, &controller.endpoints, &controller.slices].map(Arc::clone);
    let reconcile = move |key: Key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    };
    context.work(queue, context.config.workers, &informers.each_ref(), reconcile).await;
}

fn ours(meta: &Meta) -> bool {
    meta.labels.get(slices::MANAGED_BY) == Some(MANAGER)
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        let typed = |object: Object| decode::<Endpoints>(&object).map_err(Status::internal);
        let endpoints = self.endpoints.get(&key.namespace, &key.name).map(typed).transpose()?;
        let service = self.services.get(&key.namespace, &key.name);
        let service = service.map(|s| decode::<Service>(&s).map_err(Status::internal)).transpose()?;
        let uid = endpoints.as_ref().map(|endpoints| endpoints.uid().to_owned()).unwrap_or_default();
        if !self.recent.fresh(&uid, self.slices.revision()) {
            return Ok(Some(STALE_PAUSE));
        }
        let of_service = |slice: &Object| {
            let meta = slice.meta();
            ours(meta) && meta.deleted.is_none() && meta.labels.get(slices::SERVICE_NAME) == Some(&*key.name)
        };
        let existing = self.slices.filter(&key.namespace, of_service);
        let existing: Result<Vec<EndpointSlice>, _> = existing.iter().map(decode).collect();
        let plan = plan(endpoints.as_ref(), service.as_ref(), existing.map_err(Status::internal)?);
        write_slices(&self.client, &self.recent, &uid, &key.namespace, plan).await?;
        Ok(None)
    }
}

fn plan(endpoints: Option<&Endpoints>, service: Option<&Service>, existing: Vec<EndpointSlice>) -> Plan {
    match (endpoints, service) {
        (Some(endpoints), Some(service)) if is_mirrored(endpoints, service) => {
            slices::fill(&frame(endpoints), groups(endpoints), existing)
        }
        // Slices whose Endpoints are gone go by their owner reference, too.
        _ => Plan { delete: existing, ..Plan::default() },
    }
}

fn is_mirrored(endpoints: &Endpoints, service: &Service) -> bool {
    let meta = &endpoints.metadata;
    let skips = meta.labels.as_ref().is_some_and(|l| l.get(SKIP).map(String::as_str) == Some("true"));
    let leads = meta.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(LEADER));
    let selects =
        service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).is_some_and(|s| !s.is_empty());
    !skips && !leads && !selects && meta.deletion_timestamp.is_none()
}

fn frame(endpoints: &Endpoints) -> Frame {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(slices::SERVICE_NAME.into(), endpoints.name().into());
    labels.insert(slices::MANAGED_BY.into(), MANAGER.into());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.remove(LAST_APPLIED);
    Frame {
        labels,
        annotations: Some(annotations),
        name: endpoints.name().to_owned(),
        namespace: endpoints.metadata.namespace.clone(),
        owner: endpoints.controller_reference(),
    }
}

/// The addresses of each subset, by family.
fn groups(endpoints: &Endpoints) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports = ports(subset);
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let others = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for (address, ready) in ready.chain(others).take(MAX) {
            let Some(family) = family(address) else { continue };
            let same = |group: &&mut Group| group.family == family && group.ports == ports;
            let endpoint = endpoint(address, ready);
            match groups.iter_mut().find(same) {
                Some(group) => group.endpoints.push(endpoint),
                None => groups.push(Group { family, ports: ports.clone(), endpoints: vec![endpoint] }),
            }
        }
    }
    groups
}

fn family(address: &EndpointAddress) -> Option<Family> {
    match address.ip.parse().ok()? {
        IpAddr::V4(_) => Some("IPv4"),
        IpAddr::V6(_) => Some("IPv6"),
    }
}

fn ports(subset: &EndpointSubset) -> Vec<EndpointPort> {
    let port = |port: &k8s_openapi::api::core::v1::EndpointPort| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
        app_protocol: port.app_protocol.clone(),
    };
    subset.ports.iter().flatten().map(port).collect()
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests {
    use tiphys_api::json;
    use tiphys_client::fake::FakeClient;

    use super::*;
    use crate::testing::{Cluster, typed};

    #[tokio::test(start_paused = true)]
    async fn hand_made_endpoints_are_mirrored_and_follow_changes() {
        let client = FakeClient::new();
        let service = json!({"metadata": {"name": "db", "namespace": "n"}, "spec": {"ports": [{"port": 1}]}});
        client.put(&typed::<Service>(service));
        let endpoints = |ready: tiphys_api::Value| {
            let subset = json!({"addresses": ready, "notReadyAddresses": [{"ip": "fd00::1"}],
                "ports": [{"name": "p", "port": 5432}]});
            typed::<Endpoints>(json!({"metadata": {"name": "db", "namespace": "n", "labels": {"a": "b"}},
                "subsets": [subset]}))
        };
        client.put(&endpoints(json!([{"ip": "192.0.2.1"}, {"ip": "192.0.2.2", "hostname": "x"}])));
        let cluster = Cluster::start(client.clone());
        cluster.settle().await;
        let slices = || client.all::<EndpointSlice>("n");
        let families = |slices: &[EndpointSlice]| -> Vec<(String, usize)> {
            let count = |s: &EndpointSlice| s.endpoints.iter().flatten().count();
            let mut all: Vec<_> = slices.iter().map(|s| (s.address_type.clone(), count(s))).collect();
            all.sort();
            all
        };
        assert_eq!(families(&slices()), [("IPv4".into(), 2), ("IPv6".into(), 1)]);
        let labels = slices()[0].metadata.labels.clone().unwrap();
        assert_eq!((labels[slices::MANAGED_BY].as_str(), labels["a"].as_str()), (MANAGER, "b"));
        let writes = client.writes();
        cluster.settle().await;
        assert_eq!(client.writes(), writes);
        client.put(&endpoints(json!([{"ip": "192.0.2.2"}])));
        cluster.settle().await;
        assert_eq!(families(&slices()), [("IPv4".into(), 1), ("IPv6".into(), 1)]);
        // With a selector, the Endpoints are the controller's.
        let service = json!({"metadata": {"name": "db", "namespace": "n"}, "spec": {"selector": {"a": "b"}}});
        client.put(&typed::<Service>(service));
        cluster.settle().await;
        let mirrored = slices()
            .iter()
            .filter(|s| s.metadata.labels.as_ref().unwrap()[slices::MANAGED_BY] == MANAGER)
            .count();
        assert_eq!(mirrored, 0);
    }
}
