//! Pruning: what the schema does not name is not kept, and null stands only where it may.
//!
//! `apiVersion`, `kind` and `metadata` need not be named; metadata is what it is for every kind.

use super::{Additional, Node};
use crate::decode::{self, DecodeError};
use crate::value::tree::Place;
use crate::{Map, Value};

/// Drops what an object of this schema does not have; tells each as `unknown field "spec.x"`.
///
/// # Errors
/// When its metadata is none.
pub fn prune(node: &Node, object: &mut Value) -> Result<Vec<String>, DecodeError> {
    let mut walk = Walk { unknown: Vec::new(), failed: None };
    if let Value::Object(fields) = object {
        walk.resource(Place::Root, node, fields);
    }
    walk.failed.map_or(Ok(walk.unknown), Err)
}

struct Walk {
    unknown: Vec<String>,
    failed: Option<DecodeError>,
}

impl Walk {
    fn value(&mut self, at: Place<'_>, node: &Node, value: &mut Value) {
        match value {
            Value::Object(fields) if node.embedded => self.resource(at, node, fields),
            Value::Object(fields) => self.fields(at, node, fields),
            Value::Array(items) => {
                let Some(node) = &node.items else { return };
                for (index, item) in items.iter_mut().enumerate() {
                    self.value(Place::Item(&at, index), node, item);
                }
            }
            _ => {}
        }
    }

    /// What has a kind and metadata.
    fn resource(&mut self, at: Place<'_>, node: &Node, fields: &mut Map) {
        let meta = ["apiVersion", "kind", "metadata"].map(|name| (name, fields.remove(name)));
        self.fields(at, node, fields);
        for (name, value) in meta {
            let Some(mut value) = value.filter(|value| !value.is_null()) else { continue };
            if name == "metadata" {
                match decode::metadata(Place::Key(&at, name), &mut value) {
                    Ok(unknown) => self.unknown.extend(unknown),
                    Err(error) => self.failed = Some(error),
                }
            }
            fields.insert(name.into(), value);
        }
    }

    fn fields(&mut self, at: Place<'_>, node: &Node, fields: &mut Map) {
        fields.retain(|name, value| {
            let place = Place::Key(&at, name);
            let Some(node) = node.field(name) else {
                let kept = node.preserve_unknown || matches!(node.additional, Additional::Any);
                if !kept {
                    self.unknown.push(format!("unknown field {:?}", place.to_string()));
                }
                return kept;
            };
            self.value(place, node, value);
            // Where null is no value it says that there is none.
            !value.is_null() || node.nullable || node.takes_anything()
        });
    }
}

impl Node {
    fn takes_anything(&self) -> bool {
        self.kind.is_none() && self.preserve_unknown
    }
}
