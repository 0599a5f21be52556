//! WebSockets of clients whose stream is SPDY on the other side, as kube-apiserver passes them on:
//!
//! - `v5.channel.k8s.io` (exec, attach): [`super::channels`] turns messages into SPDY's streams and back. Runtimes speak
//!   SPDY, all of them; the older subprotocols they know themselves, so those are passed through as they are.
//! - `SPDY/3.1+portforward.k8s.io`: the messages' contents are SPDY already, for the runtime to understand.

use std::io;
use std::time::Duration;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, Method, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tiphys_api::Status;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::connect::Connector;
use super::pass::{self, Lasting, Passage};
use super::{channels, spdy};
use crate::http::answer::Answer;
use crate::http::handle::Call;
use crate::http::incoming::RequestBody;
use crate::http::websocket;

/// The largest message that a client may send, in bytes: as kube-apiserver's limit.
const MESSAGE_MAX: usize = 32 << 20;
/// How much of a stream is put into one message.
const PIECE: usize = 32 * 1024;
/// How long a client may take to say goodbye, once it has been told the end.
const LINGER: Duration = Duration::from_secs(5);
/// What a stream is asked for in on the other side.
const STREAM_PROTOCOL: &str = "x-stream-protocol-version";

/// Messages to the client.
pub type Sending = SplitSink<WebSocketStream<TokioIo<Upgraded>>, Message>;
/// Messages of the client.
pub type Receiving = SplitStream<WebSocketStream<TokioIo<Upgraded>>>;

/// What a client's WebSocket carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Messages whose first byte says what they are part of.
    Channels,
    /// SPDY.
    Tunnel,
}

impl Form {
    /// The form that a request asks for, if it is translated here.
    pub fn of(subresource: &str, headers: &HeaderMap) -> Option<Self> {
        let form = match subresource {
            "exec" | "attach" => Self::Channels,
            "portforward" => Self::Tunnel,
            _ => return None,
        };
        let upgrade = headers.get(UPGRADE)?.as_bytes();
        let offers = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
        let offered =
            offers.flat_map(|value| value.split(',')).any(|protocol| protocol.trim() == form.protocol());
        (upgrade.eq_ignore_ascii_case(b"websocket") && offered).then_some(form)
    }

    /// The WebSocket's subprotocol.
    fn protocol(self) -> &'static str {
        match self {
            Self::Channels => "v5.channel.k8s.io",
            Self::Tunnel => "SPDY/3.1+portforward.k8s.io",
        }
    }

    /// What the other side calls the same.
    fn others(self) -> &'static str {
        match self {
            Self::Channels => "v4.channel.k8s.io",
            Self::Tunnel => "portforward.k8s.io",
        }
    }
}

/// Asks the other side for SPDY, and the client to go on in messages.
pub async fn answer(
    connector: &Connector,
    passage: &Passage,
    call: Call,
    client: OnUpgrade,
    form: Form,
    lasting: Lasting,
) -> Result<Answer, Status> {
    let key =
        call.headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| Status::bad_request("no Sec-WebSocket-Key"))?;
    let switched = websocket::switched(key, Some(form.protocol()));
    let request = pass::request(passage, Method::POST, asked(&call.headers, form), RequestBody::empty())?;
    let sent = connector.send(passage, request).await;
    let mut response = sent.map_err(|error| pass::unreachable(&error, true))?;
    let opened = match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => Ok(hyper::upgrade::on(&mut response)),
        _ => {
            let why = pass::error_text(response).await;
            Err(Status::internal(format!("unable to upgrade connection: {why}")))
        }
    };
    match (form, opened) {
        (Form::Channels, opened) => {
            let streams = channels::Streams::asked(&call.query);
            tokio::spawn(lasting.run(async move { speak(client, opened, &streams).await }));
        }
        (Form::Tunnel, Ok(node)) => drop(tokio::spawn(lasting.run(tunnel(client, node)))),
        // The client tries again without messages.
        (Form::Tunnel, Err(refused)) => return Err(refused),
    }
    Ok(switched)
}

fn asked(headers: &HeaderMap, form: Form) -> HeaderMap {
    let mut asked = pass::forwarded(headers, false);
    let of_socket: Vec<_> =
        asked.keys().filter(|name| name.as_str().starts_with("sec-websocket")).cloned().collect();
    for name in of_socket {
        asked.remove(name);
    }
    asked.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    asked.insert(UPGRADE, HeaderValue::from_static(spdy::NAME));
    asked.insert(STREAM_PROTOCOL, HeaderValue::from_static(form.others()));
    asked
}

async fn open(client: OnUpgrade) -> io::Result<(Sending, Receiving)> {
    let client = TokioIo::new(client.await.map_err(io::Error::other)?);
    let config =
        WebSocketConfig::default().max_message_size(Some(MESSAGE_MAX)).max_frame_size(Some(MESSAGE_MAX));
    Ok(WebSocketStream::from_raw_socket(client, Role::Server, Some(config)).await.split())
}

/// Speaks in channels until either side ends; the client hears last how it went.
async fn speak(
    client: OnUpgrade,
    node: Result<OnUpgrade, Status>,
    streams: &channels::Streams,
) -> io::Result<()> {
    let (mut to, mut from) = open(client).await?;
    let node = match node {
        Ok(node) => node.await.map_err(Status::internal),
        Err(refused) => Err(refused),
    };
    let status = match node {
        Err(refused) => refused.to_json(),
        Ok(node) => match channels::run(&mut to, &mut from, TokioIo::new(node), streams).await? {
            Some(status) => status,
            // The client is gone.
            None => return Ok(()),
        },
    };
    to.feed(channels::outcome(&status)).await.map_err(io::Error::other)?;
    end(to, from).await
}

/// Says goodbye and hears the client out, or what it still has under way would cut off what it has not read yet.
async fn end(mut to: Sending, mut from: Receiving) -> io::Result<()> {
    to.send(websocket::goodbye()).await.map_err(io::Error::other)?;
    let heard_out = async { while let Some(Ok(_)) = from.next().await {} };
    // One that does not answer is left.
    let _ = tokio::time::timeout(LINGER, heard_out).await;
    Ok(())
}

async fn tunnel(client: OnUpgrade, node: OnUpgrade) -> io::Result<()> {
    let (mut to, mut from) = open(client).await?;
    let (reading, writing) = tokio::io::split(TokioIo::new(node.await.map_err(io::Error::other)?));
    tokio::select! {
        ended = inward(&mut from, writing) => ended,
        ended = outward(reading, &mut to) => {
            ended?;
            end(to, from).await
        }
    }
}

async fn inward(from: &mut Receiving, mut node: impl AsyncWrite + Unpin) -> io::Result<()> {
    // What the other side has still to say is heard, even when it no longer listens.
    let mut listens = true;
    while let Some(message) = from.next().await {
        match message.map_err(io::Error::other)? {
            Message::Binary(bytes) if listens => {
                listens = node.write_all(&bytes).await.is_ok() && node.flush().await.is_ok();
            }
            Message::Close(_) => break,
            _ => {}
        }
    }
    Ok(())
}

async fn outward(mut node: impl AsyncRead + Unpin, to: &mut Sending) -> io::Result<()> {
    loop {
        let mut piece = bytes::BytesMut::with_capacity(PIECE);
        if node.read_buf(&mut piece).await? == 0 {
            return Ok(());
        }
        to.send(Message::Binary(piece.freeze())).await.map_err(io::Error::other)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_runtime_understands_is_translated() {
        let form = |subresource, upgrade: &'static str, protocols: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(UPGRADE, HeaderValue::from_static(upgrade));
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocols));
            Form::of(subresource, &headers)
        };
        let both = "v5.channel.k8s.io, v4.channel.k8s.io";
        assert_eq!(form("exec", "websocket", both), Some(Form::Channels));
        assert_eq!(form("attach", "WebSocket", "v4.channel.k8s.io,v5.channel.k8s.io"), Some(Form::Channels));
        assert_eq!(form("exec", "websocket", "v4.channel.k8s.io"), None);
        assert_eq!(form("exec", "SPDY/3.1", both), None);
        assert_eq!(form("portforward", "websocket", both), None);
        assert_eq!(form("portforward", "websocket", "SPDY/3.1+portforward.k8s.io"), Some(Form::Tunnel));
        assert_eq!(form("proxy", "websocket", both), None);
    }
}
