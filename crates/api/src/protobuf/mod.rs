//! `application/vnd.kubernetes.protobuf`: the built-in kinds' binary form, driven by the table; no generated messages.
//!
//! - The envelope is `k8s\0` and a `runtime.Unknown` that names the kind; inside, each field is where
//!   [`crate::schema::Proto`] says. Structs that are flattened in JSON but nested here have longer paths.
//! - Go writes every non-pointer scalar, zero or not. A zero that is neither required nor a pointer's
//!   (`schema/presence.txt`) therefore means absence, and the tree is what Go's JSON would have been.
//! - Trees in and out: stored objects stay JSON.

mod decode;
mod encode;
mod presence;
#[cfg(test)]
mod tests;
mod wire;

use serde_json::Value;

use crate::gvr::Gvk;
use crate::schema::{self, Struct};

/// What every body begins with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// Why bytes or a tree could not be converted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No `k8s\0` at the beginning.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoMagic,
    /// Cut off, an impossible length, or nested too deeply.
    #[error("proto: malformed message: {0}")]
    Malformed(&'static str),
    /// A field holds another wire type than its kind has.
    #[error("proto: field {0} has the wrong wire type")]
    WireType(String),
    /// A value in a tree is not of its field's type.
    #[error("{0} cannot be written as protobuf")]
    Value(String),
    /// The kind has no protobuf form here.
    #[error("no kind {kind:?} is registered for version {api_version:?} with a protobuf form")]
    NoKind {
        /// As in the envelope.
        api_version: String,
        /// As in the envelope.
        kind: String,
    },
}

/// Reads one enveloped object; `apiVersion` and `kind` come from the envelope.
pub fn decode(bytes: &[u8]) -> Result<Value, Error> {
    let envelope = decode::envelope(bytes)?;
    let (api_version, kind) = (envelope.api_version.clone(), envelope.kind.clone());
    if envelope.content_type == "application/json" {
        return serde_json::from_slice(envelope.raw).map_err(|_| Error::Malformed("the JSON inside"));
    }
    let root = root(&api_version, &kind)?;
    let mut value = decode::message(root, envelope.raw)?;
    value.insert("apiVersion".to_owned(), api_version.into());
    value.insert("kind".to_owned(), kind.into());
    Ok(Value::Object(value))
}

/// Writes one object with its envelope.
pub fn encode(value: &Value) -> Result<Vec<u8>, Error> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let raw = encode::message(root(api_version, kind)?, value)?;
    Ok(encode::envelope(api_version, kind, &raw))
}

/// Writes one event of a watch: the message without an envelope, its object with one.
pub fn watch_event(kind: &str, object: &Value) -> Result<Vec<u8>, Error> {
    let mut raw = Vec::new();
    wire::put_bytes(&mut raw, 1, &encode(object)?);
    let mut event = Vec::new();
    wire::put_bytes(&mut event, 1, kind.as_bytes());
    wire::put_bytes(&mut event, 2, &raw);
    Ok(event)
}

/// The struct behind a kind. Options and Status are the same in every group.
fn root(api_version: &str, kind: &str) -> Result<&'static Struct, Error> {
    let catalog = schema::builtin();
    let gvk = Gvk::from_api_version(api_version, kind);
    let own = catalog.kinds().iter().find(|(known, _)| *known == gvk).map(|(_, id)| *id);
    let shared = || catalog.struct_id(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"));
    let id = own
        .or_else(shared)
        .ok_or_else(|| Error::NoKind { api_version: api_version.into(), kind: kind.into() })?;
    Ok(catalog.schema().get(id))
}
