//! From a tree to protobuf.

use crate::{Map, Value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use super::wire::Writer;
use super::{Error, Union, union};
use crate::schema::{Field, Schema, Struct, StructId, Type};

type Done = Result<(), Error>;

/// Room for most objects.
const USUAL_BYTES: usize = 4 << 10;

/// Writes the message of an object without its envelope.
pub fn object(schema: &Schema, id: StructId, value: &Value) -> Result<Vec<u8>, Error> {
    let mut out = Writer::with_capacity(USUAL_BYTES);
    let fields = value.as_object().ok_or_else(|| Error::new("an object", value))?;
    record(&mut out, schema, id, fields)?;
    Ok(out.finish())
}

fn record(out: &mut Writer, schema: &Schema, id: StructId, fields: &Map) -> Done {
    let of = schema.get(id);
    let mut embedded = Vec::new();
    for (name, value) in fields {
        let Some(field) = of.field(name) else { continue };
        let place = Place { schema, of, field };
        match field.proto.as_ref().map(|proto| &*proto.path) {
            Some([number]) => self::field(out, place, *number, &field.ty, value)?,
            Some(path) => embedded.push(Part { path, place, value }),
            None => {}
        }
    }
    if embedded.is_empty() { Ok(()) } else { messages(out, embedded) }
}

/// A field and its struct, by which unions are known.
#[derive(Clone, Copy)]
struct Place<'t> {
    schema: &'t Schema,
    of: &'t Struct,
    field: &'t Field,
}

/// A field of a struct that Go embeds, and the numbers that lead to it.
struct Part<'t> {
    path: &'t [u32],
    place: Place<'t>,
    value: &'t Value,
}

/// Writes the messages of embedded structs, each once with all its fields.
fn messages(out: &mut Writer, mut parts: Vec<Part<'_>>) -> Done {
    while let Some(outer) = parts.first().and_then(|part| part.path.first().copied()) {
        let (own, others): (Vec<_>, _) =
            parts.into_iter().partition(|part| part.path.first() == Some(&outer));
        out.message(outer, |out| {
            let mut deeper = Vec::new();
            for part in own {
                match part.path.get(1..).unwrap_or_default() {
                    [number] => field(out, part.place, *number, &part.place.field.ty, part.value)?,
                    path => deeper.push(Part { path, ..part }),
                }
            }
            messages(out, deeper)
        })?;
        parts = others;
    }
    Ok(())
}

/// Writes a field, or an item or entry of one, as its type says.
fn field(out: &mut Writer, place: Place<'_>, number: u32, ty: &Type, value: &Value) -> Done {
    let Place { schema, of, field } = place;
    match (ty, value) {
        (Type::String, Value::String(text)) => {
            out.bytes(number, text.as_bytes());
            Ok(())
        }
        (Type::Any, value) => match union(&of.name, &field.name) {
            Some(kind) => any_of(out, schema, number, kind, value),
            None => raw(out, number, value),
        },
        (_, Value::Null) => Ok(()),
        (Type::List(list), Value::Array(items)) => {
            items.iter().try_for_each(|item| self::field(out, place, number, &list.item, item))
        }
        (Type::Map(item), Value::Object(entries)) => entries.iter().try_for_each(|(key, value)| {
            out.message(number, |out| {
                out.bytes(1, key.as_bytes());
                entry(out, place, item, value)
            })
        }),
        (Type::Struct(id), Value::Object(fields)) => {
            out.message(number, |out| record(out, schema, *id, fields))
        }
        (ty, value) => scalar(out, number, ty, value),
    }
}

/// The value of a map's entry. A list there is a message of its own, whose items have number 1.
fn entry(out: &mut Writer, place: Place<'_>, item: &Type, value: &Value) -> Done {
    match (item, value) {
        (Type::List(list), Value::Array(items)) => {
            out.message(2, |out| items.iter().try_for_each(|item| field(out, place, 1, &list.item, item)))
        }
        (item, value) => field(out, place, 2, item, value),
    }
}

fn scalar(out: &mut Writer, number: u32, ty: &Type, value: &Value) -> Done {
    let wrong = |wanted: &str| Error::new(wanted, value);
    match (ty, value) {
        (Type::String | Type::Duration, Value::String(text)) => out.bytes(number, text.as_bytes()),
        (Type::Bool, Value::Bool(set)) => out.varint(number, u64::from(*set)),
        (Type::Int32 | Type::Int64, Value::Number(n)) => {
            out.varint(number, n.as_i64().ok_or_else(|| wrong("an integer"))?.cast_unsigned());
        }
        (Type::Double, Value::Number(n)) => out.double(number, n.as_f64().ok_or_else(|| wrong("a number"))?),
        (Type::Bytes, Value::String(text)) => {
            out.bytes(number, &STANDARD.decode(text).map_err(|_| wrong("base64"))?);
        }
        (Type::Quantity, Value::String(text)) => {
            return out.message(number, |out| {
                out.bytes(1, text.as_bytes());
                Ok(())
            });
        }
        (Type::IntOrString, value) => return int_or_string(out, number, value),
        (Type::Time | Type::MicroTime, Value::String(text)) => {
            let time: Timestamp = text.parse().map_err(|_| wrong("a time"))?;
            return out.message(number, |out| {
                out.varint(1, time.as_second().cast_unsigned());
                out.varint(2, i64::from(time.subsec_nanosecond()).cast_unsigned());
                Ok(())
            });
        }
        // Folded.
        (Type::FieldsV1, Value::String(text)) => return raw_text(out, number, text),
        (Type::FieldsV1, value) => return raw(out, number, value),
        (ty, value) => return Err(Error::new(&format!("{ty:?}"), value)),
    }
    Ok(())
}

fn int_or_string(out: &mut Writer, number: u32, value: &Value) -> Done {
    out.message(number, |out| match value {
        Value::String(text) => {
            out.varint(1, 1);
            out.varint(2, 0);
            out.bytes(3, text.as_bytes());
            Ok(())
        }
        value => {
            let whole = value.as_i64().ok_or_else(|| Error::new("a number or a string", value))?;
            out.varint(1, 0);
            out.varint(2, whole.cast_unsigned());
            out.bytes(3, b"");
            Ok(())
        }
    })
}

/// JSON within protobuf: `RawExtension`, `JSON`, `FieldsV1`.
fn raw(out: &mut Writer, number: u32, value: &Value) -> Done {
    raw_text(out, number, &value.to_string())
}

fn raw_text(out: &mut Writer, number: u32, text: &str) -> Done {
    out.message(number, |out| {
        out.bytes(1, text.as_bytes());
        Ok(())
    })
}

fn any_of(out: &mut Writer, schema: &Schema, number: u32, kind: Union, value: &Value) -> Done {
    let inner = |out: &mut Writer, number: u32, value: &Value| match (value, kind.schema) {
        (Value::Object(fields), Some(id)) => out.message(number, |out| record(out, schema, id, fields)),
        _ => Err(Error::new("a JSON schema", value)),
    };
    out.message(number, |out| match (value, kind.numbers) {
        (Value::Bool(allows), (_, 2)) => {
            out.varint(1, u64::from(*allows));
            Ok(())
        }
        (Value::Array(items), _) if kind.strings => items.iter().try_for_each(|item| {
            out.bytes(2, item.as_str().ok_or_else(|| Error::new("a string", item))?.as_bytes());
            Ok(())
        }),
        (Value::Array(items), (list_at, _)) => items.iter().try_for_each(|item| inner(out, list_at, item)),
        (value, (_, schema_at)) => {
            if schema_at == 2 {
                out.varint(1, 1);
            }
            inner(out, schema_at, value)
        }
    })
}
