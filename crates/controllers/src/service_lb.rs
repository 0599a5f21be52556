//! The built-in load balancer: Services of type LoadBalancer get the addresses of the Ready nodes, whose proxies take their
//! ports in. Where there is no cloud, that makes them reachable from outside.
//!
//! - A Service that names a `loadBalancerClass` is another's.
//! - With `externalTrafficPolicy: Local` it gets only those of nodes that have ready endpoints of it: the others would drop
//!   what comes.
//! - A port of the nodes is given once: who has it keeps it, and a free one goes to the oldest Service that asks for it and
//!   could have all its ports. The others wait, and an event says for whom. Age alone would not do: creation times are whole
//!   seconds, so that of two Services of one second the later could take the port of the earlier away.
//! - After a start, the Services' statuses tell who has what: one that was without addresses then has nothing.
//! - The ports of the API server and of the kubelets are never given.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Node, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::RwLock;
use tiphys_api::{Object, json};
use tiphys_client::typed::{Kind, decode};
use tiphys_client::{Client, Informer, PatchKind, Recorder, Target, WorkQueue, WriteOptions};

use crate::context::{Context, Key, Outcome, ignore_not_found};

/// Label of nodes that load balancers leave out.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// Label that says which Service a slice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The reason of events, as the cloud controllers' is.
const FAILED: &str = "SyncLoadBalancerFailed";

/// A protocol and port of the nodes.
type NodePort = (String, i32);

/// What a Service asks of the nodes, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    /// Creation time and uid: the order in which Services come.
    since: (String, String),
    ports: BTreeSet<NodePort>,
    /// Those of them that it has: all, unless it is refused.
    given: BTreeSet<NodePort>,
    /// Whether its traffic must stay on the node where it came in.
    local: bool,
}

type Claims = RwLock<BTreeMap<Key, Claim>>;

struct Controller {
    client: Arc<dyn Client>,
    recorder: Recorder,
    services: Arc<Informer>,
    nodes: Arc<Informer>,
    slices: Arc<Informer>,
    claims: Arc<Claims>,
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let client = context.client("service-controller");
    let queue = Arc::new(WorkQueue::new());
    let controller = Arc::new(Controller {
        recorder: context.recorder(&client, "service-controller"),
        client,
        services: context.informer(&Service::GVR),
        nodes: context.informer(&Node::GVR),
        slices: context.informer(&EndpointSlice::GVR),
        claims: Arc::default(),
    });
    let (to, claims) = (queue.clone(), controller.claims.clone());
    controller.services.on_change(Box::new(move |old, new| {
        let Some(object) = new.or(old) else { return };
        let claim = new.and_then(|new| decode(new).ok()).and_then(|service| claim(&service));
        let changed = note(&claims, Key::of(object), claim);
        to.add(Key::of(object));
        if changed {
            claims.read().keys().for_each(|key| to.add(key.clone()));
        }
    }));
    let (to, claims) = (queue.clone(), controller.claims.clone());
    controller.nodes.on_change(Box::new(move |old, new| {
        let facts = |node: Option<&Object>| node.and_then(|node| decode(node).ok()).map(|node| facts(&node));
        if !claims.read().is_empty() && facts(old) != facts(new) {
            claims.read().keys().for_each(|key| to.add(key.clone()));
        }
    }));
    let (to, claims) = (queue.clone(), controller.claims.clone());
    controller.slices.on_change(Box::new(move |old, new| {
        for key in [old, new].into_iter().flatten().filter_map(service_of) {
            if claims.read().get(&key).is_some_and(|claim| claim.local) {
                to.add(key);
            }
        }
    }));
    let informers = [&controller.services, &controller.nodes, &controller.slices].map(Arc::clone);
    let reconcile = move |key: Key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    };
    context.work(queue, context.config.workers, &informers.each_ref(), reconcile).await;
}

/// The Service that a slice belongs to.
fn service_of(slice: &Object) -> Option<Key> {
    let meta = slice.meta();
    meta.labels.get(SERVICE_NAME).map(|service| Key::new(&meta.namespace, service))
}

/// Keeps a Service's claim; whether it is another than before. What is remembered to be given counts, not what the Service's
/// status says, which may be older than that.
fn note(claims: &Claims, key: Key, claim: Option<Claim>) -> bool {
    let mut claims = claims.write();
    let Some(mut claim) = claim else { return claims.remove(&key).is_some() };
    match claims.get(&key).filter(|known| known.since == claim.since) {
        Some(known) => claim.given = claim.ports.intersection(&known.given).cloned().collect(),
        None => claims.values().for_each(|other| claim.given.retain(|port| !other.given.contains(port))),
    }
    claims.insert(key, claim.clone()) != Some(claim)
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        let Some(object) = self.services.get(&key.namespace, &key.name) else { return Ok(None) };
        let Ok(service) = decode::<Service>(&object) else { return Ok(None) };
        let Some(spec) = service.spec.as_ref().filter(|spec| spec.load_balancer_class.is_none()) else {
            return Ok(None);
        };
        let now = service.status.as_ref().and_then(|s| s.load_balancer.as_ref()?.ingress.clone());
        let now = now.unwrap_or_default();
        if !is_balanced(spec) && now.is_empty() {
            return Ok(None);
        }
        let nodes: Vec<Facts> =
            self.nodes.list("").iter().filter_map(|node| Some(facts(&decode(node).ok()?))).collect();
        let refusal = self.decide(key, &self.reserved(&nodes));
        let wanted = match &refusal {
            None if is_balanced(spec) => ingress(spec, &self.takers(key, spec, nodes)),
            _ => Vec::new(),
        };
        if now != wanted {
            let ingress = Some(wanted).filter(|wanted| !wanted.is_empty());
            let body = json!({"status": {"loadBalancer": {"ingress": ingress}}}).to_string();
            let target = Target::new(&Service::GVR, &key.namespace, &key.name).sub("status");
            let patched =
                self.client.patch(&target, PatchKind::Merge, body.into(), &WriteOptions::default()).await;
            ignore_not_found(patched.map(drop))?;
        }
        if let Some(refusal) = refusal {
            let message = format!("Error syncing load balancer: {refusal}");
            self.recorder.event(&service.reference(), "Warning", FAILED, message);
        }
        Ok(None)
    }

    /// Gives a Service its ports, or says why it cannot have them. What it has it keeps until it asks for it no more.
    fn decide(&self, key: &Key, reserved: &BTreeSet<NodePort>) -> Option<String> {
        let mut claims = self.claims.write();
        let refusal = refusal(key, &claims, reserved);
        let claim = claims.get_mut(key)?;
        if refusal.is_none() {
            claim.given = claim.ports.clone();
        }
        refusal
    }

    /// The nodes that take a Service's traffic in.
    fn takers(&self, key: &Key, spec: &ServiceSpec, mut nodes: Vec<Facts>) -> Vec<Facts> {
        if is_local(spec) {
            let own = |slice: &Object| service_of(slice).as_ref() == Some(key);
            let slices = self.slices.filter(&key.namespace, own);
            let slices = slices.iter().filter_map(|slice| decode::<EndpointSlice>(slice).ok());
            let ready: BTreeSet<String> = slices.flat_map(|slice| ready_nodes(&slice)).collect();
            nodes.retain(|node| ready.contains(&node.name));
        }
        nodes
    }

    /// Ports on which the cluster itself listens.
    fn reserved(&self, nodes: &[Facts]) -> BTreeSet<NodePort> {
        let api =
            self.slices.get("default", "kubernetes").and_then(|slice| decode::<EndpointSlice>(&slice).ok());
        let api = api.and_then(|slice| slice.ports).into_iter().flatten().filter_map(|port| port.port);
        nodes.iter().filter_map(|node| node.kubelet).chain(api).map(|port| ("TCP".to_owned(), port)).collect()
    }
}

fn is_balanced(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("LoadBalancer") && spec.load_balancer_class.is_none()
}

fn is_local(spec: &ServiceSpec) -> bool {
    spec.external_traffic_policy.as_deref() == Some("Local")
}

/// The nodes of a slice's ready endpoints.
fn ready_nodes(slice: &EndpointSlice) -> Vec<String> {
    let all = slice.endpoints.iter().flatten();
    let ready = all.filter(|endpoint| endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true));
    ready.filter_map(|endpoint| endpoint.node_name.clone()).collect()
}

/// What a Service asks for, if it is one of ours.
fn claim(service: &Service) -> Option<Claim> {
    let spec = service.spec.as_ref().filter(|spec| is_balanced(spec))?;
    let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string());
    let port = |port: &k8s_openapi::api::core::v1::ServicePort| {
        (port.protocol.clone().unwrap_or_else(|| "TCP".into()), port.port)
    };
    let ports: BTreeSet<NodePort> = spec.ports.iter().flatten().map(port).collect();
    let ingress = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    let has = ingress.is_some_and(|ingress| !ingress.is_empty());
    Some(Claim {
        since: (created.unwrap_or_default(), service.uid().to_owned()),
        given: if has { ports.clone() } else { BTreeSet::new() },
        ports,
        local: is_local(spec),
    })
}

/// Why a Service cannot have its ports.
fn refusal(key: &Key, claims: &BTreeMap<Key, Claim>, reserved: &BTreeSet<NodePort>) -> Option<String> {
    let own = claims.get(key)?;
    if let Some((protocol, port)) = own.ports.intersection(reserved).next() {
        return Some(format!("port {port}/{protocol} of the nodes is the cluster's own"));
    }
    let given = claims.iter().flat_map(|(key, claim)| claim.given.iter().map(move |port| (port, key)));
    let holders: BTreeMap<&NodePort, &Key> = given.collect();
    let held = |key: &Key, claim: &Claim| {
        let mut ports =
            claim.ports.iter().filter_map(|port| Some((port.clone(), (*holders.get(port)?).clone())));
        ports.find(|(_, holder)| holder != key)
    };
    let taken = held(key, own).or_else(|| {
        // A free port is for the oldest who could have all that it asks for.
        let able = |(other_key, other): &(&Key, &Claim)| {
            other.since < own.since && other.ports.is_disjoint(reserved) && held(other_key, other).is_none()
        };
        claims.iter().filter(able).find_map(|(other_key, other)| {
            let mut common = own.ports.intersection(&other.ports);
            Some((common.find(|port| !own.given.contains(*port))?.clone(), other_key.clone()))
        })
    });
    let ((protocol, port), holder) = taken?;
    Some(format!("port {port}/{protocol} of the nodes is taken by Service {holder}"))
}

/// What matters of a node.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    name: String,
    /// Where it is reached from outside; empty while it is to get nothing.
    addresses: Vec<IpAddr>,
    kubelet: Option<i32>,
}

fn facts(node: &Node) -> Facts {
    let status = node.status.clone().unwrap_or_default();
    let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    let excluded = node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(EXCLUDED));
    let of = |sort: &str| -> Vec<IpAddr> {
        let listed = status.addresses.iter().flatten().filter(|address| address.type_ == sort);
        listed.filter_map(|address| address.address.parse().ok()).collect()
    };
    let mut addresses = of("ExternalIP");
    if addresses.is_empty() {
        addresses = of("InternalIP");
    }
    if !ready || excluded {
        addresses.clear();
    }
    let kubelet = status.daemon_endpoints.and_then(|endpoints| endpoints.kubelet_endpoint).map(|e| e.port);
    Facts { name: node.metadata.name.clone().unwrap_or_default(), addresses, kubelet }
}

/// The addresses that a Service of these families gets.
fn ingress(spec: &ServiceSpec, nodes: &[Facts]) -> Vec<LoadBalancerIngress> {
    let families = spec.ip_families.clone().unwrap_or_default();
    let wanted = |ip: &&IpAddr| {
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        families.is_empty() || families.iter().any(|f| f == family)
    };
    let addresses: BTreeSet<&IpAddr> = nodes.iter().flat_map(|node| &node.addresses).filter(wanted).collect();
    let point = |ip: &IpAddr| LoadBalancerIngress {
        ip: Some(ip.to_string()),
        ip_mode: Some("VIP".into()),
        ..LoadBalancerIngress::default()
    };
    addresses.into_iter().map(point).collect()
}

#[cfg(test)]
mod tests {
    use tiphys_client::fake::FakeClient;

    use super::*;
    use crate::testing::{Cluster, typed};

    fn service(name: &str, created: &str, port: i32, more: &tiphys_api::Value) -> Service {
        let mut service: Service = typed(json!({
            "metadata": {"namespace": "n", "name": name, "uid": name, "creationTimestamp": created},
            "spec": {"type": "LoadBalancer", "ports": [{"port": port}], "ipFamilies": ["IPv4"]}}));
        let spec = service.spec.as_mut().unwrap();
        spec.load_balancer_class = more["class"].as_str().map(str::to_owned);
        spec.external_traffic_policy = more["policy"].as_str().map(str::to_owned);
        service
    }

    fn slice(service: &str, endpoints: &[(&str, bool)]) -> EndpointSlice {
        let endpoint = |(node, ready): &(&str, bool)| json!({"addresses": ["10.0.0.1"], "nodeName": node, "conditions": {"ready": ready}});
        let endpoints: Vec<_> = endpoints.iter().map(endpoint).collect();
        typed(json!({"metadata": {"namespace": "n", "name": service, "labels": {SERVICE_NAME: service}},
            "addressType": "IPv4", "endpoints": endpoints}))
    }

    fn node(name: &str, address: &str, ready: &str) -> Node {
        typed(json!({"metadata": {"name": name}, "status": {
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "InternalIP", "address": "fd00::1"}],
            "conditions": [{"type": "Ready", "status": ready}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}}))
    }

    fn given(cluster: &Cluster, name: &str) -> String {
        let status = cluster.client.find::<Service>("n", name).unwrap().status.unwrap_or_default();
        let points = status.load_balancer.and_then(|b| b.ingress).unwrap_or_default();
        points.into_iter().filter_map(|point| point.ip).collect::<Vec<_>>().join(" ")
    }

    #[tokio::test(start_paused = true)]
    async fn services_get_the_ready_nodes_addresses_and_ports_once() {
        let client = FakeClient::new();
        client.put(&node("a", "192.0.2.1", "True"));
        client.put(&node("b", "192.0.2.2", "False"));
        let day = |day: u8| format!("2026-01-0{day}T00:00:00Z");
        client.put(&service("first", &day(1), 80, &json!({})));
        client.put(&service("second", &day(2), 80, &json!({})));
        client.put(&service("kubelet", &day(1), 10250, &json!({})));
        client.put(&service("foreign", &day(1), 81, &json!({"class": "x/y"})));
        let cluster = Cluster::start(client);
        cluster.settle().await;
        let all = || ["first", "second", "kubelet", "foreign"].map(|name| given(&cluster, name));
        assert_eq!(all(), ["192.0.2.1", "", "", ""]);
        let events = cluster.events().join("\n");
        assert!(events.contains("SyncLoadBalancerFailed: Error syncing load balancer: port 80/TCP of the nodes is taken by Service n/first"), "{events}");
        assert!(events.contains("10250/TCP of the nodes is the cluster's own"), "{events}");
        cluster.client.put(&node("b", "192.0.2.2", "True"));
        cluster.client.remove(&Service::GVR, "n", "first");
        cluster.settle().await;
        assert_eq!(given(&cluster, "second"), "192.0.2.1 192.0.2.2");
        let mut plain = cluster.client.find::<Service>("n", "second").unwrap();
        plain.spec.as_mut().unwrap().type_ = Some("ClusterIP".into());
        cluster.client.put(&plain);
        cluster.settle().await;
        assert_eq!(given(&cluster, "second"), "");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_a_port_keeps_it() {
        let client = FakeClient::new();
        client.put(&node("a", "192.0.2.1", "True"));
        let second = "2026-01-02T00:00:00Z";
        client.put(&service("m", second, 80, &json!({})));
        let cluster = Cluster::start(client);
        cluster.settle().await;
        let all = || ["a", "m", "z"].map(|name| given(&cluster, name));
        // Of the same second, one sorts before and one after; and one is older, but came to the port later.
        for name in ["a", "z"] {
            cluster.client.put(&service(name, second, 80, &json!({})));
        }
        cluster.settle().await;
        assert_eq!(all(), ["", "192.0.2.1", ""]);
        cluster.client.put(&service("old", "2026-01-01T00:00:00Z", 81, &json!({})));
        cluster.settle().await;
        cluster.client.put(&service("old", "2026-01-01T00:00:00Z", 80, &json!({})));
        cluster.settle().await;
        assert_eq!(given(&cluster, "old"), "");
        assert_eq!(all(), ["", "192.0.2.1", ""]);
        // What old no longer has, another may have; and a free port goes to the oldest.
        cluster.client.put(&service("other", second, 81, &json!({})));
        cluster.client.remove(&Service::GVR, "n", "m");
        cluster.settle().await;
        assert_eq!(["old", "other"].map(|name| given(&cluster, name)), ["192.0.2.1", "192.0.2.1"]);
        assert_eq!(["a", "z"].map(|name| given(&cluster, name)), ["", ""]);
    }

    #[test]
    fn who_cannot_have_all_its_ports_keeps_none_from_others() {
        let ports =
            |ports: &[i32]| ports.iter().map(|port| ("TCP".to_owned(), *port)).collect::<BTreeSet<_>>();
        let claim = |since: &str, asked: &[i32], given: &[i32]| Claim {
            since: (since.into(), String::new()),
            ports: ports(asked),
            given: ports(given),
            local: false,
        };
        let mut claims = BTreeMap::from([
            (Key::new("n", "kubelet"), claim("1", &[80, 10250], &[])),
            (Key::new("n", "holder"), claim("3", &[443], &[443])),
            (Key::new("n", "waiting"), claim("2", &[80, 443], &[])),
            (Key::new("n", "young"), claim("4", &[80], &[])),
            (Key::new("n", "younger"), claim("5", &[80], &[])),
        ]);
        let refused = |claims: &BTreeMap<Key, Claim>, name: &str| {
            refusal(&Key::new("n", name), claims, &ports(&[10250])).unwrap_or_default()
        };
        assert_eq!(refused(&claims, "kubelet"), "port 10250/TCP of the nodes is the cluster's own");
        assert_eq!(refused(&claims, "waiting"), "port 443/TCP of the nodes is taken by Service n/holder");
        assert_eq!((refused(&claims, "holder"), refused(&claims, "young")), Default::default());
        assert_eq!(refused(&claims, "younger"), "port 80/TCP of the nodes is taken by Service n/young");
        // An edit that asks for more than there is loses nothing, and to take it back is enough.
        claims.insert(Key::new("n", "holder"), claim("3", &[443, 10250], &[443]));
        assert_eq!(refused(&claims, "waiting"), "port 443/TCP of the nodes is taken by Service n/holder");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_given_before_a_start_stays() {
        let client = FakeClient::new();
        client.put(&node("a", "192.0.2.1", "True"));
        let second = "2026-01-02T00:00:00Z";
        let mut holder = service("m", second, 80, &json!({}));
        holder.status =
            Some(typed(json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}})));
        client.put(&holder);
        client.put(&service("a", second, 80, &json!({})));
        let cluster = Cluster::start(client);
        cluster.settle().await;
        assert_eq!(["a", "m"].map(|name| given(&cluster, name)), ["", "192.0.2.1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn local_traffic_is_taken_in_where_ready_endpoints_are() {
        let client = FakeClient::new();
        client.put(&node("a", "192.0.2.1", "True"));
        client.put(&node("b", "192.0.2.2", "True"));
        client.put(&service("local", "2026-01-01T00:00:00Z", 80, &json!({"policy": "Local"})));
        client.put(&slice("local", &[("a", true), ("b", false)]));
        client.put(&slice("other", &[("b", true)]));
        let cluster = Cluster::start(client);
        cluster.settle().await;
        assert_eq!(given(&cluster, "local"), "192.0.2.1");
        for (endpoints, expected) in [
            (&[("a", false), ("b", true)][..], "192.0.2.2"),
            (&[("a", true), ("b", true)], "192.0.2.1 192.0.2.2"),
            (&[], ""),
        ] {
            cluster.client.put(&slice("local", endpoints));
            cluster.settle().await;
            assert_eq!(given(&cluster, "local"), expected);
        }
    }
}
