//! Services whose addresses or ports cannot be theirs, as a backup that was put back or an edit of the store leaves them: the
//! API server gives none twice and none out of its ranges. Nothing can be mended without breaking somebody's Service, so
//! people are told, in the words of kube-apiserver's repair controllers. (Its third duty, the bookkeeping of what is given,
//! does not exist here: the Services themselves are that.)

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use parking_lot::Mutex;
use serde::Deserialize;
use tiphys_api::Object;
use tiphys_client::typed::{Kind, reference};
use tiphys_client::{Informer, Recorder, WorkQueue};

use crate::context::{Context, Key, Outcome};
use crate::service_cidr::{addresses, cidrs};

/// What only one Service may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Address(IpAddr),
    NodePort(u16),
}

/// Who has it, the oldest first.
type Holders = BTreeMap<Thing, BTreeSet<(Option<Timestamp>, Key)>>;

#[derive(Default, Deserialize)]
#[serde(default)]
struct View {
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    ports: Option<Vec<Port>>,
    health_check_node_port: u16,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Port {
    node_port: u16,
}

/// All that a Service has of its own.
fn things(service: &Object) -> BTreeSet<Thing> {
    let spec = service.decode::<View>().unwrap_or_default().spec;
    let ports = spec.ports.iter().flatten().map(|port| port.node_port).chain([spec.health_check_node_port]);
    let ports = ports.filter(|port| *port > 0).map(Thing::NodePort);
    addresses(service).into_iter().map(Thing::Address).chain(ports).collect()
}

struct Controller {
    recorder: Recorder,
    services: Arc<Informer>,
    ranges: Arc<Informer>,
    holders: Mutex<Holders>,
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let client = context.client("service-cidrs-controller");
    let controller = Arc::new(Controller {
        recorder: context.recorder(&client, "ipallocator-repair-controller"),
        services: context.informer(&Service::GVR),
        ranges: context.informer(&ServiceCIDR::GVR),
        holders: Mutex::default(),
    });
    let queue = Arc::new(WorkQueue::new());
    let (weak, to) = (Arc::downgrade(&controller), queue.clone());
    controller.services.on_change(Box::new(move |old, new| {
        if let Some(controller) = weak.upgrade()
            && controller.note(old, new)
            && let Some(service) = new
        {
            to.add(Key::of(service));
        }
    }));
    let informers = [controller.services.clone(), controller.ranges.clone()];
    let reconcile = move |key: Key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key) }
    };
    context.work(queue, 1, &informers.each_ref(), reconcile).await;
}

impl Controller {
    /// Notes who has what from now on; false if nothing changed.
    fn note(&self, old: Option<&Object>, new: Option<&Object>) -> bool {
        let (before, now) = (old.map(things).unwrap_or_default(), new.map(things).unwrap_or_default());
        if before == now {
            return false;
        }
        let mut holders = self.holders.lock();
        for (service, gone) in old.into_iter().flat_map(|old| before.iter().map(move |thing| (old, thing))) {
            if let Some(of) = holders.get_mut(gone) {
                of.remove(&holder(service));
            }
            if holders.get(gone).is_some_and(BTreeSet::is_empty) {
                holders.remove(gone);
            }
        }
        for (service, thing) in new.into_iter().flat_map(|new| now.iter().map(move |thing| (new, thing))) {
            holders.entry(*thing).or_default().insert(holder(service));
        }
        true
    }

    fn reconcile(&self, key: &Key) -> Outcome {
        let Some(service) = self.services.get(&key.namespace, &key.name) else { return Ok(None) };
        let ranges = self.ranges.list("");
        let ranges: Vec<_> =
            ranges.iter().filter_map(|range| range.value().ok()).flat_map(|r| cidrs(&r)).collect();
        for thing in things(&service) {
            let inside = match thing {
                Thing::Address(address) => {
                    ranges.is_empty() || ranges.iter().any(|range| range.holds(&address))
                }
                Thing::NodePort(_) => true,
            };
            let first = self.holders.lock().get(&thing).and_then(|of| of.first().cloned());
            let ours = first.is_none_or(|(_, first)| first == *key);
            if let Some((reason, message)) = wrong(thing, ours, inside) {
                self.recorder.event(&reference(&Service::GVK, &service), "Warning", reason, message);
            }
        }
        Ok(None)
    }
}

fn holder(service: &Object) -> (Option<Timestamp>, Key) {
    (service.meta().created, Key::of(service))
}

/// What to tell about a thing, if something is wrong with it.
fn wrong(thing: Thing, ours: bool, inside: bool) -> Option<(&'static str, String)> {
    match thing {
        Thing::Address(address) if !inside => {
            let (family, why) = (family(&address), "is not within any configured Service CIDR");
            Some((
                "ClusterIPOutOfRange",
                format!("Cluster IP [{family}]: {address} {why}; please recreate service"),
            ))
        }
        Thing::Address(address) if !ours => {
            let (family, why) = (family(&address), "was assigned to multiple services");
            Some((
                "ClusterIPAlreadyAllocated",
                format!("Cluster IP [{family}]:{address} {why}; please recreate service"),
            ))
        }
        Thing::NodePort(port) if !ours => {
            let why = "was assigned to multiple services; please recreate service";
            Some(("PortAlreadyAllocated", format!("Port {port} {why}")))
        }
        _ => None,
    }
}

fn family(address: &IpAddr) -> &'static str {
    if address.is_ipv6() { "IPv6" } else { "IPv4" }
}

#[cfg(test)]
mod tests {
    use tiphys_api::json;
    use tiphys_client::fake::FakeClient;

    use super::*;
    use crate::testing::{Cluster, typed};

    #[tokio::test(start_paused = true)]
    async fn what_two_services_have_is_told_to_the_younger() {
        let client = FakeClient::new();
        client.put(&typed::<ServiceCIDR>(
            json!({"metadata": {"name": "r"}, "spec": {"cidrs": ["10.9.0.0/24"]}}),
        ));
        let put = |name: &str, second: u32, address: &str, port: u16| {
            let made = format!("2026-01-01T00:00:{second:02}Z");
            let ports = json!([{"port": 80, "nodePort": port}]);
            let service = json!({"metadata": {"name": name, "namespace": "n", "creationTimestamp": made},
                "spec": {"clusterIPs": [address], "ports": ports}});
            client.put(&typed::<Service>(service));
        };
        put("younger", 2, "10.9.0.7", 30_080);
        put("older", 1, "10.9.0.7", 30_080);
        put("stray", 3, "10.8.0.1", 30_081);
        let cluster = Cluster::start(client.clone());
        cluster.settle().await;
        let told = || {
            let mut all = client.all::<k8s_openapi::api::core::v1::Event>("n");
            all.retain(|event| {
                event.source.as_ref().is_some_and(|source| {
                    source.component.as_deref() == Some("ipallocator-repair-controller")
                })
            });
            let text = |e: k8s_openapi::api::core::v1::Event| {
                format!("{} {}", e.involved_object.name.unwrap(), e.message.unwrap())
            };
            let mut all: Vec<String> = all.into_iter().map(text).collect();
            all.sort();
            all
        };
        assert_eq!(
            told(),
            [
                "stray Cluster IP [IPv4]: 10.8.0.1 is not within any configured Service CIDR; please recreate service",
                "younger Cluster IP [IPv4]:10.9.0.7 was assigned to multiple services; please recreate service",
                "younger Port 30080 was assigned to multiple services; please recreate service",
            ]
        );
        client.remove(&Service::GVR, "n", "older");
        put("younger", 2, "10.9.0.7", 30_082);
        cluster.settle().await;
        assert_eq!(told().len(), 3, "it has them alone now");
    }
}
