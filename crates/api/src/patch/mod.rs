//! The three patch formats that change part of an object: JSON patch, JSON merge patch, strategic merge patch.
//!
//! - Each takes the object and the decoded body. On an error the object may be half changed: the caller drops it.
//! - What a body costs is bounded: operations, bytes copied and nesting, since a small JSON patch could ask for
//!   unbounded work otherwise. List merges use hash lookups, so two long lists do not multiply.
//! - [`diff`] and [`three_way`] make strategic merge patches, as `kubectl apply` sends them.
//!
//! Server-side apply is the fourth format; see [`crate::apply`].

mod diff;
#[cfg(test)]
mod golden;
mod json;
mod order;
mod strategic;
#[cfg(test)]
mod tests;

use crate::{Map, Value};

use crate::schema::{Schema, Struct, StructId, Type};
use crate::status::{Cause, Details, Status};

pub use diff::{diff, three_way};
pub use json::json;

/// Why a patch was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch is not one of its format (400).
    #[error("{0}")]
    Malformed(String),
    /// The patch is well-formed but does not fit this object (422).
    #[error("{0}")]
    Inapplicable(String),
    /// One of its tests does not hold for this object (422).
    #[error("{0}")]
    TestFailed(String),
    /// The patch asks for more than the server is ready to do (413).
    #[error("Request entity is too large: {0}")]
    TooLarge(String),
}

impl PatchError {
    /// The answer to the client.
    pub fn status(&self) -> Status {
        match self {
            Self::Malformed(why) => Status::bad_request(why),
            Self::TooLarge(_) => Status::too_large(self.to_string()),
            Self::Inapplicable(why) | Self::TestFailed(why) => {
                // Kubernetes' message hides the reason; its place in the details keeps both.
                let causes = vec![Cause { message: why.clone(), ..Cause::default() }];
                let message = "the server rejected our request due to an error in our request";
                let details = Details { causes, ..Details::default() };
                Status { details: Some(details), ..Status::failure(422, "Invalid", message) }
            }
        }
    }
}

/// JSON merge patch (RFC 7396): objects merge, null deletes, anything else replaces.
pub fn merge(object: &mut Value, patch: &Value) -> Result<(), PatchError> {
    if !patch.is_object() {
        return Err(PatchError::Malformed("Invalid JSON Patch".into()));
    }
    merge_value(object, patch);
    Ok(())
}

fn merge_value(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Value::Object(fields) = object else { return };
    for (name, value) in patch {
        match value.is_null() {
            true => drop(fields.remove(name)),
            false => merge_value(fields.entry(name.clone()).or_insert(Value::Null), value),
        }
    }
}

/// Strategic merge patch: a merge patch that also merges lists, by the merge keys of the schema, and obeys
/// directives (`$patch`, `$retainKeys`, `$setElementOrder/<list>`, `$deleteFromPrimitiveList/<list>`).
pub fn strategic(
    schema: &Schema,
    root: StructId,
    object: &mut Value,
    patch: &Value,
) -> Result<(), PatchError> {
    let (Value::Object(object), Value::Object(patch)) = (object, patch) else {
        return Err(PatchError::Malformed("invalid JSON document".into()));
    };
    strategic::merge_map(object, patch, Shape::Struct(schema, schema.get(root)))
}

/// What the schema says about a place in an object.
#[derive(Clone, Copy)]
enum Shape<'s> {
    Struct(&'s Schema, &'s Struct),
    /// Free keys with values of one type.
    Map(&'s Schema, &'s Type),
    /// Not in the schema: merges as JSON merge patch does.
    Unknown,
}

/// How a list merges.
#[derive(Clone, Copy)]
enum Merging<'s> {
    /// The patch's list takes the place of the old one.
    Replace,
    /// Plain values, merged as a set.
    Set,
    /// Objects, merged by the value of a key.
    Keyed(&'s str),
}

impl<'s> Shape<'s> {
    fn of(schema: &'s Schema, ty: &'s Type) -> Self {
        match ty {
            Type::Struct(id) => Self::Struct(schema, schema.get(*id)),
            Type::Map(value) => Self::Map(schema, value),
            _ => Self::Unknown,
        }
    }

    /// The shape of a field's value when it is an object.
    fn child(self, name: &str) -> Self {
        match self {
            Self::Struct(schema, of) => of.field(name).map_or(Self::Unknown, |f| Self::of(schema, &f.ty)),
            Self::Map(schema, value) => Self::of(schema, value),
            Self::Unknown => Self::Unknown,
        }
    }

    /// How the list in a field merges, and the shape of its items.
    fn list(self, name: &str) -> (Merging<'s>, Self) {
        let Self::Struct(schema, of) = self else { return (Merging::Replace, Self::Unknown) };
        let Some(field) = of.field(name) else { return (Merging::Replace, Self::Unknown) };
        let item = match &field.ty {
            Type::List(list) => Self::of(schema, &list.item),
            _ => Self::Unknown,
        };
        match field.patch.merge_key.as_deref() {
            None => (Merging::Replace, item),
            Some("") => (Merging::Set, item),
            Some(key) => (Merging::Keyed(key), item),
        }
    }

    /// Whether the patch's value of a field takes the place of the present one, though it is an object.
    fn replaces(self, name: &str) -> bool {
        matches!(self, Self::Struct(_, of) if of.field(name).is_some_and(|f| f.patch.replace))
    }

    /// Whether a field's value keeps only the keys that a patch names.
    fn retains_keys(self, name: &str) -> bool {
        matches!(self, Self::Struct(_, of) if of.field(name).is_some_and(|f| f.patch.retain_keys))
    }
}

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_VALUES: &str = "$deleteFromPrimitiveList/";

/// An item of a keyed list by the value of its key.
fn key_of<'v>(item: &'v Value, key: &str) -> Result<&'v Value, PatchError> {
    let Value::Object(map) = item else {
        return Err(PatchError::Malformed("list element types are not identical".into()));
    };
    map.get(key).ok_or_else(|| {
        PatchError::Malformed(format!("map: {item} does not contain declared merge key: {key}"))
    })
}

/// The value as a list, or the error for one that must be a list and is not.
fn as_list<'v>(value: &'v Value, what: &str) -> Result<&'v [Value], PatchError> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(PatchError::Malformed(format!("invalid patch format of {what}"))),
    }
}

type Object = Map;
