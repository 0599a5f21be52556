//! Tree to protobuf.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::wire::{put_bytes, put_fixed64, put_number};
use super::{Error, MAGIC};
use crate::schema::{self, Field, Struct, Type};

/// Closes the envelope round a message.
pub fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut type_meta = Vec::new();
    put_bytes(&mut type_meta, 1, api_version.as_bytes());
    put_bytes(&mut type_meta, 2, kind.as_bytes());
    let mut out = MAGIC.to_vec();
    put_bytes(&mut out, 1, &type_meta);
    put_bytes(&mut out, 2, raw);
    put_bytes(&mut out, 3, b"");
    put_bytes(&mut out, 4, b"");
    out
}

/// One message of a type.
pub fn message(root: &Struct, value: &Value) -> Result<Vec<u8>, Error> {
    let Value::Object(values) = value else {
        return Err(Error::Value("a value that is no object".to_owned()));
    };
    let mut present: Vec<Present<'_>> = Vec::new();
    for field in &root.fields {
        let (Some(proto), Some(value)) = (&field.proto, values.get(field.name.as_ref())) else { continue };
        if !value.is_null() {
            present.push((&proto.path, field, value));
        }
    }
    present.sort_by_key(|(path, ..)| *path);
    let mut out = Vec::new();
    level(&present, &mut out)?;
    Ok(out)
}

type Present<'a> = (&'a [u32], &'a Field, &'a Value);

/// Writes fields in the order of their numbers; those that share a longer path go into one embedded message.
fn level(present: &[Present<'_>], out: &mut Vec<u8>) -> Result<(), Error> {
    for group in present.chunk_by(|a, b| a.0.first() == b.0.first()) {
        match group {
            [([number], field, value)] => put(*number, &field.ty, value, field, out)?,
            group => {
                let number = group.first().and_then(|(path, ..)| path.first()).copied().unwrap_or_default();
                let below: Vec<Present<'_>> =
                    group.iter().map(|(path, f, v)| (path.get(1..).unwrap_or_default(), *f, *v)).collect();
                let mut inner = Vec::new();
                level(&below, &mut inner)?;
                put_bytes(out, number, &inner);
            }
        }
    }
    Ok(())
}

fn put(number: u32, ty: &Type, value: &Value, field: &Field, out: &mut Vec<u8>) -> Result<(), Error> {
    let wrong = || Error::Value(format!("{} = {value}", field.name));
    match (ty, value) {
        (Type::List(list), Value::Array(items)) => {
            return items.iter().try_for_each(|item| put(number, &list.item, item, field, out));
        }
        (Type::Map(item), Value::Object(entries)) => return put_map(number, item, entries, field, out),
        (Type::Bool, Value::Bool(on)) => put_number(out, number, u64::from(*on)),
        (Type::Int32 | Type::Int64, Value::Number(n)) => {
            // Two's complement in 64 bits, as protobuf has negative numbers.
            put_number(out, number, n.as_i64().ok_or_else(wrong)? as u64);
        }
        (Type::Double, Value::Number(n)) => put_fixed64(out, number, n.as_f64().ok_or_else(wrong)?.to_bits()),
        (Type::String, Value::String(text)) => put_bytes(out, number, text.as_bytes()),
        (Type::Bytes, Value::String(text)) => {
            put_bytes(out, number, &STANDARD.decode(text).map_err(|_| wrong())?);
        }
        (Type::Struct(id), value) => {
            put_bytes(out, number, &message(schema::builtin().schema().get(*id), value)?);
        }
        (ty, value) => put_bytes(out, number, &special(ty, value).ok_or_else(wrong)?),
    }
    Ok(())
}

fn put_map(
    number: u32,
    item: &Type,
    entries: &Map<String, Value>,
    field: &Field,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    for (key, value) in entries {
        let mut entry = Vec::new();
        put_bytes(&mut entry, 1, key.as_bytes());
        match (item, value) {
            (Type::List(_), _) => {
                let mut items = Vec::new();
                put(1, item, value, field, &mut items)?;
                put_bytes(&mut entry, 2, &items);
            }
            _ => put(2, item, value, field, &mut entry)?,
        }
        put_bytes(out, number, &entry);
    }
    Ok(())
}

/// The types that are messages of their own making; `None` when the value is not of the type.
fn special(ty: &Type, value: &Value) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match (ty, value) {
        (Type::Quantity, Value::String(text)) => put_bytes(&mut out, 1, text.as_bytes()),
        (Type::Quantity, Value::Number(number)) => put_bytes(&mut out, 1, number.to_string().as_bytes()),
        (Type::IntOrString, Value::Number(number)) => {
            put_number(&mut out, 1, 0);
            put_number(&mut out, 2, number.as_i64()? as u64);
        }
        (Type::IntOrString, Value::String(text)) => {
            put_number(&mut out, 1, 1);
            put_bytes(&mut out, 3, text.as_bytes());
        }
        (Type::Time | Type::MicroTime, Value::String(text)) => {
            let time: Timestamp = text.parse().ok()?;
            put_number(&mut out, 1, time.as_second() as u64);
            put_number(&mut out, 2, time.subsec_nanosecond() as u64);
        }
        (Type::Any | Type::FieldsV1, value) => put_bytes(&mut out, 1, value.to_string().as_bytes()),
        _ => return None,
    }
    Some(out)
}
