//! Watches as streams of frames, one JSON document a line: `{"type":"ADDED","object":{...}}`. In protobuf each frame
//! has its length before it; CBOR documents simply follow each other.
//!
//! - A frame of JSON is the object's own bytes with a few round them, made as it is sent. Any other is made once per event
//!   and form, kept at the event, and shared by all watchers ([`Event::frame`]).
//! - What is ready goes out together: a lone frame by reference, several gathered into one chunk.
//! - An error is a last frame of type `ERROR` with a Status; the end of the server ends the stream without one, so that
//!   clients resume where they were.
//! - Tables are for people looking on (`kubectl get -w`): they hold ages and are made for each watcher.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::StatusCode;
use tiphys_api::schema::Resource;
use tiphys_api::{Object, Status, Value, cbor, json, protobuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::answer::{Answer, with_body};
use super::body::Body;
use super::encode;
use super::negotiate::{Encoding, MediaType, STREAMED, Shape};
use super::table::{TableForm, Tables};
use crate::cache::{Delivery, Event, EventKind, Frame};
use crate::metrics::{InFlight, WatchEvents};
use crate::registry::Watch;

/// When a chunk is large enough to be sent.
const CHUNK: usize = 64 * 1024;

/// What the frames of one watch look like.
pub struct Frames {
    resource: Arc<Resource>,
    media: MediaType,
    tables: Option<Tables>,
}

impl Frames {
    /// Frames in the agreed form; 406 for forms that cannot be streamed.
    pub fn new(resource: Arc<Resource>, media: MediaType, table: TableForm) -> Result<Self, Status> {
        if media.encoding == Encoding::Yaml {
            return Err(Status::not_acceptable(STREAMED));
        }
        let tables = (media.shape == Shape::Table).then(|| Tables::new(&resource, media, table));
        Ok(Self { resource, media, tables })
    }

    /// The frame of one delivery.
    fn frame(&mut self, delivery: &Delivery) -> Bytes {
        match delivery {
            Delivery::Event { kind, event } => self.event(*kind, event),
            Delivery::Object { kind, object } => self.make(*kind, object),
            Delivery::Bookmark { revision, initial_end } => self.bookmark(*revision, *initial_end),
        }
    }

    fn event(&mut self, kind: EventKind, event: &Event) -> Bytes {
        if self.tables.is_some() {
            return self.make(kind, event.shown(kind));
        }
        if self.media.shape == Shape::Whole && !self.media.encoding.is_binary() {
            return wrap(kind.as_str(), event.shown(kind).json());
        }
        event.frame(Frame { encoding: form(self.media), kind }, |object| match self.media.shape {
            // Its bytes are kept with the event; with the object they would be a second time.
            Shape::Whole => anew(self.media, kind, object),
            _ => frame_of(self.media, kind, object),
        })
    }

    fn make(&mut self, kind: EventKind, object: &Object) -> Bytes {
        match &mut self.tables {
            None => frame_of(self.media, kind, object),
            Some(tables) => match tables.of_one(object) {
                Ok(table) => wrap(kind.as_str(), table.to_string().as_bytes()),
                Err(status) => error(self.media, &status),
            },
        }
    }

    fn bookmark(&self, revision: u64, initial_end: bool) -> Bytes {
        let mut meta = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            meta["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (api_version, kind) = self.bookmark_type();
        let object = match self.media.shape {
            Shape::Table => Tables::bookmark(self.media, &meta),
            _ => json!({"apiVersion": api_version, "kind": kind, "metadata": meta}),
        };
        frame(self.media, "BOOKMARK", &object).unwrap_or_else(|status| error(self.media, &status))
    }

    fn bookmark_type(&self) -> (String, &str) {
        match (self.media.shape, self.media.beta) {
            (Shape::Whole, _) => (self.resource.gvk.api_version(), &self.resource.gvk.kind),
            (_, false) => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadata"),
            (_, true) => ("meta.k8s.io/v1beta1".to_owned(), "PartialObjectMetadata"),
        }
    }
}

/// The number under which an event keeps its frames of a form.
fn form(media: MediaType) -> u16 {
    let encoding = match media.encoding {
        Encoding::Json | Encoding::PrettyJson | Encoding::Yaml => 0,
        Encoding::Protobuf => 1,
        Encoding::Cbor => 2,
    };
    let shape = match (media.shape, media.beta) {
        (Shape::Whole, _) => 0,
        (_, false) => 1,
        (_, true) => 2,
    };
    encoding * 3 + shape
}

fn frame_of(media: MediaType, kind: EventKind, object: &Object) -> Bytes {
    // Frames of text are made of text; a stream is never indented.
    let encoding = if media.encoding.is_binary() { media.encoding } else { Encoding::Json };
    let shaped = encode::shaped(object, MediaType { encoding, ..media });
    shaped.map_or_else(|status| error(media, &status), |bytes| enclose(media, kind.as_str(), &bytes))
}

fn anew(media: MediaType, kind: EventKind, object: &Object) -> Bytes {
    let tree = object.value().map_err(Status::internal);
    let made = tree.and_then(|tree| frame(media, kind.as_str(), &tree));
    made.unwrap_or_else(|status| error(media, &status))
}

/// A frame around a tree.
fn frame(media: MediaType, kind: &str, tree: &Value) -> Result<Bytes, Status> {
    let encoding = if media.encoding.is_binary() { media.encoding } else { Encoding::Json };
    Ok(enclose(media, kind, &encode::tree(tree, encoding)?))
}

/// A frame around an encoded object.
fn enclose(media: MediaType, kind: &str, object: &[u8]) -> Bytes {
    match media.encoding {
        Encoding::Protobuf => protobuf::event(kind, object).into(),
        Encoding::Cbor => cbor::event(kind, object).into(),
        _ => wrap(kind, object.trim_ascii_end()),
    }
}

/// A line around a JSON object.
fn wrap(kind: &str, json: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(json.len() + 40);
    frame.extend_from_slice(b"{\"type\":\"");
    frame.extend_from_slice(kind.as_bytes());
    frame.extend_from_slice(b"\",\"object\":");
    frame.extend_from_slice(json);
    frame.extend_from_slice(b"}\n");
    frame.freeze()
}

fn error(media: MediaType, status: &Status) -> Bytes {
    let json = status.to_json();
    let tree = Value::from_json(&json).unwrap_or_default();
    // A Status has every form.
    frame(media, "ERROR", &tree).unwrap_or_default()
}

/// One running watch: deliveries in, chunks out.
pub struct Running {
    watch: Watch,
    frames: Frames,
    ready: VecDeque<Delivery>,
    ended: bool,
    /// One wait for all of the watch: to queue up anew for each event would cost as much as a frame.
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    sent: WatchEvents,
    _lasting: InFlight,
}

impl Running {
    /// A watch that ends with `stop`, counts what it sends, and is itself counted while it lasts.
    pub fn new(
        watch: Watch,
        frames: Frames,
        stop: CancellationToken,
        sent: WatchEvents,
        lasting: InFlight,
    ) -> Self {
        let stop = Box::pin(stop.cancelled_owned());
        Self { watch, frames, ready: VecDeque::new(), ended: false, stop, sent, _lasting: lasting }
    }

    /// The next chunk; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ready.is_empty() {
            if self.ended {
                return None;
            }
            let next = tokio::select! {
                () = &mut self.stop => None,
                next = self.watch.next() => next,
            };
            match next? {
                Ok(batch) => self.ready.extend(batch),
                Err(status) => {
                    self.ended = true;
                    return Some(error(self.frames.media, &status));
                }
            }
        }
        Some(self.gather())
    }

    /// Frames of what is ready, up to a chunk; what is left waits for the next call.
    fn gather(&mut self) -> Bytes {
        let Some(first) = self.ready.pop_front() else { return Bytes::new() };
        let first = self.frames.frame(&first);
        self.sent.sent(first.len());
        let mut chunk = BytesMut::new();
        while let Some(delivery) =
            (chunk.len() + first.len() < CHUNK).then(|| self.ready.pop_front()).flatten()
        {
            if chunk.is_empty() {
                chunk.extend_from_slice(&first);
            }
            let frame = self.frames.frame(&delivery);
            self.sent.sent(frame.len());
            chunk.extend_from_slice(&frame);
        }
        if chunk.is_empty() { first } else { chunk.freeze() }
    }
}

/// A watch as a streamed response.
pub fn answer(running: Running) -> Answer {
    let content_type = match running.frames.media.encoding {
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        Encoding::Cbor => "application/cbor-seq",
        _ => "application/json",
    };
    let chunks = futures::stream::unfold(running, |mut running| async move {
        let chunk = running.next().await?;
        Some((Ok(chunk), running))
    });
    with_body(StatusCode::OK, content_type, Body::Stream(chunks.boxed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(frame: &Bytes) -> Value {
        serde_json::from_slice(frame).unwrap()
    }

    fn object(name: &str) -> Object {
        let tree =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "resourceVersion": "5"}});
        Object::from_value(&tree).unwrap()
    }

    #[test]
    fn frames_are_made_once_per_form() {
        let kept = Arc::default();
        let event = Event::new(EventKind::Added, object("p"), None, 5, Arc::clone(&kept));
        let whole = Frame { encoding: 0, kind: EventKind::Added };
        let first = event.frame(whole, |o| frame_of(MediaType::default(), EventKind::Added, o));
        let again = event.frame(whole, |_| unreachable!("the frame was kept"));
        assert_eq!(first, again);
        assert_eq!(value(&first)["object"]["metadata"]["name"], "p");
        assert!(first.ends_with(b"\n"));
        assert_eq!(
            kept.load(std::sync::atomic::Ordering::Relaxed),
            first.len(),
            "it counts while it is kept"
        );
        drop(event);
        assert_eq!(kept.load(std::sync::atomic::Ordering::Relaxed), 0);
    }

    #[test]
    fn errors_are_frames_with_a_status() {
        let frame = value(&error(MediaType::default(), &Status::expired("too old resource version: 1 (5)")));
        assert_eq!((&frame["type"], &frame["object"]["code"]), (&json!("ERROR"), &json!(410)));
    }
}
