//! What each endpoint of an object may change: the object itself leaves status alone, `/status` changes nothing else,
//! and the smaller subresources change one field each.

use tiphys_api::validate::ByText;
use tiphys_api::{Map, Value};

use super::request::Request;
use super::tree;

/// Puts back into `tree` what this endpoint may not change.
pub(super) fn keep(request: &Request<'_>, tree: &mut Value, old: &Value) {
    match request.subresource {
        "" if request.resource.subresource("status").is_some() => copy(tree, old, "status"),
        "status" => keep_for_status(tree, old),
        "finalize" => take_only(tree, old, &[&["spec", "finalizers"]]),
        "approval" => keep_for_approval(tree, old),
        "ephemeralcontainers" => take_only(tree, old, &[&["spec", "ephemeralContainers"]]),
        "resize" => keep_for_resize(tree, old),
        _ => {}
    }
}

/// Everything but status, and what metadata says about identity, ownership and selection.
fn keep_for_status(tree: &mut Value, old: &Value) {
    if let (Value::Object(new), Value::Object(before)) = (&mut *tree, old) {
        let apart = |key: &str| matches!(key, "status" | "metadata");
        new.retain(|key, _| apart(key) || before.contains_key(key));
        for (key, value) in before.iter().filter(|(key, _)| !apart(key)) {
            new.insert(key.clone(), value.clone());
        }
    }
    for name in ["ownerReferences", "labels"] {
        let is_node = old.get("kind").and_then(Value::as_str) == Some("Node");
        // A kubelet writes its labels with its status.
        if !(name == "labels" && is_node) {
            tree::set(tree, &["metadata", name], tree::at(old, &["metadata", name]).clone());
        }
    }
}

/// What is asked for, and the certificate.
fn keep_for_approval(tree: &mut Value, old: &Value) {
    copy(tree, old, "spec");
    let certificate = ["status", "certificate"];
    tree::set(tree, &certificate, tree::at(old, &certificate).clone());
}

fn take_only(tree: &mut Value, old: &Value, paths: &[&[&str]]) {
    let new = std::mem::replace(tree, old.clone());
    for path in paths {
        tree::set(tree, path, tree::at(&new, path).clone());
    }
    for name in ["resourceVersion", "uid"] {
        tree::set(tree, &["metadata", name], tree::at(&new, &["metadata", name]).clone());
    }
}

/// Only the resources and resize policies of the containers that exist.
fn keep_for_resize(tree: &mut Value, old: &Value) {
    let new = std::mem::replace(tree, old.clone());
    for list in ["containers", "initContainers"] {
        let by_name = ByText::new(tree::items(&new, &["spec", list]), "name");
        let Some(containers) = tree.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut)
        else {
            continue;
        };
        for container in containers {
            let Some(wanted) = by_name.get(tree::text(container, &["name"])) else { continue };
            for field in ["resources", "resizePolicy"] {
                tree::set(container, &[field], wanted.get(field).cloned().unwrap_or_default());
            }
        }
    }
    let version = tree::at(&new, &["metadata", "resourceVersion"]).clone();
    tree::set(tree, &["metadata", "resourceVersion"], version);
}

fn copy(to: &mut Value, from: &Value, key: &str) {
    let empty = Map::new();
    let from = from.as_object().unwrap_or(&empty);
    match (to.as_object_mut(), from.get(key)) {
        (Some(to), Some(value)) => drop(to.insert(key.into(), value.clone())),
        (Some(to), None) => drop(to.remove(key)),
        (None, _) => {}
    }
}
