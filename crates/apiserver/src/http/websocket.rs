//! Watches and logs over WebSocket, for browsers and for clients that cannot read a stream otherwise.
//!
//! The request is answered as ever; only then its body goes into messages: one text message per watch event, one
//! binary (or base64 text) message per piece of a log. What the client sends is read and dropped, so that its close
//! and its pings are noticed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    UPGRADE,
};
use http::{HeaderMap, Method, Response, StatusCode, request};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tiphys_api::Status;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use super::answer::{self, Answer};
use super::body::Body;
use super::negotiate::Encoding;
use super::path::RequestInfo;

/// The media type of watches whose events are lines.
const LINES: &str = "application/json";

/// A request that wants its answer in messages.
pub struct Wanted {
    upgrade: OnUpgrade,
    key: HeaderValue,
    form: Form,
    protocol: Option<&'static str>,
}

/// How a piece of the body becomes messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A text message per line.
    Lines,
    /// A binary message.
    Binary,
    /// A text message in base64.
    Base64,
}

impl Wanted {
    /// Takes over the connection of a watch or log that asks for WebSocket; `None` for all other requests.
    pub fn of(info: &RequestInfo, head: &mut request::Parts) -> Option<Self> {
        let streams = info.verb == "watch" || (info.resource == "pods" && info.subresource == "log");
        let asked = head
            .headers
            .get(UPGRADE)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
        if !streams || !asked || head.method != Method::GET {
            return None;
        }
        let key = head.headers.get(SEC_WEBSOCKET_KEY)?.clone();
        let (form, protocol) =
            if info.verb == "watch" { (Form::Lines, None) } else { log_form(&head.headers) };
        Some(Self { upgrade: head.extensions.remove()?, key, form, protocol })
    }

    /// The answer as a WebSocket; refusals stay plain answers.
    pub fn switch(self, answer: Answer) -> Answer {
        if answer.status() != StatusCode::OK {
            return answer;
        }
        if self.form == Form::Lines && !is_lines(&answer) {
            return answer::status(&Status::not_acceptable(LINES), Encoding::Json);
        }
        let switched = switched(&self.key, self.protocol);
        tokio::spawn(pump(self.upgrade, answer.into_body(), self.form));
        switched
    }
}

/// The answer to a client whose key this is: it goes on in messages.
pub fn switched(key: &HeaderValue, protocol: Option<&str>) -> Answer {
    let mut switched = Response::new(Body::empty());
    *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    switched.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    switched.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    answer::set(&mut switched, SEC_WEBSOCKET_ACCEPT, &derive_accept_key(key.as_bytes()));
    if let Some(protocol) = protocol {
        answer::set(&mut switched, SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    switched
}

/// The end of a stream that ended well.
pub fn goodbye() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}

/// Whether the body is a line per event: what is binary cannot be cut into messages at its line ends.
fn is_lines(answer: &Answer) -> bool {
    answer.headers().get(CONTENT_TYPE).is_some_and(|value| value == LINES)
}

/// The first subprotocol offered that is known; binary without one.
fn log_form(headers: &HeaderMap) -> (Form, Option<&'static str>) {
    let offers = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let mut known = offers.flat_map(|value| value.split(',')).filter_map(|offer| match offer.trim() {
        "binary.k8s.io" => Some((Form::Binary, Some("binary.k8s.io"))),
        "base64.binary.k8s.io" => Some((Form::Base64, Some("base64.binary.k8s.io"))),
        _ => None,
    });
    known.next().unwrap_or((Form::Binary, None))
}

fn messages(chunk: &Bytes, form: Form) -> Vec<Message> {
    match form {
        Form::Binary => vec![Message::Binary(chunk.clone())],
        Form::Base64 => vec![Message::text(STANDARD.encode(chunk))],
        Form::Lines => {
            let lines = chunk.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            lines.map(|line| Message::text(String::from_utf8_lossy(line).into_owned())).collect()
        }
    }
}

async fn pump(upgrade: OnUpgrade, mut body: Body, form: Form) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => TokioIo::new(upgraded),
        Err(error) => return tracing::debug!(%error, "a WebSocket was not taken up"),
    };
    let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, None).await;
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            heard = socket.next() => match heard {
                Some(Ok(message)) if !message.is_close() => continue,
                _ => None,
            },
        };
        let Some(Ok(frame)) = frame else { break };
        let chunk = frame.into_data().unwrap_or_default();
        for message in messages(&chunk, form) {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    }
    // The peer may be gone already.
    let _ = socket.send(goodbye()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_message() {
        let chunk = Bytes::from_static(b"{\"a\":1}\n{\"b\":2}\n");
        let lines = messages(&chunk, Form::Lines);
        assert_eq!(lines, [Message::text("{\"a\":1}"), Message::text("{\"b\":2}")]);
        assert_eq!(messages(&chunk, Form::Binary), [Message::Binary(chunk.clone())]);
    }

    #[test]
    fn only_lines_become_events() {
        let answer = |media| answer::with_body(StatusCode::OK, media, "");
        assert!(is_lines(&answer("application/json")));
        assert!(!is_lines(&answer("application/cbor-seq")));
    }

    #[test]
    fn the_first_known_subprotocol_is_taken() {
        let mut headers = HeaderMap::new();
        assert_eq!(log_form(&headers), (Form::Binary, None));
        let offers = HeaderValue::from_static("v4.channel.k8s.io, base64.binary.k8s.io");
        headers.insert(SEC_WEBSOCKET_PROTOCOL, offers);
        assert_eq!(log_form(&headers), (Form::Base64, Some("base64.binary.k8s.io")));
    }
}
