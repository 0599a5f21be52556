//! Objects as bodies, in the agreed encoding and shape.
//!
//! The common case copies nothing and parses nothing: JSON of a whole object is the cache's own bytes, its protobuf is
//! kept with it. All other forms make a short-lived tree per object.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tiphys_api::{Object, Status, Value, cbor, json};

use super::negotiate::{Encoding, MediaType, Shape};

/// One whole object.
pub fn object(object: &Object, encoding: Encoding) -> Result<Bytes, Status> {
    match encoding {
        Encoding::Json => Ok(object.json().clone()),
        Encoding::Protobuf => {
            object.sealed().map(|sealed| sealed.body().clone()).map_err(|error| no_protobuf(&error))
        }
        _ => tree(&object.value().map_err(Status::internal)?, encoding),
    }
}

/// A tree.
pub fn tree(value: &Value, encoding: Encoding) -> Result<Bytes, Status> {
    match encoding {
        Encoding::Json => lines(serde_json::to_vec(value)),
        Encoding::PrettyJson => lines(serde_json::to_vec_pretty(value)),
        Encoding::Yaml => serde_saphyr::to_string(value).map(Bytes::from).map_err(Status::internal),
        Encoding::Cbor => Ok(cbor::encode(value).into()),
        Encoding::Protobuf => {
            tiphys_api::protobuf::encode(value).map(Bytes::from).map_err(|error| no_protobuf(&error))
        }
    }
}

/// 406 for what has none.
pub fn no_protobuf(error: &tiphys_api::protobuf::Error) -> Status {
    Status::failure(406, "NotAcceptable", format!("the answer has no protobuf form: {error}"))
}

fn lines(text: Result<Vec<u8>, serde_json::Error>) -> Result<Bytes, Status> {
    let mut text = text.map_err(Status::internal)?;
    text.push(b'\n');
    Ok(text.into())
}

/// An object's metadata as `PartialObjectMetadata`.
pub fn partial(object: &Object, beta: bool) -> Result<Bytes, Status> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        metadata: &'a RawValue,
    }
    let Envelope { metadata } = object.decode().map_err(Status::internal)?;
    let version = if beta { "v1beta1" } else { "v1" };
    let text = format!(
        r#"{{"apiVersion":"meta.k8s.io/{version}","kind":"PartialObjectMetadata","metadata":{}}}"#,
        metadata.get()
    );
    Ok(text.into_bytes().into())
}

/// `PartialObjectMetadata` of an object whose text cannot be read, which its header still names: a list tells of each
/// that is there.
pub fn name_alone(object: &Object, beta: bool) -> Bytes {
    let (meta, version) = (object.meta(), if beta { "v1beta1" } else { "v1" });
    let mut metadata = json!({"name": &*meta.name, "uid": &*meta.uid});
    if !meta.namespace.is_empty() {
        metadata["namespace"] = (&*meta.namespace).into();
    }
    let partial = json!({
        "apiVersion": format!("meta.k8s.io/{version}"), "kind": "PartialObjectMetadata", "metadata": metadata,
    });
    partial.to_string().into()
}

/// An object in any shape but Table.
pub fn shaped(object_: &Object, media: MediaType) -> Result<Bytes, Status> {
    match media.shape {
        Shape::PartialMetadata | Shape::PartialMetadataList => {
            retold(partial(object_, media.beta)?, media.encoding)
        }
        _ => object(object_, media.encoding),
    }
}

fn retold(json: Bytes, encoding: Encoding) -> Result<Bytes, Status> {
    match encoding {
        Encoding::Json => Ok(json),
        other => tree(&Value::from_json(&json).map_err(Status::internal)?, other),
    }
}
