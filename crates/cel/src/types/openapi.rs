//! Types from a structural schema (`openAPIV3Schema`), with the bounds that it sets or that a request's size sets.

use std::collections::BTreeMap;
use std::sync::Arc;

use tiphys_api::Value;
use tiphys_api::schema::ListKind;

use super::escape::escape;
use super::{Decl, Field, List, Map, Object, Type};

/// Most bytes of a request, as Kubernetes reckons with.
const REQUEST_BYTES_MAX: u64 = 3 * 1024 * 1024;
/// Deepest schema: as deep as any object may be.
const DEPTH_MAX: u8 = 64;

/// What `self` is under a schema; `None` where expressions cannot see the value. `root` for the schema of a whole
/// resource: its type and metadata are visible whatever the schema says.
pub fn decl(schema: &Value, root: bool) -> Option<Decl> {
    Builder { depth: 0 }.decl(schema, root, "object")
}

struct Builder {
    depth: u8,
}

fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or_default()
}

fn word<'v>(schema: &'v Value, name: &str) -> &'v str {
    schema.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn count(schema: &Value, name: &str) -> Option<u64> {
    schema.get(name).and_then(Value::as_i64).map(|count| u64::try_from(count).unwrap_or(0))
}

fn sized(ty: Type, max: u64, min_bytes: u64) -> Option<Decl> {
    Some(Decl { ty, max, min_bytes })
}

impl Builder {
    fn decl(&mut self, schema: &Value, root: bool, name: &str) -> Option<Decl> {
        if self.depth >= DEPTH_MAX {
            return None;
        }
        self.depth += 1;
        let decl = self.any(schema, root || flag(schema, "x-kubernetes-embedded-resource"), name);
        self.depth -= 1;
        decl
    }

    fn any(&mut self, schema: &Value, root: bool, name: &str) -> Option<Decl> {
        if flag(schema, "x-kubernetes-int-or-string") {
            return sized(Type::Dyn, REQUEST_BYTES_MAX - 2, 1);
        }
        match word(schema, "type") {
            "array" => self.list(schema, name),
            "object" => self.object(schema, root, name),
            "string" => string(schema),
            "boolean" => sized(Type::Bool, 1, 4),
            "number" => sized(Type::Double, 1, 1),
            "integer" => sized(Type::Int, 1, 1),
            _ => None,
        }
    }

    fn list(&mut self, schema: &Value, name: &str) -> Option<Decl> {
        let item = self.decl(schema.get("items")?, false, &format!("{name}.@idx"))?;
        let fits = (REQUEST_BYTES_MAX - 2) / (item.min_bytes + 1);
        let max = count(schema, "maxItems").unwrap_or(fits);
        sized(Type::List(Arc::new(List { item, kind: list_kind(schema) })), max, 2)
    }

    fn object(&mut self, schema: &Value, root: bool, name: &str) -> Option<Decl> {
        if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
            let value = self.decl(values, false, &format!("{name}.@elem"))?;
            let fits = (REQUEST_BYTES_MAX - 2) / (value.min_bytes + 6);
            let max = count(schema, "maxProperties").unwrap_or(fits);
            let key = Decl { ty: Type::String, max: REQUEST_BYTES_MAX - 2, min_bytes: 2 };
            return sized(Type::Map(Arc::new(Map { key, value })), max, 2);
        }
        let mut min_bytes = 2;
        let mut fields = BTreeMap::new();
        let properties = schema.get("properties").and_then(Value::as_object);
        let required = schema.get("required").and_then(Value::as_array);
        for (json, property) in properties.into_iter().flat_map(|properties| properties.iter()) {
            let Some(decl) = self.decl(property, false, &format!("{name}.{json}")) else { continue };
            let is_required = required.is_some_and(|names| names.iter().any(|n| n.as_str() == Some(json)));
            if is_required && property.get("default").is_none() {
                min_bytes += json.len() as u64 + decl.min_bytes + 4;
            }
            insert(&mut fields, json, decl);
        }
        if root {
            visible_at_roots(&mut fields);
        }
        sized(Type::Object(Arc::new(Object { name: name.into(), fields, open: false })), 1, min_bytes)
    }
}

fn insert(fields: &mut BTreeMap<Box<str>, Field>, json: &str, decl: Decl) {
    if let Some(name) = escape(json) {
        fields.insert(name.as_ref().into(), Field { json: json.into(), decl });
    }
}

/// `apiVersion`, `kind` and `metadata`'s names are there in every resource.
fn visible_at_roots(fields: &mut BTreeMap<Box<str>, Field>) {
    let text = || Decl { ty: Type::String, max: REQUEST_BYTES_MAX - 2, min_bytes: 2 };
    for name in ["apiVersion", "kind"] {
        insert(fields, name, text());
    }
    let mut metadata = BTreeMap::new();
    for name in ["name", "generateName"] {
        insert(&mut metadata, name, text());
    }
    // What the schema says of metadata can only be about these two.
    let object = Object { name: "object.metadata".into(), fields: metadata, open: false };
    insert(fields, "metadata", Decl { ty: Type::Object(Arc::new(object)), max: 1, min_bytes: 2 });
}

fn list_kind(schema: &Value) -> ListKind {
    match word(schema, "x-kubernetes-list-type") {
        "set" => ListKind::Set,
        "map" => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
            ListKind::Map(keys.into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect())
        }
        _ => ListKind::Atomic,
    }
}

fn string(schema: &Value) -> Option<Decl> {
    let longest = REQUEST_BYTES_MAX - 2;
    match word(schema, "format") {
        "byte" => sized(Type::Bytes, count(schema, "maxLength").unwrap_or(longest), 2),
        "duration" => sized(Type::Duration, 1, 4),
        "date" => sized(Type::Timestamp, 1, 12),
        "date-time" => sized(Type::Timestamp, 1, 22),
        _ => sized(Type::String, text_max(schema).unwrap_or(longest), 2),
    }
}

/// Most bytes of a text: a character has up to four.
fn text_max(schema: &Value) -> Option<u64> {
    if let Some(max) = count(schema, "maxLength") {
        return Some(max.saturating_mul(4));
    }
    let values = schema.get("enum").and_then(Value::as_array)?;
    values.iter().filter_map(Value::as_str).map(|value| value.len() as u64).max()
}
