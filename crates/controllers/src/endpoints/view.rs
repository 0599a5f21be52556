//! The endpoints that a Service and its pods make, before they are cut into objects. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tiphys_client::typed::Kind;

use crate::pods::Facts;

/// `IPv4` or `IPv6`.
pub(super) type Family = &'static str;

/// The endpoints of one address family with the same ports.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    pub(super) family: Family,
    pub(super) ports: Vec<EndpointPort>,
    pub(super) endpoints: Vec<Endpoint>,
}

/// Whether the service's endpoints are ours to keep.
pub(super) fn is_managed(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let selects = spec.and_then(|s| s.selector.as_ref()).is_some_and(|selector| !selector.is_empty());
    selects && spec.and_then(|s| s.type_.as_deref()) != Some("ExternalName")
}

pub(super) fn spec(service: &Service) -> ServiceSpec {
    service.spec.clone().unwrap_or_default()
}

pub(super) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// The pods a service selects.
pub(super) fn selected(service: &Service, pods: Vec<Arc<Facts>>) -> Vec<Arc<Facts>> {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let matches = |pod: &Arc<Facts>| {
        let labels = &pod.meta().labels;
        selector.into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value.as_str()))
    };
    pods.into_iter().filter(matches).collect()
}

/// The families the service wants; IPv4 if it does not say.
pub(super) fn families(service: &Service) -> Vec<Family> {
    let wanted = service.spec.as_ref().and_then(|spec| spec.ip_families.clone()).unwrap_or_default();
    let families: Vec<Family> =
        ["IPv4", "IPv6"].into_iter().filter(|family| wanted.iter().any(|w| w == family)).collect();
    if families.is_empty() { vec!["IPv4"] } else { families }
}

/// The address of a pod in a family.
pub(super) fn address(pod: &Facts, family: Family) -> Option<&str> {
    let fits = |ip: &&str| match ip.parse() {
        Ok(IpAddr::V4(_)) => family == "IPv4",
        Ok(IpAddr::V6(_)) => family == "IPv6",
        Err(_) => false,
    };
    pod.ips.iter().map(AsRef::as_ref).find(fits)
}

/// The endpoints of all pods, by family and ports. `zone` tells the zone of a node.
pub(super) fn groups(
    service: &Service,
    pods: &[Arc<Facts>],
    zone: impl Fn(&str) -> Option<String>,
) -> Vec<Group> {
    let mut groups: BTreeMap<(Family, String), Group> = BTreeMap::new();
    for family in families(service) {
        for pod in pods.iter().filter(|pod| !pod.ended()) {
            let Some(address) = address(pod, family) else { continue };
            let ports = ports(service, pod);
            let key = serde_json::to_string(&ports).unwrap_or_default();
            let fresh = || Group { family, ports, endpoints: Vec::new() };
            let group = groups.entry((family, key)).or_insert_with(fresh);
            group.endpoints.push(endpoint(service, pod, address, zone(&pod.node)));
        }
    }
    groups.into_values().collect()
}

fn endpoint(service: &Service, pod: &Facts, address: &str, zone: Option<String>) -> Endpoint {
    let publish = service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses).unwrap_or(false);
    let (serving, terminating) = (pod.ready(), pod.deleting());
    let ready = publish || (serving && !terminating);
    let node = Some(pod.node.to_string()).filter(|node| !node.is_empty());
    Endpoint {
        hints: hints(service, node.as_deref(), zone.as_deref()).filter(|_| ready),
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(service, pod),
        node_name: node,
        target_ref: Some(target(pod)),
        zone,
        ..Endpoint::default()
    }
}

/// For whom an endpoint is, by the service's `trafficDistribution`: those of its zone, or first those of its node.
fn hints(service: &Service, node: Option<&str>, zone: Option<&str>) -> Option<EndpointHints> {
    let wish = service.spec.as_ref()?.traffic_distribution.as_deref()?;
    let for_zones = zone.map(|zone| vec![ForZone { name: zone.to_owned() }]);
    let hints = match wish {
        "PreferSameZone" | "PreferClose" => EndpointHints { for_zones, for_nodes: None },
        "PreferSameNode" => {
            EndpointHints { for_zones, for_nodes: node.map(|node| vec![ForNode { name: node.to_owned() }]) }
        }
        _ => return None,
    };
    Some(hints).filter(|hints| *hints != EndpointHints::default())
}

/// A pod's host name counts under the service that it names as its subdomain.
pub(super) fn hostname(service: &Service, pod: &Facts) -> Option<String> {
    let named = !pod.hostname.is_empty() && *pod.subdomain == *service.name();
    named.then(|| pod.hostname.to_string())
}

pub(super) fn target(pod: &Facts) -> ObjectReference {
    let meta = pod.meta();
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: Some(meta.namespace.to_string()),
        name: Some(meta.name.to_string()),
        uid: Some(meta.uid.to_string()),
        ..ObjectReference::default()
    }
}

/// The service's ports as this pod has them; a port that it does not have is left out.
pub(super) fn ports(service: &Service, pod: &Facts) -> Vec<EndpointPort> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    let known = ports.into_iter().flatten().filter_map(|port| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(number(port, pod)?),
            protocol: Some(protocol(port).to_owned()),
            app_protocol: port.app_protocol.clone(),
        })
    });
    known.collect()
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn number(port: &ServicePort, pod: &Facts) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let fits = |p: &&crate::pods::Port| *p.name == **name && *p.protocol == *protocol(port);
            pod.ports.iter().find(fits).map(|p| p.number)
        }
    }
}
