//! `metadata` of every kind.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::{Map, Text, Value};

use super::forms::judge;
use super::names::{self, NameRule};
use crate::field::{Error, Errors, Path};
use crate::schema::{RULES, Resource};

/// All annotations of one object together, keys and values.
const ANNOTATIONS_MAX_BYTES: usize = 256 * 1024;
const IMMUTABLE: &str = "field is immutable";

/// Fields that never change, by group-resource.
static FIXED: LazyLock<HashMap<names::Name<'static>, Vec<&str>>> = LazyLock::new(|| {
    let lines = RULES.lines().filter_map(|line| line.strip_prefix("immutable ")?.split_once(' '));
    let name = |name: &'static str| name.split_once('.').unwrap_or((name, ""));
    lines.map(|(resource, paths)| (name(resource), paths.split(',').collect())).collect()
});

/// Checks the metadata of an object that is about to be stored: its namespace and generated name are filled in.
///
/// Paths are made only for errors: this runs for every write.
pub fn object_meta(resource: &Resource, object: &Value) -> Errors {
    let empty = Map::new();
    let meta = object.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    let path = || Path::new("metadata");
    let mut errors = Errors::new();
    name(names::name_rule(&resource.gvr), meta, &path, &mut errors);
    namespace(resource.namespaced, meta, &|| path().child("namespace"), &mut errors);
    if let Some(generation) = meta.get("generation").and_then(Value::as_i64).filter(|g| *g < 0) {
        let why = "must be greater than or equal to 0";
        errors.push(Error::invalid(&path().child("generation"), generation, why));
    }
    labels_and_annotations(meta, &path, &mut errors);
    owners(meta, &|| path().child("ownerReferences"), &mut errors);
    finalizers(is_core(resource), meta, &|| path().child("finalizers"), &mut errors);
    errors
}

/// Whether a kind is of kube-apiserver's core, which is stricter than the libraries it shares with other servers.
fn is_core(resource: &Resource) -> bool {
    let shared = matches!(resource.gvr.group.as_ref(), "apiextensions.k8s.io" | "apiregistration.k8s.io");
    resource.custom.is_none() && !shared
}

/// Checks what an update may not change in the metadata.
pub fn object_meta_update(old: &Value, new: &Value) -> Errors {
    let path = || Path::new("metadata");
    let mut errors = Errors::new();
    for name in
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        let at = |object| Value::get(object, "metadata").and_then(|metadata| metadata.get(name));
        let value = at(new);
        if at(old) != value {
            errors.push(Error::invalid(&path().child(name), value.cloned().unwrap_or_default(), IMMUTABLE));
        }
    }
    errors
}

/// Checks the fields that an update of this resource may not change, in its storage version.
pub fn immutable(resource: &Resource, old: &Value, new: &Value) -> Errors {
    let mut errors = Errors::new();
    let fixed: &HashMap<names::Name<'_>, Vec<&str>> = &FIXED;
    let name = (resource.gvr.resource.as_ref(), resource.gvr.group.as_ref());
    for path in fixed.get(&name).into_iter().flatten() {
        let at = |object| path.split('.').try_fold(object, |at: &Value, key| at.get(key));
        let (before, after) = (at(old), at(new));
        if before != after {
            let place = path.split('.').fold(Path::default(), |path, name| path.child(name));
            errors.push(Error::invalid(&place, after.cloned().unwrap_or_default(), IMMUTABLE));
        }
    }
    errors
}

/// Makes the path of what is judged.
type Place<'p> = &'p dyn Fn() -> Path;

/// Checks labels and annotations, an object's own or a template's.
pub(super) fn labels_and_annotations(meta: &Map, path: Place<'_>, errors: &mut Errors) {
    labels(meta, &|| path().child("labels"), errors);
    annotations(meta, &|| path().child("annotations"), errors);
}

fn text<'a>(meta: &'a Map, name: &str) -> &'a str {
    meta.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn name(rule: NameRule, meta: &Map, path: Place<'_>, errors: &mut Errors) {
    let prefix = text(meta, "generateName");
    if !prefix.is_empty() {
        judge(rule.check_prefix(prefix), prefix, errors, || path().child("generateName"));
    }
    match text(meta, "name") {
        "" => errors.push(Error::required(&path().child("name"), "name or generateName is required")),
        name => judge(rule.check(name), name, errors, || path().child("name")),
    }
}

fn namespace(namespaced: bool, meta: &Map, path: Place<'_>, errors: &mut Errors) {
    match (namespaced, text(meta, "namespace")) {
        (true, "") => errors.push(Error::required(&path(), "")),
        (true, name) => judge(names::dns1123_label(name), name, errors, path),
        (false, "") => {}
        (false, _) => errors.push(Error::forbidden(&path(), "not allowed on this type")),
    }
}

fn entries<'a>(meta: &'a Map, name: &str) -> impl Iterator<Item = (&'a Text, &'a str)> {
    let entries = meta.get(name).and_then(Value::as_object);
    entries.into_iter().flatten().map(|(key, value)| (key, value.as_str().unwrap_or_default()))
}

fn labels(meta: &Map, path: Place<'_>, errors: &mut Errors) {
    for (key, value) in entries(meta, "labels") {
        judge(names::label_key(key), key, errors, path);
        judge(names::label_value(value), value, errors, path);
    }
}

fn annotations(meta: &Map, path: Place<'_>, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in entries(meta, "annotations") {
        judge(names::any_case_qualified_name(key), key, errors, path);
        size += key.len() + value.len();
    }
    if size > ANNOTATIONS_MAX_BYTES {
        errors.push(Error::too_long(&path(), ANNOTATIONS_MAX_BYTES));
    }
}

fn owners(meta: &Map, path: Place<'_>, errors: &mut Errors) {
    let owners = meta.get("ownerReferences").and_then(Value::as_array);
    let mut controllers = Vec::new();
    for (index, owner) in owners.into_iter().flatten().filter_map(Value::as_object).enumerate() {
        owner_is_whole(owner, &|| path().index(index), errors);
        let controls = owner.get("controller") == Some(&Value::Bool(true));
        // Two tell enough: each error shows the whole list.
        if !controls || controllers.len() > 1 {
            continue;
        }
        controllers.push(format!("{}/{}", text(owner, "kind"), text(owner, "name")));
        if let [first, second] = controllers.as_slice() {
            let why = format!(
                "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {second}"
            );
            let value = meta.get("ownerReferences").cloned().unwrap_or_default();
            errors.push(Error::invalid(&path(), value, &why));
        }
    }
}

fn owner_is_whole(owner: &Map, path: Place<'_>, errors: &mut Errors) {
    let version = text(owner, "apiVersion");
    if version.is_empty() {
        errors.push(Error::invalid(&path().child("apiVersion"), "", "version must not be empty"));
    }
    for name in ["kind", "name", "uid"] {
        if text(owner, name).is_empty() {
            errors.push(Error::invalid(&path().child(name), "", "must not be empty"));
        }
    }
    if version == "v1" && text(owner, "kind") == "Event" {
        let why = "/v1, Kind=Event is disallowed from being an owner";
        errors.push(Error::invalid(&path(), Value::Object(owner.clone()), why));
    }
}

fn finalizers(core: bool, meta: &Map, path: Place<'_>, errors: &mut Errors) {
    let list = meta.get("finalizers").and_then(Value::as_array);
    let (mut orphans, mut foreground) = (false, false);
    for (index, name) in list.into_iter().flatten().filter_map(Value::as_str).enumerate() {
        orphans |= name == "orphan";
        foreground |= name == "foregroundDeletion";
        match core {
            true => finalizer(name, path, &|| path().index(index), errors),
            false => judge(names::qualified_name(name), name, errors, path),
        }
    }
    if orphans && foreground {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        let value = meta.get("finalizers").cloned().unwrap_or_default();
        errors.push(Error::invalid(&path(), value, why));
    }
}

/// Checks the name of a finalizer. Its form is wrong at one path, its being nobody's at another.
pub(super) fn finalizer(name: &str, form: Place<'_>, own: Place<'_>, errors: &mut Errors) {
    let found = names::qualified_name(name);
    let known = matches!(name, "orphan" | "foregroundDeletion" | "kubernetes");
    judge(found, name, errors, form);
    if !name.contains('/') && !known {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(Error::invalid(&own(), name, why));
    }
}
