//! Services and their endpoints as packet rules need them, read from the API's objects. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tiphys_network::command::Family;

use crate::endpoints::{Candidate, choose};

/// Seconds of session affinity where none are given.
const AFFINITY_SECONDS: i32 = 10_800;

/// Where this proxy stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Name of the node.
    pub node: String,
    /// The node's zone; empty when it has none.
    pub zone: String,
    /// The node's own addresses.
    pub addresses: BTreeSet<IpAddr>,
}

/// Where a packet can be sent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Address of the pod.
    pub ip: IpAddr,
    /// Port of the pod.
    pub port: u16,
    /// Whether it is on this node.
    pub local: bool,
}

/// One port of a Service in one address family, with everything that leads to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// `namespace/name:port`, as comments show it.
    pub name: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// Port on the Service's addresses.
    pub port: u16,
    /// The cluster address.
    pub cluster_ip: IpAddr,
    /// `externalIPs`.
    pub external_ips: BTreeSet<IpAddr>,
    /// Addresses of a load balancer that sends packets on as they are.
    pub balancer_ips: BTreeSet<IpAddr>,
    /// Who may come through the load balancer, as `address/bits`; empty for all.
    pub source_ranges: Vec<String>,
    /// Whether this node itself is among them.
    pub node_may: bool,
    /// Port on every node; 0 for none.
    pub node_port: u16,
    /// Seconds for which a client stays with its endpoint; `None` without affinity.
    pub affinity_seconds: Option<i32>,
    /// Where traffic goes that may go anywhere.
    pub cluster: BTreeSet<Endpoint>,
    /// Where traffic goes that must stay on this node; empty if no policy asks for it.
    pub local: BTreeSet<Endpoint>,
    /// Whether any endpoint of the cluster could answer: if so, what finds none here is dropped, else refused.
    pub any: bool,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`, which also keeps the source address.
    pub external_local: bool,
}

impl Port {
    /// Where traffic to the cluster address goes.
    pub fn inside(&self) -> &BTreeSet<Endpoint> {
        if self.internal_local { &self.local } else { &self.cluster }
    }

    /// Where traffic from outside the cluster goes.
    pub fn outside(&self) -> &BTreeSet<Endpoint> {
        if self.external_local { &self.local } else { &self.cluster }
    }

    /// All that any traffic may reach.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.cluster.iter().chain(&self.local)
    }
}

/// What a load balancer is told at `healthCheckNodePort`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The port.
    pub port: u16,
    /// Ready endpoints on this node.
    pub local_endpoints: usize,
}

/// One Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Its ports, each once in each of its address families.
    pub ports: Vec<Port>,
    /// Where its health is told, if a load balancer asks for it.
    pub health: Option<Health>,
}

/// Reads one Service with its slices. Headless and external-name Services have no ports.
pub fn read(service: &Service, slices: &[EndpointSlice], place: &Place) -> Picture {
    let Some(spec) = &service.spec else { return Picture::default() };
    if spec.type_.as_deref() == Some("ExternalName") {
        return Picture::default();
    }
    let candidates = candidates(slices, place);
    let mut ports = Vec::new();
    for cluster_ip in cluster_ips(spec) {
        let family = Family::of(cluster_ip);
        let frame = frame(service, spec, cluster_ip, place);
        ports.extend(spec.ports.iter().flatten().filter_map(|port| {
            let name = port.name.clone().unwrap_or_default();
            let protocol = protocol(port.protocol.as_deref())?;
            let found = candidates.get(&(family, protocol, name));
            complete(&frame, port, protocol, found.map(Vec::as_slice).unwrap_or_default(), place)
        }));
    }
    Picture { health: health(spec, &candidates), ports }
}

type Candidates = BTreeMap<(Family, &'static str, String), Vec<Candidate>>;

fn cluster_ips(spec: &ServiceSpec) -> Vec<IpAddr> {
    let listed = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let parsed: BTreeSet<IpAddr> = listed.filter_map(|ip| ip.parse().ok()).collect();
    parsed.into_iter().collect()
}

/// What all ports of a Service have in common.
fn frame(service: &Service, spec: &ServiceSpec, cluster_ip: IpAddr, place: &Place) -> Port {
    let family = Family::of(cluster_ip);
    let meta = &service.metadata;
    let local_only = |policy: &Option<String>| policy.as_deref() == Some("Local");
    let (namespace, name) =
        (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    let source_ranges = source_ranges(service, spec, family);
    let allowed = |ip: &IpAddr| source_ranges.iter().any(|(base, bits)| inside(*ip, *base, *bits));
    Port {
        name: format!("{namespace}/{name}"),
        protocol: "",
        port: 0,
        cluster_ip,
        external_ips: of_family(spec.external_ips.iter().flatten(), family),
        balancer_ips: of_family(balancer(service).iter(), family),
        node_may: place.addresses.iter().any(allowed),
        source_ranges: source_ranges.iter().map(|(base, bits)| format!("{base}/{bits}")).collect(),
        node_port: 0,
        affinity_seconds: affinity(spec),
        cluster: BTreeSet::new(),
        local: BTreeSet::new(),
        any: false,
        internal_local: local_only(&spec.internal_traffic_policy),
        external_local: local_only(&spec.external_traffic_policy),
    }
}

fn complete(
    frame: &Port,
    port: &ServicePort,
    protocol: &'static str,
    found: &[Candidate],
    place: &Place,
) -> Option<Port> {
    let node_port = port.node_port.and_then(|p| u16::try_from(p).ok()).unwrap_or(0);
    let mut whole = Port { protocol, node_port, port: u16::try_from(port.port).ok()?, ..frame.clone() };
    if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
        whole.name = format!("{}:{name}", frame.name);
    }
    let external = node_port != 0 || !frame.external_ips.is_empty() || !frame.balancer_ips.is_empty();
    let chosen = choose(found, place);
    // Where external traffic must stay local, the node's own and its pods' may still go anywhere.
    if !frame.internal_local || external {
        whole.cluster = chosen.cluster;
    }
    if frame.internal_local || (frame.external_local && external) {
        whole.local = chosen.local;
    }
    whole.any = chosen.any;
    Some(whole)
}

fn affinity(spec: &ServiceSpec) -> Option<i32> {
    (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
        config.and_then(|c| c.timeout_seconds).unwrap_or(AFFINITY_SECONDS)
    })
}

/// Addresses of the load balancer, unless it makes connections of its own (`ipMode: Proxy`).
fn balancer(service: &Service) -> Vec<String> {
    if service.spec.as_ref().and_then(|s| s.type_.as_deref()) != Some("LoadBalancer") {
        return Vec::new();
    }
    let status = service.status.as_ref().and_then(|s| s.load_balancer.as_ref()?.ingress.as_ref());
    let direct = status.into_iter().flatten().filter(|i| i.ip_mode.as_deref() != Some("Proxy"));
    direct.filter_map(|ingress| ingress.ip.clone()).collect()
}

fn of_family<'a>(texts: impl Iterator<Item = &'a String>, family: Family) -> BTreeSet<IpAddr> {
    texts.filter_map(|ip| ip.parse().ok()).filter(|ip| Family::of(*ip) == family).collect()
}

/// Ranges that may come through the load balancer: the field's, else the old annotation's.
fn source_ranges(service: &Service, spec: &ServiceSpec, family: Family) -> Vec<(IpAddr, u8)> {
    const ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let listed = spec.load_balancer_source_ranges.clone().unwrap_or_default();
    let annotated = service.metadata.annotations.as_ref().and_then(|a| a.get(ANNOTATION));
    let texts = match annotated {
        Some(text) if listed.is_empty() => text.split(',').map(str::to_owned).collect(),
        _ => listed,
    };
    texts.iter().filter_map(|text| range(text)).filter(|(base, _)| Family::of(*base) == family).collect()
}

fn range(text: &str) -> Option<(IpAddr, u8)> {
    let (base, bits) = text.trim().split_once('/')?;
    let base: IpAddr = base.parse().ok()?;
    let most = if base.is_ipv4() { 32 } else { 128 };
    Some((base, bits.parse().ok().filter(|bits| *bits <= most)?))
}

fn inside(ip: IpAddr, base: IpAddr, bits: u8) -> bool {
    match (ip, base) {
        (IpAddr::V4(ip), IpAddr::V4(base)) => {
            let shift = 32 - u32::from(bits);
            u32::from(ip).checked_shr(shift) == u32::from(base).checked_shr(shift)
        }
        (IpAddr::V6(ip), IpAddr::V6(base)) => {
            let shift = 128 - u32::from(bits);
            u128::from(ip).checked_shr(shift) == u128::from(base).checked_shr(shift)
        }
        _ => false,
    }
}

fn protocol(text: Option<&str>) -> Option<&'static str> {
    match text.unwrap_or("TCP") {
        "TCP" => Some("tcp"),
        "UDP" => Some("udp"),
        "SCTP" => Some("sctp"),
        _ => None,
    }
}

/// Endpoints of every port over all slices of a Service.
fn candidates(slices: &[EndpointSlice], place: &Place) -> Candidates {
    let mut found = Candidates::new();
    for slice in slices {
        let family = match slice.address_type.as_str() {
            "IPv4" => Family::V4,
            "IPv6" => Family::V6,
            _ => continue,
        };
        for port in slice.ports.iter().flatten() {
            let number = port.port.and_then(|p| u16::try_from(p).ok());
            let (Some(number), Some(protocol)) = (number, protocol(port.protocol.as_deref())) else {
                continue;
            };
            let key = (family, protocol, port.name.clone().unwrap_or_default());
            let read = |endpoint| Candidate::read(endpoint, number, place);
            found.entry(key).or_default().extend(slice.endpoints.iter().flatten().filter_map(read));
        }
    }
    found
}

fn health(spec: &ServiceSpec, candidates: &Candidates) -> Option<Health> {
    let port = spec.health_check_node_port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0)?;
    let ready = candidates.values().flatten().filter(|c| c.endpoint.local && c.ready);
    let local: BTreeSet<IpAddr> = ready.map(|c| c.endpoint.ip).collect();
    Some(Health { port, local_endpoints: local.len() })
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn service(spec: &Value) -> Service {
        let value = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "n", "name": "s"}, "spec": spec});
        serde_json::from_value(value).unwrap()
    }

    pub(crate) fn slice(endpoints: &Value) -> EndpointSlice {
        let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
        let value = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "s-1"},
            "addressType": "IPv4", "ports": ports, "endpoints": endpoints});
        serde_json::from_value(value).unwrap()
    }

    pub(crate) fn here() -> Place {
        Place {
            node: "here".into(),
            zone: "a".into(),
            addresses: BTreeSet::from(["192.0.2.1".parse().unwrap()]),
        }
    }

    /// The cluster's and this node's endpoints of the first port, as the end of their addresses.
    fn chosen(spec: &Value, endpoints: &Value) -> (String, String, bool) {
        let port = read(&service(spec), &[slice(endpoints)], &here()).ports.remove(0);
        let tell = |set: &BTreeSet<Endpoint>| {
            let last = |e: &Endpoint| e.ip.to_string().rsplit('.').next().unwrap().to_owned();
            set.iter().map(last).collect::<Vec<_>>().join(" ")
        };
        (tell(&port.cluster), tell(&port.local), port.any)
    }

    fn endpoint(last: u8, node: &str, more: &Value) -> Value {
        let mut endpoint = json!({"addresses": [format!("10.42.0.{last}")], "nodeName": node});
        endpoint.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        endpoint
    }

    const ENDING: fn() -> Value =
        || json!({"conditions": {"ready": false, "serving": true, "terminating": true}});
    const UNREADY: fn() -> Value = || json!({"conditions": {"ready": false}});

    #[test]
    fn ending_endpoints_serve_only_while_there_is_nothing_better() {
        let spec = json!({"clusterIP": "10.43.0.9", "ports": [{"name": "http", "port": 80}]});
        let (ending, ready) = (endpoint(2, "here", &ENDING()), endpoint(3, "here", &json!({})));
        let unready = endpoint(4, "here", &UNREADY());
        assert_eq!(chosen(&spec, &json!([ending, ready, unready])).0, "3");
        assert_eq!(chosen(&spec, &json!([ending, unready])).0, "2");
        assert_eq!(chosen(&spec, &json!([unready])), (String::new(), String::new(), false));
    }

    #[test]
    fn local_policies_keep_to_this_node() {
        let mut spec = json!({"clusterIP": "10.43.0.9", "externalTrafficPolicy": "Local",
            "ports": [{"name": "http", "port": 80, "nodePort": 30080}]});
        let (here, there) = (endpoint(2, "here", &json!({})), endpoint(3, "there", &json!({})));
        assert_eq!(chosen(&spec, &json!([here, there])), ("2 3".into(), "2".into(), true));
        // An ending pod of this node goes before a ready one of another.
        let ending = endpoint(4, "here", &ENDING());
        assert_eq!(chosen(&spec, &json!([ending, there])), ("3".into(), "4".into(), true));
        spec = json!({"clusterIP": "10.43.0.9", "internalTrafficPolicy": "Local", "ports": [{"name": "http", "port": 80}]});
        assert_eq!(chosen(&spec, &json!([there])), (String::new(), String::new(), true));
    }

    #[test]
    fn hints_count_when_every_ready_endpoint_has_them() {
        let spec = json!({"clusterIP": "10.43.0.9", "ports": [{"name": "http", "port": 80}]});
        let zone =
            |last, zone: &str| endpoint(last, "there", &json!({"hints": {"forZones": [{"name": zone}]}}));
        let node = |last, node: &str| {
            let hints = json!({"hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": node}]}});
            endpoint(last, node, &hints)
        };
        assert_eq!(chosen(&spec, &json!([zone(2, "a"), zone(3, "b")])).0, "2");
        assert_eq!(chosen(&spec, &json!([zone(2, "b"), zone(3, "b")])).0, "2 3");
        assert_eq!(chosen(&spec, &json!([zone(2, "a"), endpoint(3, "there", &json!({}))])).0, "2 3");
        assert_eq!(chosen(&spec, &json!([node(2, "here"), node(3, "there")])).0, "2");
        assert_eq!(chosen(&spec, &json!([node(2, "far"), node(3, "there")])).0, "2 3");
    }

    #[test]
    fn headless_and_external_name_services_have_no_rules() {
        let none = |spec: &Value| read(&service(spec), &[], &here()).ports.is_empty();
        assert!(none(&json!({"clusterIP": "None", "ports": [{"port": 80}]})));
        assert!(none(
            &json!({"type": "ExternalName", "externalName": "x.y", "externalIPs": ["192.0.2.7"], "ports": [{"port": 80}]})
        ));
    }

    #[test]
    fn addresses_of_a_proxying_balancer_and_of_other_types_are_not_ours() {
        let status = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.8", "ipMode": "Proxy"}, {"ip": "192.0.2.9"}]}});
        let mut service =
            service(&json!({"type": "LoadBalancer", "clusterIP": "10.43.0.9", "ports": [{"port": 80}],
            "loadBalancerSourceRanges": ["192.0.2.0/24", "10.0.0.0/8\n-A INPUT -j DROP", "fd00::/8"]}));
        service.status = Some(serde_json::from_value(status).unwrap());
        let port = read(&service, &[], &here()).ports.remove(0);
        assert_eq!(port.balancer_ips, BTreeSet::from(["192.0.2.9".parse().unwrap()]));
        assert_eq!((port.source_ranges, port.node_may), (vec!["192.0.2.0/24".to_owned()], true));
        service.spec.as_mut().unwrap().type_ = Some("NodePort".into());
        assert!(read(&service, &[], &here()).ports.remove(0).balancer_ips.is_empty());
    }

    #[test]
    fn each_family_has_its_own_ports_and_endpoints() {
        let service = service(&json!({"clusterIP": "10.43.0.9", "clusterIPs": ["10.43.0.9", "fd43::9"],
            "ports": [{"name": "http", "port": 80}]}));
        let four = slice(&json!([{"addresses": ["10.42.0.2"]}]));
        let mut six = slice(&json!([{"addresses": ["fd42::2"]}, {"addresses": ["fd42::3"]}]));
        six.address_type = "IPv6".into();
        let ports = read(&service, &[four, six], &here()).ports;
        assert_eq!(ports.iter().map(|p| p.cluster.len()).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn health_counts_ready_pods_of_this_node_once() {
        let service = service(
            &json!({"type": "LoadBalancer", "clusterIP": "10.43.0.9", "externalTrafficPolicy": "Local",
            "healthCheckNodePort": 32000, "ports": [{"name": "http", "port": 80}]}),
        );
        let endpoints = json!([
            endpoint(2, "here", &json!({})),
            endpoint(3, "there", &json!({})),
            endpoint(4, "here", &ENDING())
        ]);
        let health = read(&service, &[slice(&endpoints), slice(&endpoints)], &here()).health;
        assert_eq!(health, Some(Health { port: 32000, local_endpoints: 1 }));
    }
}
