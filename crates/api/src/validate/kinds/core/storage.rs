//! Persistent volumes and claims.

use crate::Value;

use super::{At, Fields, amounts, as_value, judge, object, sources, text};
use crate::field::{Error, Errors};
use crate::validate::kinds::here::Here;
use crate::validate::names;

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// Ways of access are known, and one pod's own is not shared.
fn access_modes(here: &mut Here<'_, '_>) {
    let (mut own, mut shared) = (false, false);
    for (_, mode) in here.texts("accessModes") {
        let known = MODES.contains(&mode);
        if !known {
            here.errors.push(Error::not_supported(&here.path("accessModes"), mode, &MODES));
        }
        own |= mode == "ReadWriteOncePod";
        shared |= known && mode != "ReadWriteOncePod";
    }
    if own && shared {
        here.forbidden("accessModes", "may not use ReadWriteOncePod with other access modes");
    }
}

/// A claim says how much, and how it will be accessed.
pub(super) fn claim(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, spec, errors);
    if here.list("accessModes").is_empty() {
        here.required("accessModes", "at least 1 access mode is required");
    }
    access_modes(here);
    let path = || at.path().child("resources").key("storage");
    match here.object("resources.requests").and_then(|requests| requests.get("storage")) {
        None => here.errors.push(Error::required(&path(), "")),
        Some(amount) if amounts::parse(amount).is_none_or(|amount| amount.sign() <= 0) => {
            here.errors.push(Error::invalid(&path(), amount.clone(), "must be greater than zero"));
        }
        Some(_) => {}
    }
    for name in ["storageClassName", "volumeAttributesClassName"] {
        here.form(name, names::dns1123_subdomain);
    }
    for name in ["dataSource", "dataSourceRef"] {
        if let Some(source) = object(spec, name) {
            data_source(&at.child(name), source, errors);
        }
    }
    data_sources_agree(at, spec, errors);
}

fn data_source(at: &At<'_>, source: &Fields, errors: &mut Errors) {
    let (group, kind) = (text(source, "apiGroup"), text(source, "kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(Error::invalid(&at.path(), kind, why));
    }
    if !group.is_empty() {
        judge(names::dns1123_subdomain(group), group, errors, || at.path().child("apiGroup"));
    }
    let namespace = text(source, "namespace");
    if !namespace.is_empty() {
        judge(names::dns1123_label(namespace), namespace, errors, || at.path().child("namespace"));
    }
}

fn data_sources_agree(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let (Some(old), Some(new)) = (object(spec, "dataSource"), object(spec, "dataSourceRef")) else { return };
    let same = ["apiGroup", "kind", "name"].iter().all(|name| text(old, name) == text(new, name));
    let why = match text(new, "namespace") {
        "" if same => return,
        "" => "must match dataSourceRef",
        _ => "may not be specified when dataSourceRef.namespace is specified",
    };
    // What Kubernetes shows as the value is the path.
    let shown = at.path().child("dataSource").to_string();
    errors.push(Error::invalid(&at.path(), shown, why));
}

/// Fields of a PersistentVolume's spec that are not its source.
pub const NOT_SOURCES: [&str; 9] = [
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

/// A volume says how much it holds, how it can be accessed, and where it is.
pub(super) fn volume(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    sources::exactly_one(at, spec.keys().filter(|key| !NOT_SOURCES.contains(&key.as_str())), errors);
    let here = &mut Here::new(at, spec, errors);
    if here.list("accessModes").is_empty() {
        here.required("accessModes", "");
    }
    access_modes(here);
    // One that stands in an attachment is no object that could be claimed.
    if matches!(at, At::Child(_, "inlineVolumeSpec")) {
        return inline(here);
    }
    capacity(here);
    let recycled = here.text("persistentVolumeReclaimPolicy") == "Recycle";
    if recycled
        && here.text("hostPath.path").split('/').all(|part| matches!(part, "" | "."))
        && here.has("hostPath")
    {
        here.forbidden("persistentVolumeReclaimPolicy", "may not be 'recycle' for a hostPath mount of '/'");
    }
    here.form("storageClassName", names::dns1123_subdomain);
    if here.has("volumeAttributesClassName") {
        match here.text("volumeAttributesClassName") {
            "" => here.required("volumeAttributesClassName", "an empty string is disallowed"),
            _ => here.form("volumeAttributesClassName", names::dns1123_subdomain),
        }
        if !here.has("csi") {
            here.required("csi", "has to be specified when using volumeAttributesClassName");
        }
    }
    if here.has("local") && !here.has("nodeAffinity") {
        here.required("nodeAffinity", "Local volume requires node affinity");
    }
    if here.has("nodeAffinity") && !here.has("nodeAffinity.required") {
        here.required("nodeAffinity.required", "must specify required node constraints");
    }
}

/// A volume inside an attachment is a driver's, and has nothing that is about finding one.
fn inline(here: &mut Here<'_, '_>) {
    const WHERE: &str = "in the context of inline volumes";
    for name in ["claimRef", "capacity", "nodeAffinity", "storageClassName"] {
        if here.has(name) {
            here.forbidden(name, &format!("may not be specified {WHERE}"));
        }
    }
    if !here.has("csi") {
        here.required("csi", &format!("has to be specified {WHERE}"));
    }
    for (name, only, why) in [
        ("persistentVolumeReclaimPolicy", "Retain", "may only be Retain"),
        ("volumeMode", "Filesystem", "may not specify volumeMode other than Filesystem"),
    ] {
        if here.has(name) && here.text(name) != only {
            here.forbidden(name, &format!("{why} {WHERE}"));
        }
    }
}

fn capacity(here: &mut Here<'_, '_>) {
    let capacity = here.object("capacity");
    let amounts = capacity.into_iter().flatten();
    if capacity.is_none_or(Fields::is_empty) {
        here.required("capacity", "");
    }
    if capacity.is_none_or(|capacity| !capacity.contains_key("storage") || capacity.len() > 1) {
        let value = capacity.map_or(Value::Null, as_value);
        here.errors.push(Error::not_supported(&here.path("capacity"), value, &["storage"]));
    }
    for (name, amount) in amounts {
        let path = || here.at.path().child("capacity").key(name);
        let Some(found) = amounts::parse(amount) else { continue };
        if found.value() < 0 {
            here.errors.push(Error::invalid(&path(), found.value(), "must be a valid resource quantity"));
        }
        if found.sign() <= 0 {
            here.errors.push(Error::invalid(&path(), amount.clone(), "must be greater than zero"));
        }
    }
}

/// A driver's volume in the cluster: its secrets are named in full.
pub(super) fn csi(at: &At<'_>, source: &Fields, errors: &mut Errors) {
    const SECRETS: [&str; 4] = [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ];
    sources::csi_driver(at, source, errors);
    for secret in SECRETS {
        let Some(reference) = object(source, secret) else { continue };
        let path = |name: &str| at.path().child(secret).child(name);
        match text(reference, "name") {
            "" => errors.push(Error::required(&path("name"), "")),
            name => judge(names::dns1123_subdomain(name), name, errors, || path("name")),
        }
        match text(reference, "namespace") {
            "" => errors.push(Error::required(&path("namespace"), "")),
            name => judge(names::dns1123_label(name), name, errors, || path("namespace")),
        }
    }
}

/// What is noted of a claim's size.
pub(super) fn claim_object(at: &At<'_>, claim: &Fields, errors: &mut Errors) {
    let Some(status) = object(claim, "status") else { return };
    let at = &at.child("status");
    for name in ["capacity", "allocatedResources"] {
        for (resource, amount) in object(status, name).into_iter().flatten() {
            let negative = amounts::parse(amount).map(|amount| amount.value()).filter(|units| *units < 0);
            if let Some(units) = negative {
                let path = at.path().child(name).key(resource);
                errors.push(Error::invalid(&path, units, "must be a valid resource quantity"));
            }
        }
    }
    for name in ["allocatedResources", "allocatedResourceStatuses"] {
        for resource in object(status, name).into_iter().flat_map(Fields::keys) {
            if amounts::is_native(resource) && resource != "storage" {
                let path = at.path().child(name);
                errors.push(Error::not_supported(&path, resource.as_str(), &["storage"]));
            }
        }
    }
}
