//! Nodes: a range of pod addresses and an identity at the provider are given once.

use tiphys_api::Value;
use tiphys_api::field::{Error, Errors, Path};

use super::Rules;
use crate::registry::tree;

pub(super) const NODES: Rules = Rules { status_on_create: true, validate_update, ..Rules::DEFAULT };

fn validate_update(new: &Value, old: &Value, _: &str, errors: &mut Errors) {
    let path = Path::new("spec");
    let ranges = |node| tree::items(node, &["spec", "podCIDRs"]);
    if !ranges(old).is_empty() && ranges(new) != ranges(old) {
        let why = "node updates may not change podCIDR except from \"\" to valid";
        errors.push(Error::forbidden(&path.child("podCIDRs"), why));
    }
    let provider = |node| tree::text(node, &["spec", "providerID"]);
    if !provider(old).is_empty() && provider(new) != provider(old) {
        let why = "node updates may not change providerID except from \"\" to valid";
        errors.push(Error::forbidden(&path.child("providerID"), why));
    }
    let external = |node| tree::text(node, &["spec", "externalID"]);
    if external(new) != external(old) {
        errors.push(Error::forbidden(&path.child("externalID"), "may not be updated"));
    }
}
