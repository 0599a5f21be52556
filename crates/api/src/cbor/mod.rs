//! CBOR for every kind, as Kubernetes reads and writes it: JSON's shape in binary clothes.
//!
//! - Every document starts with the tag of self-described CBOR ([`MAGIC`]), so that it is told from JSON by its bytes.
//! - Texts are written as byte strings, which Go's decoder takes for texts; read are both. Bytes that a schema calls
//!   `[]byte` stay the base64 text that they are in JSON, as in Go's untyped objects; a byte string under the tag
//!   "expected later as base64" becomes one. So no schema is needed, and custom resources are as good as any kind.
//! - What JSON cannot say is refused: infinities, integers beyond 64 bits with a sign, keys that are no texts. A key that
//!   comes twice is refused too: there is no `fieldValidation` for it.
//! - The decoder reads "undefined" as null, and a big number that fits as the integer it is.

#[cfg(test)]
mod tests;

use crate::{Map, Number, Value};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ciborium::value::{Integer, Value as Cbor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::gvr::Gvk;

/// The tag of self-described CBOR, which every document starts with.
pub const MAGIC: [u8; 3] = [0xd9, 0xd9, 0xf7];

/// How deep values may lie within each other.
const DEPTH_MAX: usize = 64;

/// Why bytes are no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are no CBOR, break off, or go on after their end.
    #[error("cbor: {0}")]
    Malformed(String),
    /// A key stands twice in a map.
    #[error("cbor: found duplicate map key {0:?}")]
    Duplicate(String),
    /// A value that JSON has no place for.
    #[error("cbor: cannot decode {0} into a JSON value")]
    NoJson(String),
}

/// A tree as a document.
pub fn encode(tree: &Value) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    write(&mut out, tree);
    out
}

/// A list up to its items: `count` documents (each as [`encode`] makes it) complete it.
pub fn list_head(gvk: &Gvk, metadata: &Value, count: usize) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    head(&mut out, 5, 4);
    for (name, value) in [("kind", gvk.kind.as_ref()), ("apiVersion", &gvk.api_version())] {
        text(&mut out, name);
        text(&mut out, value);
    }
    text(&mut out, "metadata");
    write(&mut out, metadata);
    text(&mut out, "items");
    head(&mut out, 4, count);
    out
}

/// An event of a watch stream around an encoded object. Documents follow each other without anything between.
pub fn event(kind: &str, object: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(object.len() + 32);
    out.extend_from_slice(&MAGIC);
    head(&mut out, 5, 2);
    text(&mut out, "type");
    text(&mut out, kind);
    text(&mut out, "object");
    out.extend_from_slice(object);
    out
}

/// The first bytes of an item: its major type and its length.
fn head(out: &mut Vec<u8>, major: u8, length: usize) {
    let major = major << 5;
    match length as u64 {
        // The casts keep what the arms have bounded.
        small @ 0..24 => out.push(major | small as u8),
        byte @ 24..0x100 => out.extend([major | 24, byte as u8]),
        two @ 0x100..0x1_0000 => {
            out.push(major | 25);
            out.extend((two as u16).to_be_bytes());
        }
        four @ 0x1_0000..0x1_0000_0000 => {
            out.push(major | 26);
            out.extend((four as u32).to_be_bytes());
        }
        eight => {
            out.push(major | 27);
            out.extend(eight.to_be_bytes());
        }
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    head(out, 2, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn write(out: &mut Vec<u8>, tree: &Value) {
    // A Vec takes every byte, and a tree holds nothing that CBOR cannot say.
    ciborium::into_writer(&Tree(tree), out).unwrap_or_default();
}

/// A JSON tree whose texts are byte strings.
struct Tree<'a>(&'a Value);

/// A text as a byte string.
struct Text<'a>(&'a str);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0.as_bytes())
    }
}

impl Serialize for Tree<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::String(text) => Text(text).serialize(serializer),
            Value::Array(items) => serializer.collect_seq(items.iter().map(Tree)),
            Value::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (key, value) in fields {
                    map.serialize_entry(&Text(key), &Tree(value))?;
                }
                map.end()
            }
            plain => plain.serialize(serializer),
        }
    }
}

/// The tree of one document, with or without the tag.
pub fn decode(body: &[u8]) -> Result<Value, Error> {
    let mut rest = body;
    let read = ciborium::de::from_reader_with_recursion_limit(&mut rest, DEPTH_MAX);
    let document: Cbor = read.map_err(malformed)?;
    match rest.len() {
        0 => value(document),
        extra => Err(Error::Malformed(format!("{extra} bytes of extraneous data after the first item"))),
    }
}

fn malformed(error: ciborium::de::Error<std::io::Error>) -> Error {
    use ciborium::de::Error::{Io, RecursionLimitExceeded, Semantic, Syntax};
    Error::Malformed(match error {
        Io(_) => "unexpected EOF".to_owned(),
        Syntax(at) => format!("invalid data item at offset {at}"),
        Semantic(_, why) => why,
        RecursionLimitExceeded => format!("exceeded max nested level {DEPTH_MAX}"),
    })
}

fn value(item: Cbor) -> Result<Value, Error> {
    Ok(match item {
        Cbor::Null => Value::Null,
        Cbor::Bool(set) => Value::Bool(set),
        Cbor::Integer(number) => whole(number)?,
        Cbor::Float(number) => {
            Number::from_f64(number).map(Value::Number).ok_or_else(|| Error::NoJson(number.to_string()))?
        }
        Cbor::Text(text) => text.into(),
        Cbor::Bytes(bytes) => utf8(bytes)?.into(),
        Cbor::Array(items) => Value::Array(items.into_iter().map(value).collect::<Result<_, _>>()?),
        Cbor::Map(entries) => object(entries)?,
        Cbor::Tag(tag, item) => tagged(tag, *item)?,
        _ => return Err(Error::NoJson("an unknown kind of item".to_owned())),
    })
}

fn whole(number: Integer) -> Result<Value, Error> {
    let fits = i64::try_from(number);
    fits.map(Value::from)
        .map_err(|_| Error::NoJson(format!("{}, which overflows 64 bits", i128::from(number))))
}

fn utf8(bytes: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|_| Error::NoJson("a byte string that is no UTF-8".to_owned()))
}

fn object(entries: Vec<(Cbor, Cbor)>) -> Result<Value, Error> {
    let mut fields = Map::new();
    for (key, item) in entries {
        let key = match key {
            Cbor::Text(key) => key,
            Cbor::Bytes(key) => utf8(key)?,
            other => return Err(Error::NoJson(format!("the map key {other:?}"))),
        };
        if fields.contains_key(&key) {
            return Err(Error::Duplicate(key));
        }
        fields.insert(key.into(), value(item)?);
    }
    Ok(Value::Object(fields))
}

/// What a tag says of its content. Unknown ones say nothing.
fn tagged(tag: u64, item: Cbor) -> Result<Value, Error> {
    match (tag, item) {
        (1, item) => epoch(&item),
        (2 | 3, _) => Err(Error::NoJson("a number of any size".to_owned())),
        (21, Cbor::Bytes(bytes)) => Ok(URL_SAFE_NO_PAD.encode(bytes).into()),
        (22, Cbor::Bytes(bytes)) => Ok(STANDARD.encode(bytes).into()),
        (23, Cbor::Bytes(bytes)) => {
            Ok(Value::String(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
        }
        (_, item) => value(item),
    }
}

/// Seconds since 1970 as a time's text.
fn epoch(item: &Cbor) -> Result<Value, Error> {
    let seconds = match item {
        Cbor::Integer(whole) => i64::try_from(*whole).ok(),
        // The cast saturates; what is out of range is no time.
        Cbor::Float(seconds) => Some(*seconds as i64),
        _ => None,
    };
    let time = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map(|time| time.to_string().into()).ok_or_else(|| Error::NoJson("the time".to_owned()))
}
