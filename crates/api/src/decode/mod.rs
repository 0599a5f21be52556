//! From bytes of a request to a tree of a known kind.
//!
//! - [`json`] and [`yaml`] build the tree and note duplicate fields (the last one counts, as in Go).
//! - [`structure`] checks the tree against its kind in one walk: unknown fields go, types must fit, nulls and empty
//!   optional collections vanish, quantities and times take their canonical form.
//! - Errors are worded as kube-apiserver's 400; [`refusal`] makes the answer.
//!
//! No value is cloned: the walk changes the tree in place.

mod structure;
#[cfg(test)]
mod tests;

pub(crate) use structure::canonical_quantity;
pub(crate) use structure::metadata;
pub use structure::{changed, structure};

use serde::de::DeserializeSeed;

use crate::apply::folded::SETS;
use crate::gvr::Gvk;
use crate::status::Status;
use crate::value::tree::{Duplicates, Tree};
use crate::value::{self, Value};

/// A decoded body.
#[derive(Debug, PartialEq)]
pub struct Parsed {
    /// The tree: always an object.
    pub value: Value,
    /// `duplicate field "spec.x"`, one per repeated field, for strict decoding and warnings.
    pub duplicates: Vec<String>,
}

/// A body that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON.
    #[error("couldn't get version/kind; json parse error: {0}")]
    Json(String),
    /// Not YAML.
    #[error("error converting YAML to JSON: yaml: {0}")]
    Yaml(String),
    /// JSON or YAML, but no object; the text names what it is instead.
    #[error(
        "couldn't get version/kind; json parse error: json: cannot unmarshal {0} into Go value of type struct {{ \
         APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
    )]
    NotAnObject(&'static str),
    /// A value of the wrong type.
    #[error("json: cannot unmarshal {found} into Go struct field {at} of type {wanted}")]
    Type {
        /// What stands there: `string`, `number 1.5`, `array` …
        found: String,
        /// `Container.spec.containers.image`: Go's type and the path without indices.
        at: String,
        /// Go's name of the type that is wanted.
        wanted: String,
    },
    /// A text of the right JSON type with a form that its type forbids.
    #[error("{0}")]
    Form(String),
}

/// Parses one JSON object, [folded](crate::apply::folded).
pub fn json(body: &[u8]) -> Result<Parsed, DecodeError> {
    let duplicates = Duplicates::default();
    let value =
        value::read_noting(body, SETS, &duplicates).map_err(|error| DecodeError::Json(error.to_string()))?;
    object(value, duplicates)
}

/// Parses one YAML document (or JSON, which is YAML) that holds an object. Words and numbers mean what they mean to
/// kube-apiserver: `yes` is true, `0644` is octal.
pub fn yaml(body: &[u8]) -> Result<Parsed, DecodeError> {
    let duplicates = Duplicates::default();
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
        legacy_octal_numbers: true,
        strict_booleans: false,
        with_snippet: false,
    };
    let parsed = serde_saphyr::with_deserializer_from_slice_with_options(body, options, |source| {
        Tree::root(&duplicates).deserialize(source)
    });
    object(parsed.map_err(|error| DecodeError::Yaml(error.to_string()))?, duplicates)
}

fn object(value: Value, duplicates: Duplicates) -> Result<Parsed, DecodeError> {
    match value {
        Value::Object(_) => Ok(Parsed { value, duplicates: duplicates.into_inner() }),
        other => Err(DecodeError::NotAnObject(json_type(&other))),
    }
}

/// Go's word for a JSON value's type.
fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// 400 for a body that is not what its kind asks for: `Pod in version "v1" cannot be handled as a Pod: …`.
/// `cause` is a [`DecodeError`], or `strict decoding error: unknown field "spec.x", …` from [`strict`].
pub fn refusal(kind: &Gvk, cause: &dyn std::fmt::Display) -> Status {
    let Gvk { version, kind, .. } = kind;
    Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {cause}"))
}

/// The cause of a refusal under `fieldValidation=Strict`.
pub fn strict(findings: &[String]) -> String {
    format!("strict decoding error: {}", findings.join(", "))
}
