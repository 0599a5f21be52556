//! Protobuf to tree.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::wire::{Reader, Wire};
use super::{Error, MAGIC, presence};
use crate::schema::{self, Field, Struct, Type};

/// How deeply messages may nest: no kind needs a third of it.
const DEPTH: usize = 64;

/// `runtime.Unknown`.
pub struct Envelope<'a> {
    pub api_version: String,
    pub kind: String,
    pub raw: &'a [u8],
    pub content_type: String,
}

/// Opens the envelope.
pub fn envelope(bytes: &[u8]) -> Result<Envelope<'_>, Error> {
    let body = bytes.strip_prefix(&MAGIC).ok_or(Error::NoMagic)?;
    let mut envelope =
        Envelope { api_version: String::new(), kind: String::new(), raw: &[], content_type: String::new() };
    let mut reader = Reader::new(body);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(type_meta)) => type_of(type_meta, &mut envelope)?,
            (2, Wire::Bytes(raw)) => envelope.raw = raw,
            (4, Wire::Bytes(text)) => envelope.content_type = utf8(text)?.to_owned(),
            _ => (),
        }
    }
    Ok(envelope)
}

fn type_of(bytes: &[u8], envelope: &mut Envelope<'_>) -> Result<(), Error> {
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(text)) => envelope.api_version = utf8(text)?.to_owned(),
            (2, Wire::Bytes(text)) => envelope.kind = utf8(text)?.to_owned(),
            _ => (),
        }
    }
    Ok(())
}

/// One message of a type.
pub fn message(root: &Struct, bytes: &[u8]) -> Result<Map<String, Value>, Error> {
    structure(root, bytes, 0)
}

fn structure(owner: &Struct, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, Error> {
    let fields: Vec<(&Field, &[u32])> =
        owner.fields.iter().filter_map(|f| f.proto.as_ref().map(|proto| (f, proto.path.as_ref()))).collect();
    let mut out = Map::new();
    fill(owner, &fields, bytes, depth, &mut out)?;
    Ok(out)
}

/// Reads the fields whose remaining paths are given; longer paths lead into embedded messages.
fn fill(
    owner: &Struct,
    fields: &[(&Field, &[u32])],
    bytes: &[u8],
    depth: usize,
    out: &mut Map<String, Value>,
) -> Result<(), Error> {
    if depth > DEPTH {
        return Err(Error::Malformed("it is nested too deeply"));
    }
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        let here = || fields.iter().filter(move |(_, path)| path.first() == Some(&number));
        match here().next() {
            None => (),
            Some((field, [_])) => put(owner, field, wire, depth, out)?,
            Some((field, _)) => {
                let Wire::Bytes(inner) = wire else { return Err(Error::WireType(field.name.to_string())) };
                let below: Vec<_> = here().map(|(f, path)| (*f, path.get(1..).unwrap_or_default())).collect();
                fill(owner, &below, inner, depth + 1, out)?;
            }
        }
    }
    Ok(())
}

fn put(
    owner: &Struct,
    field: &Field,
    wire: Wire<'_>,
    depth: usize,
    out: &mut Map<String, Value>,
) -> Result<(), Error> {
    let wrong = || Error::WireType(field.name.to_string());
    match (&field.ty, wire) {
        (Type::List(list), wire) => {
            let slot = out.entry(field.name.as_ref()).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(items) = slot else { return Err(wrong()) };
            match (is_varint(&list.item), wire) {
                (true, Wire::Bytes(packed)) => unpack(&list.item, packed, items)?,
                _ => items.push(value(&list.item, wire, depth)?.ok_or_else(wrong)?),
            }
        }
        (Type::Map(item), Wire::Bytes(entry)) => {
            let slot = out.entry(field.name.as_ref()).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(entries) = slot else { return Err(wrong()) };
            let (key, item) = map_entry(item, entry, depth)?;
            entries.insert(key, item);
        }
        (ty, wire) => {
            let value = value(ty, wire, depth)?.ok_or_else(wrong)?;
            if !is_zero(&value) || (presence::keeps_zero(owner, field) && !value.is_null()) {
                out.insert(field.name.to_string(), value);
            }
        }
    }
    Ok(())
}

fn is_varint(ty: &Type) -> bool {
    matches!(ty, Type::Int32 | Type::Int64 | Type::Bool)
}

fn unpack(item: &Type, packed: &[u8], items: &mut Vec<Value>) -> Result<(), Error> {
    // A packed list is the varints of fields without their tags: give each one.
    let mut at = packed;
    while !at.is_empty() {
        let length = at.iter().position(|byte| *byte < 0x80).map_or(at.len(), |end| end + 1);
        let (one, rest) = at.split_at_checked(length).unwrap_or((at, &[]));
        let mut tagged = vec![8];
        tagged.extend_from_slice(one);
        let number = Reader::new(&tagged).next()?;
        if let Some(number) = number.map(|(_, wire)| value(item, wire, 0)).transpose()?.flatten() {
            items.push(number);
        }
        at = rest;
    }
    Ok(())
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

fn map_entry(item: &Type, entry: &[u8], depth: usize) -> Result<(String, Value), Error> {
    let (mut key, mut content) = (String::new(), None);
    let mut reader = Reader::new(entry);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(text)) => key = utf8(text)?.to_owned(),
            (2, wire) => content = Some(wire),
            _ => (),
        }
    }
    let wire = match (content, is_varint(item)) {
        (Some(wire), _) => wire,
        (None, true) => Wire::Varint(0),
        (None, false) => Wire::Bytes(&[]),
    };
    let value = value(item, wire, depth)?.ok_or_else(|| Error::WireType(key.clone()))?;
    Ok((key, value))
}

/// One value; `None` when the wire type is not the type's. A zero time is `Null`.
fn value(ty: &Type, wire: Wire<'_>, depth: usize) -> Result<Option<Value>, Error> {
    Ok(Some(match (ty, wire) {
        (Type::Bool, Wire::Varint(number)) => Value::Bool(number != 0),
        // Negative numbers are sign-extended to 64 bits; the casts undo that.
        (Type::Int32, Wire::Varint(number)) => Value::from(number as i32),
        (Type::Int64, Wire::Varint(number)) => Value::from(number as i64),
        (Type::Double, Wire::Fixed64(bits)) => Value::from(f64::from_bits(bits)),
        (Type::String, Wire::Bytes(text)) => Value::from(utf8(text)?),
        (Type::Bytes, Wire::Bytes(bytes)) => Value::from(STANDARD.encode(bytes)),
        (Type::Struct(id), Wire::Bytes(bytes)) => {
            Value::Object(structure(schema::builtin().schema().get(*id), bytes, depth + 1)?)
        }
        // A named list type in a map is a message around its items.
        (Type::List(list), Wire::Bytes(bytes)) => wrapped_list(&list.item, bytes, depth)?,
        (ty, Wire::Bytes(bytes)) => special(ty, bytes)?,
        _ => return Ok(None),
    }))
}

fn wrapped_list(item: &Type, bytes: &[u8], depth: usize) -> Result<Value, Error> {
    let mut items = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        if let (1, Some(value)) = (number, value(item, wire, depth + 1)?) {
            items.push(value);
        }
    }
    Ok(Value::Array(items))
}

/// The types that are messages of their own making.
fn special(ty: &Type, bytes: &[u8]) -> Result<Value, Error> {
    let parts = Parts::read(bytes)?;
    match ty {
        Type::Quantity => Ok(utf8(parts.bytes[0])?.into()),
        Type::IntOrString if parts.numbers[0] == 1 => Ok(utf8(parts.bytes[2])?.into()),
        Type::IntOrString => Ok(Value::from(parts.numbers[1] as i32)),
        Type::Time => time(&parts, false),
        Type::MicroTime => time(&parts, true),
        Type::Duration => Ok(format!("{}ns", parts.numbers[0] as i64).into()),
        Type::Any | Type::FieldsV1 => match parts.bytes[0] {
            [] => Ok(Value::Object(Map::new())),
            raw if raw.starts_with(&MAGIC) => super::decode(raw),
            raw => serde_json::from_slice(raw).map_err(|_| Error::Malformed("the JSON inside")),
        },
        _ => Err(Error::Malformed("a value has the wrong wire type")),
    }
}

/// The first three fields of a small message.
#[derive(Default)]
struct Parts<'a> {
    numbers: [u64; 3],
    bytes: [&'a [u8]; 3],
}

impl<'a> Parts<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut parts = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.next()? {
            let at = number as usize - 1;
            match wire {
                Wire::Varint(value) => parts.numbers.get_mut(at).into_iter().for_each(|slot| *slot = value),
                Wire::Bytes(value) => parts.bytes.get_mut(at).into_iter().for_each(|slot| *slot = value),
                _ => (),
            }
        }
        Ok(parts)
    }
}

fn time(parts: &Parts<'_>, micros: bool) -> Result<Value, Error> {
    let (seconds, nanos) = (parts.numbers[0] as i64, parts.numbers[1] as i32);
    if seconds == 0 && nanos == 0 {
        return Ok(Value::Null);
    }
    let nanos = if micros { nanos } else { 0 };
    let time = Timestamp::new(seconds, nanos).map_err(|_| Error::Malformed("a time out of range"))?;
    let format = if micros { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(time.strftime(format).to_string().into())
}

fn utf8(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|_| Error::Malformed("a text is not UTF-8"))
}
