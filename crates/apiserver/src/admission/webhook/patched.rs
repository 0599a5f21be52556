//! What a mutating webhook makes of an object: its JSON patch applied, and the outcome read as a request's body is read.

use std::sync::Arc;

use tiphys_api::schema::Resource;
use tiphys_api::{Value, decode, patch};

use super::call::Failure;
use crate::registry;

const MANAGED: &str = "/metadata/managedFields";

/// The operations of a patch; `None` when there are none.
pub(super) fn operations(patch: &[u8]) -> Result<Option<Value>, Failure> {
    if patch.is_empty() {
        return Ok(None);
    }
    let patch = Value::from_json(patch).map_err(Failure::broken)?;
    let empty = patch.is_null() || patch.as_array().is_some_and(Vec::is_empty);
    Ok((!empty).then_some(patch))
}

/// The object after a patch: pruned, type-checked and with defaults where its `kind` is known; and whether it is another.
/// `before`: the object, and its JSON.
pub(super) fn apply(
    kind: Option<&Arc<Resource>>,
    before: (&Value, &[u8]),
    patch: &Value,
    webhook: &str,
) -> Result<(Value, bool), Failure> {
    let plain = Value::from_json(before.1).map_err(Failure::broken)?;
    let mut tree = plain.clone();
    patch::json(&mut tree, patch).map_err(Failure::broken)?;
    let moved = ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"]
        .into_iter()
        .find(|path| tree.pointer(path) != plain.pointer(path));
    if let Some(path) = moved {
        let field = path.trim_start_matches('/').replace('/', ".");
        let why = format_args!("admission webhook {webhook:?} changed {field} of the object").to_string();
        return Err(Failure::broken(why));
    }
    let same_books = tree.pointer(MANAGED) == plain.pointer(MANAGED);
    let text = serde_json::to_vec(&tree).map_err(Failure::broken)?;
    let mut tree = decode::json(&text).map_err(Failure::broken)?.value;
    if let Some(kind) = kind {
        registry::prune(kind, &mut tree).map_err(Failure::broken)?;
    }
    if let (true, Some(books), Some(own)) = (same_books, before.0.pointer(MANAGED), tree.pointer_mut(MANAGED))
    {
        // The very same texts.
        own.clone_from(books);
    }
    let changed = tree != *before.0;
    if let Some(kind) = kind {
        registry::complete(kind, &mut tree);
    }
    Ok((tree, changed))
}
