//! One walk that makes a tree fit its kind: what Go's decoder does by decoding into a struct.

use std::sync::LazyLock;

use crate::{Map, Text, Value};
use jiff::Timestamp;

use super::{DecodeError, json_type};
use crate::quantity;
use crate::schema::{Field, List, Resource, Schema, Struct, StructId, Type, builtin};
use crate::structural;
use crate::value::tree::Place;

/// Checks a tree against its kind and puts it into canonical form, in place. Returns `unknown field "spec.foo"` for
/// every field that was dropped, in order of the fields' names.
///
/// Dropped too: null fields, and optional fields that are empty or zero, as Go's `omitempty` does. A null in a list or
/// a map becomes the zero value of its type.
pub fn structure(resource: &Resource, value: &mut Value) -> Result<Vec<String>, DecodeError> {
    changed(resource, value, None)
}

/// The same of a tree that was made from one in canonical form: what they share is not looked at.
pub fn changed(
    resource: &Resource,
    value: &mut Value,
    old: Option<&Value>,
) -> Result<Vec<String>, DecodeError> {
    if let Some(custom) = &resource.custom {
        return structural::prune(&custom.node, value);
    }
    let mut walk = Walk { schema: &resource.schema, unknown: Vec::new() };
    let spot = Spot { at: Place::Root, owner: resource.root(), ty: &Type::Struct(resource.object), old };
    walk.value(spot, value)?;
    Ok(walk.unknown)
}

/// The same of an object's metadata that stands at a place.
pub(crate) fn metadata(at: Place<'_>, value: &mut Value) -> Result<Vec<String>, DecodeError> {
    static META: LazyLock<StructId> = LazyLock::new(|| {
        let id = builtin().struct_id("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
        id.expect("every kind of the committed table has it")
    });
    let schema = builtin().schema();
    let mut walk = Walk { schema, unknown: Vec::new() };
    walk.value(Spot { at, owner: schema.get(*META), ty: &Type::Struct(*META), old: None }, value)?;
    Ok(walk.unknown)
}

struct Walk<'s> {
    schema: &'s Schema,
    unknown: Vec<String>,
}

/// Where the walk stands: the place, the struct that has the nearest field, the type wanted, and what was here before.
#[derive(Clone, Copy)]
struct Spot<'a> {
    at: Place<'a>,
    owner: &'a Struct,
    ty: &'a Type,
    old: Option<&'a Value>,
}

impl Walk<'_> {
    fn value(&mut self, spot: Spot<'_>, value: &mut Value) -> Result<(), DecodeError> {
        match (spot.ty, value) {
            (_, Value::Object(fields))
                if spot.old.and_then(Value::as_object).is_some_and(|o| o.same(fields)) =>
            {
                Ok(())
            }
            (Type::Struct(id), Value::Object(fields)) => self.record(spot, self.schema.get(*id), fields),
            (Type::Map(item), Value::Object(entries)) => self.entries(spot, item, entries),
            (Type::List(list), Value::Array(items)) => self.items(spot, list, items),
            (Type::Any, _)
            | (Type::String | Type::Duration, Value::String(_))
            | (Type::Bool, Value::Bool(_))
            | (Type::FieldsV1, Value::Object(_) | Value::String(_))
            | (Type::IntOrString, Value::String(_))
            // No time at all, in a list or a map.
            | (Type::Time | Type::MicroTime, Value::Null) => Ok(()),
            (Type::Int32 | Type::IntOrString, Value::Number(n)) if n.as_i64().is_some_and(fits_32) => Ok(()),
            (Type::Int64, Value::Number(n)) if n.as_i64().is_some() => Ok(()),
            (Type::Double, Value::Number(_)) => Ok(()),
            (Type::Bytes, Value::String(text)) => base64(text),
            (Type::Quantity, value @ (Value::String(_) | Value::Number(_))) => canonical_quantity(value),
            (Type::Time, Value::String(text)) => canonical_time(text, 0),
            (Type::MicroTime, Value::String(text)) => canonical_time(text, 6),
            (_, value) => Err(self.mismatch(spot, value)),
        }
    }

    fn record(&mut self, spot: Spot<'_>, record: &Struct, fields: &mut Map) -> Result<(), DecodeError> {
        let (at, mut failure) = (spot.at, None);
        fields.retain(|key, value| {
            let Some(field) = record.field(key) else {
                if !record.preserve_unknown {
                    self.unknown.push(format!("unknown field {:?}", Place::Key(&at, key).to_string()));
                }
                return record.preserve_unknown;
            };
            if value.is_null() || failure.is_some() {
                return false;
            }
            let old = spot.old.and_then(|old| old.get(key));
            let spot = Spot { at: Place::Key(&at, key), owner: record, ty: &field.ty, old };
            failure = self.value(spot, value).err();
            !is_omitted(field, value)
        });
        failure.map_or(Ok(()), Err)
    }

    fn entries(&mut self, spot: Spot<'_>, item: &Type, entries: &mut Map) -> Result<(), DecodeError> {
        for (key, value) in entries.iter_mut() {
            zero_if_null(item, value);
            let old = spot.old.and_then(|old| old.get(key));
            self.value(Spot { at: Place::Key(&spot.at, key), ty: item, old, ..spot }, value)?;
        }
        Ok(())
    }

    fn items(&mut self, spot: Spot<'_>, list: &List, items: &mut [Value]) -> Result<(), DecodeError> {
        for (index, value) in items.iter_mut().enumerate() {
            zero_if_null(&list.item, value);
            let old = spot.old.and_then(|old| old.get(index));
            self.value(Spot { at: Place::Item(&spot.at, index), ty: &list.item, old, ..spot }, value)?;
        }
        Ok(())
    }

    fn mismatch(&self, spot: Spot<'_>, value: &Value) -> DecodeError {
        let found = match value {
            Value::Number(number) => format!("number {number}"),
            other => json_type(other).to_owned(),
        };
        let owner = spot.owner.name.rsplit('.').next().unwrap_or_default();
        let at = format!("{owner}.{}", without_indices(&spot.at));
        DecodeError::Type { found, at, wanted: self.go_type(spot.ty) }
    }

    fn go_type(&self, ty: &Type) -> String {
        match ty {
            Type::String | Type::Bytes => "string".into(),
            Type::Bool => "bool".into(),
            Type::Int32 => "int32".into(),
            Type::Int64 => "int64".into(),
            Type::Double => "float64".into(),
            Type::IntOrString => "intstr.IntOrString".into(),
            Type::Quantity => "resource.Quantity".into(),
            Type::Time => "v1.Time".into(),
            Type::MicroTime => "v1.MicroTime".into(),
            Type::Duration => "v1.Duration".into(),
            Type::FieldsV1 => "v1.FieldsV1".into(),
            Type::Any => "runtime.RawExtension".into(),
            Type::Struct(id) => {
                let words: Vec<&str> = self.schema.get(*id).name.rsplitn(3, '.').take(2).collect();
                words.iter().rev().copied().collect::<Vec<_>>().join(".")
            }
            Type::List(list) => format!("[]{}", self.go_type(&list.item)),
            Type::Map(item) => format!("map[string]{}", self.go_type(item)),
        }
    }
}

fn fits_32(n: i64) -> bool {
    i32::try_from(n).is_ok()
}

/// Go leaves out what is empty and optional when it writes an object back.
fn is_omitted(field: &Field, value: &Value) -> bool {
    if field.required {
        return false;
    }
    // Custom resources, which Go holds as trees, keep their zeros.
    let keeps_zero = field.proto.as_ref().is_none_or(|proto| proto.keeps_zero);
    match (&field.ty, value) {
        (Type::List(_), Value::Array(items)) => items.is_empty(),
        (Type::Map(_), Value::Object(entries)) => entries.is_empty(),
        (Type::String | Type::Bytes, Value::String(text)) => text.is_empty() && !keeps_zero,
        (Type::Bool, Value::Bool(set)) => !set && !keeps_zero,
        (Type::Int32 | Type::Int64 | Type::Double, number @ Value::Number(_)) => *number == 0 && !keeps_zero,
        _ => false,
    }
}

fn zero_if_null(ty: &Type, value: &mut Value) {
    if value.is_null() {
        *value = match ty {
            Type::String | Type::Bytes => Value::String(Text::default()),
            Type::Bool => false.into(),
            Type::Int32 | Type::Int64 | Type::Double | Type::IntOrString => 0.into(),
            Type::Quantity => "0".into(),
            Type::Struct(_) | Type::Map(_) => Map::new().into(),
            Type::List(_) => Value::Array(Vec::new()),
            _ => Value::Null,
        };
    }
}

fn without_indices(at: &Place<'_>) -> String {
    match at {
        Place::Root => String::new(),
        Place::Key(Place::Root, key) => (*key).to_owned(),
        Place::Key(parent, key) => format!("{}.{key}", without_indices(parent)),
        Place::Item(parent, _) => without_indices(parent),
    }
}

fn base64(text: &str) -> Result<(), DecodeError> {
    use base64::Engine;
    let broken = |at: usize| DecodeError::Form(format!("illegal base64 data at input byte {at}"));
    match base64::engine::general_purpose::STANDARD.decode(text) {
        Ok(_) => Ok(()),
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
            Err(broken(at))
        }
        Err(_) => Err(broken(text.len())),
    }
}

pub(crate) fn canonical_quantity(value: &mut Value) -> Result<(), DecodeError> {
    let parsed = match &*value {
        Value::String(text) if quantity::is_plainly_canonical(text) => return Ok(()),
        Value::String(text) => text.trim().parse::<quantity::Quantity>(),
        other => other.to_string().parse(),
    };
    let parsed = parsed.map_err(|error| DecodeError::Form(error.to_string()))?;
    *value = parsed.to_string().into();
    Ok(())
}

/// RFC 3339 in UTC with so many digits of a second.
fn canonical_time(text: &mut Text, digits: u8) -> Result<(), DecodeError> {
    let broken = || {
        let form = if digits == 0 { "2006-01-02T15:04:05Z07:00" } else { "2006-01-02T15:04:05.000000Z07:00" };
        DecodeError::Form(format!("parsing time {text:?} as {form:?}: cannot parse {text:?} as {:?}", "2006"))
    };
    // Go knows neither a date alone nor leap seconds.
    let is_known = text.as_bytes().get(10) == Some(&b'T') && text.get(17..19) != Some("60");
    let parsed = text.parse::<Timestamp>().ok().filter(|_| is_known).ok_or_else(broken)?;
    let form: &[u8] = if digits == 0 { b"0000-00-00T00:00:00Z" } else { b"0000-00-00T00:00:00.000000Z" };
    let fits = |(byte, form): (u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == *form };
    // Another way to write the same, as a comma before the fraction.
    if text.len() != form.len() || !text.bytes().zip(form).all(fits) {
        *text = if digits == 0 { format!("{parsed:.0}") } else { format!("{parsed:.6}") }.into();
    }
    Ok(())
}
