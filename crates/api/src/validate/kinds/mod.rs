//! Rules that relate several fields, one function per type, named as `schema/rules.txt` names types.
//!
//! A function gets the fields of an object of its type and adds errors; what lies inside is checked by the walk.

mod admission;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
mod classes;
mod core;
mod definitions;
mod discovery;
mod flowcontrol;
mod groups;
mod here;
mod ingress;
mod rbac;
mod resource;
mod select;

use crate::Value;

pub use self::core::VOLUME_NOT_SOURCES;
use self::core::pods;
use super::forms::judge;
use super::seen::{ByText, Seen};
use super::{At, Fields};
use crate::field::{Errors, Path};

/// Checks one struct.
pub type Check = fn(&At<'_>, &Fields, &mut Errors);

/// All of them.
pub fn all() -> impl Iterator<Item = &'static (&'static str, Check)> {
    groups::ALL.iter().chain(core::ALL).chain(pods::ALL)
}

/// A text field; empty when absent.
fn text<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(fields: &Fields, name: &str) -> Option<i64> {
    fields.get(name).and_then(Value::as_i64)
}

fn object<'a>(fields: &'a Fields, name: &str) -> Option<&'a Fields> {
    fields.get(name)?.as_object()
}

/// The objects of a list field with their places.
fn items<'a>(fields: &'a Fields, name: &str) -> impl Iterator<Item = (usize, &'a Fields)> {
    let list = fields.get(name).and_then(Value::as_array);
    list.into_iter().flatten().enumerate().filter_map(|(at, item)| Some((at, item.as_object()?)))
}

/// `a.b.c` under a place.
fn under(at: &At<'_>, path: &str) -> Path {
    path.split('.').fold(at.path(), |path, name| path.child(name))
}

/// A boolean field; false when absent.
fn flag(fields: &Fields, name: &str) -> bool {
    fields.get(name).and_then(Value::as_bool).unwrap_or_default()
}

/// The items of a list field; none when absent.
fn list<'a>(fields: &'a Fields, name: &str) -> &'a [Value] {
    fields.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The texts of a list field with their places.
fn texts<'a>(fields: &'a Fields, name: &str) -> impl Iterator<Item = (usize, &'a str)> {
    list(fields, name).iter().enumerate().filter_map(|(at, item)| Some((at, item.as_str()?)))
}

/// A copy to show in an error.
fn as_value(fields: &Fields) -> Value {
    Value::Object(fields.clone())
}
