//! Horizontal pod autoscalers: bounds, metrics with their targets, and how fast to scale.

use crate::Value;

use super::here::Here;
use super::{At, Fields, items, text};
use crate::field::Errors;
use crate::validate::names;

const PERIOD_MAX_SECONDS: i64 = 1800;
const WINDOW_MAX_SECONDS: i64 = 3600;

/// Kinds of metrics and the fields that describe them, in the order of the API.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
const SOURCE_TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];

/// At least as many replicas at most as at least. None at all takes a metric that can be measured without pods.
pub fn autoscaler(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, spec, errors);
    let (min, max) = (here.number("minReplicas"), here.number("maxReplicas").unwrap_or_default());
    if max < 1 {
        here.invalid_as("maxReplicas", max, "must be greater than 0");
    }
    if let Some(min) = min {
        if min < 0 {
            here.invalid("minReplicas", "must be greater than or equal to 0");
        }
        let wakes = |(_, metric)| matches!(text(metric, "type"), "Object" | "External");
        if min == 0 && !items(spec, "metrics").any(wakes) {
            let why =
                "must specify at least one Object or External metric to support scaling to zero replicas";
            here.forbidden("metrics", why);
        }
        if max < min {
            here.invalid_as("maxReplicas", max, "must be greater than or equal to `minReplicas`");
        }
    }
}

/// A metric has one source, that of its type.
pub fn metric(at: &At<'_>, metric: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, metric, errors);
    let kind = here.text("type");
    if kind.is_empty() {
        here.required("type", "must specify a metric source type");
    }
    let expected = SOURCES.iter().find(|(source, _)| *source == kind).map(|(_, field)| *field);
    match expected {
        None => here.unsupported("type", SOURCE_TYPES),
        Some(field) if !here.has(field) => {
            here.required(field, "must populate information for the given metric source");
        }
        Some(_) => {}
    }
    if SOURCES.iter().filter(|(_, field)| here.has(field)).count() > 1 {
        for (_, field) in SOURCES.iter().filter(|(_, field)| Some(*field) != expected) {
            if here.has(field) {
                here.forbidden(field, "must populate the given metric source only");
            }
        }
    }
}

/// A metric's name is one that can stand in a path.
pub fn identifier(at: &At<'_>, metric: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, metric, errors);
    if here.text("name").is_empty() {
        here.required("name", "must specify a metric name");
    }
    here.form("name", names::path_segment);
}

/// A target is positive.
pub fn target(at: &At<'_>, target: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, target, errors);
    match here.text("type") {
        "Utilization" | "Value" | "AverageValue" => {}
        kind => {
            if kind.is_empty() {
                here.required("type", "must specify a metric target type");
            }
            here.invalid_as("type", kind, "must be either Utilization, Value, or AverageValue");
        }
    }
    for name in ["value", "averageValue"] {
        if here.quantity(name).is_some_and(|amount| amount.sign() <= 0) {
            here.invalid(name, "must be positive");
        }
    }
    if here.number("averageUtilization").is_some_and(|share| share < 1) {
        here.invalid("averageUtilization", "must be greater than 0");
    }
}

/// A metric of an object has a value for all, or one for each pod.
pub fn object_source(at: &At<'_>, source: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, source, errors);
    if !here.has("target.value") && !here.has("target.averageValue") {
        here.required("target.averageValue", "must set either a target value or averageValue");
    }
}

/// A metric from elsewhere has either.
pub fn external_source(at: &At<'_>, source: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, source, errors);
    match (here.has("target.value"), here.has("target.averageValue")) {
        (false, false) => {
            let why = "must set either a target value for metric or a per-pod target";
            here.required("target.averageValue", why);
        }
        (true, true) => {
            here.forbidden("target.value", "may not set both a target value for metric and a per-pod target");
        }
        _ => {}
    }
}

/// A metric of pods is averaged.
pub fn pods_source(at: &At<'_>, source: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, source, errors);
    if !here.has("target.averageValue") {
        here.required("target.averageValue", "must specify a positive target averageValue");
    }
}

/// A resource is targeted by its use, or by the share of what is asked for.
pub fn resource_source(at: &At<'_>, source: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, source, errors);
    if here.text("name").is_empty() {
        here.required("name", "must specify a resource name");
    }
    match (here.has("target.averageUtilization"), here.has("target.averageValue")) {
        (false, false) => {
            let why = "must set either a target raw value or a target utilization";
            here.required("target.averageUtilization", why);
        }
        (true, true) => {
            here.forbidden(
                "target.averageValue",
                "may not set both a target raw value and a target utilization",
            );
        }
        _ => {}
    }
}

/// The same of one container.
pub fn container_source(at: &At<'_>, source: &Fields, errors: &mut Errors) {
    resource_source(at, source, errors);
    let here = &mut Here::new(at, source, errors);
    if here.text("container").is_empty() {
        here.required("container", "must specify a container");
    }
    here.form("container", names::dns1123_label);
}

/// How fast to scale in one direction.
pub fn rules(at: &At<'_>, rules: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, rules, errors);
    match here.number("stabilizationWindowSeconds") {
        Some(window) if window < 0 => {
            here.invalid("stabilizationWindowSeconds", "must be greater than or equal to zero");
        }
        Some(window) if window > WINDOW_MAX_SECONDS => {
            let why = format!("must be less than or equal to {WINDOW_MAX_SECONDS}");
            here.invalid("stabilizationWindowSeconds", &why);
        }
        _ => {}
    }
    if here.quantity("tolerance").is_some_and(|tolerance| tolerance.sign() < 0) {
        here.invalid("tolerance", "must be greater than or equal to 0");
    }
    if here.get("policies").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        here.required("policies", "must specify at least one Policy");
    }
}

/// One step of scaling.
pub fn policy(at: &At<'_>, policy: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, policy, errors);
    if here.number("value").unwrap_or_default() <= 0 {
        here.invalid_as("value", here.number("value").unwrap_or_default(), "must be greater than zero");
    }
    let period = here.number("periodSeconds").unwrap_or_default();
    if period <= 0 {
        here.invalid_as("periodSeconds", period, "must be greater than zero");
    }
    if period > PERIOD_MAX_SECONDS {
        here.invalid("periodSeconds", &format!("must be less than or equal to {PERIOD_MAX_SECONDS}"));
    }
}
