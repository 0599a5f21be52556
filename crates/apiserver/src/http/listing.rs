//! Collections as bodies: a head, the items as they are sent, a tail.
//!
//! - JSON takes the items' own bytes as they are sent: the first go out before the last are looked at, and a reader
//!   costs one chunk of memory.
//! - Forms for people (indented, YAML) are made item by item, so that a large collection never stands as one tree.
//! - Protobuf needs lengths before contents, which are known once each item has its message. CBOR needs only their number.

use bytes::Bytes;
use http::StatusCode;
use tiphys_api::{Gvk, Object, Status, Value, cbor, json, protobuf};

use super::answer::{Answer, with_body};
use super::body::Body;
use super::encode;
use super::negotiate::{Encoding, MediaType};
use crate::registry::List;

/// The end of a list.
const TAIL: Bytes = Bytes::from_static(b"]}\n");

/// A collection of whole objects. With `common`, items go without the version and kind that all of them have: the list
/// says it.
pub fn whole(list: List, gvk: &Gvk, common: Option<&Gvk>, media: MediaType) -> Result<Answer, Status> {
    let meta = list_meta(&list);
    if media.encoding == Encoding::Protobuf {
        return binary(list, gvk, &meta, |item| item.sealed().map(|sealed| sealed.message()));
    }
    let head = Head { gvk, meta: &meta, count: list.items.len() };
    let items = list.items.into_iter();
    let Some(bare) = common.map(Bare::of) else {
        return Ok(answer(&head, items.map(|item| item.json().clone()), media));
    };
    if media.encoding == Encoding::Json {
        return Ok(with_body(StatusCode::OK, media.content_type(), bare.json(&head, items)));
    }
    Ok(answer(&head, items.map(move |item| bare.whole(item.json())), media))
}

/// A collection of metadata only.
pub fn partial(list: List, media: MediaType) -> Result<Answer, Status> {
    let gvk = Gvk::new("meta.k8s.io", if media.beta { "v1beta1" } else { "v1" }, "PartialObjectMetadataList");
    if media.encoding == Encoding::Protobuf {
        let meta = list_meta(&list);
        return binary(list, &gvk, &meta, |item| {
            let tree = item.value().map_err(|_| protobuf::Error::Malformed)?;
            protobuf::message(&Gvk::new("meta.k8s.io", "v1", "PartialObjectMetadata"), &tree).map(Bytes::from)
        });
    }
    let (meta, count) = (list_meta(&list), list.items.len());
    let items = list.items.into_iter().map(move |item| {
        encode::partial(&item, media.beta).unwrap_or_else(|status| {
            tracing::error!(object = %item.meta().key(), error = %status.message, "only the name can be shown");
            encode::name_alone(&item, media.beta)
        })
    });
    Ok(answer(&Head { gvk: &gvk, meta: &meta, count }, items, media))
}

/// What stands round the items.
struct Head<'a> {
    gvk: &'a Gvk,
    meta: &'a Value,
    /// How many items there are.
    count: usize,
}

fn answer(head: &Head<'_>, items: impl Iterator<Item = Bytes> + Send + 'static, media: MediaType) -> Answer {
    let body = match media.encoding {
        Encoding::Yaml => yaml(head, items),
        Encoding::PrettyJson => indented(head, items),
        Encoding::Cbor => sequence(head, items),
        _ => framed(start_of_json(head), items),
    };
    with_body(StatusCode::OK, media.content_type(), body)
}

fn start_of_json(head: &Head<'_>) -> String {
    let (kind, version) = (Value::from(head.gvk.kind.as_ref()), Value::from(head.gvk.api_version()));
    let meta = head.meta;
    format!(r#"{{"kind":{kind},"apiVersion":{version},"metadata":{meta},"items":["#)
}

/// Items without the version and kind that they have in common.
struct Bare {
    /// How each begins: `{"apiVersion":"v1",`.
    version: String,
    /// What follows at once in most kinds, and otherwise after the names that come before: `"kind":"Pod",`.
    kind: String,
}

impl Bare {
    fn of(gvk: &Gvk) -> Self {
        let (version, kind) = (Value::from(gvk.api_version()), Value::from(gvk.kind.as_ref()));
        Self { version: format!(r#"{{"apiVersion":{version},"#), kind: format!(r#""kind":{kind},"#) }
    }

    /// The items' own bytes, cut round what is left out.
    fn json(self, head: &Head<'_>, items: impl Iterator<Item = Object> + Send + 'static) -> Body {
        let start = Bytes::from(start_of_json(head));
        let items = items.enumerate().flat_map(move |(at, item)| {
            let open = Bytes::from_static(if at > 0 { b",{" } else { b"{" });
            let (before, after) = self.parts(item.json());
            [open, before, after]
        });
        Body::pieces([start].into_iter().chain(items).chain([TAIL]))
    }

    /// What stays of an item, before and after its kind, without its opening brace.
    fn parts(&self, item: &Bytes) -> (Bytes, Bytes) {
        let rest = item.strip_prefix(self.version.as_bytes()).unwrap_or_default();
        match member(rest, self.kind.as_bytes()) {
            Some(at) => {
                let start = self.version.len();
                (item.slice(start..start + at), item.slice(start + at + self.kind.len()..))
            }
            // No object of this kind: it says itself what it is.
            None => (Bytes::new(), item.slice(1.min(item.len())..)),
        }
    }

    /// The same as one text.
    fn whole(&self, item: &Bytes) -> Bytes {
        let (before, after) = self.parts(item);
        [b"{", before.as_ref(), after.as_ref()].concat().into()
    }
}

/// Where a member (`"kind":"Pod",`) of the object itself begins; not one of what lies in it.
fn member(text: &[u8], member: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0_usize, 0_usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' if depth == 0 && text.get(at..)?.starts_with(member) => return Some(at),
            b'"' => {
                at += 1;
                while *text.get(at)? != b'"' {
                    at += if text.get(at) == Some(&b'\\') { 2 } else { 1 };
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
    }
    None
}

/// CBOR: a head that says how many there are, and the items one after the other.
fn sequence(head: &Head<'_>, items: impl Iterator<Item = Bytes> + Send + 'static) -> Body {
    let start = Bytes::from(cbor::list_head(head.gvk, head.meta, head.count));
    let items = items.map(|item| {
        let tree = Value::from_json(&item).unwrap_or_default();
        Bytes::from(cbor::encode(&tree))
    });
    Body::pieces([start].into_iter().chain(items))
}

/// `start`, the items between commas, and the end of a list in an object.
pub fn framed(start: String, items: impl Iterator<Item = Bytes> + Send + 'static) -> Body {
    Body::pieces([Bytes::from(start)].into_iter().chain(separated(items, b",")).chain([TAIL]))
}

fn separated(items: impl Iterator<Item = Bytes>, comma: &'static [u8]) -> impl Iterator<Item = Bytes> {
    items.enumerate().flat_map(move |(at, item)| {
        let comma = (at > 0).then_some(Bytes::from_static(comma));
        comma.into_iter().chain([item])
    })
}

/// Indented as one text: every item lies two levels deep.
fn indented(head: &Head<'_>, items: impl Iterator<Item = Bytes> + Send + 'static) -> Body {
    let empty = json!({"kind": head.gvk.kind, "apiVersion": head.gvk.api_version(), "metadata": head.meta});
    let text = serde_json::to_string_pretty(&empty).unwrap_or_default();
    // The text ends in a line with the closing brace; items come before it.
    let start = text.strip_suffix("\n}").unwrap_or(&text).to_owned() + ",\n  \"items\": [";
    let (open, close) = if head.count == 0 { ("", "]\n}\n") } else { ("\n    ", "\n  ]\n}\n") };
    let items = items.map(|item| {
        let tree = Value::from_json(&item).unwrap_or_default();
        let text = serde_json::to_string_pretty(&tree).unwrap_or_default();
        Bytes::from(text.replace('\n', "\n    "))
    });
    let start = Bytes::from(start + open);
    Body::pieces([start].into_iter().chain(separated(items, b",\n    ")).chain([Bytes::from(close)]))
}

fn yaml(head: &Head<'_>, items: impl Iterator<Item = Bytes> + Send + 'static) -> Body {
    let none = if head.count == 0 { " []" } else { "" };
    let start = format!("apiVersion: {}\nitems:{none}\n", head.gvk.api_version());
    let rest = json!({"kind": head.gvk.kind, "metadata": head.meta});
    let tail = serde_saphyr::to_string(&rest).unwrap_or_default();
    let items = items.map(|item| {
        let tree = Value::from_json(&item).unwrap_or_default();
        let text = serde_saphyr::to_string(&tree).unwrap_or_default();
        Bytes::from(format!("- {}\n", text.trim_end().replace('\n', "\n  ")))
    });
    Body::pieces([Bytes::from(start)].into_iter().chain(items).chain([Bytes::from(tail)]))
}

/// Protobuf: the length of all goes before the first, so all messages are made before; those of whole objects are kept
/// with them.
fn binary(
    list: List,
    gvk: &Gvk,
    meta: &Value,
    message: impl Fn(&Object) -> Result<Bytes, protobuf::Error> + Send + 'static,
) -> Result<Answer, Status> {
    let refuse = |error: protobuf::Error| encode::no_protobuf(&error);
    let lengths = list.items.iter().map(|item| message(item).map(|bytes| bytes.len()));
    let lengths = lengths.collect::<Result<Vec<_>, _>>().map_err(refuse)?;
    let (start, end) = protobuf::list(gvk, meta, lengths).map_err(refuse)?;
    let items = list.items.into_iter().flat_map(move |item| {
        // It was made before without an error.
        let message = message(&item).unwrap_or_default();
        [protobuf::item_head(message.len()).into(), message]
    });
    let body = Body::pieces([start.into()].into_iter().chain(items).chain([Bytes::from_static(end)]));
    let media = MediaType { encoding: Encoding::Protobuf, ..MediaType::default() };
    Ok(with_body(StatusCode::OK, media.content_type(), body))
}

/// `metadata` of a list.
pub fn list_meta(list: &List) -> Value {
    let mut meta = json!({"resourceVersion": list.resource_version.to_string()});
    if !list.continue_token.is_empty() {
        meta["continue"] = Value::String(list.continue_token.clone().into());
    }
    if let Some(remaining) = list.remaining {
        meta["remainingItemCount"] = Value::from(remaining);
    }
    meta
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: Gvk = Gvk::new("", "v1", "ConfigMap");
    const MAPS: Gvk = Gvk::new("", "v1", "ConfigMapList");

    fn list(count: usize) -> List {
        let make = |n: usize| {
            let data = json!({"text": "two\nlines\n", "k": n.to_string()});
            Object::from_value(&json!({
                "apiVersion": "v1", "data": data, "kind": "ConfigMap", "metadata": {"name": format!("c{n}")},
            }))
        };
        let items: Vec<Object> = (0..count).map(|n| make(n).unwrap()).collect();
        List { items: items.into(), resource_version: 7, ..List::default() }
    }

    fn text(answer: Answer) -> Vec<u8> {
        answer.into_body().gathered()
    }

    #[test]
    fn every_form_says_the_same_at_any_length() {
        for count in [0, 1, 2, 300] {
            let read = |encoding| {
                let media = MediaType { encoding, ..MediaType::default() };
                text(whole(list(count), &MAPS, Some(&MAP), media).unwrap())
            };
            let value: Value = serde_json::from_slice(&read(Encoding::Json)).unwrap();
            let items = value["items"].as_array().unwrap();
            assert_eq!(items.len(), count);
            assert!(items.iter().all(|item| item.get("kind").is_none() && item.get("apiVersion").is_none()));
            assert_eq!(
                (&value["kind"], &value["metadata"]),
                (&json!("ConfigMapList"), &json!({"resourceVersion": "7"}))
            );
            let pretty = String::from_utf8(read(Encoding::PrettyJson)).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&pretty).unwrap(), value, "{pretty}");
            let yaml = read(Encoding::Yaml);
            assert_eq!(
                tiphys_api::decode::yaml(&yaml).unwrap().value,
                value,
                "{}",
                String::from_utf8_lossy(&yaml)
            );
            assert_eq!(cbor::decode(&read(Encoding::Cbor)).unwrap(), value);
            assert_eq!(
                protobuf::open(&read(Encoding::Protobuf)).unwrap()["items"].as_array().map_or(0, Vec::len),
                count
            );
        }
    }

    #[test]
    fn pages_say_how_to_go_on() {
        let page = List { continue_token: "t".into(), remaining: Some(3), ..List::default() };
        let value: Value =
            serde_json::from_slice(&text(partial(page, MediaType::default()).unwrap())).unwrap();
        assert_eq!(
            value["metadata"],
            json!({"resourceVersion": "0", "continue": "t", "remainingItemCount": 3})
        );
        assert_eq!(value["apiVersion"], "meta.k8s.io/v1");
    }

    #[test]
    fn only_the_kind_of_the_item_itself_is_left_out() {
        let secret = r#"{"apiVersion":"v1","data":{"kind":"ConfigMap","a\\\"":"\",\"kind\":\"ConfigMap\",{"},"kind":"ConfigMap","metadata":{"kind":"ConfigMap"}}"#;
        let wanted = r#"{"data":{"kind":"ConfigMap","a\\\"":"\",\"kind\":\"ConfigMap\",{"},"metadata":{"kind":"ConfigMap"}}"#;
        let bare = Bare::of(&MAP);
        assert_eq!(bare.whole(&Bytes::from_static(secret.as_bytes())), wanted);
        let other = r#"{"apiVersion":"v2","kind":"ConfigMap","metadata":{}}"#;
        assert_eq!(bare.whole(&Bytes::from_static(other.as_bytes())), other);
    }
}
