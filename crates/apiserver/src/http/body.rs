//! Response bodies: whole, in chunks that are made as the peer takes them, or passed through.
//!
//! - A list is sent from the cache's own objects: their bytes are gathered into chunks of about 64 KiB only as the
//!   connection asks for more. No tree, no second copy of the whole list: memory per reader is one chunk.
//! - One chunk holds many small items, so that a chunk fills TLS records and HTTP/2 frames well.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

/// Why a body broke off.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// How much of a list is gathered at once: large enough to amortise a write, small enough to be flat in memory.
const CHUNK: usize = 64 * 1024;

/// The body of a response.
pub enum Body {
    /// Everything at once; taken when sent.
    Full(Bytes),
    /// Pieces gathered as they are sent.
    Pieces(Pieces),
    /// Made as time goes on, as a watch. Ends when the stream ends.
    Stream(BoxStream<'static, Result<Bytes, BodyError>>),
    /// Another server's answer, passed through.
    Incoming(Incoming),
}

/// A body of many shared pieces whose length is known.
pub struct Pieces {
    parts: Box<dyn Iterator<Item = Bytes> + Send>,
    /// Bytes not yet sent, where known.
    left: Option<u64>,
}

impl Pieces {
    /// `parts` in order; `length` is the sum of their lengths, if that is known beforehand.
    pub fn new(parts: impl Iterator<Item = Bytes> + Send + 'static, length: Option<u64>) -> Self {
        Self { parts: Box::new(parts), left: length }
    }

    /// The next chunk: a large piece as it is, small ones gathered.
    pub fn next_chunk(&mut self) -> Option<Bytes> {
        let first = self.parts.find(|part| !part.is_empty())?;
        let chunk = if first.len() >= CHUNK { first } else { self.gather(&first) };
        self.left = self.left.map(|left| left.saturating_sub(chunk.len() as u64));
        Some(chunk)
    }

    fn gather(&mut self, first: &[u8]) -> Bytes {
        let left = self.left.and_then(|left| usize::try_from(left).ok()).unwrap_or(usize::MAX);
        let room = (CHUNK + first.len()).min(left.max(first.len()));
        let mut chunk = BytesMut::with_capacity(room);
        chunk.extend_from_slice(first);
        while chunk.len() < CHUNK {
            let Some(part) = self.parts.next() else { break };
            chunk.extend_from_slice(&part);
        }
        chunk.freeze()
    }
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self::Full(Bytes::new())
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Full(bytes.into())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Full(bytes)
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::Full(Bytes::from_static(text.as_bytes()))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let data = |chunk: Option<Bytes>| chunk.map(|bytes| Ok(Frame::data(bytes)));
        match self.get_mut() {
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(data(Some(std::mem::take(bytes)))),
            Self::Pieces(pieces) => Poll::Ready(data(pieces.next_chunk())),
            Self::Stream(stream) => {
                stream.as_mut().poll_next(cx).map(|next| next.map(|r| r.map(Frame::data)))
            }
            Self::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Pieces(pieces) => pieces.left == Some(0),
            Self::Stream(_) => false,
            Self::Incoming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Pieces(pieces) => pieces.left.map_or_else(SizeHint::default, SizeHint::with_exact),
            Self::Stream(_) => SizeHint::default(),
            Self::Incoming(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn pieces_are_gathered_without_loss() {
        let parts: Vec<Bytes> = (0..50_000usize)
            .map(|n| Bytes::from(n.to_string()))
            .chain([Bytes::from(vec![b'x'; 3 * CHUNK])])
            .collect();
        let whole: Vec<u8> = parts.concat();
        let mut body = Body::Pieces(Pieces::new(parts.into_iter(), Some(whole.len() as u64)));
        let (mut seen, mut chunks) = (Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            seen.extend_from_slice(&frame.unwrap().into_data().unwrap());
            chunks += 1;
        }
        assert!(seen == whole && chunks < 10, "{chunks} chunks");
        assert!(http_body::Body::is_end_stream(&body));
    }
}
