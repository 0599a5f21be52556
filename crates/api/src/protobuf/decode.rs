//! From protobuf to a tree.

use crate::{Map, Number, Text, Value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use super::wire::{Malformed, Reader, Wire};
use super::{Error, MAGIC, Union, union};
use crate::schema::{Field, Schema, Struct, StructId, Type};

/// How deep messages may lie within each other, as for JSON.
const DEPTH_MAX: usize = 128;

type Fields = Map;

/// Where the reader stands.
#[derive(Clone, Copy)]
struct Context<'a> {
    schema: &'a Schema,
    depth: usize,
}

/// Reads the message of an object. `apiVersion` and `kind` are the envelope's business.
pub fn object(schema: &Schema, id: StructId, bytes: &[u8]) -> Result<Fields, Error> {
    record(Context { schema, depth: 0 }, id, bytes)
}

impl Context<'_> {
    fn deeper(self) -> Result<Self, Error> {
        match self.depth < DEPTH_MAX {
            true => Ok(Self { depth: self.depth + 1, ..self }),
            false => Err(Error::TooDeep),
        }
    }
}

/// The fields of a message as they come: each once, however often it is there.
type Gathered<'s> = Vec<(&'s Field, Part)>;

/// What there is of a field. Objects are made at the end, of all their fields at once.
enum Part {
    One(Value),
    Items(Vec<Value>),
    Entries(Vec<(Text, Value)>),
}

impl From<Part> for Value {
    fn from(part: Part) -> Self {
        match part {
            Part::One(value) => value,
            Part::Items(items) => Value::Array(items),
            Part::Entries(entries) => Value::Object(entries.into_iter().collect()),
        }
    }
}

fn record(context: Context<'_>, id: StructId, bytes: &[u8]) -> Result<Fields, Error> {
    let context = context.deeper()?;
    let record = context.schema.get(id);
    let mut gathered = Gathered::new();
    message(context, record, &[], bytes, &mut gathered)?;
    // A list that Go writes always is there even when it is empty.
    for field in record.fields.iter().filter(|f| f.required && matches!(f.ty, Type::List(_))) {
        if gathered.iter().all(|(known, _)| !std::ptr::eq(*known, field)) {
            gathered.push((field, Part::Items(Vec::new())));
        }
    }
    Ok(gathered.into_iter().map(|(field, part)| (&*field.name, part)).collect())
}

/// Reads a message whose fields stand at `at` in the struct: the struct's own, or one that Go embeds.
fn message<'s>(
    context: Context<'_>,
    record: &'s Struct,
    at: &[u32],
    bytes: &[u8],
    gathered: &mut Gathered<'s>,
) -> Result<(), Error> {
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.next()? {
        match (below(record, at, number), wire) {
            (Some((field, [_])), wire) => add(context, record, field, wire, gathered)?,
            (Some(_), Wire::Bytes(inner)) => {
                let deeper: Vec<u32> = at.iter().copied().chain([number]).collect();
                message(context.deeper()?, record, &deeper, inner, gathered)?;
            }
            // A newer client's field.
            _ => {}
        }
    }
    Ok(())
}

/// The field of a number in a message that stands at `at`, and the numbers from there on to it; or one of those in the
/// message of this number.
fn below<'s>(record: &'s Struct, at: &[u32], number: u32) -> Option<(&'s Field, &'s [u32])> {
    let rest = |field: &'s Field| {
        let (inner, rest) = field.proto.as_ref()?.path.split_at_checked(at.len())?;
        (inner == at && rest.first() == Some(&number)).then_some((field, rest))
    };
    match at {
        [] => record.fields.numbered(number).and_then(rest),
        _ => record.fields.iter().find_map(rest),
    }
}

fn add<'s>(
    context: Context<'_>,
    record: &Struct,
    field: &'s Field,
    wire: Wire<'_>,
    gathered: &mut Gathered<'s>,
) -> Result<(), Error> {
    let place = (record.name.as_ref(), field.name.as_ref());
    // One that comes again mostly follows itself.
    let known = gathered.iter_mut().rev().find(|(known, _)| std::ptr::eq(*known, field));
    match (&field.ty, known.map(|(_, part)| part)) {
        (Type::List(list), Some(Part::Items(items))) => elements(context, place, &list.item, wire, items)?,
        (Type::List(list), _) => {
            let mut items = Vec::new();
            elements(context, place, &list.item, wire, &mut items)?;
            gathered.push((field, Part::Items(items)));
        }
        (Type::Map(item), Some(Part::Entries(entries))) => entries.push(entry(context, place, item, wire)?),
        (Type::Map(item), _) => {
            let first = entry(context, place, item, wire)?;
            gathered.push((field, Part::Entries(vec![first])));
        }
        (ty, known) => match (value(context, place, ty, wire)?, known) {
            (value, _) if is_omitted(field, &value) => {}
            (value, Some(part)) => *part = Part::One(value),
            (value, None) => gathered.push((field, Part::One(value))),
        },
    }
    Ok(())
}

/// Go writes every field that is not behind a pointer; one that is zero is no value.
fn is_omitted(field: &Field, value: &Value) -> bool {
    let kept =
        field.required || field.ty == Type::Any || field.proto.as_ref().is_some_and(|proto| proto.keeps_zero);
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty() && !kept,
        Value::Bool(set) => !set && !kept,
        Value::Number(number) => !kept && field.ty != Type::IntOrString && number.as_f64() == Some(0.0),
        _ => false,
    }
}

/// An item of a list, or several packed into one field.
fn elements(
    context: Context<'_>,
    place: (&str, &str),
    item: &Type,
    wire: Wire<'_>,
    items: &mut Vec<Value>,
) -> Result<(), Error> {
    match (item, wire) {
        (Type::Int32 | Type::Int64 | Type::Bool, Wire::Bytes(packed)) => {
            let mut reader = Reader(packed);
            while !reader.0.is_empty() {
                items.push(value(context, place, item, Wire::Varint(reader.varint()?))?);
            }
        }
        _ => items.push(value(context, place, item, wire)?),
    }
    Ok(())
}

fn entry(
    context: Context<'_>,
    place: (&str, &str),
    item: &Type,
    wire: Wire<'_>,
) -> Result<(Text, Value), Error> {
    let mut reader = Reader(bytes(wire)?);
    let (mut key, mut found) = (Text::default(), Wire::Bytes(b""));
    while let Some((number, wire)) = reader.next()? {
        match number {
            1 => key = text(wire)?,
            2 => found = wire,
            _ => {}
        }
    }
    let Type::List(list) = item else { return Ok((key, value(context, place, item, found)?)) };
    let mut items = Vec::new();
    let mut reader = Reader(bytes(found)?);
    while let Some((_, wire)) = reader.next()? {
        items.push(value(context, place, &list.item, wire)?);
    }
    Ok((key, items.into()))
}

fn bytes(wire: Wire<'_>) -> Result<&[u8], Error> {
    match wire {
        Wire::Bytes(bytes) => Ok(bytes),
        _ => Err(Error::Malformed),
    }
}

fn text(wire: Wire<'_>) -> Result<Text, Error> {
    std::str::from_utf8(bytes(wire)?).map(Text::new).map_err(|_| Error::Malformed)
}

fn value(context: Context<'_>, place: (&str, &str), ty: &Type, wire: Wire<'_>) -> Result<Value, Error> {
    Ok(match (ty, wire) {
        (Type::String | Type::Duration, wire) => text(wire)?.into(),
        (Type::Bool, Wire::Varint(n)) => (n != 0).into(),
        (Type::Int32 | Type::Int64, Wire::Varint(n)) => n.cast_signed().into(),
        (Type::Double, Wire::Fixed64(bits)) => {
            Number::from_f64(f64::from_bits(bits)).map_or(Value::Null, Value::Number)
        }
        (Type::Bytes, wire) => STANDARD.encode(bytes(wire)?).into(),
        (Type::Quantity, wire) => match first(bytes(wire)?)? {
            Some(inner) => text(inner)?.into(),
            None => "0".into(),
        },
        (Type::IntOrString, wire) => int_or_string(bytes(wire)?)?,
        (Type::Time, wire) => time(bytes(wire)?, 0)?,
        (Type::MicroTime, wire) => time(bytes(wire)?, 6)?,
        (Type::FieldsV1, wire) => raw(context, bytes(wire)?)?,
        (Type::Any, wire) => match union(place.0, place.1) {
            Some(kind) => any_of(context, kind, bytes(wire)?)?,
            None => raw(context, bytes(wire)?)?,
        },
        (Type::Struct(id), wire) => record(context, *id, bytes(wire)?)?.into(),
        _ => return Err(Error::Malformed),
    })
}

/// The field with number 1.
fn first(bytes: &[u8]) -> Result<Option<Wire<'_>>, Malformed> {
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.next()? {
        if number == 1 {
            return Ok(Some(wire));
        }
    }
    Ok(None)
}

fn int_or_string(bytes: &[u8]) -> Result<Value, Error> {
    let (mut is_text, mut whole, mut written) = (false, 0_i64, Text::default());
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Varint(kind)) => is_text = kind == 1,
            (2, Wire::Varint(n)) => whole = n.cast_signed(),
            (3, wire) => written = text(wire)?,
            _ => {}
        }
    }
    Ok(if is_text { written.into() } else { whole.into() })
}

/// No time at all is null, as Go writes it.
fn time(bytes: &[u8], digits: u8) -> Result<Value, Error> {
    let (mut seconds, mut nanos) = (0_i64, 0_i64);
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Varint(n)) => seconds = n.cast_signed(),
            (2, Wire::Varint(n)) => nanos = n.cast_signed(),
            _ => {}
        }
    }
    if seconds == 0 && nanos == 0 {
        return Ok(Value::Null);
    }
    let nanos = i32::try_from(nanos).map_err(|_| Error::Malformed)?;
    let time = Timestamp::new(seconds, nanos).map_err(|_| Error::Malformed)?;
    Ok(if digits == 0 { format!("{time:.0}") } else { format!("{time:.6}") }.into())
}

/// JSON, or an enveloped object, within protobuf.
fn raw(context: Context<'_>, bytes: &[u8]) -> Result<Value, Error> {
    let Some(wire) = first(bytes)? else { return Ok(Value::Null) };
    let inner = self::bytes(wire)?;
    if inner.starts_with(&MAGIC) {
        context.deeper()?;
        return super::open_at(inner, context.depth + 1);
    }
    Value::from_json(inner).map_err(|_| Error::Malformed)
}

/// Reads a whole object that lies within another one.
pub fn object_at(schema: &Schema, id: StructId, bytes: &[u8], depth: usize) -> Result<Fields, Error> {
    record(Context { schema, depth }, id, bytes)
}

fn any_of(context: Context<'_>, kind: Union, bytes: &[u8]) -> Result<Value, Error> {
    let (mut list, mut schema, mut allows) = (Vec::<Value>::new(), None, None);
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (number, Wire::Bytes(bytes)) if number == kind.numbers.1 => {
                let id = kind.schema.ok_or(Error::Malformed)?;
                schema = Some(record(context, id, bytes)?);
            }
            (1, Wire::Varint(n)) => allows = Some(n != 0),
            (_, wire) if kind.strings => list.push(text(wire)?.into()),
            (_, Wire::Bytes(bytes)) => {
                let id = kind.schema.ok_or(Error::Malformed)?;
                list.push(record(context, id, bytes)?.into());
            }
            _ => return Err(Error::Malformed),
        }
    }
    Ok(match (schema, allows) {
        (Some(schema), _) => schema.into(),
        (None, Some(allows)) => allows.into(),
        (None, None) => list.into(),
    })
}
