//! Nodes: a range of pod addresses and an identity at the provider are given once.

use tiphys_api::Value;
use tiphys_api::field::{Error, Errors, Path};

use super::Rules;
use crate::registry::tree;

pub(super) const NODES: Rules =
    Rules { status_on_create: true, normalize: one_range, validate, validate_update, ..Rules::DEFAULT };

const RANGE: &[&str] = &["spec", "podCIDR"];
const RANGES: &[&str] = &["spec", "podCIDRs"];

/// The first range has two names; who gives one of them gives both.
fn one_range(node: &mut Value) {
    match (tree::text(node, RANGE), tree::items(node, RANGES)) {
        ("", [first, ..]) => {
            let first = first.clone();
            tree::set(node, RANGE, first);
        }
        ("", []) => {}
        (range, []) => {
            let ranges = Value::from(vec![range]);
            tree::set(node, RANGES, ranges);
        }
        _ => {}
    }
}

fn validate(node: &Value, errors: &mut Errors) {
    let (range, first) = (tree::text(node, RANGE), tree::items(node, RANGES).first());
    if let Some(first) = first.and_then(Value::as_str).filter(|first| *first != range) {
        let why = format!("conversion Error: v1.PodCIDR({range}) and v1.CIDRs[0]({first}) do not agree");
        errors.push(Error::invalid(&Path::new("spec").child("podCIDR"), range, &why));
    }
}

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
