//! JSON patch (RFC 6902), over the `json-patch` crate, within Kubernetes' limits.

use json_patch::jsonptr::Pointer;
use json_patch::{PatchErrorKind, PatchOperation};
use serde_json::Value as Json;

use super::PatchError;
use crate::Value;

/// Operations in one patch, at most.
const OPERATIONS_MAX: usize = 10_000;
/// Bytes that all `copy` operations of one patch may add.
const COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Nesting that an operation may build. JSON is read back up to 128 levels.
const DEPTH_MAX: usize = 120;

/// Applies a JSON patch. A body that is no list of operations is malformed; an operation that does not fit is not.
pub fn json(object: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let Value::Array(operations) = patch else { return Err(wrong_type(patch, "jsonpatch.Patch")) };
    if let Some(odd) = operations.iter().find(|o| !o.is_object()) {
        return Err(wrong_type(odd, "jsonpatch.Operation"));
    }
    if operations.len() > OPERATIONS_MAX {
        let count = operations.len();
        let text = "The allowed maximum operations in a JSON patch is";
        return Err(PatchError::TooLarge(format!("{text} {OPERATIONS_MAX}, got {count}")));
    }
    // The crate works on trees of serde_json. These patches are rare enough for a change of form there and back.
    let mut json = Json::from(object.take());
    let mut copied = 0;
    let done = operations.iter().try_for_each(|operation| apply_one(&mut json, operation, &mut copied));
    *object = json.into();
    done
}

fn apply_one(object: &mut Json, raw: &Value, copied: &mut usize) -> Result<(), PatchError> {
    let operation = parse(raw)?;
    check_limits(object, &operation, copied)?;
    if tests_absence(object, &operation) {
        return Ok(());
    }
    // One at a time: the crate would otherwise keep an undo log that the caller has no use for.
    json_patch::patch_unsafe(object, std::slice::from_ref(&operation))
        .map_err(|e| refused(&operation, &e.kind))
}

fn parse(raw: &Value) -> Result<PatchOperation, PatchError> {
    let text = |name: &str| raw.get(name).and_then(Value::as_str);
    let op = text("op").unwrap_or("unknown");
    if !["add", "remove", "replace", "move", "copy", "test"].contains(&op) {
        return Err(PatchError::Inapplicable(format!("Unexpected kind: {op}")));
    }
    let mut raw = Json::from(raw.clone());
    if let (Json::Object(map), "add" | "replace" | "test") = (&mut raw, op) {
        map.entry("value").or_insert(Json::Null);
    }
    serde_json::from_value(raw).map_err(|e| PatchError::Inapplicable(format!("{op} operation: {e}")))
}

/// Bounds what the operation adds: bytes by `copy`, and depth by anything that inserts.
fn check_limits(object: &Json, operation: &PatchOperation, copied: &mut usize) -> Result<(), PatchError> {
    let (path, inserted) = match operation {
        PatchOperation::Add(op) => (&op.path, Some(&op.value)),
        PatchOperation::Replace(op) => (&op.path, Some(&op.value)),
        PatchOperation::Move(op) => (&op.path, op.from.resolve(object).ok()),
        PatchOperation::Copy(op) => {
            let source = op.from.resolve(object).ok();
            *copied += source.map_or(0, size);
            (&op.path, source)
        }
        PatchOperation::Remove(_) | PatchOperation::Test(_) => return Ok(()),
    };
    if *copied > COPIED_BYTES_MAX {
        let text = "Unable to complete the copy, the accumulated size increase of copy is";
        let text = format!("{text} {copied}, exceeding the limit {COPIED_BYTES_MAX}");
        return Err(PatchError::Inapplicable(text));
    }
    if path.count() + inserted.map_or(0, depth) > DEPTH_MAX {
        return Err(PatchError::Inapplicable(format!(
            "the patched object is nested deeper than {DEPTH_MAX} levels"
        )));
    }
    Ok(())
}

/// `test` for null holds also where there is nothing, in Kubernetes.
fn tests_absence(object: &Json, operation: &PatchOperation) -> bool {
    matches!(operation, PatchOperation::Test(op) if op.value.is_null() && resolves_to_nothing(&op.path, object))
}

fn resolves_to_nothing(path: &Pointer, object: &Json) -> bool {
    path.resolve(object).is_err()
}

fn refused(operation: &PatchOperation, kind: &PatchErrorKind) -> PatchError {
    let (op, path) = match operation {
        PatchOperation::Add(o) => ("add", &o.path),
        PatchOperation::Remove(o) => ("remove", &o.path),
        PatchOperation::Replace(o) => ("replace", &o.path),
        PatchOperation::Move(o) => ("move", if from_is_wrong(kind) { &o.from } else { &o.path }),
        PatchOperation::Copy(o) => ("copy", if from_is_wrong(kind) { &o.from } else { &o.path }),
        PatchOperation::Test(o) => ("testing", &o.path),
    };
    if matches!(kind, PatchErrorKind::TestFailed) {
        return PatchError::TestFailed(format!("testing value {path} failed: test failed"));
    }
    PatchError::Inapplicable(match kind {
        PatchErrorKind::CannotMoveInsideItself => format!("move operation does not apply: {kind}: {path}"),
        _ => format!("{op} operation does not apply: doc is missing path: {path}: missing value"),
    })
}

fn from_is_wrong(kind: &PatchErrorKind) -> bool {
    matches!(kind, PatchErrorKind::InvalidFromPointer)
}

fn wrong_type(found: &Value, wanted: &str) -> PatchError {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    PatchError::Malformed(format!("json: cannot unmarshal {found} into Go value of type {wanted}"))
}

/// About the bytes a value takes as JSON.
fn size(value: &Json) -> usize {
    match value {
        Json::String(text) => text.len() + 2,
        Json::Array(items) => 2 + items.iter().map(|v| size(v) + 1).sum::<usize>(),
        Json::Object(map) => 2 + map.iter().map(|(k, v)| k.len() + 4 + size(v)).sum::<usize>(),
        _ => 4,
    }
}

fn depth(value: &Json) -> usize {
    match value {
        Json::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Json::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
