//! `metadata` of every kind.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::names::{self, NameRule};
use crate::field::{Error, Errors, Path};
use crate::schema::{RULES, Resource};

/// All annotations of one object together, keys and values.
const ANNOTATIONS_MAX_BYTES: usize = 256 * 1024;
const IMMUTABLE: &str = "field is immutable";

/// Fields that never change, by group-resource.
static FIXED: LazyLock<HashMap<&str, Vec<&str>>> = LazyLock::new(|| {
    let lines = RULES.lines().filter_map(|line| line.strip_prefix("immutable ")?.split_once(' '));
    lines.map(|(resource, paths)| (resource, paths.split(',').collect())).collect()
});

/// Checks the metadata of an object that is about to be stored: its namespace and generated name are filled in.
pub fn object_meta(resource: &Resource, object: &Value) -> Errors {
    let empty = Map::new();
    let meta = object.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    let path = Path::new("metadata");
    let mut errors = Errors::new();
    name(names::name_rule(&resource.gvr.group_resource()), meta, &path, &mut errors);
    namespace(resource.namespaced, meta, &path, &mut errors);
    if meta.get("generation").and_then(Value::as_i64).is_some_and(|g| g < 0) {
        let value = meta.get("generation").cloned().unwrap_or_default();
        errors.push(Error::invalid(&path.child("generation"), value, "must be greater than or equal to 0"));
    }
    labels(meta, &path.child("labels"), &mut errors);
    annotations(meta, &path.child("annotations"), &mut errors);
    owners(meta, &path.child("ownerReferences"), &mut errors);
    finalizers(meta, &path.child("finalizers"), &mut errors);
    errors
}

/// Checks what an update may not change in the metadata.
pub fn object_meta_update(old: &Value, new: &Value) -> Errors {
    let path = Path::new("metadata");
    let mut errors = Errors::new();
    for name in
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        let at = |object| Value::get(object, "metadata").and_then(|metadata| metadata.get(name));
        let value = at(new);
        if at(old) != value {
            errors.push(Error::invalid(&path.child(name), value.cloned().unwrap_or_default(), IMMUTABLE));
        }
    }
    errors
}

/// Checks the fields that an update of this resource may not change, in its storage version.
pub fn immutable(resource: &Resource, old: &Value, new: &Value) -> Errors {
    let mut errors = Errors::new();
    for path in FIXED.get(resource.gvr.group_resource().as_str()).into_iter().flatten() {
        let at = |object| path.split('.').try_fold(object, |at: &Value, key| at.get(key));
        let (before, after) = (at(old), at(new));
        if before != after {
            let place = path.split('.').fold(Path::default(), |path, name| path.child(name));
            errors.push(Error::invalid(&place, after.cloned().unwrap_or_default(), IMMUTABLE));
        }
    }
    errors
}

/// Checks the labels and annotations of a template's metadata.
pub(super) fn labels_and_annotations(meta: &Map<String, Value>, path: &Path, errors: &mut Errors) {
    labels(meta, &path.child("labels"), errors);
    annotations(meta, &path.child("annotations"), errors);
}

fn text<'a>(meta: &'a Map<String, Value>, name: &str) -> &'a str {
    meta.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn name(rule: NameRule, meta: &Map<String, Value>, path: &Path, errors: &mut Errors) {
    let prefix = text(meta, "generateName");
    if !prefix.is_empty() {
        let found = rule.check_prefix(prefix);
        errors.extend(found.iter().map(|e| Error::invalid(&path.child("generateName"), prefix, e)));
    }
    match text(meta, "name") {
        "" => errors.push(Error::required(&path.child("name"), "name or generateName is required")),
        name => errors.extend(rule.check(name).iter().map(|e| Error::invalid(&path.child("name"), name, e))),
    }
}

fn namespace(namespaced: bool, meta: &Map<String, Value>, path: &Path, errors: &mut Errors) {
    let path = path.child("namespace");
    match (namespaced, text(meta, "namespace")) {
        (true, "") => errors.push(Error::required(&path, "")),
        (true, name) => {
            errors.extend(names::dns1123_label(name).iter().map(|e| Error::invalid(&path, name, e)));
        }
        (false, "") => {}
        (false, _) => errors.push(Error::forbidden(&path, "not allowed on this type")),
    }
}

fn entries<'a>(meta: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = (&'a String, &'a str)> {
    let entries = meta.get(name).and_then(Value::as_object);
    entries.into_iter().flatten().map(|(key, value)| (key, value.as_str().unwrap_or_default()))
}

fn labels(meta: &Map<String, Value>, path: &Path, errors: &mut Errors) {
    for (key, value) in entries(meta, "labels") {
        errors.extend(names::label_key(key).iter().map(|e| Error::invalid(path, key.as_str(), e)));
        errors.extend(names::label_value(value).iter().map(|e| Error::invalid(&path.key(key), value, e)));
    }
}

fn annotations(meta: &Map<String, Value>, path: &Path, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in entries(meta, "annotations") {
        let found = names::qualified_name(&key.to_lowercase());
        errors.extend(found.iter().map(|e| Error::invalid(path, key.as_str(), e)));
        size += key.len() + value.len();
    }
    if size > ANNOTATIONS_MAX_BYTES {
        errors.push(Error::too_long(path, ANNOTATIONS_MAX_BYTES));
    }
}

fn owners(meta: &Map<String, Value>, path: &Path, errors: &mut Errors) {
    let owners = meta.get("ownerReferences").and_then(Value::as_array);
    let mut controllers = Vec::new();
    for (index, owner) in owners.into_iter().flatten().filter_map(Value::as_object).enumerate() {
        let at = path.index(index);
        if text(owner, "apiVersion").is_empty() {
            errors.push(Error::invalid(&at.child("apiVersion"), "", "version must not be empty"));
        }
        for name in ["kind", "name", "uid"] {
            if text(owner, name).is_empty() {
                errors.push(Error::invalid(&at.child(name), "", "must not be empty"));
            }
        }
        if owner.get("controller") == Some(&Value::Bool(true)) {
            controllers.push(text(owner, "name"));
        }
    }
    if let [first, second, ..] = controllers.as_slice() {
        let why = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {second}"
        );
        let value = meta.get("ownerReferences").cloned().unwrap_or_default();
        errors.push(Error::invalid(path, value, &why));
    }
}

fn finalizers(meta: &Map<String, Value>, path: &Path, errors: &mut Errors) {
    let list = meta.get("finalizers").and_then(Value::as_array);
    for name in list.into_iter().flatten().filter_map(Value::as_str) {
        errors.extend(names::qualified_name(name).iter().map(|e| Error::invalid(path, name, e)));
        let known = matches!(name, "orphan" | "foregroundDeletion" | "kubernetes");
        if !name.contains('/') && !known && names::qualified_name(name).is_empty() {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(Error::invalid(path, name, why));
        }
    }
}
