//! Definitions of custom resources: names that fit the group, versions of which one is stored, conversion.
//!
//! Their schemas are judged by [`crate::structural`].

use std::collections::HashSet;

use crate::Value;

use super::here::Here;
use super::{At, Fields};
use crate::field::Errors;
use crate::structural;
use crate::validate::names;

const WARNING_MAX: usize = 256;
const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] =
    &["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];

/// A definition is named after what it defines.
pub fn definition(at: &At<'_>, definition: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, definition, errors);
    let (plural, group) = (here.text("spec.names.plural"), here.text("spec.group"));
    let named = here.text("metadata.name").strip_prefix(plural).and_then(|rest| rest.strip_prefix('.'));
    if named != Some(group) {
        here.invalid("metadata.name", r#"must be spec.names.plural+"."+spec.group"#);
    }
}

/// Group, names and versions.
pub fn spec(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, spec, errors);
    let group = here.text("group");
    let found = names::dns1123_subdomain(group);
    if !group.is_empty() && !found.is_empty() {
        here.invalid("group", &found.join(","));
    } else if !group.is_empty() && !group.contains('.') {
        here.invalid("group", "should be a domain with at least one dot");
    }
    let versions = here.list("versions");
    let mut seen = HashSet::new();
    let name = |version: &Value| version.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !versions.iter().all(|version| seen.insert(name(version))) {
        here.invalid("versions", "must contain unique version names");
    }
    let stored = versions.iter().filter(|version| version.get("storage") == Some(&Value::Bool(true)));
    if stored.count() != 1 {
        here.invalid("versions", "must have exactly one version marked as storage version");
    }
    let keeps = here.flag("preserveUnknownFields");
    if keeps {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema \
                   instead";
        here.invalid("preserveUnknownFields", why);
    }
    for (path, schema) in structural::schemas(&at.path(), versions) {
        errors.extend(structural::judge(&path, schema));
    }
}

/// A version has a schema; a warning is for those that are deprecated.
pub fn version(at: &At<'_>, version: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, version, errors);
    let name = here.text("name");
    let found = names::dns1035_label(name);
    if !found.is_empty() {
        here.invalid_as("name", name, &found.join(","));
    }
    if !here.has("schema.openAPIV3Schema") {
        here.required("schema.openAPIV3Schema", "");
    }
    let Some(warning) = here.get("deprecationWarning").and_then(Value::as_str) else { return };
    if !here.flag("deprecated") {
        here.invalid("deprecationWarning", "can only be set for deprecated versions");
    }
    if warning.len() > WARNING_MAX {
        here.invalid("deprecationWarning", "must be <= 256 characters long");
    }
    if warning.is_empty() {
        here.invalid("deprecationWarning", "must not be an empty string");
    }
}

/// Names that stand in paths, and kinds that read like them.
pub fn resource_names(at: &At<'_>, resource: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, resource, errors);
    for name in ["plural", "singular"] {
        let text = here.text(name);
        let found = if text.is_empty() { Vec::new() } else { names::dns1035_label(text) };
        if !found.is_empty() {
            here.invalid(name, &found.join(","));
        }
    }
    for name in ["kind", "listKind"] {
        let text = here.text(name).to_lowercase();
        let found = if text.is_empty() { Vec::new() } else { names::dns1035_label(&text) };
        if !found.is_empty() {
            let why = format!("may have mixed case, but should otherwise match: {}", found.join(","));
            here.invalid(name, &why);
        }
    }
    if !here.text("kind").is_empty() && here.text("kind") == here.text("listKind") {
        here.invalid("listKind", "kind and listKind may not be the same");
    }
    for name in ["shortNames", "categories"] {
        for (index, text) in here.texts(name) {
            let found = names::dns1035_label(text);
            if !found.is_empty() {
                here.invalid_item(name, index, text, &found.join(","));
            }
        }
    }
}

/// A column shows a value of a type.
pub fn column(at: &At<'_>, column: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, column, errors);
    let kind = here.text("type");
    if !kind.is_empty() && !COLUMN_TYPES.contains(&kind) {
        here.invalid("type", &format!("must be one of {}", COLUMN_TYPES.join(",")));
    }
    let format = here.text("format");
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        here.invalid("format", &format!("must be one of {}", COLUMN_FORMATS.join(",")));
    }
}

/// Where a custom resource keeps its counts of replicas.
pub fn scale(at: &At<'_>, scale: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, scale, errors);
    for (name, under) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        let path = here.text(name);
        if !path.is_empty() && !path.starts_with(under) {
            let why = format!("should be a json path under {}", under.trim_end_matches('.'));
            here.invalid(name, &why);
        }
    }
    let path = here.text("labelSelectorPath");
    if !path.is_empty() && !path.starts_with(".spec.") && !path.starts_with(".status.") {
        here.invalid("labelSelectorPath", "should be a json path under either .spec or .status");
    }
}

/// Who converts between versions.
pub fn conversion(at: &At<'_>, conversion: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, conversion, errors);
    let webhook = here.text("strategy") == "Webhook";
    if !webhook {
        if here.has("webhook") {
            here.forbidden("webhookClientConfig", "should not be set when strategy is not set to Webhook");
        }
        return;
    }
    if !here.has("webhook.clientConfig") {
        here.required("webhookClientConfig", "required when strategy is set to Webhook");
    } else if here.has("webhook.clientConfig.url") == here.has("webhook.clientConfig.service") {
        let why = "exactly one of url or service is required";
        here.required("webhookClientConfig", why);
    }
    let versions = here.list("webhook.conversionReviewVersions");
    if versions.is_empty() {
        here.required("conversionReviewVersions", "");
    } else if !versions.iter().any(|version| version == "v1" || version == "v1beta1") {
        let value = Value::Array(versions.to_vec());
        here.invalid_as("conversionReviewVersions", value, "must include at least one of v1, v1beta1");
    }
}
