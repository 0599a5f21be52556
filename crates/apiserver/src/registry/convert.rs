//! Between the version a client speaks and the version the store keeps.

use std::sync::Arc;

use tiphys_api::schema::Resource;
use tiphys_api::{Object, Status, Value};

/// Whether the two are the same version of the same group.
pub fn is_same(a: &Resource, b: &Resource) -> bool {
    a.gvk == b.gvk
}

/// A stored object as a client of another version sees it. The very same object when the versions are the same.
pub fn to(wanted: &Arc<Resource>, stored: &Arc<Resource>, object: Object) -> Result<Object, Status> {
    if is_same(wanted, stored) {
        return Ok(object);
    }
    let mut tree = object.value().map_err(Status::internal)?;
    tree_between(stored, wanted, &mut tree);
    let bytes = serde_json::to_vec(&tree).map_err(Status::internal)?;
    Ok(Object::new(object.meta().clone(), bytes.into()))
}

/// The same on a tree.
pub fn tree_between(from: &Resource, to: &Resource, tree: &mut Value) {
    if !is_same(from, to) {
        tiphys_api::convert::between(from, to, tree);
    }
}
