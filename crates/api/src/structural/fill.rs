//! Defaults of a schema: filled in when a request is decoded, and again when an object is read that was stored before
//! they were there.

use super::Node;
use crate::{Map, Value};

/// Puts the defaults in. Twice changes nothing more.
pub fn fill(node: &Node, value: &mut Value) {
    if !node.fills {
        return;
    }
    match value {
        Value::Object(fields) => fill_fields(node, fields),
        Value::Array(items) => {
            let Some(node) = &node.items else { return };
            items.iter_mut().for_each(|item| fill_one(node, item));
        }
        _ => {}
    }
}

fn fill_fields(node: &Node, fields: &mut Map) {
    for (name, node) in &node.properties {
        match (fields.get_mut(name), &node.default) {
            (Some(value), _) => fill_one(node, value),
            (None, Some(default)) => {
                let mut value = default.clone();
                fill(node, &mut value);
                fields.insert((**name).into(), value);
            }
            (None, None) => {}
        }
    }
    if let Some(other) = node.additional.node().filter(|other| other.fills) {
        let unnamed = fields.iter_mut().filter(|(name, _)| node.property(name).is_none());
        unnamed.for_each(|(_, value)| fill_one(other, value));
    }
}

fn fill_one(node: &Node, value: &mut Value) {
    if let (Value::Null, false, Some(default)) = (&*value, node.nullable, &node.default) {
        *value = default.clone();
    }
    fill(node, value);
}
