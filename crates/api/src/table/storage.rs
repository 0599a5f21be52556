//! Cells of volumes, claims, classes and drivers.

use crate::Value;
use jiff::Timestamp;

use super::access::{NONE, UNSET, at, flag, is_deleted, list, quantity_text, text, text_or, texts};

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) fn capacity(volume: &Value, _now: Timestamp) -> Value {
    quantity_text(at(volume, "spec.capacity.storage")).into()
}

pub(super) fn volume_modes(volume: &Value, _now: Timestamp) -> Value {
    access_modes(volume, "spec.accessModes")
}

/// Short forms, each once, in Kubernetes' order.
fn access_modes(object: &Value, path: &str) -> Value {
    let given = texts(object, path);
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let shown = short.into_iter().filter(|(long, _)| given.contains(long)).map(|(_, short)| short);
    shown.collect::<Vec<_>>().join(",").into()
}

pub(super) fn phase(object: &Value, _now: Timestamp) -> Value {
    if is_deleted(object) { "Terminating".into() } else { text(object, "status.phase").into() }
}

pub(super) fn claim(volume: &Value, _now: Timestamp) -> Value {
    at(volume, "spec.claimRef")
        .map_or("".into(), |claim| format!("{}/{}", text(claim, "namespace"), text(claim, "name")).into())
}

pub(super) fn class(object: &Value, _now: Timestamp) -> Value {
    let annotation = at(object, "metadata.annotations").and_then(|a| a.get(BETA_CLASS));
    annotation.and_then(Value::as_str).unwrap_or_else(|| text(object, "spec.storageClassName")).into()
}

pub(super) fn claim_capacity(claim: &Value, _now: Timestamp) -> Value {
    match text(claim, "spec.volumeName") {
        "" => "".into(),
        _ => quantity_text(at(claim, "status.capacity.storage")).into(),
    }
}

pub(super) fn claim_modes(claim: &Value, _now: Timestamp) -> Value {
    match text(claim, "spec.volumeName") {
        "" => "".into(),
        _ => access_modes(claim, "status.accessModes"),
    }
}

pub(super) fn class_name(class: &Value, _now: Timestamp) -> Value {
    let annotations = at(class, "metadata.annotations");
    let says = |key: &str| annotations.and_then(|a| a.get(key)).and_then(Value::as_str) == Some("true");
    let name = text(class, "metadata.name");
    let default = ["", "beta."]
        .iter()
        .any(|version| says(&format!("storageclass.{version}kubernetes.io/is-default-class")));
    if default { format!("{name} (default)").into() } else { name.into() }
}

pub(super) fn attach_required(driver: &Value, _now: Timestamp) -> Value {
    at(driver, "spec.attachRequired").is_none_or(|v| v == &Value::Bool(true)).into()
}

pub(super) fn lifecycle_modes(driver: &Value, _now: Timestamp) -> Value {
    match texts(driver, "spec.volumeLifecycleModes").join(",").as_str() {
        "" => NONE.into(),
        modes => modes.into(),
    }
}

pub(super) fn token_requests(driver: &Value, _now: Timestamp) -> Value {
    if at(driver, "spec.tokenRequests").is_none() {
        return UNSET.into();
    }
    let audiences = list(driver, "spec.tokenRequests").iter().map(|t| text(t, "audience"));
    audiences.collect::<Vec<_>>().join(",").into()
}

pub(super) fn storage_capacity(object: &Value, _now: Timestamp) -> Value {
    at(object, "capacity").map_or(UNSET.into(), |_| quantity_text(at(object, "capacity")).into())
}

pub(super) fn claim_state(claim: &Value, _now: Timestamp) -> Value {
    let allocated = at(claim, "status.allocation").is_some();
    let mut states = Vec::new();
    if is_deleted(claim) {
        states.push("deleted");
    } else if !allocated {
        states.push("pending");
    }
    if allocated {
        states.push("allocated");
        if !list(claim, "status.reservedFor").is_empty() {
            states.push("reserved");
        }
    }
    states.join(",").into()
}

pub(super) fn migrated_resource(migration: &Value, _now: Timestamp) -> Value {
    let parts =
        ["resource", "version", "group"].map(|name| text(migration, &format!("spec.resource.{name}")));
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".").into()
}

pub(super) fn expansion(class: &Value, _now: Timestamp) -> Value {
    flag(class, "allowVolumeExpansion").into()
}

pub(super) fn binding_mode(class: &Value, _now: Timestamp) -> Value {
    text_or(class, "volumeBindingMode", "Immediate").into()
}
