//! Coming from client-side apply: the last-applied annotation.
//!
//! `kubectl apply` kept what it applied in an annotation, and its fields belong to `kubectl-client-side-apply`. When
//! the same user turns to `kubectl apply --server-side`, fields that still are as last applied are taken over without
//! a conflict, and the annotation is kept up to date so that the way back stays open.

use std::collections::HashSet;

use crate::Value;

use super::Write;
use super::compare::compare;
use super::present::named_fields;

/// The field manager of `kubectl apply --server-side`.
pub(super) const MANAGER: &str = "kubectl";
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// All annotations of an object together, at most.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

/// Fields that client-side apply set last and that no one changed since.
pub(super) fn owned(write: &Write<'_>, live: &Value) -> HashSet<String> {
    let annotation = live.pointer("/metadata/annotations").and_then(|a| a.get(ANNOTATION));
    let text = annotation.and_then(Value::as_str).unwrap_or_default();
    let Ok(applied) = serde_json::from_str::<Value>(text) else { return HashSet::new() };
    let version = applied.get("apiVersion").and_then(Value::as_str);
    if version != Some(write.resource.gvk.api_version().as_str()) {
        return HashSet::new();
    }
    let mut fields = named_fields(write.root(), &applied, &[]);
    let changes = compare(write.root(), &applied, live, &[]);
    fields.subtract(&changes.written);
    fields.subtract(&changes.removed);
    fields.paths().into_iter().collect()
}

/// Writes the configuration into the annotation, if the object has one.
pub(super) fn refresh(object: &mut Value, config: &Value) {
    let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) else {
        return;
    };
    if !annotations.contains_key(ANNOTATION) {
        return;
    }
    let mut config = config.clone();
    if let Some(Value::Object(given)) = config.pointer_mut("/metadata/annotations") {
        given.remove(ANNOTATION);
    }
    let text = format!("{config}\n");
    annotations.remove(ANNOTATION);
    let others: usize = annotations.iter().map(|(k, v)| k.len() + v.as_str().map_or(0, str::len)).sum();
    if others + ANNOTATION.len() + text.len() <= ANNOTATIONS_BYTES_MAX {
        annotations.insert(ANNOTATION.into(), text.into());
    }
}
