//! Patches and apply. An input is lines of JSON: an object, then what is to change it.

use std::collections::HashSet;

use jiff::Timestamp;
use tiphys_api::schema::Resource;
use tiphys_api::{Value, apply, decode, patch, validate};

use crate::decoders::{canonical, resource_of};

/// The two lines of an input.
fn lines(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = data.iter().position(|byte| *byte == b'\n')?;
    let (first, rest) = data.split_at(at);
    Some((first, rest.get(1..)?))
}

/// An object, and any JSON.
pub fn object_and_patch(data: &[u8]) -> Option<(Value, Value)> {
    let (object, patch) = lines(data)?;
    Some((decode::json(object).ok()?.value, serde_json::from_slice(patch).ok()?))
}

/// What grows, grows within bounds.
pub fn json_patch(data: &[u8]) {
    let Some((mut object, patch)) = object_and_patch(data) else { return };
    if patch::json(&mut object, &patch).is_ok() {
        let _ = object.to_string();
    }
}

/// Merging twice is merging once.
pub fn merge_patch(data: &[u8]) {
    let Some((mut object, patch)) = object_and_patch(data) else { return };
    if patch::merge(&mut object, &patch).is_ok() {
        let once = object.clone();
        assert_eq!(patch::merge(&mut object, &patch), Ok(()));
        assert_eq!(object, once);
    }
}

/// Nothing brings it down; an empty patch changes nothing.
pub fn strategic_patch(data: &[u8]) {
    let Some((object, patch)) = object_and_patch(data) else { return };
    let Some(resource) = resource_of(&object) else { return };
    let _ = patch_with(resource, object.clone(), &patch);
    let same = patch_with(resource, object.clone(), &Value::Object(tiphys_api::Map::new()));
    assert_eq!(same, Ok(object));
}

fn patch_with(resource: &Resource, mut object: Value, patch: &Value) -> Result<Value, patch::PatchError> {
    patch::strategic(&resource.schema, resource.object, &mut object, patch)?;
    Ok(object)
}

/// The patch that is made from two objects of a kind turns one into the other.
pub fn diff(data: &[u8]) {
    let Some((from, to)) = lines(data) else { return };
    let (Some((resource, from)), Some((other, to))) = (canonical(from), canonical(to)) else { return };
    let fits = |tree: &Value| is_plain(tree) && validate::required(resource, tree).is_empty();
    if resource.gvr != other.gvr || !fits(&from) || !fits(&to) {
        return;
    }
    let Ok(patch) = patch::diff(&resource.schema, resource.object, &from, &to) else { return };
    match patch_with(resource, from.clone(), &patch) {
        // A new list whose items have no keys, which no rule of the kind asks for.
        Err(error) if error.to_string().contains("does not contain declared merge key") => {}
        result => assert_eq!(result, Ok(to), "from {from} by {patch}"),
    }
}

/// Whether lists name each item once, and no key looks like a directive or is deleted by being null: a strategic merge
/// patch cannot say such things.
fn is_plain(tree: &Value) -> bool {
    match tree {
        Value::Array(items) => {
            let keys = [
                "name",
                "containerPort",
                "port",
                "mountPath",
                "devicePath",
                "topologyKey",
                "type",
                "ip",
                "uid",
            ];
            let unique = |key: &str| {
                let mut seen = HashSet::new();
                items.iter().filter_map(|item| item.get(key)).all(|value| seen.insert(value))
            };
            let mut seen = HashSet::new();
            keys.into_iter().all(unique) && items.iter().all(|item| seen.insert(item) && is_plain(item))
        }
        Value::Object(fields) => {
            fields.iter().all(|(key, value)| !key.starts_with('$') && !value.is_null() && is_plain(value))
        }
        _ => true,
    }
}

/// Applying twice is applying once, whatever books of ownership a client made up when it created the object.
pub fn apply(data: &[u8]) {
    let Some((live, config)) = lines(data) else { return };
    let Some((resource, config)) = canonical(config) else { return };
    let write = apply::Write { resource, subresource: "", manager: "fuzz", now: Timestamp::UNIX_EPOCH };
    let other = apply::Write { manager: "other", ..write };
    let live = canonical(live).filter(|(of, _)| of.gvr == resource.gvr).map(|(_, mut live)| {
        apply::record_update(&other, None, &mut live);
        live
    });
    let _ = apply::apply(&write, live.as_ref(), &config, false);
    let Ok(once) = apply::apply(&write, live.as_ref(), &config, true) else { return };
    assert_eq!(apply::apply(&write, Some(&once), &config, false), Ok(once), "{live:?} {config}");
    if let Some(live) = live {
        let mut new = config;
        apply::record_update(&write, Some(&live), &mut new);
    }
}
