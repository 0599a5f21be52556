//! Cells of services, endpoints, ingresses and addresses.

use std::collections::BTreeSet;

use crate::Value;
use jiff::Timestamp;

use super::access::{
    NONE, UNKNOWN, UNSET, at, count, first_three, list, number, selector, text, text_or, texts,
};

pub(super) fn cluster_ip(service: &Value, _now: Timestamp) -> Value {
    let first = texts(service, "spec.clusterIPs").first().copied().unwrap_or_default();
    match (first, text(service, "spec.clusterIP")) {
        ("", "") => NONE.into(),
        ("", ip) | (ip, _) => ip.into(),
    }
}

pub(super) fn external_ip(service: &Value, _now: Timestamp) -> Value {
    let external = texts(service, "spec.externalIPs");
    match text_or(service, "spec.type", "ClusterIP") {
        "ClusterIP" | "NodePort" if external.is_empty() => NONE.into(),
        "ClusterIP" | "NodePort" => external.join(",").into(),
        "LoadBalancer" => {
            let all: Vec<String> =
                ingress_points(service).into_iter().chain(external.iter().map(ToString::to_string)).collect();
            if all.is_empty() { "<pending>".into() } else { all.join(",").into() }
        }
        "ExternalName" => text(service, "spec.externalName").into(),
        _ => UNKNOWN.into(),
    }
}

/// Addresses of a load balancer's status, sorted.
fn ingress_points(object: &Value) -> BTreeSet<String> {
    let points = list(object, "status.loadBalancer.ingress").iter();
    points.map(|p| text_or(p, "ip", text(p, "hostname")).to_owned()).filter(|p| !p.is_empty()).collect()
}

pub(super) fn ports(service: &Value, _now: Timestamp) -> Value {
    let one = |port: &Value| {
        let (number_, protocol) = (number(port, "port"), text_or(port, "protocol", "TCP").to_owned());
        match number(port, "nodePort") {
            0 => format!("{number_}/{protocol}"),
            node_port => format!("{number_}:{node_port}/{protocol}"),
        }
    };
    let all: Vec<String> = list(service, "spec.ports").iter().map(one).collect();
    if all.is_empty() { NONE.into() } else { all.join(",").into() }
}

pub(super) fn endpoints(object: &Value, _now: Timestamp) -> Value {
    let mut all = Vec::new();
    for subset in list(object, "subsets") {
        let addresses = || list(subset, "addresses").iter().map(|a| text(a, "ip"));
        let ports = list(subset, "ports");
        if ports.is_empty() {
            all.extend(addresses().map(str::to_owned));
        }
        for port in ports {
            all.extend(addresses().map(|ip| host_port(ip, number(port, "port"))));
        }
    }
    match list(object, "subsets") {
        [] => NONE.into(),
        _ => first_three(&all, "").into(),
    }
}

fn host_port(ip: &str, port: i64) -> String {
    match ip.contains(':') {
        true => format!("[{ip}]:{port}"),
        false => format!("{ip}:{port}"),
    }
}

pub(super) fn slice_ports(slice: &Value, _now: Timestamp) -> Value {
    let one = |port: &Value| match (at(port, "port"), text(port, "name")) {
        (Some(number), _) => number.to_string(),
        (None, "") => "*".into(),
        (None, name) => name.to_owned(),
    };
    first_three(&list(slice, "ports").iter().map(one).collect::<Vec<_>>(), UNSET).into()
}

pub(super) fn slice_endpoints(slice: &Value, _now: Timestamp) -> Value {
    let each = list(slice, "endpoints").iter().flat_map(|e| texts(e, "addresses"));
    first_three(&each.map(str::to_owned).collect::<Vec<_>>(), UNSET).into()
}

pub(super) fn ingress_hosts(ingress: &Value, _now: Timestamp) -> Value {
    let rules = list(ingress, "spec.rules");
    let mut hosts = Vec::new();
    for rule in rules {
        if hosts.len() == 3 {
            return format!("{} + {} more...", hosts.join(","), rules.len() - 3).into();
        }
        hosts.extend(Some(text(rule, "host")).filter(|host| !host.is_empty()));
    }
    if hosts.is_empty() { "*".into() } else { hosts.join(",").into() }
}

pub(super) fn ingress_address(ingress: &Value, _now: Timestamp) -> Value {
    ingress_points(ingress).into_iter().collect::<Vec<_>>().join(",").into()
}

pub(super) fn ingress_ports(ingress: &Value, _now: Timestamp) -> Value {
    if count(ingress, "spec.tls") > 0 { "80, 443".into() } else { "80".into() }
}

pub(super) fn ingress_class_parameters(class: &Value, _now: Timestamp) -> Value {
    let Some(parameters) = at(class, "spec.parameters") else { return NONE.into() };
    let (kind, name) = (text(parameters, "kind"), text(parameters, "name"));
    match text(parameters, "apiGroup") {
        "" => format!("{kind}/{name}").into(),
        group => format!("{kind}.{group}/{name}").into(),
    }
}

pub(super) fn pod_selector(policy: &Value, _now: Timestamp) -> Value {
    selector(policy, "spec.podSelector").into()
}

pub(super) fn cidrs(object: &Value, _now: Timestamp) -> Value {
    texts(object, "spec.cidrs").join(",").into()
}

pub(super) fn parent_ref(address: &Value, _now: Timestamp) -> Value {
    let Some(parent) = at(address, "spec.parentRef") else { return NONE.into() };
    let resource = match (text(parent, "resource"), text(parent, "group")) {
        (resource, "") => resource.to_lowercase(),
        (resource, group) => format!("{resource}.{group}").to_lowercase(),
    };
    let parts = [resource.as_str(), text(parent, "namespace"), text(parent, "name")];
    parts.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join("/").into()
}

pub(super) fn api_service(object: &Value, _now: Timestamp) -> Value {
    match at(object, "spec.service") {
        None => "Local".into(),
        Some(service) => format!("{}/{}", text(service, "namespace"), text(service, "name")).into(),
    }
}

pub(super) fn api_service_available(object: &Value, _now: Timestamp) -> Value {
    let conditions = list(object, "status.conditions");
    let Some(available) = conditions.iter().find(|c| text(c, "type") == "Available") else {
        return "Unknown".into();
    };
    match (text(available, "status"), text(available, "reason")) {
        ("True", _) => "True".into(),
        (status, reason) => format!("{status} ({reason})").into(),
    }
}

pub(super) fn event_last_seen(event: &Value, now: Timestamp) -> Value {
    let paths = ["series.lastObservedTime", "lastTimestamp", "deprecatedLastTimestamp"];
    first_age(event, &paths, now).unwrap_or_else(|| event_first_seen(event, now))
}

pub(super) fn event_first_seen(event: &Value, now: Timestamp) -> Value {
    let paths = ["firstTimestamp", "deprecatedFirstTimestamp", "eventTime"];
    first_age(event, &paths, now).unwrap_or_else(|| UNKNOWN.into())
}

fn first_age(event: &Value, paths: &[&str], now: Timestamp) -> Option<Value> {
    let path = paths.iter().find(|path| at(event, path).is_some())?;
    Some(super::access::age(event, path, now).into())
}

/// The object of an event, which `events.k8s.io` calls `regarding`.
fn event_object(event: &Value) -> &Value {
    at(event, "involvedObject").or_else(|| at(event, "regarding")).unwrap_or(&Value::Null)
}

pub(super) fn event_target(event: &Value, _now: Timestamp) -> Value {
    let object = event_object(event);
    match (text(object, "kind").to_lowercase(), text(object, "name")) {
        (kind, "") => kind.into(),
        (kind, name) => format!("{kind}/{name}").into(),
    }
}

pub(super) fn event_subobject(event: &Value, _now: Timestamp) -> Value {
    text(event_object(event), "fieldPath").into()
}

pub(super) fn event_source(event: &Value, _now: Timestamp) -> Value {
    let first = |paths: [&str; 4]| {
        paths.into_iter().map(|path| text(event, path)).find(|text| !text.is_empty()).unwrap_or_default()
    };
    let component = first([
        "source.component",
        "deprecatedSource.component",
        "reportingComponent",
        "reportingController",
    ]);
    match first(["source.host", "deprecatedSource.host", "reportingInstance", ""]) {
        "" => component.into(),
        host => format!("{component}, {host}").into(),
    }
}

pub(super) fn event_message(event: &Value, _now: Timestamp) -> Value {
    text_or(event, "message", text(event, "note")).trim().into()
}

pub(super) fn event_count(event: &Value, _now: Timestamp) -> Value {
    let counts = ["series.count", "count", "deprecatedCount"].map(|path| number(event, path));
    counts.into_iter().find(|n| *n != 0).unwrap_or(1).into()
}
