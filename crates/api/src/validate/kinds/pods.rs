//! Pods: containers, volumes, probes, resources.

use serde_json::Value;

use super::{At, Fields, items, number, object, text, under};
use crate::field::{Error, Errors};
use crate::quantity::Quantity;
use crate::validate::meta;

const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// What a pod's containers mount exists.
pub fn pod(at: &At<'_>, pod: &Fields, errors: &mut Errors) {
    if let Some(spec) = object(pod, "spec") {
        mounts_exist(&At::Child(at, "spec"), spec, &[], errors);
    }
}

/// Volumes that are mounted are the pod's own, or those that its controller adds.
pub fn mounts_exist(at: &At<'_>, spec: &Fields, added: &[&str], errors: &mut Errors) {
    let own = items(spec, "volumes").map(|(_, volume)| text(volume, "name"));
    let volumes: Vec<&str> = own.chain(added.iter().copied()).collect();
    for list in ["initContainers", "containers"] {
        for (index, container) in items(spec, list) {
            for (place, mount) in items(container, "volumeMounts") {
                let name = text(mount, "name");
                if !name.is_empty() && !volumes.contains(&name) {
                    let path = at.path().child(list).index(index).child("volumeMounts").index(place);
                    errors.push(Error::not_found(&path.child("name"), name));
                }
            }
        }
    }
}

/// Names are unique over all containers; DNS and host ports fit together.
pub fn pod_spec(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let mut names: Vec<&str> = Vec::new();
    for list in CONTAINERS {
        for (index, container) in items(spec, list) {
            let path = || at.path().child(list).index(index);
            let name = text(container, "name");
            if !name.is_empty() && names.contains(&name) {
                errors.push(Error::duplicate(&path().child("name"), name));
            }
            names.push(name);
        }
    }
    host_ports(at, spec, errors);
    let dns = object(spec, "dnsConfig");
    if text(spec, "dnsPolicy") == "None" {
        match dns {
            None => errors.push(Error::required(
                &at.path().child("dnsConfig"),
                "must provide `dnsConfig` when `dnsPolicy` is None",
            )),
            Some(dns) if dns.get("nameservers").and_then(Value::as_array).is_none_or(Vec::is_empty) => {
                let path = under(at, "dnsConfig.nameservers");
                errors.push(Error::required(
                    &path,
                    "must provide at least one DNS nameserver when `dnsPolicy` is None",
                ));
            }
            Some(_) => {}
        }
    }
}

fn mounts(at: &At<'_>, container: &Fields, errors: &mut Errors) {
    let mut paths: Vec<&str> = Vec::new();
    for (index, mount) in items(container, "volumeMounts") {
        let place = text(mount, "mountPath");
        if !place.is_empty() && paths.contains(&place) {
            let path = at.path().child("volumeMounts").index(index).child("mountPath");
            errors.push(Error::invalid(&path, place, "must be unique"));
        }
        paths.push(place);
    }
}

fn host_ports(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    if spec.get("hostNetwork") != Some(&Value::Bool(true)) {
        return;
    }
    for (index, container) in items(spec, "containers") {
        for (place, port) in items(container, "ports") {
            let (inside, outside) = (number(port, "containerPort"), number(port, "hostPort"));
            if let (Some(inside), Some(outside)) = (inside, outside)
                && inside != outside
            {
                let path = at.path().child("containers").index(index).child("ports").index(place);
                let why = "must match `hostPort` when `hostNetwork` is true";
                errors.push(Error::invalid(&path.child("containerPort"), inside, why));
            }
        }
    }
}

/// Labels and annotations of the pods to be made.
pub fn template(at: &At<'_>, template: &Fields, errors: &mut Errors) {
    if let Some(metadata) = object(template, "metadata") {
        meta::labels_and_annotations(metadata, &at.path().child("metadata"), errors);
    }
}

/// A container runs an image; liveness knows no thresholds of success.
pub fn container(at: &At<'_>, container: &Fields, errors: &mut Errors) {
    if text(container, "image").is_empty() {
        errors.push(Error::required(&at.path().child("image"), ""));
    } else if text(container, "image").trim() != text(container, "image") {
        let why = "must not have leading or trailing whitespace";
        errors.push(Error::invalid(&at.path().child("image"), text(container, "image"), why));
    }
    for probe in ["livenessProbe", "startupProbe"] {
        let threshold = object(container, probe).and_then(|probe| number(probe, "successThreshold"));
        if let Some(threshold) = threshold.filter(|threshold| *threshold != 1) {
            let path = at.path().child(probe).child("successThreshold");
            errors.push(Error::invalid(&path, threshold, "must be 1"));
        }
    }
    mounts(at, container, errors);
    for (index, variable) in items(container, "env") {
        environment(&At::Index(&At::Child(at, "env"), index), variable, errors);
    }
}

fn environment(at: &At<'_>, variable: &Fields, errors: &mut Errors) {
    let Some(source) = object(variable, "valueFrom") else { return };
    let path = || at.path().child("valueFrom");
    if source.is_empty() {
        let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
        errors.push(Error::invalid(&path(), "", why));
    } else if !text(variable, "value").is_empty() {
        errors.push(Error::invalid(&path(), "", "may not be specified when `value` is not empty"));
    } else if source.len() > 1 {
        errors.push(Error::invalid(&path(), "", "may not have more than one field specified at a time"));
    }
}

/// A probe asks in exactly one way.
pub fn probe(at: &At<'_>, probe: &Fields, errors: &mut Errors) {
    let mut ways =
        ["exec", "httpGet", "tcpSocket", "grpc"].into_iter().filter(|way| probe.contains_key(*way));
    if ways.next().is_none() {
        errors.push(Error::required(&at.path(), "must specify a handler type"));
    }
    for way in ways {
        errors.push(Error::forbidden(&at.path().child(way), "may not specify more than 1 handler type"));
    }
}

/// Nothing asks for more than it may use.
pub fn resources(at: &At<'_>, resources: &Fields, errors: &mut Errors) {
    let (Some(requests), Some(limits)) = (object(resources, "requests"), object(resources, "limits")) else {
        return;
    };
    for (name, request) in requests {
        let amount = |value: Option<&Value>| value?.as_str()?.parse::<Quantity>().ok();
        if let (Some(asked), Some(limit)) = (amount(Some(request)), amount(limits.get(name)))
            && asked > limit
        {
            let why = format!("must be less than or equal to {name} limit of {limit}");
            errors.push(Error::invalid(&at.path().child("requests"), request.clone(), &why));
        }
    }
}

/// A volume has exactly one source.
pub fn volume(at: &At<'_>, volume: &Fields, errors: &mut Errors) {
    let mut sources = volume.keys().filter(|key| *key != "name");
    if sources.next().is_none() {
        errors.push(Error::required(&at.path(), "must specify a volume type"));
    }
    for source in sources {
        errors.push(Error::forbidden(&at.path().child(source), "may not specify more than 1 volume type"));
    }
}

/// Operator, key and value fit each other.
pub fn toleration(at: &At<'_>, toleration: &Fields, errors: &mut Errors) {
    let operator = text(toleration, "operator");
    if text(toleration, "key").is_empty() && operator != "Exists" {
        let why =
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.push(Error::invalid(&at.path().child("operator"), operator, why));
    }
    if operator == "Exists" && !text(toleration, "value").is_empty() {
        let why = "value must be empty when `operator` is 'Exists'";
        errors.push(Error::invalid(&at.path().child("operator"), text(toleration, "value"), why));
    }
    if toleration.contains_key("tolerationSeconds") && text(toleration, "effect") != "NoExecute" {
        let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(Error::invalid(&at.path().child("effect"), text(toleration, "effect"), why));
    }
}
