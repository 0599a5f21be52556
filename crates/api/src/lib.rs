//! Kinds as data: everything Tiphys knows about Kubernetes objects, without any I/O.
//!
//! - [`schema`] is the one table of facts about kinds; a custom resource compiles to the same shape.
//! - [`object`] is an object as the whole program passes it round: its canonical JSON bytes and a small header.
//! - [`status`] and [`field`] are the errors that clients see.
//!
//! Trees ([`Value`]) are short-lived: a request decodes, changes and encodes one, and drops it.

pub mod apply;
pub mod cbor;
pub mod convert;
pub mod decode;
pub mod defaults;
pub mod descriptions;
pub mod discovery;
pub mod field;
pub mod gvr;
pub mod jsonpath;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod protobuf;
pub mod quantity;
pub mod quota;
pub mod schema;
pub mod selector;
pub mod status;
pub mod structural;
pub mod table;
pub mod validate;
pub mod value;

pub use gvr::{Gvk, Gvr};
pub use object::{Meta, Object, OwnerRef};
pub use status::Status;
pub use value::{Map, Number, Text, Value};

/// For [`json!`], which needs it wherever it is used.
#[doc(hidden)]
pub use serde_json as __serde_json;

/// The Kubernetes release whose API this is.
pub const KUBERNETES_VERSION: &str = "v1.36.0";
