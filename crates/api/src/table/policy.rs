//! Cells of roles, requests, quotas, admission policies and flow control.

use crate::Value;
use jiff::Timestamp;

use super::access::{NONE, UNSET, at, first_three, list, quantity_text, text};

pub(super) fn role(binding: &Value, _now: Timestamp) -> Value {
    format!("{}/{}", text(binding, "roleRef.kind"), text(binding, "roleRef.name")).into()
}

pub(super) fn users(binding: &Value, _now: Timestamp) -> Value {
    subjects(binding, "User")
}

pub(super) fn groups(binding: &Value, _now: Timestamp) -> Value {
    subjects(binding, "Group")
}

pub(super) fn service_accounts(binding: &Value, _now: Timestamp) -> Value {
    subjects(binding, "ServiceAccount")
}

fn subjects(binding: &Value, kind: &str) -> Value {
    let of_kind = list(binding, "subjects").iter().filter(|subject| text(subject, "kind") == kind);
    let names = of_kind.map(|subject| match (kind, text(subject, "namespace"), text(subject, "name")) {
        ("ServiceAccount", namespace, name) if !namespace.is_empty() => format!("{namespace}/{name}"),
        (_, _, name) => name.to_owned(),
    });
    names.collect::<Vec<_>>().join(", ").into()
}

pub(super) fn request_state(csr: &Value, _now: Timestamp) -> Value {
    let has = |kind| list(csr, "status.conditions").iter().any(|c| text(c, "type") == kind);
    let mut state = match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    }
    .to_owned();
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !text(csr, "status.certificate").is_empty() {
        state.push_str(",Issued");
    }
    state.into()
}

pub(super) fn quota_requests(quota: &Value, _now: Timestamp) -> Value {
    quota_usage(quota, |resource| !resource.starts_with("limits."))
}

pub(super) fn quota_limits(quota: &Value, _now: Timestamp) -> Value {
    quota_usage(quota, |resource| resource.starts_with("limits."))
}

fn quota_usage(quota: &Value, wanted: fn(&str) -> bool) -> Value {
    let used = at(quota, "status.used");
    let hard = at(quota, "status.hard").and_then(Value::as_object).into_iter().flatten();
    let usage = hard.filter(|(resource, _)| wanted(resource)).map(|(resource, hard)| {
        let used = quantity_text(used.and_then(|used| used.get(resource)));
        format!("{resource}: {used}/{}", quantity_text(Some(hard)))
    });
    usage.collect::<Vec<_>>().join(", ").into()
}

pub(super) fn param_kind(policy: &Value, _now: Timestamp) -> Value {
    at(policy, "spec.paramKind")
        .map_or(UNSET.into(), |kind| format!("{}/{}", text(kind, "apiVersion"), text(kind, "kind")).into())
}

pub(super) fn param_ref(binding: &Value, _now: Timestamp) -> Value {
    let Some(param) = at(binding, "spec.paramRef") else { return UNSET.into() };
    match (text(param, "namespace"), text(param, "name")) {
        ("", name) => name.into(),
        (namespace, name) => format!("{namespace}/{name}").into(),
    }
}

pub(super) fn missing_priority_level(schema: &Value, _now: Timestamp) -> Value {
    let dangling = list(schema, "status.conditions").iter().find(|c| text(c, "type") == "Dangling");
    dangling.map_or("?", |condition| text(condition, "status")).into()
}

pub(super) fn shares(level: &Value, _now: Timestamp) -> Value {
    limited(level, "nominalConcurrencyShares")
}

pub(super) fn queues(level: &Value, _now: Timestamp) -> Value {
    limited(level, "limitResponse.queuing.queues")
}

pub(super) fn hand_size(level: &Value, _now: Timestamp) -> Value {
    limited(level, "limitResponse.queuing.handSize")
}

pub(super) fn queue_length(level: &Value, _now: Timestamp) -> Value {
    limited(level, "limitResponse.queuing.queueLengthLimit")
}

fn limited(level: &Value, path: &str) -> Value {
    at(level, &format!("spec.limited.{path}")).map_or(NONE.into(), Clone::clone)
}

pub(super) fn encodings(object: &Value, _now: Timestamp) -> Value {
    let one = |v: &Value| format!("{}={}", text(v, "apiServerID"), text(v, "encodingVersion"));
    first_three(&list(object, "status.storageVersions").iter().map(one).collect::<Vec<_>>(), UNSET).into()
}

pub(super) fn component_health(component: &Value, _now: Timestamp) -> Value {
    match text(health(component), "status") {
        "True" => "Healthy".into(),
        "" => "Unknown".into(),
        _ => "Unhealthy".into(),
    }
}

pub(super) fn component_message(component: &Value, _now: Timestamp) -> Value {
    text(health(component), "message").into()
}

pub(super) fn component_error(component: &Value, _now: Timestamp) -> Value {
    text(health(component), "error").into()
}

fn health(component: &Value) -> &Value {
    list(component, "conditions").iter().find(|c| text(c, "type") == "Healthy").unwrap_or(&Value::Null)
}
