//! Services and their endpoints as packet rules need them, read from the API's objects.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};

/// Where a packet can be sent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Address of the pod.
    pub ip: Ipv4Addr,
    /// Port of the pod.
    pub port: u16,
    /// Whether it is on this node.
    pub local: bool,
}

/// One port of a Service with everything that leads to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// `namespace/name:port`, as comments show it.
    pub name: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Port on the Service's addresses.
    pub port: u16,
    /// The cluster address.
    pub cluster_ip: Ipv4Addr,
    /// External and load-balancer addresses.
    pub external_ips: BTreeSet<Ipv4Addr>,
    /// Port on every node; 0 for none.
    pub node_port: u16,
    /// Seconds for which a client stays with its endpoint; `None` without affinity.
    pub affinity_seconds: Option<i32>,
    /// Where traffic from inside goes, by `internalTrafficPolicy`.
    pub inside: BTreeSet<Endpoint>,
    /// Where traffic from outside goes, by `externalTrafficPolicy`.
    pub outside: BTreeSet<Endpoint>,
    /// Whether outside traffic keeps its source address (`externalTrafficPolicy: Local`).
    pub keep_source: bool,
}

/// Endpoints of one port name, in two classes.
#[derive(Clone, Debug, Default)]
struct Candidates {
    ready: BTreeSet<Endpoint>,
    /// Ending, but still serving: used while there is nothing better (KEP-1669).
    serving: BTreeSet<Endpoint>,
}

/// Reads the ports of one Service with its slices. Headless and external-name Services have none.
pub fn ports(service: &Service, slices: &[EndpointSlice], node: &str) -> Vec<Port> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let Some(cluster_ip) = spec.cluster_ip.as_deref().and_then(|ip| ip.parse().ok()) else {
        return Vec::new();
    };
    let candidates = candidates(slices, node);
    let local_only = |policy: &Option<String>| policy.as_deref() == Some("Local");
    let (inside_local, outside_local) =
        (local_only(&spec.internal_traffic_policy), local_only(&spec.external_traffic_policy));
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
        config.and_then(|c| c.timeout_seconds).unwrap_or(10_800)
    });
    let external_ips = external_ips(service);
    let meta = &service.metadata;
    let key = format!(
        "{}/{}",
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default()
    );
    let read = |port: &ServicePort| {
        let name = port.name.clone().unwrap_or_default();
        let found = candidates.get(&name).cloned().unwrap_or_default();
        Some(Port {
            name: if name.is_empty() { key.clone() } else { format!("{key}:{name}") },
            protocol: port.protocol.as_deref().unwrap_or("TCP").to_lowercase(),
            port: u16::try_from(port.port).ok()?,
            cluster_ip,
            external_ips: external_ips.clone(),
            node_port: port.node_port.and_then(|p| u16::try_from(p).ok()).unwrap_or(0),
            affinity_seconds: affinity,
            inside: found.choose(inside_local),
            outside: found.choose(outside_local),
            keep_source: outside_local,
        })
    };
    spec.ports.iter().flatten().filter_map(read).collect()
}

fn external_ips(service: &Service) -> BTreeSet<Ipv4Addr> {
    let spec = service.spec.as_ref().and_then(|s| s.external_ips.as_ref());
    let balancer = service.status.as_ref().and_then(|s| s.load_balancer.as_ref()?.ingress.as_ref());
    let addresses = spec.into_iter().flatten().cloned();
    let ingress = balancer.into_iter().flatten().filter(|i| i.ip_mode.as_deref() != Some("Proxy"));
    addresses.chain(ingress.filter_map(|i| i.ip.clone())).filter_map(|ip| ip.parse().ok()).collect()
}

/// Endpoints by port name over all slices of a Service.
fn candidates(slices: &[EndpointSlice], node: &str) -> BTreeMap<String, Candidates> {
    let mut by_port: BTreeMap<String, Candidates> = BTreeMap::new();
    for slice in slices.iter().filter(|s| s.address_type == "IPv4") {
        for port in slice.ports.iter().flatten() {
            let Some(number) = port.port.and_then(|p| u16::try_from(p).ok()) else { continue };
            let found = by_port.entry(port.name.clone().unwrap_or_default()).or_default();
            slice.endpoints.iter().flatten().for_each(|endpoint| found.add(endpoint, number, node));
        }
    }
    by_port
}

impl Candidates {
    fn add(&mut self, from: &SliceEndpoint, port: u16, node: &str) {
        let Some(ip) = from.addresses.first().and_then(|a| a.parse().ok()) else { return };
        let endpoint = Endpoint { ip, port, local: from.node_name.as_deref() == Some(node) };
        let conditions = from.conditions.clone().unwrap_or_default();
        // An unknown readiness counts as ready (API reference, EndpointConditions).
        if conditions.ready.unwrap_or(true) {
            self.ready.insert(endpoint);
        } else if conditions.serving.unwrap_or(false) && conditions.terminating.unwrap_or(false) {
            self.serving.insert(endpoint);
        }
    }

    fn choose(&self, local_only: bool) -> BTreeSet<Endpoint> {
        let allowed = |set: &BTreeSet<Endpoint>| -> BTreeSet<Endpoint> {
            set.iter().filter(|e| e.local || !local_only).cloned().collect()
        };
        let ready = allowed(&self.ready);
        if ready.is_empty() { allowed(&self.serving) } else { ready }
    }
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

    fn addresses(endpoints: &BTreeSet<Endpoint>) -> Vec<String> {
        endpoints.iter().map(|e| e.ip.to_string()).collect()
    }

    #[test]
    fn ending_endpoints_serve_only_while_there_is_nothing_better() {
        let service = service(&json!({"clusterIP": "10.43.0.9", "ports": [{"name": "http", "port": 80}]}));
        let ending = json!({"addresses": ["10.42.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}});
        let ready = json!({"addresses": ["10.42.0.3"], "conditions": {"ready": true}});
        let unready = json!({"addresses": ["10.42.0.4"], "conditions": {"ready": false}});
        let read = |list: &Value| addresses(&ports(&service, &[slice(list)], "here")[0].inside);
        assert_eq!(read(&json!([ending, ready, unready])), ["10.42.0.3"]);
        assert_eq!(read(&json!([ending, unready])), ["10.42.0.2"]);
    }

    #[test]
    fn local_policies_keep_to_this_node() {
        let spec = json!({"clusterIP": "10.43.0.9", "externalTrafficPolicy": "Local", "ports": [{"name": "http", "port": 80}]});
        let endpoints = json!([{"addresses": ["10.42.0.2"], "nodeName": "here"}, {"addresses": ["10.42.1.2"], "nodeName": "there"}]);
        let port = &ports(&service(&spec), &[slice(&endpoints)], "here")[0];
        assert_eq!((port.inside.len(), addresses(&port.outside)), (2, vec!["10.42.0.2".to_owned()]));
    }

    #[test]
    fn headless_services_have_no_rules() {
        assert!(
            ports(&service(&json!({"clusterIP": "None", "ports": [{"port": 80}]})), &[], "here").is_empty()
        );
    }
}
