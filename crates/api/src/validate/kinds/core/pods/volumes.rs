//! Volumes of a pod and how its containers see them.

use std::collections::HashMap;

use super::super::sources;
use super::judge;
use super::{At, ByText, CONTAINERS, Fields, Seen, flag, items, list, object, text};
use crate::field::{Error, Errors};
use crate::validate::{forms, names};

/// Fields of a pod whose files a volume can show.
const SHOWN: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// A volume has exactly one source.
pub(super) fn volume(at: &At<'_>, volume: &Fields, errors: &mut Errors) {
    sources::exactly_one(at, volume.keys().filter(|key| *key != "name"), errors);
    if let Some(disk) = object(volume, "iscsi") {
        let name = text(volume, "name");
        if disk.contains_key("initiatorName") && name.len() + 1 + text(disk, "targetPortal").len() > 64 {
            errors.push(Error::invalid(&at.path().child("name"), name, sources::PORTAL_TOO_LONG));
        }
    }
    let empty = object(volume, "emptyDir");
    if empty.is_some_and(|empty| text(empty, "sizeLimit").starts_with('-')) {
        let path = at.path().child("emptyDir").child("sizeLimit");
        errors.push(Error::forbidden(&path, "SizeLimit field must be a valid resource quantity"));
    }
}

/// A claim is made from a template that says no more of its metadata than labels and annotations.
pub(super) fn ephemeral(at: &At<'_>, source: &Fields, errors: &mut Errors) {
    let path = || at.path().child("volumeClaimTemplate");
    let Some(template) = object(source, "volumeClaimTemplate") else {
        errors.push(Error::required(&path(), ""));
        return;
    };
    let Some(metadata) = object(template, "metadata") else { return };
    crate::validate::meta::labels_and_annotations(metadata, &|| path().child("metadata"), errors);
    for name in metadata.keys().filter(|name| !matches!(name.as_str(), "labels" | "annotations")) {
        errors.push(Error::forbidden(&path().child("metadata").child(name), "cannot be set"));
    }
}

/// Claims that a pod makes are named after it, and are not claims that it also names.
pub(super) fn made_claims(at: &At<'_>, spec: &Fields, pod: &str, errors: &mut Errors) {
    let mut made = items(spec, "volumes").filter(|(_, volume)| volume.contains_key("ephemeral")).peekable();
    if made.peek().is_none() {
        return;
    }
    let mut named: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, volume) in items(spec, "volumes") {
        if let Some(source) = object(volume, "persistentVolumeClaim") {
            named.entry(text(source, "claimName")).or_default().push(index);
        }
    }
    for (index, volume) in made {
        let name = text(volume, "name");
        let claim = format!("{pod}-{name}");
        for found in names::dns1123_subdomain(&claim) {
            let path = at.path().child("volumes").index(index).child("name");
            errors.push(Error::invalid(&path, name, &format!("PVC name {claim:?}: {found}")));
        }
        for other in named.get(claim.as_str()).into_iter().flatten() {
            let path = at.path().child("volumes").index(*other).child("persistentVolumeClaim");
            let why = "must not reference a PVC that gets created for an ephemeral volume";
            errors.push(Error::invalid(&path.child("claimName"), claim.as_str(), why));
        }
    }
}

/// Without a service account there is nobody a token could be for.
pub(super) fn tokens_forbidden(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    for (index, volume) in items(spec, "volumes") {
        let Some(projected) = object(volume, "projected") else { continue };
        for (place, source) in items(projected, "sources") {
            if source.contains_key("serviceAccountToken") {
                let path = at.path().child("volumes").index(index).child("projected").child("sources");
                let why = "must not be specified when serviceAccountName is not set";
                errors.push(Error::forbidden(&path.index(place).child("serviceAccountToken"), why));
            }
        }
    }
}

/// A file shows one thing of the pod. Its errors stand at the list, as Kubernetes has them.
pub(super) fn downward_file(at: &At<'_>, file: &Fields, errors: &mut Errors) {
    let at = at.list().parent();
    let path = text(file, "path");
    if path.is_empty() {
        errors.push(Error::required(&at.path().child("path"), ""));
    }
    judge(forms::local_path(path), path, errors, || at.path().child("path"));
    match (object(file, "fieldRef"), object(file, "resourceFieldRef")) {
        (Some(field), amount) => {
            sources::pod_field(&at.child("fieldRef"), field, &SHOWN, errors);
            if amount.is_some() {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(Error::invalid(&at.path(), "resource", why));
            }
        }
        (None, Some(amount)) => {
            sources::container_amount(&at.child("resourceFieldRef"), amount, true, errors);
        }
        (None, None) => {
            let why = "one of fieldRef and resourceFieldRef is required";
            errors.push(Error::required(&at.path(), why));
        }
    }
    sources::file_mode(at, file, "mode", errors);
}

/// A mount that is read-only all the way down is read-only.
pub(super) fn mount(at: &At<'_>, mount: &Fields, errors: &mut Errors) {
    if !matches!(text(mount, "recursiveReadOnly"), "Enabled" | "IfPossible") {
        return;
    }
    let path = || at.list().path().child("recursiveReadOnly");
    if !flag(mount, "readOnly") {
        errors.push(Error::forbidden(&path(), "may only be specified when readOnly is true"));
    }
    if !matches!(text(mount, "mountPropagation"), "" | "None") {
        let why = "may only be specified when mountPropagation is None or not specified";
        errors.push(Error::forbidden(&path(), why));
    }
}

/// Mounts of one container lie at different places, inside their volumes.
pub(super) fn mounts(at: &At<'_>, container: &Fields, errors: &mut Errors) {
    let mut places = Seen::new();
    let devices = |key| ByText::new(list(container, "volumeDevices"), key);
    let (by_name, by_path) = (devices("name"), devices("devicePath"));
    let list = at.child("volumeMounts");
    for (index, mount) in items(container, "volumeMounts") {
        let (name, place) = (text(mount, "name"), text(mount, "mountPath"));
        let mut refuse = |field: &str, value: &str, why: &str| {
            errors.push(Error::invalid(&list.index(index).path().child(field), value, why));
        };
        if !place.is_empty() && !places.add(place) {
            refuse("mountPath", place, "must be unique");
        }
        if by_name.has(name) {
            refuse("name", name, "must not already exist in volumeDevices");
        }
        if by_path.has(place) {
            refuse("mountPath", place, "must not already exist as a path in volumeDevices");
        }
        let (path, pattern) = (text(mount, "subPath"), text(mount, "subPathExpr"));
        if !path.is_empty() && !pattern.is_empty() {
            refuse("subPathExpr", pattern, "subPathExpr and subPath are mutually exclusive");
        }
        judge(forms::descending(path), path, errors, || list.path().child("subPath"));
        judge(forms::descending(pattern), pattern, errors, || list.path().child("subPathExpr"));
        let privileged = object(container, "securityContext").is_some_and(|sc| flag(sc, "privileged"));
        if text(mount, "mountPropagation") == "Bidirectional" && !privileged {
            let why = "Bidirectional mount propagation is available only to privileged containers";
            errors.push(Error::forbidden(&list.path().child("mountPropagation"), why));
        }
    }
}

/// Devices of one container likewise.
pub(super) fn devices(at: &At<'_>, container: &Fields, errors: &mut Errors) {
    let (mut named, mut places) = (Seen::new(), Seen::new());
    let mounts = |key| ByText::new(list(container, "volumeMounts"), key);
    let (mounts_by_name, mounts_by_path) = (mounts("name"), mounts("mountPath"));
    for (index, device) in items(container, "volumeDevices") {
        let (name, place) = (text(device, "name"), text(device, "devicePath"));
        let mut refuse = |field: &str, value: &str, why: &str| {
            let path = at.path().child("volumeDevices").index(index).child(field);
            errors.push(Error::invalid(&path, value, why));
        };
        if !name.is_empty() && !named.add(name) {
            refuse("name", name, "must be unique");
        }
        if !place.is_empty() && !places.add(place) {
            refuse("devicePath", place, "must be unique");
        }
        if place.split('/').any(|part| part == "..") {
            refuse("devicePath", place, "can not contain backsteps ('..')");
        }
        if mounts_by_name.has(name) {
            refuse("name", name, "must not already exist in volumeMounts");
        }
        if mounts_by_path.has(place) {
            refuse("devicePath", place, "must not already exist as a path in volumeMounts");
        }
    }
}

/// Volumes that are mounted are the pod's own, or those that its controller adds; devices are claims.
pub fn mounts_exist(at: &At<'_>, spec: &Fields, added: &[&str], errors: &mut Errors) {
    let volumes = Volumes { own: ByText::new(list(spec, "volumes"), "name"), added: set_of(added) };
    for name in CONTAINERS {
        for (index, container) in items(spec, name) {
            let at = at.child(name);
            let at = at.index(index);
            mounted(&at, container, &volumes, errors);
            attached(&at, container, &volumes, errors);
        }
    }
}

/// The volumes of a pod by their names.
struct Volumes<'s> {
    own: ByText<'s>,
    /// Those that a controller adds.
    added: Seen<&'s str>,
}

impl Volumes<'_> {
    fn has(&self, name: &str) -> bool {
        self.own.has(name) || self.added.has(name)
    }
}

fn set_of<'a>(names: &[&'a str]) -> Seen<&'a str> {
    let mut seen = Seen::new();
    for name in names {
        seen.add(*name);
    }
    seen
}

fn mounted(at: &At<'_>, container: &Fields, volumes: &Volumes<'_>, errors: &mut Errors) {
    for (place, mount) in items(container, "volumeMounts") {
        let name = text(mount, "name");
        if !name.is_empty() && !volumes.has(name) {
            errors.push(Error::not_found(&at.path().child("volumeMounts").index(place).child("name"), name));
        }
    }
}

fn attached(at: &At<'_>, container: &Fields, volumes: &Volumes<'_>, errors: &mut Errors) {
    let claim =
        |volume: &Fields| volume.contains_key("persistentVolumeClaim") || volume.contains_key("ephemeral");
    for (place, device) in items(container, "volumeDevices") {
        let name = text(device, "name");
        let path = || at.path().child("volumeDevices").index(place).child("name");
        match volumes.own.get(name) {
            Some(volume) if !claim(volume) => {
                let why =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(Error::invalid(&path(), name, why));
            }
            None if !name.is_empty() && !volumes.added.has(name) => {
                errors.push(Error::not_found(&path(), name));
            }
            _ => {}
        }
    }
}
