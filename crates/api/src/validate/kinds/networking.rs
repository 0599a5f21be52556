//! Services and Ingresses.

use serde_json::Value;

use super::{At, Fields, items, number, text};
use crate::field::{Error, Errors};

/// Ports, types and addresses of a Service.
pub fn service(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let kind = text(spec, "type");
    let ports: Vec<(usize, &Fields)> = items(spec, "ports").collect();
    let headless = text(spec, "clusterIP") == "None";
    if ports.is_empty() && !headless && kind != "ExternalName" {
        errors.push(Error::required(&at.path().child("ports"), ""));
    }
    if kind == "ExternalName" && text(spec, "externalName").is_empty() {
        errors.push(Error::required(&at.path().child("externalName"), ""));
    }
    if kind == "ExternalName" && !matches!(text(spec, "clusterIP"), "" | "None") {
        let why = "may not be set when `type` is 'ExternalName'";
        errors.push(Error::forbidden(&at.path().child("clusterIPs").index(0), why));
    }
    if headless && matches!(kind, "NodePort" | "LoadBalancer") {
        let path = at.path().child("clusterIPs").index(0);
        let why = format!("may not be set to 'None' for {kind} services");
        errors.push(Error::invalid(&path, "None", &why));
    }
    for (index, port) in &ports {
        self::port(at, kind, ports.len() > 1, *index, port, errors);
    }
    twice(at, &ports, errors);
}

fn port(at: &At<'_>, kind: &str, several: bool, index: usize, port: &Fields, errors: &mut Errors) {
    let path = || at.path().child("ports").index(index);
    if several && text(port, "name").is_empty() {
        errors.push(Error::required(&path().child("name"), ""));
    }
    if !port.contains_key("port") {
        errors.push(Error::invalid(&path().child("port"), 0, "must be between 1 and 65535, inclusive"));
    }
    if matches!(kind, "ClusterIP" | "ExternalName") && number(port, "nodePort").is_some_and(|n| n != 0) {
        let why = format!("may not be used when `type` is '{kind}'");
        errors.push(Error::forbidden(&path().child("nodePort"), &why));
    }
}

fn twice(at: &At<'_>, ports: &[(usize, &Fields)], errors: &mut Errors) {
    let key = |port: &Fields| (text(port, "protocol").to_owned(), number(port, "port"));
    for (at_port, (index, port)) in ports.iter().enumerate() {
        if ports.iter().take(at_port).any(|(_, other)| key(other) == key(port)) {
            let value = serde_json::json!({"port": port.get("port"), "protocol": port.get("protocol")});
            errors.push(Error::duplicate(&at.path().child("ports").index(*index), value));
        }
    }
}

/// An Ingress leads somewhere.
pub fn ingress(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let rules = spec.get("rules").and_then(Value::as_array).is_some_and(|rules| !rules.is_empty());
    if !rules && !spec.contains_key("defaultBackend") {
        let why = "either `defaultBackend` or `rules` must be specified";
        errors.push(Error::invalid(&at.path(), Value::Object(spec.clone()), why));
    }
}

/// Paths start at the root.
pub fn ingress_path(at: &At<'_>, path: &Fields, errors: &mut Errors) {
    let text_of = text(path, "path");
    let absolute = text_of.starts_with('/');
    let free = text(path, "pathType") == "ImplementationSpecific" && text_of.is_empty();
    if !absolute && !free {
        errors.push(Error::invalid(&at.path().child("path"), text_of, "must be an absolute path"));
    }
}
