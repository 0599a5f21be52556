//! Objects and lists as bodies, in the agreed encoding and shape.
//!
//! The common case copies nothing and parses nothing: JSON of a whole object is the cache's own bytes, a list of them
//! is those bytes between a head and a tail. All other forms make a short-lived tree per object.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tiphys_api::{Object, Status};

use super::answer::{Answer, with_body};
use super::body::{Body, Pieces};
use super::negotiate::{Encoding, MediaType, Shape};
use crate::registry::List;

/// One whole object.
pub fn object(object: &Object, encoding: Encoding) -> Result<Bytes, Status> {
    match encoding {
        Encoding::Json => Ok(object.json().clone()),
        _ => tree(&object.value().map_err(Status::internal)?, encoding),
    }
}

/// A tree.
pub fn tree(value: &Value, encoding: Encoding) -> Result<Bytes, Status> {
    match encoding {
        Encoding::Json => lines(serde_json::to_vec(value)),
        Encoding::PrettyJson => lines(serde_json::to_vec_pretty(value)),
        Encoding::Yaml => serde_saphyr::to_string(value).map(Bytes::from).map_err(Status::internal),
        Encoding::Protobuf => tiphys_api::protobuf::encode(value).map(Bytes::from).map_err(|error| {
            Status::failure(406, "NotAcceptable", format!("the answer has no protobuf form: {error}"))
        }),
    }
}

fn lines(text: Result<Vec<u8>, serde_json::Error>) -> Result<Bytes, Status> {
    let mut text = text.map_err(Status::internal)?;
    text.push(b'\n');
    Ok(text.into())
}

/// A collection of whole objects.
pub fn list(list: List, api_version: &str, kind: &str, media: MediaType) -> Result<Answer, Status> {
    let head = list_head(api_version, kind, &list_meta(&list));
    finish_list(head, list.items.into_iter().map(|item| item.json().clone()).collect(), media)
}

/// A collection of metadata only.
pub fn partial_list(list: &List, media: MediaType) -> Result<Answer, Status> {
    let head = list_head(meta_version(media), "PartialObjectMetadataList", &list_meta(list));
    let items: Result<Vec<Bytes>, Status> = list.items.iter().map(|item| partial(item, media.beta)).collect();
    finish_list(head, items?, media)
}

pub(super) fn finish_list(head: String, items: Vec<Bytes>, media: MediaType) -> Result<Answer, Status> {
    let pieces = list_pieces(head, items);
    let body = match media.encoding {
        Encoding::Json => Body::Pieces(pieces),
        other => Body::Full(retell(pieces, other)?),
    };
    Ok(with_body(http::StatusCode::OK, media.content_type(), body))
}

fn list_pieces(head: String, items: Vec<Bytes>) -> Pieces {
    const COMMA: Bytes = Bytes::from_static(b",");
    const TAIL: Bytes = Bytes::from_static(b"]}\n");
    let commas = items.len().saturating_sub(1);
    let length = head.len() + items.iter().map(Bytes::len).sum::<usize>() + commas + TAIL.len();
    let separated = items.into_iter().enumerate().flat_map(|(at, item)| {
        let comma = (at > 0).then_some(COMMA);
        comma.into_iter().chain([item])
    });
    Pieces::new([Bytes::from(head)].into_iter().chain(separated).chain([TAIL]), length as u64)
}

/// People's forms of a list: through one tree, as they are read by people and small.
fn retell(mut pieces: Pieces, encoding: Encoding) -> Result<Bytes, Status> {
    let mut text = Vec::new();
    while let Some(chunk) = pieces.next_chunk() {
        text.extend_from_slice(&chunk);
    }
    tree(&serde_json::from_slice(&text).map_err(Status::internal)?, encoding)
}

/// `metadata` of a list.
pub fn list_meta(list: &List) -> Value {
    let mut meta = json!({"resourceVersion": list.resource_version.to_string()});
    if !list.continue_token.is_empty() {
        meta["continue"] = Value::String(list.continue_token.clone());
    }
    if let Some(remaining) = list.remaining {
        meta["remainingItemCount"] = Value::from(remaining);
    }
    meta
}

fn list_head(api_version: &str, kind: &str, meta: &Value) -> String {
    let (kind, api_version) = (Value::from(kind), Value::from(api_version));
    format!(r#"{{"kind":{kind},"apiVersion":{api_version},"metadata":{meta},"items":["#)
}

fn meta_version(media: MediaType) -> &'static str {
    if media.beta { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" }
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
        other => tree(&serde_json::from_slice(&json).map_err(Status::internal)?, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(count: usize) -> Vec<Object> {
        let make = |n: usize| {
            Object::from_value(
                &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("c{n}")}}),
            )
        };
        (0..count).map(|n| make(n).unwrap()).collect()
    }

    fn read(answer: Answer) -> Value {
        let text = match answer.into_body() {
            Body::Full(bytes) => bytes.to_vec(),
            Body::Pieces(mut pieces) => std::iter::from_fn(|| pieces.next_chunk()).flatten().collect(),
            _ => unreachable!("lists are full or in pieces"),
        };
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn lists_are_well_formed_at_any_length() {
        for count in [0, 1, 2, 1000] {
            let page = List { items: objects(count), resource_version: 7, ..List::default() };
            let value = read(list(page, "v1", "ConfigMapList", MediaType::default()).unwrap());
            assert_eq!(value["items"].as_array().unwrap().len(), count);
            assert_eq!(
                (&value["kind"], &value["metadata"]["resourceVersion"]),
                (&json!("ConfigMapList"), &json!("7"))
            );
        }
    }

    #[test]
    fn pages_say_how_to_go_on() {
        let page = List { continue_token: "t".into(), remaining: Some(3), ..List::default() };
        let value = read(partial_list(&page, MediaType::default()).unwrap());
        assert_eq!(
            value["metadata"],
            json!({"resourceVersion": "0", "continue": "t", "remainingItemCount": 3})
        );
        assert_eq!(value["apiVersion"], "meta.k8s.io/v1");
    }
}
