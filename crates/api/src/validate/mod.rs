//! What an object must be beyond its shape: required fields, closed sets, names and metadata.
//!
//! - Facts come from the table and `schema/rules.txt`; the messages are apimachinery's, word for word.
//! - All errors are collected, in order of the fields.
//! - Rules that are a kind's own live with that kind's strategy and use the formats here.

mod meta;
mod names;
#[cfg(test)]
mod tests;

pub use meta::{object_meta, object_meta_update};
pub use names::{
    NameRule, dns1035_label, dns1123_label, dns1123_subdomain, label_key, label_value, name_rule,
    path_segment, qualified_name,
};

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::field::{Error, Errors, Path};
use crate::schema::{Field, RULES, Resource, Schema, Struct, Type};

/// `(type, field)` to whether its absence is an error, where that is not as the OpenAPI document suggests.
static ABSENCE: LazyLock<HashMap<(&str, &str), bool>> = LazyLock::new(|| {
    let mut rules = HashMap::new();
    for line in RULES.lines() {
        let mut words = line.split(' ');
        let demanded = match words.next() {
            Some("optional") => false,
            Some("needed") => true,
            _ => continue,
        };
        let Some(name) = words.next() else { continue };
        rules.extend(words.map(|field| ((name, field), demanded)));
    }
    rules
});

/// Checks required fields and closed sets of the whole object but its metadata and status.
///
/// A missing struct counts as an empty one, as in Go: what it lacks is reported by its own fields' paths.
pub fn required(resource: &Resource, value: &Value) -> Errors {
    let mut walk = Walk { schema: &resource.schema, errors: Errors::new() };
    if let Value::Object(fields) = value {
        let root = resource.root();
        for field in root.fields.iter().filter(|f| !matches!(f.name.as_ref(), "metadata" | "status")) {
            walk.field(&At::Root, root, field, fields);
        }
    }
    walk.errors
}

struct Walk<'a> {
    schema: &'a Schema,
    errors: Errors,
}

/// A place as a chain of stack frames; its text is made only for an error.
enum At<'a> {
    Root,
    Child(&'a At<'a>, &'a str),
    Index(&'a At<'a>, usize),
    Key(&'a At<'a>, &'a str),
}

impl At<'_> {
    fn path(&self) -> Path {
        match self {
            Self::Root => Path::default(),
            Self::Child(parent, name) => parent.path().child(name),
            Self::Index(parent, index) => parent.path().index(*index),
            Self::Key(parent, key) => parent.path().key(key),
        }
    }
}

impl Walk<'_> {
    fn record(&mut self, at: &At<'_>, record: &Struct, fields: &Map<String, Value>) {
        if record.name.ends_with(".meta.v1.ObjectMeta") {
            return;
        }
        for (name, value) in fields {
            if let Some(field) = record.field(name) {
                self.value(&At::Child(at, name), field, &field.ty, value);
            }
        }
        for field in record.fields.iter().filter(|field| field.required) {
            self.absence(at, record, field, fields);
        }
    }

    fn field(&mut self, at: &At<'_>, record: &Struct, field: &Field, fields: &Map<String, Value>) {
        if let Some(value) = fields.get(field.name.as_ref()) {
            self.value(&At::Child(at, &field.name), field, &field.ty, value);
        }
        if field.required {
            self.absence(at, record, field, fields);
        }
    }

    fn value(&mut self, at: &At<'_>, field: &Field, ty: &Type, value: &Value) {
        match (ty, value) {
            (Type::Struct(id), Value::Object(fields)) => self.record(at, self.schema.get(*id), fields),
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

    fn absence(&mut self, at: &At<'_>, record: &Struct, field: &Field, fields: &Map<String, Value>) {
        let present = match fields.get(field.name.as_ref()) {
            None => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(items)) => !items.is_empty(),
            Some(_) => true,
        };
        let rule = || ABSENCE.get(&(record.short_name(), field.name.as_ref())).copied();
        if present || rule() == Some(false) {
            return;
        }
        match &field.ty {
            Type::Struct(id) if rule().is_none() => {
                self.record(&At::Child(at, &field.name), self.schema.get(*id), &Map::new());
            }
            Type::String | Type::Bytes | Type::List(_) | Type::Struct(_) => {
                self.errors.push(Error::required(&at.path().child(&field.name), ""));
            }
            // A missing number or boolean is zero or false, which may well be meant.
            _ => {}
        }
    }
}
