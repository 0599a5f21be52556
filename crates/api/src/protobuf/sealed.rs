//! Objects in their envelopes: as bodies, and as what lists hold.

use bytes::Bytes;

use super::wire::{Reader, Wire, Writer};
use super::{Error, MAGIC, message};
use crate::Value;
use crate::gvr::Gvk;

/// What stands after the message in an envelope: no encoding, no content type.
pub(super) const END: [u8; 4] = [3 << 3 | 2, 0, 4 << 3 | 2, 0];

/// Room for most kinds and versions.
const USUAL_NAMES: usize = 64;

/// The number of every object's metadata, and those of metadata's fields from `resourceVersion` on, in order of names.
pub(super) const METADATA: u32 = 1;
pub(super) const VERSION: u32 = 6;
pub(super) const AFTER_VERSION: [u32; 2] = [4, 5];

/// An object in its envelope, and where its message is in that.
#[derive(Clone, Debug)]
pub struct Sealed {
    pub(super) bytes: Bytes,
    start: usize,
}

impl Sealed {
    /// A tree that names its kind.
    pub fn of(tree: &Value) -> Result<Self, Error> {
        let gvk = kind(tree);
        Ok(seal(&gvk, &[&message(&gvk, tree)?]))
    }

    /// What a body is.
    pub fn body(&self) -> &Bytes {
        &self.bytes
    }

    /// What a list holds.
    pub fn message(&self) -> Bytes {
        self.bytes.slice(self.start..self.bytes.len() - END.len())
    }
}

/// The message of an object that has no version yet, and the place for it: made while the tree is at hand, and warm in the
/// processor's cache, and finished when the store has given the version.
#[derive(Debug)]
pub struct Unversioned {
    gvk: Gvk,
    message: Vec<u8>,
    /// Where the field of the metadata begins, and its message; where in that the version belongs; and where it ends.
    places: [usize; 4],
}

impl Unversioned {
    /// A tree that names its kind, without a version.
    pub fn of(tree: &Value) -> Result<Self, Error> {
        let gvk = kind(tree);
        let message = message(&gvk, tree)?;
        let mut reader = Reader(&message);
        loop {
            let field = message.len() - reader.0.len();
            match reader.next()? {
                Some((METADATA, Wire::Bytes(metadata))) => {
                    let end = message.len() - reader.0.len();
                    let content = end - metadata.len();
                    let places = [field, content, content + version_at(metadata)?, end];
                    return Ok(Self { gvk, message, places });
                }
                Some(_) => {}
                // Nothing has a version without metadata.
                None => return Err(Error::Malformed),
            }
        }
    }

    /// The object as of a version.
    pub fn sealed(&self, version: u64) -> Sealed {
        let [field, content, at, end] = self.places;
        let part = |range: std::ops::Range<usize>| self.message.get(range).unwrap_or_default();
        let mut own = Writer::with_capacity(USUAL_NAMES);
        own.bytes(VERSION, version.to_string().as_bytes());
        let own = own.finish();
        let mut head = Writer::with_capacity(USUAL_NAMES);
        head.head(METADATA, end - content + own.len());
        let rest = part(end..self.message.len());
        seal(&self.gvk, &[part(0..field), &head.finish(), part(content..at), &own, part(at..end), rest])
    }
}

/// Where in metadata its version belongs.
fn version_at(metadata: &[u8]) -> Result<usize, Error> {
    let mut reader = Reader(metadata);
    let mut at = 0;
    while let Some((number, _)) = reader.next()? {
        if AFTER_VERSION.contains(&number) {
            break;
        }
        at = metadata.len() - reader.0.len();
    }
    Ok(at)
}

fn kind(tree: &Value) -> Gvk {
    let text = |name: &str| tree.get(name).and_then(Value::as_str).unwrap_or_default();
    Gvk::from_api_version(text("apiVersion"), text("kind"))
}

/// What stands before a message of so many bytes in an envelope.
pub(super) fn envelope(gvk: &Gvk, length: usize) -> Vec<u8> {
    let mut names = Writer::with_capacity(USUAL_NAMES);
    names.bytes(1, gvk.api_version().as_bytes());
    names.bytes(2, gvk.kind.as_bytes());
    let mut out = Writer::with_capacity(USUAL_NAMES);
    out.bytes(1, &names.finish());
    out.head(2, length);
    [&MAGIC[..], &out.finish()].concat()
}

/// A message, given in parts, in its envelope.
pub(super) fn seal(gvk: &Gvk, message: &[&[u8]]) -> Sealed {
    let length = message.iter().map(|part| part.len()).sum();
    let mut bytes = envelope(gvk, length);
    let start = bytes.len();
    bytes.reserve_exact(length + END.len());
    message.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes.extend_from_slice(&END);
    Sealed { bytes: bytes.into(), start }
}
