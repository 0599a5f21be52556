//! Small reads of an object's tree.

use crate::Value;

/// A value at a path of keys; `Null` when any is missing.
pub(super) fn at<'t>(tree: &'t Value, path: &[&str]) -> &'t Value {
    static NULL: Value = Value::Null;
    path.iter().try_fold(tree, |value, key| value.get(key)).unwrap_or(&NULL)
}

/// A text at a path of keys; empty when missing.
pub(super) fn text<'t>(tree: &'t Value, path: &[&str]) -> &'t str {
    at(tree, path).as_str().unwrap_or_default()
}

/// Items of the list at a path; none when missing.
pub(super) fn items<'t>(tree: &'t Value, path: &[&str]) -> &'t [Value] {
    at(tree, path).as_array().map(Vec::as_slice).unwrap_or_default()
}
