//! Nodes: taints, ranges of pod addresses, and what a node has.

use super::{At, Fields, Seen, amounts, items, judge, object, text, texts};
use crate::field::{Error, Errors};
use crate::validate::{forms, names};

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// A node's taints and ranges, and its status, which may come with it.
pub(super) fn node(at: &At<'_>, node: &Fields, errors: &mut Errors) {
    if let Some(spec) = object(node, "spec") {
        // Kubernetes has these at the metadata.
        taints(&at.child("metadata").child("taints"), spec, errors);
        ranges(&at.child("spec").child("podCIDRs"), spec, errors);
    }
    if let Some(found) = object(node, "status") {
        status(&at.child("status"), found, errors);
    }
}

fn taints(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let mut seen = Seen::new();
    for (index, taint) in items(spec, "taints") {
        let path = || at.path().index(index);
        let (key, value, effect) = (text(taint, "key"), text(taint, "value"), text(taint, "effect"));
        judge(names::label_key(key), key, errors, || path().child("key"));
        let found = names::label_value(value);
        if !found.is_empty() {
            errors.push(Error::invalid(&path().child("value"), value, &found.join(";")));
        }
        if effect.is_empty() {
            errors.push(Error::required(&path().child("effect"), ""));
        } else if !EFFECTS.contains(&effect) {
            errors.push(Error::not_supported(&path().child("effect"), effect, &EFFECTS));
        }
        if !seen.add((key, effect)) {
            let time = taint.get("timeAdded").map_or_else(|| "null".into(), ToString::to_string);
            let shown = format!(
                r#"{{"Key":{key:?},"Value":{value:?},"Effect":{effect:?},"TimeAdded":{time}}}: taints must be unique by key and effect pair"#
            );
            errors.push(Error::duplicate_shown(&path(), &shown));
        }
    }
}

fn ranges(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let mut seen = Seen::new();
    let (mut v4, mut v6) = (0, 0);
    for (index, range) in texts(spec, "podCIDRs") {
        judge(forms::cidr(range), range, errors, || at.path().index(index));
        *(if range.contains(':') { &mut v6 } else { &mut v4 }) += 1;
        if !seen.add(range) {
            errors.push(Error::duplicate(&at.path().index(index), range));
        }
    }
    if v4 > 1 || v6 > 1 {
        let value = spec.get("podCIDRs").cloned().unwrap_or_default();
        let why = "may specify no more than one CIDR for each IP family";
        errors.push(Error::invalid(&at.path(), value, why));
    }
}

/// What a node has and gives, and where it is.
fn status(at: &At<'_>, status: &Fields, errors: &mut Errors) {
    for name in ["capacity", "allocatable"] {
        for (resource, amount) in object(status, name).into_iter().flatten() {
            amounts::value(&at.child(name).child(resource), resource, amount, errors);
        }
    }
    let mut seen = Seen::new();
    for (index, address) in items(status, "addresses") {
        let (kind, address) = (text(address, "type"), text(address, "address"));
        if !seen.add((kind, address)) {
            let path = at.path().child("addresses").index(index);
            let shown = format!(r#"{{"Type":{kind:?},"Address":{address:?}}}"#);
            errors.push(Error::duplicate_shown(&path, &shown));
        }
    }
}
