//! Ingresses, their classes, network policies, and the addresses of a cluster's Services.

use std::net::IpAddr;

use crate::Value;

use super::here::Here;
use super::{At, Fields};
use crate::field::{Error, Errors};
use crate::validate::addresses::{self, Cidr};
use crate::validate::{domains, forms, names};

const CONTROLLER_MAX: usize = 250;

/// An Ingress leads somewhere.
pub fn ingress(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, spec, errors);
    if here.list("rules").is_empty() && !here.has("defaultBackend") {
        here.invalid_as("", Value::Null, "either `defaultBackend` or `rules` must be specified");
    }
    here.form("ingressClassName", names::dns1123_subdomain);
}

fn host_form(host: &str) -> Vec<String> {
    if host.contains('*') { domains::wildcard_subdomain(host) } else { names::dns1123_subdomain(host) }
}

/// A host is a name.
pub fn rule(at: &At<'_>, rule: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, rule, errors);
    let host = here.text("host");
    if host.parse::<IpAddr>().is_ok() {
        here.invalid("host", "must be a DNS name, not an IP address");
    }
    here.form("host", host_form);
}

/// Hosts of a certificate, and the secret it is in.
pub fn tls(at: &At<'_>, tls: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, tls, errors);
    for (index, host) in here.texts("hosts") {
        for why in host_form(host) {
            here.invalid_item("hosts", index, host, &why);
        }
    }
    here.form("secretName", names::dns1123_subdomain);
}

/// Paths start at the root and lead straight down.
pub fn path(at: &At<'_>, path: &Fields, errors: &mut Errors) {
    const TYPES: &[&str] = &["Exact", "ImplementationSpecific", "Prefix"];
    let here = &mut Here::new(at, path, errors);
    let text = here.text("path");
    match here.text("pathType") {
        "ImplementationSpecific" if text.is_empty() || text.starts_with('/') => {}
        "ImplementationSpecific" => here.invalid_as("path", text, "must be an absolute path"),
        "Exact" | "Prefix" => straight(here, text),
        "" => here.required("pathType", "pathType must be specified"),
        _ => here.unsupported("pathType", TYPES),
    }
}

fn straight(here: &mut Here<'_, '_>, text: &str) {
    if !text.starts_with('/') {
        here.invalid_as("path", text, "must be an absolute path");
    }
    for sequence in ["//", "/./", "/../", "%2f", "%2F"] {
        if text.contains(sequence) {
            here.invalid_as("path", text, &format!("must not contain '{sequence}'"));
        }
    }
    for end in ["/..", "/."] {
        if text.ends_with(end) {
            here.invalid_as("path", text, &format!("cannot end with '{end}'"));
        }
    }
}

/// A backend is a Service's port, or another object.
pub fn backend(at: &At<'_>, backend: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, backend, errors);
    match (here.has("service"), here.has("resource")) {
        (true, true) => here.invalid_as("", "", "cannot set both resource and service backends"),
        (false, false) => here.invalid_as("", "", "resource or service backend is required"),
        (true, false) => service(here),
        (false, true) => {
            here.form("resource.apiGroup", names::dns1123_subdomain);
            here.form("resource.kind", names::path_segment);
            here.form("resource.name", names::path_segment);
        }
    }
}

fn service(here: &mut Here<'_, '_>) {
    here.form("service.name", names::dns1035_label);
    let number = here.number("service.port.number").unwrap_or_default();
    match (here.text("service.port.name"), number) {
        ("", 0) => here.required("", "port name or number is required"),
        ("", 1..=65535) => {}
        ("", _) => here.invalid("service.port.number", "must be between 1 and 65535, inclusive"),
        (_, 0) => here.form("service.port.name", forms::port_name),
        _ => here.invalid_as("", "", "cannot set both port name & port number"),
    }
}

/// Who serves a class.
pub fn class(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, spec, errors);
    let controller = here.text("controller");
    if controller.len() > CONTROLLER_MAX {
        here.errors.push(Error::too_long(&here.path("controller"), CONTROLLER_MAX));
    }
    domains::domain_prefixed_path(&here.path("controller"), controller, here.errors);
}

/// Where the parameters of a class are.
pub fn class_parameters(at: &At<'_>, parameters: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, parameters, errors);
    here.form("apiGroup", names::dns1123_subdomain);
    here.form("kind", names::path_segment);
    here.form("name", names::path_segment);
    match here.text("scope") {
        "" => here.required("scope", ""),
        "Namespace" if !here.has("namespace") => {
            here.required("namespace", "`parameters.scope` is set to 'Namespace'");
        }
        "Namespace" => here.form("namespace", names::dns1123_label),
        "Cluster" if here.has("namespace") => {
            here.forbidden("namespace", "`parameters.scope` is set to 'Cluster'");
        }
        "Cluster" => {}
        _ => here.unsupported("scope", &["Cluster", "Namespace"]),
    }
}

/// A port, or a range of them.
pub fn policy_port(at: &At<'_>, port: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, port, errors);
    let end = here.number("endPort");
    match (here.get("port"), end) {
        (Some(Value::Number(port)), Some(end)) => {
            if port.as_i64().is_some_and(|port| end < port) {
                here.invalid("endPort", "must be greater than or equal to `port`");
            }
            if !(1..=65535).contains(&end) {
                here.invalid("endPort", "must be between 1 and 65535, inclusive");
            }
        }
        (Some(_), Some(_)) => here.invalid("endPort", "may not be specified when `port` is non-numeric"),
        (None, Some(_)) => here.invalid("endPort", "may not be specified when `port` is not specified"),
        _ => {}
    }
}

/// Someone, and not both addresses and pods.
pub fn policy_peer(at: &At<'_>, peer: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, peer, errors);
    let pods = here.has("podSelector") || here.has("namespaceSelector");
    match (here.has("ipBlock"), pods) {
        (false, false) => here.required("", "must specify a peer"),
        (true, true) => here.forbidden("", "may not specify both ipBlock and another peer"),
        _ => {}
    }
}

/// A block, and smaller ones in it that are left out.
pub fn ip_block(at: &At<'_>, block: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, block, errors);
    let Ok(outer) = here.text("cidr").parse::<Cidr>() else { return };
    for (index, text) in here.texts("except") {
        match text.parse::<Cidr>() {
            Err(_) => here.invalid_item("except", index, text, addresses::NOT_CIDR),
            Ok(inner) if !outer.is_within(&inner) => {
                here.invalid_item("except", index, text, "must be a strict subset of `cidr`");
            }
            Ok(_) => {}
        }
    }
}

/// At most both directions.
pub fn policy(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, spec, errors);
    if here.list("policyTypes").len() > 2 {
        here.invalid("policyTypes", "may not specify more than two policyTypes");
    }
}

/// An address object is named as the address is written.
pub fn ip_address(at: &At<'_>, object: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, object, errors);
    for why in addresses::canonical_ip(here.text("metadata.name")) {
        here.invalid("metadata.name", &why);
    }
    if !here.has("spec.parentRef") {
        here.required("spec.parentRef", "");
    }
}

/// Whose an address is.
pub fn parent(at: &At<'_>, parent: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, parent, errors);
    here.form("group", names::dns1123_subdomain);
    for name in ["resource", "name", "namespace"] {
        here.form(name, names::path_segment);
    }
}

/// One range, or one of each family.
pub fn service_cidr(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, spec, errors);
    let count = here.list("cidrs").len();
    if count == 0 {
        here.required("cidrs", "at least one CIDR required");
        return;
    }
    if count > 2 {
        let value = Value::Object(here.fields.clone());
        here.invalid_as("cidrs", value, "may only hold up to 2 values");
        return;
    }
    for (index, text) in here.texts("cidrs") {
        for why in addresses::canonical_cidr(text) {
            here.invalid_item("cidrs", index, text, &why);
        }
    }
    let mut families = here.texts("cidrs").filter_map(|(_, text)| text.parse::<Cidr>().ok());
    if let (Some(one), Some(other)) = (families.next(), families.next())
        && one.is_ipv4() == other.is_ipv4()
    {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        here.invalid("cidrs", why);
    }
}
