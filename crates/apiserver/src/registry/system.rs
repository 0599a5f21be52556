//! Metadata that only the server writes: identity, times, generation, and the rules about changing it.

use jiff::Timestamp;
use tiphys_api::schema::{Resource, Type};
use tiphys_api::{Map, Value, defaults, field};

use super::tree;
use crate::strategy::Rules;

/// Brings a decoded tree into the form that is judged and stored: written-only fields taken over, the desired state
/// present if only as an empty one (Go's structs are never absent), defaults filled in. `old`: what it was made from, in
/// that form.
pub fn complete(object: &mut Value, old: Option<&Value>, resource: &Resource, rules: &Rules) {
    (rules.normalize)(object);
    let has_spec = resource.custom.is_none()
        && resource.root().field("spec").is_some_and(|field| matches!(field.ty, Type::Struct(_)));
    if let (true, Value::Object(fields)) = (has_spec, &mut *object) {
        fields.entry("spec").or_insert_with(|| Value::Object(Map::new()));
    }
    defaults::changed(resource, object, old);
}

/// Fills in what a new object gets from the server.
pub fn on_create(object: &mut Value, rules: &Rules, now: Timestamp) {
    let metadata = tree::metadata(object);
    for name in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
        metadata.remove(name);
    }
    metadata.insert("creationTimestamp".into(), tree::time(now));
    metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    if rules.generation {
        metadata.insert("generation".into(), 1.into());
    }
}

/// Fields that an update keeps when the new object leaves them out.
const KEPT: [&str; 3] = ["uid", "creationTimestamp", "name"];
/// Fields that only the server changes.
const OWNED: [&str; 3] = ["generation", "deletionTimestamp", "deletionGracePeriodSeconds"];

/// Carries over what an update cannot change.
pub fn on_update(object: &mut Value, old: &Value, rules: &Rules, subresource: &str) {
    let before = old.get("metadata").and_then(Value::as_object);
    let metadata = tree::metadata(object);
    metadata.remove("selfLink");
    for name in KEPT {
        let missing = metadata.get(name).and_then(Value::as_str).unwrap_or_default().is_empty();
        if let Some(value) = before.and_then(|b| b.get(name)).filter(|_| missing) {
            metadata.insert(name.into(), value.clone());
        }
    }
    for name in OWNED {
        match before.and_then(|b| b.get(name)) {
            Some(value) => metadata.insert(name.into(), value.clone()),
            None => metadata.remove(name),
        };
    }
    let desires = matches!(subresource, "" | "scale" | "resize" | "ephemeralcontainers");
    if rules.generation && desires && spec_changed(object, old, rules) {
        let generation = tree::at(old, &["metadata", "generation"]).as_i64().unwrap_or(0);
        tree::metadata(object).insert("generation".into(), (generation + 1).into());
    }
}

/// Whether the desired state differs: anything but metadata and status.
fn spec_changed(new: &Value, old: &Value, rules: &Rules) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else { return true };
    let desired = |map| Map::iter(map).filter(|(key, _)| !is_apart(key, rules));
    !desired(new).eq(desired(old))
}

fn is_apart(key: &str, rules: &Rules) -> bool {
    matches!(key, "metadata" | "apiVersion" | "kind") || (key == "status" && rules.status_apart)
}

/// A terminating object gets no new finalizers.
pub fn check_finalizers(new: &Value, old: &Value, errors: &mut field::Errors) {
    if tree::at(old, &["metadata", "deletionTimestamp"]).is_null() {
        return;
    }
    let before = tree::items(old, &["metadata", "finalizers"]);
    let added: Vec<String> = tree::items(new, &["metadata", "finalizers"])
        .iter()
        .filter(|f| !before.contains(f))
        .map(ToString::to_string)
        .collect();
    if !added.is_empty() {
        let why = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            added.join(", ")
        );
        errors.push(field::Error::forbidden(&field::Path::new("metadata").child("finalizers"), &why));
    }
}

/// Whether a terminating object has nothing left to wait for.
pub fn is_finished(object: &Value) -> bool {
    let metadata = |name| tree::at(object, &["metadata", name]);
    !metadata("deletionTimestamp").is_null()
        && metadata("deletionGracePeriodSeconds").as_i64().unwrap_or(0) == 0
        && tree::items(object, &["metadata", "finalizers"]).is_empty()
        && tree::items(object, &["spec", "finalizers"]).is_empty()
}
