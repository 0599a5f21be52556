//! Namespaces: they live until what is in them is gone, which their own finalizers stand for.

use tiphys_api::Value;
use tiphys_api::field::{Error, Errors, Path};

use super::Rules;
use crate::auth::User;
use crate::registry::tree;

const KUBERNETES: &str = "kubernetes";

pub(super) const NAMESPACES: Rules =
    Rules { on_create, on_update, on_delete, validate_update, ..Rules::DEFAULT };

fn on_create(namespace: &mut Value, _: &User) {
    let mut finalizers = tree::items(namespace, &["spec", "finalizers"]).to_vec();
    if !finalizers.iter().any(|f| f == KUBERNETES) {
        finalizers.push(KUBERNETES.into());
    }
    tree::set(namespace, &["spec", "finalizers"], finalizers.into());
    tree::set(namespace, &["status"], tiphys_api::json!({ "phase": "Active" }));
}

/// Only `/finalize` changes the finalizers.
fn on_update(namespace: &mut Value, old: &Value, subresource: &str) {
    if subresource != "finalize" {
        tree::set(namespace, &["spec", "finalizers"], tree::at(old, &["spec", "finalizers"]).clone());
    }
}

fn on_delete(namespace: &mut Value) {
    // It ends when it is empty, not after a time.
    tree::set(namespace, &["metadata", "deletionGracePeriodSeconds"], Value::Null);
    tree::set(namespace, &["status", "phase"], "Terminating".into());
}

/// The phase says whether the namespace is about to end.
fn validate_update(new: &Value, _: &Value, subresource: &str, errors: &mut Errors) {
    if subresource != "status" {
        return;
    }
    let (wanted, state) = match tree::at(new, &["metadata", "deletionTimestamp"]) {
        Value::Null => ("Active", "empty"),
        _ => ("Terminating", "not empty"),
    };
    let phase = tree::text(new, &["status", "phase"]);
    if phase != wanted {
        let why = format!("may only be '{wanted}' if `deletionTimestamp` is {state}");
        errors.push(Error::invalid(&Path::new("status").child("Phase"), phase, &why));
    }
}
