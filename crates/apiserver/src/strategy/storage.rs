//! Volumes and claims: what they stand for does not change under those who use them.

use tiphys_api::field::{Error, Errors, Path};
use tiphys_api::quantity::Quantity;
use tiphys_api::validate::VOLUME_NOT_SOURCES;
use tiphys_api::{Text, Value};

use super::Rules;
use crate::registry::tree;

pub(super) const CLAIMS: Rules = Rules { validate_update: validate_claim, ..Rules::DEFAULT };
pub(super) const VOLUMES: Rules = Rules { validate_update: validate_volume, ..Rules::DEFAULT };

const CLAIM_FIXED: &str = "spec is immutable after creation except resources.requests and volumeAttributesClassName \
    for bound claims";
const CLASS: &[&str] = &["spec", "volumeAttributesClassName"];
const SIZE: [&str; 3] = ["resources", "requests", "storage"];

fn amount(object: &Value, path: &[&str]) -> Option<Quantity> {
    tree::text(object, path).parse().ok()
}

fn validate_claim(new: &Value, old: &Value, subresource: &str, errors: &mut Errors) {
    if !subresource.is_empty() || new.get("spec") == old.get("spec") {
        return;
    }
    let path = Path::new("spec");
    if !claim_agrees(new, old) {
        errors.push(Error::forbidden(&path, CLAIM_FIXED));
    }
    let size = |claim| amount(claim, &["spec", "resources", "requests", "storage"]);
    let given = amount(old, &["status", "capacity", "storage"]).unwrap_or_default();
    if let (Some(before), Some(wanted)) = (size(old), size(new))
        && wanted < before
        && wanted <= given
    {
        let path = SIZE.iter().fold(path, |path, name| path.child(name));
        errors.push(Error::forbidden(&path, "field can not be less than status.capacity"));
    }
    volume_mode(new, old, errors);
    let class = |claim| tree::at(claim, CLASS).as_str();
    let why = match (class(old), class(new)) {
        (Some(_), None) => "update from non-nil value to nil is forbidden",
        (Some(old), Some("")) if !old.is_empty() => {
            "update from non-nil value to an empty string is forbidden"
        }
        _ => return,
    };
    errors.push(Error::forbidden(&Path::new("spec").child("volumeAttributesClassName"), why));
}

/// Whether the specs agree once what may change is taken from the old one.
fn claim_agrees(new: &Value, old: &Value) -> bool {
    let (mut spec, before) = (tree::at(new, &["spec"]).clone(), tree::at(old, &["spec"]));
    let bound = tree::text(new, &["status", "phase"]) == "Bound";
    let mut keep = |path: &[&str]| tree::set(&mut spec, path, tree::at(before, path).clone());
    if tree::text(before, &["volumeName"]).is_empty() {
        keep(&["volumeName"]);
    }
    if tree::at(before, &["storageClassName"]).is_null() {
        keep(&["storageClassName"]);
    }
    if bound {
        keep(&SIZE);
        keep(&["volumeAttributesClassName"]);
    }
    spec == *before
}

fn volume_mode(new: &Value, old: &Value, errors: &mut Errors) {
    let mode = |object| tree::at(object, &["spec", "volumeMode"]);
    if mode(new) != mode(old) {
        // Kubernetes leaves the spec out of this path.
        errors.push(Error::invalid(&Path::new("volumeMode"), mode(new).clone(), "field is immutable"));
    }
}

/// Labels of nodes by their old names, which may give way to the new ones.
const RENAMED: [(&str, &str); 5] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
];

fn validate_volume(new: &Value, old: &Value, subresource: &str, errors: &mut Errors) {
    if !subresource.is_empty() || new.get("spec") == old.get("spec") {
        return;
    }
    let source = |volume: &Value| {
        let mut spec = tree::at(volume, &["spec"]).clone();
        VOLUME_NOT_SOURCES.iter().for_each(|name| tree::set(&mut spec, &[name], Value::Null));
        spec
    };
    let (mut now, before) = (source(new), source(old));
    if tree::at(&before, &["csi", "controllerExpandSecretRef"]).is_null() {
        tree::set(&mut now, &["csi", "controllerExpandSecretRef"], Value::Null);
    }
    if now != before {
        let why = "spec.persistentvolumesource is immutable after creation";
        errors.push(Error::forbidden(&Path::new("spec").child("persistentvolumesource"), why));
    }
    volume_mode(new, old, errors);
    let affinity = |volume| tree::at(volume, &["spec", "nodeAffinity"]);
    if !affinity(old).is_null() && affinity(new) != &renamed(affinity(old), affinity(new)) {
        let why = "field is immutable, except for updating from beta label to GA";
        errors.push(Error::invalid(&Path::new("nodeAffinity"), affinity(new).clone(), why));
    }
    if tree::at(old, CLASS).is_string() && tree::at(new, CLASS).is_null() {
        let path = Path::new("spec").child("volumeAttributesClassName");
        errors.push(Error::forbidden(&path, "update from non-nil value to nil is forbidden"));
    }
}

/// The old affinity with those keys renamed that the new one has renamed.
fn renamed(old: &Value, new: &Value) -> Value {
    match (old, new) {
        (Value::Object(before), Value::Object(now)) => {
            let entry = |(key, value): (&Text, &Value)| {
                let other = now.get(key).unwrap_or(&Value::Null);
                let known = RENAMED.iter().any(|(from, to)| value == from && other == to);
                let value = if key == "key" && known { other.clone() } else { renamed(value, other) };
                (key.clone(), value)
            };
            Value::Object(before.iter().map(entry).collect())
        }
        (Value::Array(before), Value::Array(now)) => {
            let item = |(index, value)| renamed(value, now.get(index).unwrap_or(&Value::Null));
            before.iter().enumerate().map(item).collect()
        }
        (old, _) => old.clone(),
    }
}
