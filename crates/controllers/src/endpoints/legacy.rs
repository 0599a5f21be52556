//! Endpoints, the older form: one object per Service, at most 1,000 addresses. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::view::{address, families, hostname, is_headless, ports, spec, target};
use crate::pods::Facts;

pub(super) const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
pub(super) const MANAGER: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MAX: usize = 1000;

/// The object that a service and its pods make, as a change of the present one if there is one.
pub(super) fn wanted(service: &Service, pods: &[Arc<Facts>], present: Option<&Endpoints>) -> Endpoints {
    let (subsets, cut) = truncate(subsets(service, pods));
    let mut endpoints = present.cloned().unwrap_or_else(|| fresh(service));
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    match is_headless(service) {
        true => labels.insert(HEADLESS.into(), String::new()),
        false => labels.remove(HEADLESS),
    };
    endpoints.metadata.labels = Some(labels);
    let mut annotations = endpoints.metadata.annotations.take().unwrap_or_default();
    match cut {
        true => annotations.insert(OVER_CAPACITY.into(), "truncated".into()),
        false => annotations.remove(OVER_CAPACITY),
    };
    endpoints.metadata.annotations = Some(annotations).filter(|a| !a.is_empty());
    endpoints.subsets = Some(subsets).filter(|subsets| !subsets.is_empty());
    endpoints
}

fn fresh(service: &Service) -> Endpoints {
    Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        subsets: None,
    }
}

/// Pods with the same ports make one subset, ready and not ready ones apart.
fn subsets(service: &Service, pods: &[Arc<Facts>]) -> Vec<EndpointSubset> {
    let spec = spec(service);
    let publish = spec.publish_not_ready_addresses.unwrap_or(false);
    let has_ports = spec.ports.as_ref().is_some_and(|ports| !ports.is_empty());
    let family = families(service)[0];
    let mut subsets: BTreeMap<String, EndpointSubset> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !pod.ended() && (publish || !pod.deleting())) {
        let Some(ip) = address(pod, family) else { continue };
        let ports: Vec<EndpointPort> = ports(service, pod).into_iter().map(core_port).collect();
        if ports.is_empty() && has_ports {
            continue;
        }
        let key = serde_json::to_string(&ports).unwrap_or_default();
        let subset = subsets.entry(key).or_default();
        subset.ports = Some(ports).filter(|ports| !ports.is_empty());
        let addresses = match publish || pod.ready() {
            true => &mut subset.addresses,
            false => &mut subset.not_ready_addresses,
        };
        addresses.get_or_insert_default().push(EndpointAddress {
            ip: ip.to_owned(),
            hostname: hostname(service, pod),
            node_name: Some(pod.node.to_string()).filter(|node| !node.is_empty()),
            target_ref: Some(target(pod)),
        });
    }
    subsets.into_values().map(sorted).collect()
}

fn core_port(port: k8s_openapi::api::discovery::v1::EndpointPort) -> EndpointPort {
    EndpointPort {
        name: port.name.filter(|name| !name.is_empty()),
        port: port.port.unwrap_or_default(),
        protocol: port.protocol,
        app_protocol: port.app_protocol,
    }
}

fn sorted(mut subset: EndpointSubset) -> EndpointSubset {
    for addresses in [&mut subset.addresses, &mut subset.not_ready_addresses].into_iter().flatten() {
        addresses.sort_by(|a, b| a.ip.cmp(&b.ip));
    }
    subset
}

/// Cuts to the limit, not ready addresses first; tells whether anything was cut.
fn truncate(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let (mut left, mut cut) = (MAX, false);
    let mut trim = |addresses: &mut Option<Vec<EndpointAddress>>| {
        if let Some(addresses) = addresses {
            cut |= addresses.len() > left;
            addresses.truncate(left);
            left -= addresses.len();
        }
    };
    subsets.iter_mut().for_each(|subset| trim(&mut subset.addresses));
    subsets.iter_mut().for_each(|subset| trim(&mut subset.not_ready_addresses));
    (subsets, cut)
}
