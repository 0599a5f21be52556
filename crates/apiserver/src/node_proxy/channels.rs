//! Messages of `v5.channel.k8s.io` as SPDY's streams, and back.
//!
//! The first byte of a message says which stream it belongs to; a message of 255 ends the stream that its second byte
//! names, which is how a client ends standard input while it still reads. The stream `error` is kept until the end:
//! what it says is a Status, and clients take one message for all of it.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use tiphys_api::Status;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::pass::ERROR_TEXT;
use super::socket::{Receiving, Sending};
use super::spdy;
use crate::http::query::Query;

/// The stream with the outcome.
const ERROR: u8 = 3;
/// Ends another.
const CLOSE: u8 = 255;

/// The streams of one session: their channels and names, in the order in which they are opened.
#[derive(Debug, PartialEq, Eq)]
pub struct Streams(Vec<(u8, &'static str)>);

impl Streams {
    /// Those that a query asks for. A terminal has one output, and a size.
    pub fn asked(query: &Query) -> Self {
        let tty = query.switch("tty");
        let all = [
            (ERROR, "error", true),
            (0, "stdin", query.switch("stdin")),
            (1, "stdout", query.switch("stdout")),
            (2, "stderr", query.switch("stderr") && !tty),
            (4, "resize", tty),
        ];
        Self(
            all.into_iter()
                .filter(|(.., wanted)| *wanted)
                .map(|(channel, name, _)| (channel, name))
                .collect(),
        )
    }

    /// Opens all of them, and says which stream each channel is.
    async fn open(&self, node: &mut (impl AsyncWrite + Unpin)) -> io::Result<Opened> {
        let mut opener = spdy::Opener::new();
        let mut opened = Vec::new();
        for (channel, name) in &self.0 {
            let (stream, frame) = opener.open(&[("streamtype", name)])?;
            node.write_all(&frame).await?;
            opened.push((*channel, stream));
        }
        node.flush().await?;
        Ok(Opened(opened))
    }
}

struct Opened(Vec<(u8, u32)>);

impl Opened {
    fn stream(&self, channel: u8) -> Option<u32> {
        self.0.iter().find(|(known, _)| *known == channel).map(|(_, stream)| *stream)
    }

    fn channel(&self, stream: u32) -> Option<u8> {
        self.0.iter().find(|(_, known)| *known == stream).map(|(channel, _)| *channel)
    }
}

/// The message with the outcome.
pub fn outcome(status: &[u8]) -> Message {
    message(ERROR, status)
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut message = BytesMut::with_capacity(bytes.len() + 1);
    message.put_u8(channel);
    message.put_slice(bytes);
    Message::Binary(message.freeze())
}

/// Runs until the session's outcome is known: a Status as JSON. `None`: the client is gone.
pub async fn run(
    to: &mut Sending,
    from: &mut Receiving,
    node: impl AsyncRead + AsyncWrite + Unpin,
    streams: &Streams,
) -> io::Result<Option<Vec<u8>>> {
    let (reading, mut writing) = tokio::io::split(node);
    let opened = streams.open(&mut writing).await?;
    let (pings, pinged) = mpsc::channel(4);
    let outward = outward(spdy::Reader::new(reading), to, &opened, &pings);
    tokio::select! {
        ended = inward(from, writing, &opened, pinged) => ended.map(|()| None),
        outcome = outward => outcome.map(Some),
    }
}

/// What the client says, until it says no more. It is heard even when the other side no longer listens, which will have
/// said why.
async fn inward(
    from: &mut Receiving,
    mut node: impl AsyncWrite + Unpin,
    opened: &Opened,
    mut pinged: mpsc::Receiver<u32>,
) -> io::Result<()> {
    let mut listens = true;
    loop {
        let passed = tokio::select! {
            Some(id) = pinged.recv() => pong(id, &mut node).await,
            message = from.next() => match message {
                // Some send text as text.
                Some(Ok(message @ (Message::Binary(_) | Message::Text(_)))) if listens => {
                    take(&message.into_data(), &mut node, opened).await
                }
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(_)) => Ok(()),
                Some(Err(error)) => return Err(io::Error::other(error)),
            },
        };
        listens = listens && passed.is_ok();
    }
}

async fn pong(id: u32, node: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    node.write_all(&spdy::pong(id)?).await?;
    node.flush().await
}

/// One message of the client. What is not for an open stream is dropped.
async fn take(message: &Bytes, node: &mut (impl AsyncWrite + Unpin), opened: &Opened) -> io::Result<()> {
    let Some((channel, rest)) = message.split_first() else { return Ok(()) };
    let (channel, rest, last) = match (*channel, rest) {
        (CLOSE, [closed, ..]) => (*closed, [].as_slice(), true),
        (channel, rest) => (channel, rest, false),
    };
    let Some(stream) = opened.stream(channel).filter(|_| channel != ERROR) else { return Ok(()) };
    // A frame's length has three bytes, a message's has more.
    for piece in rest.chunks(1 << 20) {
        node.write_all(&spdy::data(stream, piece.len(), false)?).await?;
        node.write_all(piece).await?;
    }
    if last {
        node.write_all(&spdy::data(stream, 0, true)?).await?;
    }
    node.flush().await
}

/// What the other side says, until the outcome is known.
async fn outward(
    mut node: spdy::Reader<impl AsyncRead + Unpin>,
    to: &mut Sending,
    opened: &Opened,
    pings: &mpsc::Sender<u32>,
) -> io::Result<Vec<u8>> {
    let mut outcome = Vec::new();
    loop {
        match node.next().await {
            Ok(Some(spdy::Event::Data(stream, bytes))) => match opened.channel(stream) {
                Some(ERROR) if outcome.len() + bytes.len() <= ERROR_TEXT => outcome.extend_from_slice(&bytes),
                Some(ERROR) | None => {}
                Some(channel) => {
                    to.send(message(channel, &bytes)).await.map_err(io::Error::other)?;
                }
            },
            // One that asks more often than it is answered asks again.
            Ok(Some(spdy::Event::Ping(id))) => drop(pings.try_send(id)),
            Ok(Some(spdy::Event::End(stream))) if opened.channel(stream) != Some(ERROR) => {}
            _ if !outcome.is_empty() => return Ok(outcome),
            Ok(_) => return Ok(broken("it ended without an outcome")),
            Err(error) => return Ok(broken(&error.to_string())),
        }
    }
}

fn broken(why: &str) -> Vec<u8> {
    Status::internal(format!("the stream broke off: {why}")).to_json()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_one_output_and_a_size() {
        let names = |query| {
            Streams::asked(&Query::parse(query)).0.into_iter().map(|(_, name)| name).collect::<Vec<_>>()
        };
        assert_eq!(names("stdout=1&stderr=true&stdin=false"), ["error", "stdout", "stderr"]);
        assert_eq!(names("stdin=1&stdout=1&stderr=1&tty=true"), ["error", "stdin", "stdout", "resize"]);
    }

    #[tokio::test]
    async fn messages_become_frames() {
        let opened = Opened(vec![(ERROR, 1), (0, 3), (4, 5)]);
        let frames = |message: &'static [u8]| {
            let opened = &opened;
            async move {
                let mut node = Vec::new();
                take(&Bytes::from_static(message), &mut node, opened).await.unwrap();
                node
            }
        };
        assert_eq!(frames(b"\0hi").await, [0, 0, 0, 3, 0, 0, 0, 2, b'h', b'i']);
        assert_eq!(frames(b"\x04{}").await, [0, 0, 0, 5, 0, 0, 0, 2, b'{', b'}']);
        assert_eq!(frames(&[CLOSE, 0]).await, [0, 0, 0, 3, 1, 0, 0, 0]);
        for nothing in [b"".as_slice(), b"\0", b"\x03no", b"\x01no", &[CLOSE], &[CLOSE, 3]] {
            assert!(frames(nothing).await.is_empty(), "{nothing:?}");
        }
    }
}
