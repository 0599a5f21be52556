//! From a tree to protobuf.

use crate::{Map, Value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use super::wire::Writer;
use super::{Error, Union, union};
use crate::schema::{Schema, Struct, StructId, Type};

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
    let record = schema.get(id);
    // Fields of an embedded Go struct go into one message, which is written once.
    let mut embedded: Vec<u32> = Vec::new();
    for (name, value) in fields {
        let Some(field) = record.field(name) else { continue };
        let Some(proto) = &field.proto else { continue };
        match proto.path.as_ref() {
            [number] => self::field(out, schema, (record, name), *number, &field.ty, value)?,
            [outer, ..] if !embedded.contains(outer) => {
                embedded.push(*outer);
                out.message(*outer, |out| nested(out, schema, record, fields, &[*outer]))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes all fields whose place starts with the given numbers.
fn nested(out: &mut Writer, schema: &Schema, record: &Struct, fields: &Map, at: &[u32]) -> Done {
    let mut embedded: Vec<u32> = Vec::new();
    for (name, value) in fields {
        let Some(field) = record.field(name) else { continue };
        let Some(rest) = field.proto.as_ref().and_then(|proto| proto.path.strip_prefix(at)) else { continue };
        match rest {
            [number] => self::field(out, schema, (record, name), *number, &field.ty, value)?,
            [outer, ..] if !embedded.contains(outer) => {
                embedded.push(*outer);
                let deeper: Vec<u32> = at.iter().copied().chain([*outer]).collect();
                out.message(*outer, |out| nested(out, schema, record, fields, &deeper))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes one field; `place` is its struct and name, by which unions are known.
fn field(
    out: &mut Writer,
    schema: &Schema,
    place: (&Struct, &str),
    number: u32,
    ty: &Type,
    value: &Value,
) -> Done {
    match (ty, value) {
        (Type::Any, value) => match union(&place.0.name, place.1) {
            Some(kind) => self::any_of(out, schema, number, kind, value),
            None => raw(out, number, value),
        },
        (_, Value::Null) => Ok(()),
        (Type::List(list), Value::Array(items)) => {
            items.iter().try_for_each(|item| self::field(out, schema, place, number, &list.item, item))
        }
        (Type::Map(item), Value::Object(entries)) => entries.iter().try_for_each(|(key, value)| {
            out.message(number, |out| {
                out.bytes(1, key.as_bytes());
                entry(out, schema, place, item, value)
            })
        }),
        (Type::Struct(id), Value::Object(fields)) => {
            out.message(number, |out| record(out, schema, *id, fields))
        }
        (ty, value) => scalar(out, number, ty, value),
    }
}

/// The value of a map's entry. A list there is a message of its own, whose items have number 1.
fn entry(out: &mut Writer, schema: &Schema, place: (&Struct, &str), item: &Type, value: &Value) -> Done {
    match (item, value) {
        (Type::List(list), Value::Array(items)) => out.message(2, |out| {
            items.iter().try_for_each(|item| field(out, schema, place, 1, &list.item, item))
        }),
        (item, value) => field(out, schema, place, 2, item, value),
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
