//! Volumes and claims: what they stand for does not change under those who use them.

use tiphys_api::Value;
use tiphys_api::field::{Error, Errors, Path};
use tiphys_api::quantity::Quantity;

use super::Rules;
use crate::registry::tree;

pub(super) const CLAIMS: Rules = Rules { validate_update: validate_claim, ..Rules::DEFAULT };
pub(super) const VOLUMES: Rules = Rules { validate_update: validate_volume, ..Rules::DEFAULT };

const CLAIM_FIXED: &str = "spec is immutable after creation except resources.requests and volumeAttributesClassName \
    for bound claims";

fn validate_claim(new: &Value, old: &Value, subresource: &str, errors: &mut Errors) {
    if !subresource.is_empty() {
        return;
    }
    let path = Path::new("spec");
    let (mut spec, before) = (tree::at(new, &["spec"]).clone(), tree::at(old, &["spec"]));
    let bound = tree::text(old, &["status", "phase"]) == "Bound";
    let mut free = vec!["volumeName"];
    if !tree::text(before, &["volumeName"]).is_empty() {
        free.clear();
    }
    if tree::text(before, &["storageClassName"]).is_empty() {
        free.push("storageClassName");
    }
    if bound {
        tree::set(
            &mut spec,
            &["resources", "requests"],
            tree::at(before, &["resources", "requests"]).clone(),
        );
        free.push("volumeAttributesClassName");
    }
    for name in free {
        tree::set(&mut spec, &[name], tree::at(before, &[name]).clone());
    }
    if spec != *before {
        errors.push(Error::forbidden(&path, CLAIM_FIXED));
    }
    let capacity = tree::text(old, &["status", "capacity", "storage"]).parse::<Quantity>();
    let wanted = tree::text(new, &["spec", "resources", "requests", "storage"]).parse::<Quantity>();
    if let (Ok(capacity), Ok(wanted)) = (capacity, wanted)
        && wanted < capacity
    {
        let path = path.child("resources").child("requests").child("storage");
        errors.push(Error::forbidden(&path, "field can not be less than status.capacity"));
    }
}

/// Fields of a volume's spec that are not its source.
const NOT_SOURCE: [&str; 9] = [
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

fn validate_volume(new: &Value, old: &Value, subresource: &str, errors: &mut Errors) {
    let source = |volume: &Value| {
        let mut spec = tree::at(volume, &["spec"]).clone();
        NOT_SOURCE.iter().for_each(|name| tree::set(&mut spec, &[name], Value::Null));
        spec
    };
    if subresource.is_empty() && source(new) != source(old) {
        let why = "spec.persistentvolumesource is immutable after creation";
        errors.push(Error::forbidden(&Path::new("spec").child("persistentvolumesource"), why));
    }
}
