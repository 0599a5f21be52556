//! Persistent volumes and claims.

use serde_json::Value;

use super::{At, Fields, object};
use crate::field::{Error, Errors};

fn is_empty(fields: &Fields, name: &str) -> bool {
    fields.get(name).and_then(Value::as_array).is_none_or(Vec::is_empty)
}

/// A claim says how much, and how it will be accessed.
pub fn claim(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    if is_empty(spec, "accessModes") {
        let why = "at least 1 access mode is required";
        errors.push(Error::required(&at.path().child("accessModes"), why));
    }
    let storage = object(spec, "resources").and_then(|resources| object(resources, "requests"));
    if storage.is_none_or(|requests| !requests.contains_key("storage")) {
        errors.push(Error::required(&at.path().child("resources").key("storage"), ""));
    }
}

/// A volume says how much it holds, how it can be accessed, and where it is.
pub fn volume(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    const OTHERS: [&str; 9] = [
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    ];
    if is_empty(spec, "accessModes") {
        errors.push(Error::required(&at.path().child("accessModes"), ""));
    }
    if object(spec, "capacity").is_none_or(|capacity| capacity.is_empty()) {
        errors.push(Error::required(&at.path().child("capacity"), ""));
    }
    let mut sources = spec.keys().filter(|key| !OTHERS.contains(&key.as_str()));
    if sources.next().is_none() {
        errors.push(Error::required(&at.path(), "must specify a volume type"));
    }
    for source in sources {
        errors.push(Error::forbidden(&at.path().child(source), "may not specify more than 1 volume type"));
    }
}
