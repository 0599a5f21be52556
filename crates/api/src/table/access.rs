//! Reading fields of an object for cells: a missing field is its zero value, never an error.

use std::borrow::Cow;

use crate::Value;
use jiff::Timestamp;

use super::duration::human_duration;
use crate::selector::LabelSelector;

pub(super) const NONE: &str = "<none>";
pub(super) const UNSET: &str = "<unset>";
pub(super) const UNKNOWN: &str = "<unknown>";

/// The value at a dotted path.
pub(super) fn at<'v>(object: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(object, |value, name| value.get(name)).filter(|v| !v.is_null())
}

pub(super) fn text<'v>(object: &'v Value, path: &str) -> &'v str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn text_or<'v>(object: &'v Value, path: &str, absent: &'v str) -> &'v str {
    match text(object, path) {
        "" => absent,
        text => text,
    }
}

pub(super) fn number(object: &Value, path: &str) -> i64 {
    at(object, path).and_then(Value::as_i64).unwrap_or_default()
}

pub(super) fn flag(object: &Value, path: &str) -> bool {
    at(object, path).and_then(Value::as_bool).unwrap_or_default()
}

pub(super) fn list<'v>(object: &'v Value, path: &str) -> &'v [Value] {
    at(object, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(super) fn texts<'v>(object: &'v Value, path: &str) -> Vec<&'v str> {
    list(object, path).iter().filter_map(Value::as_str).collect()
}

/// Entries of a list or a map.
pub(super) fn count(object: &Value, path: &str) -> usize {
    match at(object, path) {
        Some(Value::Array(items)) => items.len(),
        Some(Value::Object(map)) => map.len(),
        _ => 0,
    }
}

pub(super) fn time(object: &Value, path: &str) -> Option<Timestamp> {
    text(object, path).parse().ok()
}

/// Time since a field.
pub(super) fn age(object: &Value, path: &str, now: Timestamp) -> String {
    time(object, path).map_or_else(|| UNKNOWN.into(), |since| human_duration(now, since))
}

pub(super) fn is_deleted(object: &Value) -> bool {
    at(object, "metadata.deletionTimestamp").is_some()
}

/// The status of a condition; empty when the object has no such condition.
pub(super) fn condition<'v>(object: &'v Value, kind: &str) -> &'v str {
    let conditions = list(object, "status.conditions");
    conditions.iter().find(|c| text(c, "type") == kind).map(|c| text(c, "status")).unwrap_or_default()
}

/// A number or a text as text, as `IntOrString` prints.
pub(super) fn scalar(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => text.into(),
        other => other.to_string().into(),
    }
}

/// A quantity as it is stored; `0` where there is none.
pub fn quantity_text(value: Option<&Value>) -> Cow<'_, str> {
    value.map_or("0".into(), scalar)
}

/// Labels as `a=b,c=d`.
pub(super) fn labels(object: &Value, path: &str) -> String {
    let map = at(object, path).and_then(Value::as_object).into_iter().flatten();
    let pairs: Vec<String> = map.map(|(key, value)| format!("{key}={}", scalar(value))).collect();
    match pairs.is_empty() {
        true => NONE.into(),
        false => pairs.join(","),
    }
}

/// A `metav1.LabelSelector` as text.
pub(super) fn selector(object: &Value, path: &str) -> String {
    match LabelSelector::from_value(at(object, path).unwrap_or(&Value::Null)) {
        Err(_) => "<error>".into(),
        Ok(selector) if selector.requirements().is_empty() => NONE.into(),
        Ok(selector) => selector.to_string(),
    }
}

/// Names or other texts of the items of a list, joined.
pub(super) fn joined(object: &Value, path: &str, field: &str) -> String {
    list(object, path).iter().map(|item| text(item, field)).collect::<Vec<_>>().join(",")
}

/// The first three, and how many there are beyond.
pub(super) fn first_three(items: &[String], absent: &str) -> String {
    let (shown, rest) = items.split_at(items.len().min(3));
    match (shown.join(","), rest.len()) {
        (text, 0) if text.is_empty() => absent.into(),
        (text, 0) => text,
        (text, more) => format!("{text} + {more} more..."),
    }
}
