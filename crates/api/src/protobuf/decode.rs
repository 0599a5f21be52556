//! From protobuf to a tree in canonical form: what [`crate::decode::structure`] would make of it, without that walk.

use crate::{Map, Number, Text, Value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use super::wire::{Malformed, Reader, Wire};
use super::{Error, MAGIC, Union, union};
use crate::decode::canonical_quantity;
use crate::schema::{Field, Schema, Struct, StructId, Type};

/// How deep messages may lie within each other, as for JSON.
const DEPTH_MAX: usize = 128;

/// Reads the message of an object. `apiVersion` and `kind` are the envelope's business.
pub fn object(schema: &Schema, id: StructId, bytes: &[u8]) -> Result<Map, Error> {
    Reading::new(schema, 0).record(id, bytes)
}

/// Reads a whole object that may lie within another one, with the fields of its envelope.
pub fn enveloped(
    schema: &Schema,
    id: StructId,
    bytes: &[u8],
    (api_version, kind): (Value, Value),
    depth: usize,
) -> Result<Map, Error> {
    let mut reading = Reading::new(schema, depth);
    let record = schema.get(id);
    // Every object's struct has both, and a message neither. A struct that is no object may have no such field, or one that
    // its message tells: the envelope's word counts.
    let mut others: Vec<(Text, Value)> = Vec::new();
    for (name, value) in [("apiVersion", api_version), ("kind", kind)] {
        match record.field(name).filter(|field| field.proto.is_none()) {
            Some(field) => reading.put(0, field, value),
            None => others.push((name.into(), value)),
        }
    }
    let mut fields = reading.rest(id, 0, bytes)?;
    fields.extend(others);
    Ok(fields)
}

/// A struct and its field, by which unions are known.
type Place<'s> = (&'s Struct, &'s Field);

/// What has been read of the messages around: one list of each sort for all of them, so that every object and list is
/// allocated once and in its size.
struct Reading<'s> {
    schema: &'s Schema,
    depth: usize,
    /// The fields of each message so far, each once, in their order in the struct, which is that of their names.
    fields: Vec<(&'s Field, Value)>,
    items: Vec<Value>,
    entries: Vec<(Text, Value)>,
}

impl<'s> Reading<'s> {
    fn new(schema: &'s Schema, depth: usize) -> Self {
        Self { schema, depth, fields: vec![], items: vec![], entries: vec![] }
    }

    /// One level further in; who comes back counts it down again. After an error nobody reads on.
    fn deeper(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err(Error::TooDeep) } else { Ok(()) }
    }

    fn record(&mut self, id: StructId, bytes: &[u8]) -> Result<Map, Error> {
        self.rest(id, self.fields.len(), bytes)
    }

    /// Reads a message whose first field is at `first`; some may be there already.
    fn rest(&mut self, id: StructId, first: usize, bytes: &[u8]) -> Result<Map, Error> {
        self.deeper()?;
        let record = self.schema.get(id);
        self.message(record, (&[], first), bytes)?;
        // A list that Go writes always is there even when it is empty.
        for field in record.fields.required_lists() {
            if let Err(at) = self.place(first, field) {
                self.fields.insert(at, (field, Value::Array(Vec::new())));
            }
        }
        self.depth -= 1;
        let named = |(field, value): (&Field, Value)| (field.name.clone(), value);
        Ok(Map::in_order(self.fields.drain(first..).map(named)))
    }

    /// Where a field of the present message is, of which the first is at `first`, or where it belongs.
    fn place(&self, first: usize, field: &'s Field) -> Result<usize, usize> {
        let own = self.fields.get(first..).unwrap_or_default();
        // A struct's fields lie one behind the other.
        let order = |known: &&'s Field| std::ptr::from_ref::<Field>(known);
        let found = own.binary_search_by_key(&order(&field), |(known, _)| order(known));
        found.map(|at| first + at).map_err(|at| first + at)
    }

    /// Sets a field, or adds to it what comes again.
    fn put(&mut self, first: usize, field: &'s Field, value: Value) {
        let known = match self.place(first, field) {
            Err(at) => return self.fields.insert(at, (field, value)),
            Ok(at) => self.fields.get_mut(at).map(|(_, known)| known),
        };
        match (known, value) {
            (Some(Value::Array(items)), Value::Array(more)) if matches!(field.ty, Type::List(_)) => {
                items.extend(more)
            }
            (Some(Value::Object(entries)), Value::Object(more)) if matches!(field.ty, Type::Map(_)) => {
                entries.extend(more);
            }
            (Some(known), value) => *known = value,
            (None, _) => {}
        }
    }

    /// Reads a message whose fields stand at `at` in the struct: the struct's own, or one that Go embeds.
    fn message(&mut self, record: &'s Struct, at: (&[u32], usize), bytes: &[u8]) -> Result<(), Error> {
        let (path, first) = at;
        let mut reader = Reader(bytes);
        while let Some((number, wire)) = reader.next()? {
            match (below(record, path, number), wire) {
                (Some((field, true)), wire) => {
                    if let Some(value) = self.field(record, field, &mut reader, (number, wire))? {
                        self.put(first, field, value);
                    }
                }
                (Some(_), Wire::Bytes(inner)) => {
                    let path: Vec<u32> = path.iter().copied().chain([number]).collect();
                    self.deeper()?;
                    self.message(record, (&path, first), inner)?;
                    self.depth -= 1;
                }
                // A newer client's field.
                _ => {}
            }
        }
        Ok(())
    }

    /// A field's value, with all items or entries that follow each other in `reader`; none for what Go writes without need.
    fn field<'b>(
        &mut self,
        record: &'s Struct,
        field: &'s Field,
        reader: &mut Reader<'b>,
        first: (u32, Wire<'b>),
    ) -> Result<Option<Value>, Error> {
        let place = (record, field);
        Ok(match &field.ty {
            Type::List(list) => {
                let start = self.items.len();
                self.run(reader, first, |this, wire| this.elements(place, &list.item, wire))?;
                let items: Vec<Value> = self.items.drain(start..).collect();
                Some(Value::Array(items))
                    .filter(|list| field.required || list.as_array().is_some_and(|l| !l.is_empty()))
            }
            Type::Map(item) => {
                let start = self.entries.len();
                self.run(reader, first, |this, wire| {
                    let entry = this.entry(place, item, wire)?;
                    this.entries.push(entry);
                    Ok(())
                })?;
                // Of several with one name the last counts.
                let map = Map::drained(&mut self.entries, start);
                Some(map.unwrap_or_else(|| self.entries.drain(start..).collect()).into())
            }
            ty => Some(self.value(place, ty, first.1)?).filter(|value| !is_omitted(field, value)),
        })
    }

    /// Does the same with a field and all of its number that follow.
    fn run<'b>(
        &mut self,
        reader: &mut Reader<'b>,
        (number, first): (u32, Wire<'b>),
        mut each: impl FnMut(&mut Self, Wire<'b>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        each(self, first)?;
        loop {
            let mut ahead = *reader;
            match ahead.next()? {
                Some((next, wire)) if next == number => {
                    *reader = ahead;
                    each(self, wire)?;
                }
                _ => return Ok(()),
            }
        }
    }

    /// An item of a list, or several packed into one field.
    fn elements(&mut self, place: Place<'s>, item: &Type, wire: Wire<'_>) -> Result<(), Error> {
        if let (Type::Int32 | Type::Int64 | Type::Bool, Wire::Bytes(packed)) = (item, wire) {
            let mut reader = Reader(packed);
            while !reader.0.is_empty() {
                let item = self.value(place, item, Wire::Varint(reader.varint()?))?;
                self.items.push(item);
            }
            return Ok(());
        }
        let item = self.value(place, item, wire)?;
        self.items.push(item);
        Ok(())
    }

    fn entry(&mut self, place: Place<'s>, item: &Type, wire: Wire<'_>) -> Result<(Text, Value), Error> {
        let mut reader = Reader(bytes(wire)?);
        let (mut key, mut found) = (Text::default(), Wire::Bytes(b""));
        while let Some((number, wire)) = reader.next()? {
            match number {
                1 => key = text(wire)?,
                2 => found = wire,
                _ => {}
            }
        }
        let Type::List(list) = item else { return Ok((key, self.value(place, item, found)?)) };
        let mut items = Vec::new();
        let mut reader = Reader(bytes(found)?);
        while let Some((_, wire)) = reader.next()? {
            items.push(self.value(place, &list.item, wire)?);
        }
        Ok((key, items.into()))
    }

    fn value(&mut self, place: Place<'s>, ty: &Type, wire: Wire<'_>) -> Result<Value, Error> {
        Ok(match (ty, wire) {
            (Type::String | Type::Duration, wire) => text(wire)?.into(),
            (Type::Bool, Wire::Varint(n)) => (n != 0).into(),
            (Type::Int32, Wire::Varint(n)) => low(n).into(),
            (Type::Int64, Wire::Varint(n)) => n.cast_signed().into(),
            (Type::Double, Wire::Fixed64(bits)) => {
                Number::from_f64(f64::from_bits(bits)).map_or(Value::Null, Value::Number)
            }
            (Type::Bytes, wire) => STANDARD.encode(bytes(wire)?).into(),
            (Type::Quantity, wire) => quantity(bytes(wire)?)?,
            (Type::IntOrString, wire) => int_or_string(bytes(wire)?)?,
            (Type::Time, wire) => time(bytes(wire)?, 0)?,
            (Type::MicroTime, wire) => time(bytes(wire)?, 6)?,
            (Type::FieldsV1, wire) => self.raw(bytes(wire)?)?,
            (Type::Any, wire) => match union(&place.0.name, &place.1.name) {
                Some(kind) => self.any_of(kind, bytes(wire)?)?,
                None => self.raw(bytes(wire)?)?,
            },
            (Type::Struct(id), wire) => self.record(*id, bytes(wire)?)?.into(),
            _ => return Err(Error::Malformed),
        })
    }

    /// JSON, or an enveloped object, within protobuf.
    fn raw(&self, bytes: &[u8]) -> Result<Value, Error> {
        let Some(wire) = first(bytes)? else { return Ok(Value::Null) };
        let inner = self::bytes(wire)?;
        if inner.starts_with(&MAGIC) {
            return super::open_at(inner, self.depth + 1);
        }
        Value::from_json(inner).map_err(|_| Error::Malformed)
    }

    fn any_of(&mut self, kind: Union, bytes: &[u8]) -> Result<Value, Error> {
        let (mut list, mut schema, mut allows) = (Vec::<Value>::new(), None, None);
        let mut reader = Reader(bytes);
        while let Some((number, wire)) = reader.next()? {
            match (number, wire) {
                (number, Wire::Bytes(bytes)) if number == kind.numbers.1 => {
                    let id = kind.schema.ok_or(Error::Malformed)?;
                    schema = Some(self.record(id, bytes)?);
                }
                (1, Wire::Varint(n)) => allows = Some(n != 0),
                (_, wire) if kind.strings => list.push(text(wire)?.into()),
                (_, Wire::Bytes(bytes)) => {
                    let id = kind.schema.ok_or(Error::Malformed)?;
                    list.push(self.record(id, bytes)?.into());
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
}

/// The field of a number in a message that stands at `at`, or one of those in the message of this number; and whether it is
/// the former.
fn below<'s>(record: &'s Struct, at: &[u32], number: u32) -> Option<(&'s Field, bool)> {
    let path = |field: &'s Field| field.proto.as_ref().map(|proto| &*proto.path);
    if at.is_empty() {
        let field = record.fields.numbered(number)?;
        return Some((field, path(field)?.len() == 1));
    }
    record.fields.iter().find_map(|field| {
        let rest = path(field)?.strip_prefix(at)?;
        (rest.first() == Some(&number)).then_some((field, rest.len() == 1))
    })
}

/// Go writes every field that is not behind a pointer; one that is zero is no value.
fn is_omitted(field: &Field, value: &Value) -> bool {
    let is_zero = match value {
        Value::Null => return true,
        Value::String(text) => text.is_empty(),
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0) && field.ty != Type::IntOrString,
        _ => false,
    };
    let kept =
        || field.required || field.ty == Type::Any || field.proto.as_ref().is_some_and(|p| p.keeps_zero);
    is_zero && !kept()
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

/// A number of 32 bits; what others have above is cut off, as Go does.
fn low(n: u64) -> i32 {
    (n as u32).cast_signed()
}

fn quantity(bytes: &[u8]) -> Result<Value, Error> {
    let mut value = match first(bytes)? {
        Some(inner) => text(inner)?.into(),
        None => "0".into(),
    };
    canonical_quantity(&mut value).map_err(|error| Error::Form(error.to_string()))?;
    Ok(value)
}

fn int_or_string(bytes: &[u8]) -> Result<Value, Error> {
    let (mut is_text, mut whole, mut written) = (false, 0, Text::default());
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Varint(kind)) => is_text = kind == 1,
            (2, Wire::Varint(n)) => whole = low(n),
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
    let text = if digits == 0 { format!("{time:.0}") } else { format!("{time:.6}") };
    match text.as_bytes().get(4) {
        Some(b'-') => Ok(text.into()),
        // RFC 3339 has four digits for it.
        _ => Err(Error::Form("year is not in the range [0,9999]".into())),
    }
}
