//! What an object must be beyond its shape: required fields, closed sets, names and metadata.
//!
//! - Facts come from the table and `schema/rules.txt`; the messages are apimachinery's, word for word.
//! - All errors are collected, in order of the fields.
//! - Rules that are a kind's own live with that kind's strategy and use the formats here.

mod addresses;
mod domains;
mod forms;
mod indexes;
mod kinds;
mod meta;
mod names;
mod rules;
mod schedule;
mod seen;
#[cfg(test)]
mod tests;

pub use domains::{domain_prefixed_path, fully_qualified_name, signer_name};
pub use forms::{config_key, port_name};
pub use indexes::{count as count_indexes, overlap as overlapping_indexes};
pub use kinds::VOLUME_NOT_SOURCES;
pub use meta::{immutable, object_meta, object_meta_update};
pub use names::{
    CEL_RESERVED, CEL_WORDS, NameRule, dns1035_label, dns1123_label, dns1123_subdomain, label_key,
    label_value, name_rule, path_segment, qualified_name,
};
pub use seen::{ByText, Seen};

use crate::{Map, Value};

use crate::field::{Error, Errors, Path};
use crate::schema::{Field, Resource, Schema, StructId, Type};
use crate::structural;
use rules::Checks;

/// Fields of an object.
type Fields = Map;

/// Checks the whole object but its metadata and status: required fields, closed sets, forms, and how fields relate.
///
/// A missing struct counts as an empty one, as in Go: what it lacks is reported by its own fields' paths.
pub fn required(resource: &Resource, value: &Value) -> Errors {
    changed(resource, value, &Value::Null)
}

/// The same of a new version: what lies in a part of the object (its spec) that is as it was is not judged again. To
/// see that nothing changed costs far less.
pub fn changed(resource: &Resource, value: &Value, old: &Value) -> Errors {
    if let Some(custom) = &resource.custom {
        let old = Some(old).filter(|old| !old.is_null());
        let errors = structural::check(&custom.node, value, old);
        // Expressions may count on types and bounds.
        let expressions = custom.expressions.as_ref().filter(|_| errors.is_empty());
        return expressions.map_or(errors, |expressions| expressions.check(value, old));
    }
    let (checks, old) = (rules::builtin_checks(), old.as_object());
    let mut walk = Walk { schema: &resource.schema, checks, old, errors: Errors::new() };
    if let Value::Object(fields) = value {
        walk.record(&At::Root, resource.object, fields);
    }
    walk.errors
}

struct Walk<'a> {
    schema: &'a Schema,
    /// By struct.
    checks: &'a [Checks],
    /// The whole object before the change.
    old: Option<&'a Fields>,
    errors: Errors,
}

/// A place as a chain of stack frames; its text is made only for an error.
pub(crate) enum At<'a> {
    Root,
    Child(&'a At<'a>, &'a str),
    Index(&'a At<'a>, usize),
    Key(&'a At<'a>, &'a str),
}

impl At<'_> {
    pub(crate) fn path(&self) -> Path {
        match self {
            Self::Root => Path::default(),
            Self::Child(parent, name) => parent.path().child(name),
            Self::Index(parent, index) => parent.path().index(*index),
            Self::Key(parent, key) => parent.path().key(key),
        }
    }

    /// A field of the object here.
    pub(crate) fn child<'b>(&'b self, name: &'b str) -> At<'b> {
        At::Child(self, name)
    }

    /// An item of the list here.
    pub(crate) fn index(&self, index: usize) -> At<'_> {
        At::Index(self, index)
    }

    /// The list that an item is of; another place is its own.
    pub(crate) fn list(&self) -> &At<'_> {
        match self {
            Self::Index(list, _) => list,
            other => other,
        }
    }

    /// What holds the field.
    pub(crate) fn parent(&self) -> &At<'_> {
        match self {
            Self::Child(parent, _) | Self::Index(parent, _) | Self::Key(parent, _) => parent,
            Self::Root => self,
        }
    }
}

impl Walk<'_> {
    fn record(&mut self, at: &At<'_>, id: StructId, fields: &Fields) {
        let record = self.schema.get(id);
        if record.name.ends_with(".meta.v1.ObjectMeta") || self.errors.is_full() {
            return;
        }
        let is_root = matches!(at, At::Root);
        let checks = self.checks.get(id.0 as usize);
        for (name, value) in fields {
            if let Some((index, field)) = record.fields.place(name)
                && !(is_root && (name == "status" || self.is_as_before(name, value)))
            {
                let place = At::Child(at, name);
                self.value(&place, field, &field.ty, value);
                if let Some(checks) = checks {
                    checks.field(&place, index, value, &mut self.errors);
                }
            }
        }
        match checks {
            Some(checks) => {
                for (index, by_rule) in checks.demanded() {
                    self.demand(at, record.fields.get(*index), *by_rule, fields);
                }
            }
            None => {
                let required = record.fields.iter().filter(|field| field.required);
                required.for_each(|field| self.demand(at, Some(field), false, fields));
            }
        }
        if let Some(checks) = checks {
            checks.own(at, fields, &mut self.errors);
        }
    }

    fn is_as_before(&self, name: &str, value: &Value) -> bool {
        self.old.is_some_and(|old| old.get(name) == Some(value))
    }

    fn value(&mut self, at: &At<'_>, field: &Field, ty: &Type, value: &Value) {
        match (ty, value) {
            (Type::Struct(id), Value::Object(fields)) => self.record(at, *id, fields),
            (Type::List(list), Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(&At::Index(at, index), field, &list.item, item);
                }
            }
            (Type::Map(item), Value::Object(entries)) => {
                for (key, value) in entries {
                    self.value(&At::Key(at, key), field, item, value);
                }
            }
            (Type::String, Value::String(text)) => self.closed_set(at, field, text),
            _ => {}
        }
    }

    fn closed_set(&mut self, at: &At<'_>, field: &Field, text: &str) {
        let empty_is_absent = text.is_empty() && field.required;
        if field.allowed.is_empty() || empty_is_absent || field.allowed.iter().any(|a| a.as_ref() == text) {
            return;
        }
        let allowed: Vec<&str> = field.allowed.iter().map(AsRef::as_ref).collect();
        self.errors.push(Error::not_supported(&at.path(), text, &allowed));
    }

    fn demand(&mut self, at: &At<'_>, field: Option<&Field>, by_rule: bool, fields: &Fields) {
        let Some(field) = field else { return };
        let is_root = matches!(at, At::Root);
        if is_root && matches!(field.name.as_ref(), "metadata" | "status") {
            return;
        }
        let present = match fields.get(field.name.as_ref()) {
            None => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(items)) => !items.is_empty(),
            Some(_) => true,
        };
        if present {
            return;
        }
        match &field.ty {
            Type::Struct(id) if !by_rule => {
                self.record(&At::Child(at, &field.name), *id, &Map::new());
            }
            Type::String | Type::Bytes | Type::List(_) | Type::Struct(_) => {
                self.errors.push(Error::required(&at.path().child(&field.name), ""));
            }
            // A missing number or boolean is zero or false, which may well be meant.
            _ => {}
        }
    }
}
