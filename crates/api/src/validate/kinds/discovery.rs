//! Endpoint slices: addresses of their type, ports with names of their own, hints. And who serves an API.

use std::net::IpAddr;

use super::here::Here;
use super::{At, Fields, Seen, items};
use crate::field::{Error, Errors};
use crate::validate::addresses::{self, NOT_IP};
use crate::validate::{domains, names};

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const HINTS_MAX: usize = 8;

/// Endpoints and ports of a slice.
pub fn slice(at: &At<'_>, slice: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, slice, errors);
    if here.most("ports", PORTS_MAX) {
        ports(here);
    }
    if !here.most("endpoints", ENDPOINTS_MAX) {
        return;
    }
    let (kind, endpoints) = (here.text("addressType"), At::Child(here.at, "endpoints"));
    for (index, endpoint) in items(slice, "endpoints") {
        let at = At::Index(&endpoints, index);
        self::endpoint(&mut Here::new(&at, endpoint, here.errors), kind);
    }
}

fn ports(here: &mut Here<'_, '_>) {
    let list = At::Child(here.at, "ports");
    let mut seen = Seen::new();
    for (index, port) in items(here.fields, "ports") {
        let at = At::Index(&list, index);
        let port = &mut Here::new(&at, port, here.errors);
        port.form("name", names::dns1123_label);
        if !seen.add(port.text("name")) {
            port.errors.push(Error::duplicate(&port.path("name"), port.text("name")));
        }
        port.form("appProtocol", names::qualified_name);
    }
}

fn endpoint(endpoint: &mut Here<'_, '_>, kind: &str) {
    if endpoint.list("addresses").is_empty() {
        endpoint.required("addresses", "must contain at least 1 address");
    }
    if !endpoint.most("addresses", ADDRESSES_MAX) {
        return;
    }
    for (index, address) in endpoint.texts("addresses") {
        match kind {
            "IPv4" | "IPv6" => ip(endpoint, index, address, kind),
            "FQDN" => {
                let path = endpoint.path("addresses").index(index);
                domains::fully_qualified_domain(&path, address, endpoint.errors);
            }
            _ => {}
        }
    }
    endpoint.form("nodeName", names::dns1123_subdomain);
    endpoint.form("hostname", names::dns1123_label);
    hints(endpoint, "hints.forZones", names::label_value);
    hints(endpoint, "hints.forNodes", names::dns1123_subdomain);
}

fn ip(endpoint: &mut Here<'_, '_>, index: usize, text: &str, kind: &str) {
    let Ok(address) = text.parse::<IpAddr>() else {
        endpoint.invalid_item("addresses", index, text, NOT_IP);
        return;
    };
    if address.is_ipv4() != (kind == "IPv4") {
        endpoint.invalid_item("addresses", index, text, &format!("must be an {kind} address"));
    }
    if let Some(why) = addresses::not_for_endpoints(address) {
        endpoint.invalid_item("addresses", index, text, &why);
    }
}

fn hints(endpoint: &mut Here<'_, '_>, list: &str, form: fn(&str) -> Vec<String>) {
    if !endpoint.has(list) || !endpoint.most(list, HINTS_MAX) {
        return;
    }
    let mut seen = Seen::new();
    for (index, hint) in endpoint.list(list).iter().enumerate() {
        let name = hint.get("name").and_then(crate::Value::as_str).unwrap_or_default();
        let path = || endpoint.path(list).index(index).child("name");
        let mut found: Errors = form(name).iter().map(|why| Error::invalid(&path(), name, why)).collect();
        if !seen.add(name) {
            found.push(Error::duplicate(&path(), name));
        }
        endpoint.errors.extend(found);
    }
}

/// An API is served by this process, or by a Service that is trusted in one way.
pub fn api_service(at: &At<'_>, service: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, service, errors);
    let (group, version) = (here.text("spec.group"), here.text("spec.version"));
    let wanted = || format!("{version}.{group}");
    if here.text("metadata.name").strip_prefix(version).and_then(|rest| rest.strip_prefix('.')) != Some(group)
    {
        let why = format!("must be `spec.version+\".\"+spec.group`: {:?}", wanted());
        here.invalid("metadata.name", &why);
    }
    if group.is_empty() && version != "v1" {
        here.required("spec.group", "only v1 may have an empty group and it better be legacy kube");
    }
    here.form("spec.group", names::dns1123_subdomain);
    here.wrong("spec.version", version, names::dns1035_label(version));
    let bounds = [("spec.groupPriorityMinimum", 20_000), ("spec.versionPriority", 1000)];
    for (name, max) in bounds {
        let priority = here.number(name).unwrap_or_default();
        if !(1..=max).contains(&priority) {
            here.invalid_as(name, priority, &format!("must be positive and less than {max}"));
        }
    }
    if here.has("spec.service") {
        remote(here);
    } else {
        local(here);
    }
}

fn local(here: &mut Here<'_, '_>) {
    let bundle = here.text("spec.caBundle").len() / 4 * 3;
    if bundle != 0 {
        let why = "local APIServices may not have a caBundle";
        here.invalid_as("spec.caBundle", format!("{bundle} bytes"), why);
    }
    if here.flag("spec.insecureSkipTLSVerify") {
        here.invalid("spec.insecureSkipTLSVerify", "local APIServices may not have insecureSkipTLSVerify");
    }
}

fn remote(here: &mut Here<'_, '_>) {
    for name in ["spec.service.namespace", "spec.service.name"] {
        if here.text(name).is_empty() {
            here.required(name, "");
        }
    }
    let port = here.number("spec.service.port").unwrap_or(443);
    if !(1..=65535).contains(&port) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        here.invalid("spec.service.port", why);
    }
    if here.flag("spec.insecureSkipTLSVerify") && !here.text("spec.caBundle").is_empty() {
        here.invalid("spec.insecureSkipTLSVerify", "may not be true if caBundle is present");
    }
}
