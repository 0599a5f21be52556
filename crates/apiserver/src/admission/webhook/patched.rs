//! What a mutating webhook or policy makes of an object: a JSON patch applied, and the outcome read as a request's body is read.

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
    settled(kind, before.0, &plain, &tree, &format!("admission webhook {webhook:?}")).map_err(Failure::broken)
}

/// The object after somebody (`who`) made another JSON (`tree`) of its JSON (`plain`).
pub(super) fn settled(
    kind: Option<&Arc<Resource>>,
    before: &Value,
    plain: &Value,
    tree: &Value,
    who: &str,
) -> Result<(Value, bool), String> {
    let moved = ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"]
        .into_iter()
        .find(|path| tree.pointer(path) != plain.pointer(path));
    if let Some(path) = moved {
        let field = path.trim_start_matches('/').replace('/', ".");
        return Err(format!("{who} changed {field} of the object"));
    }
    let same_books = tree.pointer(MANAGED) == plain.pointer(MANAGED);
    let text = serde_json::to_vec(tree).map_err(|error| error.to_string())?;
    let mut tree = decode::json(&text).map_err(|error| error.to_string())?.value;
    if let Some(kind) = kind {
        registry::prune(kind, &mut tree)?;
    }
    if let (true, Some(books), Some(own)) = (same_books, before.pointer(MANAGED), tree.pointer_mut(MANAGED)) {
        // The very same texts.
        own.clone_from(books);
    }
    let changed = tree != *before;
    if let Some(kind) = kind {
        registry::complete(kind, &mut tree);
    }
    Ok((tree, changed))
}
