//! Reading a schema's tree: what is missing or of another type is empty.

use crate::{Map, Value};

pub fn text<'s>(schema: &'s Value, name: &str) -> &'s str {
    schema.get(name).and_then(Value::as_str).unwrap_or_default()
}

pub fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or_default()
}

pub fn values<'s>(schema: &'s Value, name: &str) -> &'s [Value] {
    schema.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

pub fn fields<'s>(schema: &'s Value, name: &str) -> impl Iterator<Item = (&'s str, &'s Value)> {
    let fields = schema.get(name).and_then(Value::as_object);
    fields.into_iter().flat_map(Map::iter).map(|(name, value)| (name.as_str(), value))
}
