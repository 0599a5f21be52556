//! What an API server answers, as objects: lists, watch frames and errors.
//!
//! Pure functions over bytes. Items of a list are copied out of it one by one, so that a kept object does not keep the
//! whole answer alive.

use bytes::{Buf, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;
use tiphys_api::{Object, Status};

use crate::{ObjectList, WatchEvent};

/// Longest frame of a watch: the largest object, with room. A server that sends more is broken.
const FRAME_MAX: usize = 16 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: ListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    continue_token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: HeadMeta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HeadMeta {
    resource_version: String,
    deletion_timestamp: String,
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// A list answer. Items of built-in kinds come without `apiVersion` and `kind`: they are put back.
pub(super) fn list(body: &[u8]) -> Result<ObjectList, Status> {
    let list: List<'_> = serde_json::from_slice(body).map_err(broken)?;
    let item_kind = list.kind.strip_suffix("List").unwrap_or_default();
    let mut items = Vec::new();
    for raw in list.items.unwrap_or_default() {
        items.push(item(raw.get(), &list.api_version, item_kind)?);
    }
    let resource_version = list.metadata.resource_version.parse().unwrap_or(0);
    Ok(ObjectList { items, resource_version, continue_token: list.metadata.continue_token })
}

fn item(raw: &str, api_version: &str, kind: &str) -> Result<Object, Status> {
    let head: Head = serde_json::from_str(raw).map_err(broken)?;
    let bytes = match raw.strip_prefix('{') {
        Some(rest) if head.kind.is_empty() && !kind.is_empty() => {
            Bytes::from(format!(r#"{{"apiVersion":{api_version:?},"kind":{kind:?},{rest}"#))
        }
        _ => Bytes::copy_from_slice(raw.as_bytes()),
    };
    object(bytes)
}

/// One object's answer.
pub(super) fn object(body: Bytes) -> Result<Object, Status> {
    Object::parse(body).map_err(broken)
}

/// A deletion's answer: the object if it lives on.
pub(super) fn deleted(body: Bytes) -> Result<Option<Object>, Status> {
    let head: Head = serde_json::from_slice(&body).map_err(broken)?;
    if head.kind == "Status" || head.metadata.deletion_timestamp.is_empty() {
        return Ok(None);
    }
    object(body).map(Some)
}

/// An error answer. What is not a Status becomes one that carries the text.
pub(super) fn failure(code: u16, body: &[u8]) -> Status {
    if let Ok(status) = serde_json::from_slice::<Status>(body)
        && status.kind == "Status"
    {
        return Status { code, ..status };
    }
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "Unknown",
    };
    let text: String = String::from_utf8_lossy(body).trim().chars().take(1024).collect();
    Status::failure(code, reason, if text.is_empty() { format!("HTTP status {code}") } else { text })
}

/// Cuts a watch's bytes into frames.
#[derive(Default)]
pub(super) struct Frames {
    buffer: BytesMut,
    /// Bytes of `buffer` that are known to hold no line end.
    searched: usize,
}

impl Frames {
    /// Takes more bytes in.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Status> {
        if self.buffer.len() + bytes.len() > FRAME_MAX {
            return Err(broken("a frame of the watch is too long"));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole event, if there is one.
    pub(super) fn next(&mut self) -> Option<Result<WatchEvent, Status>> {
        loop {
            let Some(end) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') else {
                self.searched = self.buffer.len();
                return None;
            };
            let line = self.buffer.split_to(self.searched + end);
            self.buffer.advance(1);
            self.searched = 0;
            if !line.is_empty() {
                return Some(event(&line));
            }
        }
    }
}

fn event(line: &[u8]) -> Result<WatchEvent, Status> {
    let frame: Frame<'_> = serde_json::from_slice(line).map_err(broken)?;
    let bytes = frame.object.get().as_bytes();
    let copied = || object(Bytes::copy_from_slice(bytes));
    match frame.kind.as_str() {
        "ADDED" => Ok(WatchEvent::Added(copied()?)),
        "MODIFIED" => Ok(WatchEvent::Modified(copied()?)),
        "DELETED" => Ok(WatchEvent::Deleted(copied()?)),
        "BOOKMARK" => {
            let head: Head = serde_json::from_slice(bytes).map_err(broken)?;
            Ok(WatchEvent::Bookmark(head.metadata.resource_version.parse().unwrap_or(0)))
        }
        "ERROR" => {
            let status: Status = serde_json::from_slice(bytes).map_err(broken)?;
            Err(status)
        }
        other => Err(broken(format!("unknown watch event {other:?}"))),
    }
}

fn broken(why: impl std::fmt::Display) -> Status {
    Status::failure(500, "InternalError", format!("the server's answer cannot be understood: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_get_their_kind_back() {
        let body = br#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"9","continue":"c"},
            "items":[{"metadata":{"name":"a","resourceVersion":"7"}}]}"#;
        let list = list(body).unwrap();
        assert_eq!((list.resource_version, list.continue_token.as_str()), (9, "c"));
        let expected = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","resourceVersion":"7"}}"#;
        assert_eq!(list.items[0].json(), expected);
    }

    #[test]
    fn frames_come_in_any_pieces() {
        let stream = concat!(
            r#"{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"1"}}}"#,
            "\n",
            r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"5"}}}"#,
            "\n",
            r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"old"}}"#,
            "\n",
        );
        for size in [1, 7, 1000] {
            let (mut frames, mut seen) = (Frames::default(), Vec::new());
            for piece in stream.as_bytes().chunks(size) {
                frames.push(piece).unwrap();
                seen.extend(std::iter::from_fn(|| frames.next()));
            }
            assert!(matches!(&seen[0], Ok(WatchEvent::Added(o)) if o.meta().resource_version == 1));
            assert!(matches!(seen[1], Ok(WatchEvent::Bookmark(5))));
            assert_eq!(seen[2].as_ref().unwrap_err().code, 410);
            assert_eq!(seen.len(), 3);
        }
    }

    #[test]
    fn errors_keep_what_the_server_said() {
        assert_eq!(failure(404, b"404 page not found\n").message, "404 page not found");
        let body =
            br#"{"kind":"Status","status":"Failure","reason":"AlreadyExists","message":"taken","code":409}"#;
        assert!(failure(409, body).is("AlreadyExists"));
    }
}
