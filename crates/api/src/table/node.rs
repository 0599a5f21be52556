//! Cells of nodes.

use std::collections::BTreeSet;

use crate::{Text, Value};
use jiff::Timestamp;

use super::access::{NONE, at, condition, flag, list, text, text_or};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE: &str = "kubernetes.io/role";

pub(super) fn status(node: &Value, _now: Timestamp) -> Value {
    let ready = match condition(node, "Ready") {
        "" => "Unknown",
        "True" => "Ready",
        _ => "NotReady",
    };
    match flag(node, "spec.unschedulable") {
        true => format!("{ready},SchedulingDisabled").into(),
        false => ready.into(),
    }
}

pub(super) fn roles(node: &Value, _now: Timestamp) -> Value {
    let labels = at(node, "metadata.labels").and_then(Value::as_object).into_iter().flatten();
    let role = |(key, value): (&Text, &Value)| match key.strip_prefix(ROLE_PREFIX) {
        Some(role) => Some(role.to_owned()),
        None => value.as_str().filter(|_| key == ROLE).map(str::to_owned),
    };
    let roles: BTreeSet<String> = labels.filter_map(role).filter(|role| !role.is_empty()).collect();
    match roles.is_empty() {
        true => NONE.into(),
        false => roles.into_iter().collect::<Vec<_>>().join(",").into(),
    }
}

pub(super) fn internal_ip(node: &Value, _now: Timestamp) -> Value {
    address(node, "InternalIP")
}

pub(super) fn external_ip(node: &Value, _now: Timestamp) -> Value {
    address(node, "ExternalIP")
}

fn address(node: &Value, kind: &str) -> Value {
    let found = list(node, "status.addresses").iter().find(|a| text(a, "type") == kind);
    found.map_or(NONE, |address| text_or(address, "address", NONE)).into()
}
