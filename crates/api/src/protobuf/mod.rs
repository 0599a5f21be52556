//! Protobuf for every built-in kind, driven by the table: there are no message types.
//!
//! - An object on the wire is four magic bytes and an envelope that names its kind ([`Sealed`], [`open`]).
//! - A list is put round the messages of its items ([`list`]), a watch event round an enveloped object ([`event`]), so
//!   that an object is encoded once for all who read it.
//! - A tree in canonical form comes back as it was. A zero that Go writes for want of a pointer is no value.
//! - Custom resources have no protobuf.

mod decode;
mod encode;
mod sealed;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::LazyLock;

use crate::gvr::Gvk;
use crate::schema::{StructId, builtin};
use crate::{Map, Value};
use sealed::{END, envelope};
pub use sealed::{Sealed, Unversioned};
use wire::{Reader, Wire, Writer};

/// What every enveloped object starts with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// Why something has no protobuf, or is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are no protobuf, or not of the kind that the envelope names.
    #[error("proto: illegal wire format")]
    Malformed,
    /// A value that is written as it must not be.
    #[error("{0}")]
    Form(String),
    /// Messages lie too deep within each other.
    #[error("proto: nested too deeply")]
    TooDeep,
    /// Nothing at all.
    #[error("empty data")]
    Empty,
    /// No envelope.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoEnvelope,
    /// A kind that the table does not know, as that of a custom resource.
    #[error("no kind {0:?} is registered for protobuf")]
    UnknownKind(String),
    /// A tree that does not fit its kind.
    #[error("cannot encode {found} where {wanted} is wanted")]
    Mismatch {
        /// What stands there.
        found: String,
        /// What should.
        wanted: String,
    },
}

impl Error {
    fn new(wanted: &str, found: &Value) -> Self {
        let found: String = found.to_string().chars().take(40).collect();
        Self::Mismatch { found, wanted: wanted.to_owned() }
    }
}

impl From<wire::Malformed> for Error {
    fn from(_: wire::Malformed) -> Self {
        Self::Malformed
    }
}

/// The type of a kind of the table. Options and watch events are the same in every group.
fn type_of(gvk: &Gvk) -> Result<StructId, Error> {
    let own = builtin().type_of(gvk);
    let shared = || builtin().struct_id(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{}", gvk.kind));
    own.or_else(shared).ok_or_else(|| Error::UnknownKind(gvk.to_string()))
}

/// The message of a tree that names its kind, without an envelope: what a list holds.
pub fn message(gvk: &Gvk, tree: &Value) -> Result<Vec<u8>, Error> {
    match gvk.kind.as_ref() {
        "PartialObjectMetadata" => metadata_only(tree),
        _ => encode::object(builtin().schema(), type_of(gvk)?, tree),
    }
}

/// The message of `PartialObjectMetadata`, which the published table leaves out: metadata in the first place.
fn metadata_only(tree: &Value) -> Result<Vec<u8>, Error> {
    static META: LazyLock<Option<StructId>> =
        LazyLock::new(|| builtin().struct_id("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"));
    let id = META.ok_or_else(|| Error::UnknownKind("ObjectMeta".into()))?;
    let metadata = tree.get("metadata").ok_or_else(|| Error::new("an object with metadata", tree))?;
    let mut out = Writer::default();
    out.bytes(1, &encode::object(builtin().schema(), id, metadata)?);
    Ok(out.finish())
}

/// A whole tree that names its kind, enveloped.
pub fn encode(tree: &Value) -> Result<Vec<u8>, Error> {
    Sealed::of(tree).map(|sealed| sealed.bytes.into())
}

/// A body's tree, with `apiVersion` and `kind` from the envelope.
pub fn open(body: &[u8]) -> Result<Value, Error> {
    open_at(body, 0)
}

/// Whether a body holds a message, whose tree is in canonical form then; JSON may be in an envelope, too.
pub fn is_message(body: &[u8]) -> bool {
    opened(body).is_ok_and(|envelope| !envelope.is_json)
}

/// What an envelope says.
#[derive(Default)]
struct Envelope<'b> {
    names: &'b [u8],
    message: &'b [u8],
    is_json: bool,
}

fn opened(body: &[u8]) -> Result<Envelope<'_>, Error> {
    if body.is_empty() {
        return Err(Error::Empty);
    }
    let mut reader = Reader(body.strip_prefix(&MAGIC).ok_or(Error::NoEnvelope)?);
    let mut envelope = Envelope::default();
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(names)) => envelope.names = names,
            (2, Wire::Bytes(bytes)) => envelope.message = bytes,
            (4, Wire::Bytes(media)) => envelope.is_json = media == b"application/json",
            _ => {}
        }
    }
    Ok(envelope)
}

fn open_at(body: &[u8], depth: usize) -> Result<Value, Error> {
    let Envelope { names, message, is_json } = opened(body)?;
    if is_json {
        return Value::from_json(message).map_err(|_| Error::Malformed);
    }
    let (api_version, kind) = type_meta(names)?;
    let gvk = Gvk::from_api_version(&api_version, &kind);
    let names = (api_version.into(), kind.into());
    decode::enveloped(builtin().schema(), type_of(&gvk)?, message, names, depth).map(Value::Object)
}

fn type_meta(bytes: &[u8]) -> Result<(String, String), Error> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| Error::Malformed);
    let (mut api_version, mut kind) = (String::new(), String::new());
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => api_version = text(bytes)?,
            (2, Wire::Bytes(bytes)) => kind = text(bytes)?,
            _ => {}
        }
    }
    Ok((api_version, kind))
}

/// A message's tree, of a kind that the caller knows.
pub fn read(gvk: &Gvk, message: &[u8]) -> Result<Map, Error> {
    decode::object(builtin().schema(), type_of(gvk)?, message)
}

/// An enveloped list: what goes before its items, of which each has its own [`item_head`] and these many bytes, and what
/// goes after them. Every list has the same two fields.
pub fn list(
    gvk: &Gvk,
    metadata: &Value,
    lengths: impl IntoIterator<Item = usize>,
) -> Result<(Vec<u8>, &'static [u8]), Error> {
    static META: LazyLock<Option<StructId>> =
        LazyLock::new(|| builtin().struct_id("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"));
    let id = META.ok_or_else(|| Error::UnknownKind("ListMeta".into()))?;
    let mut first = Writer::default();
    first.bytes(1, &encode::object(builtin().schema(), id, metadata)?);
    let first = first.finish();
    let items: usize = lengths.into_iter().map(|length| item_head(length).len() + length).sum();
    let mut start = envelope(gvk, first.len() + items);
    start.extend_from_slice(&first);
    Ok((start, &END))
}

/// What goes before an item of a list.
pub fn item_head(length: usize) -> Vec<u8> {
    let mut head = Writer::default();
    head.head(2, length);
    head.finish()
}

/// A frame of a watch stream: four bytes of length, then a `WatchEvent` with the enveloped object in it.
pub fn event(kind: &str, sealed: &[u8]) -> Vec<u8> {
    let mut out = Writer::default();
    out.bytes(1, kind.as_bytes());
    let object = |out: &mut Writer| {
        out.bytes(1, sealed);
        Ok::<(), Error>(())
    };
    // The closure cannot fail.
    out.message(2, object).unwrap_or_default();
    let event = out.finish();
    let length = u32::try_from(event.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &event].concat()
}

/// A JSON value of several forms that is a message in protobuf: those of `JSONSchemaProps`.
#[derive(Clone, Copy)]
struct Union {
    /// Number of the list's items, and of the one schema.
    numbers: (u32, u32),
    /// The list is of strings.
    strings: bool,
    /// The type of a schema.
    schema: Option<StructId>,
}

/// The union that a field is, if it is one.
fn union(owner: &str, field: &str) -> Option<Union> {
    const OWNER: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    if owner != OWNER {
        return None;
    }
    let schema = builtin().struct_id(OWNER);
    match field {
        "items" => Some(Union { numbers: (2, 1), strings: false, schema }),
        // The list's place is the boolean's, which is no message.
        "additionalItems" | "additionalProperties" => Some(Union { numbers: (1, 2), strings: false, schema }),
        "dependencies" => Some(Union { numbers: (2, 1), strings: true, schema }),
        _ => None,
    }
}
