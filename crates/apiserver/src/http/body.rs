//! Response bodies: whole, in chunks that are made as the peer takes them, or passed through.
//!
//! - A list is sent from the cache's own objects: their bytes are gathered into chunks of about 64 KiB only as the
//!   connection asks for more. No tree, no second copy of the whole list: memory per reader is one chunk.
//! - One chunk holds many small items, so that a chunk fills TLS records and HTTP/2 frames well.

use std::iter::Peekable;
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

/// A body of many shared pieces. Its length is not known before its end.
pub struct Pieces {
    parts: Peekable<Box<dyn Iterator<Item = Bytes> + Send>>,
    /// What was gathered already.
    ready: Option<Bytes>,
    sent: usize,
    at_end: Option<Box<dyn FnOnce(usize) + Send>>,
}

impl Pieces {
    fn new(parts: impl Iterator<Item = Bytes> + Send + 'static) -> Self {
        let parts: Box<dyn Iterator<Item = Bytes> + Send> = Box::new(parts.filter(|part| !part.is_empty()));
        Self { parts: parts.peekable(), ready: None, sent: 0, at_end: None }
    }

    /// Tells the length, once all of it was taken.
    pub fn at_end(&mut self, tell: impl FnOnce(usize) + Send + 'static) {
        self.at_end = Some(Box::new(tell));
    }

    /// The next chunk: a large piece as it is, small ones gathered.
    pub fn next_chunk(&mut self) -> Option<Bytes> {
        let next = self.ready.take().or_else(|| self.make());
        match &next {
            Some(chunk) => self.sent += chunk.len(),
            None => self.at_end.take().into_iter().for_each(|tell| tell(self.sent)),
        }
        next
    }

    fn make(&mut self) -> Option<Bytes> {
        let first = self.parts.next()?;
        let gathers = first.len() < CHUNK && self.parts.peek().is_some();
        Some(if gathers { self.gather(&first) } else { first })
    }

    fn gather(&mut self, first: &[u8]) -> Bytes {
        let mut chunk = BytesMut::with_capacity(CHUNK + first.len());
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

    /// These parts in order. What fits a chunk goes out whole, with its length.
    pub fn pieces(parts: impl Iterator<Item = Bytes> + Send + 'static) -> Self {
        let mut pieces = Pieces::new(parts);
        let first = pieces.next_chunk().unwrap_or_default();
        if pieces.parts.peek().is_none() {
            return Self::Full(first);
        }
        (pieces.ready, pieces.sent) = (Some(first), 0);
        Self::Pieces(pieces)
    }

    /// All of a body that is made of parts.
    pub fn gathered(self) -> Vec<u8> {
        match self {
            Self::Full(bytes) => bytes.into(),
            Self::Pieces(mut pieces) => std::iter::from_fn(|| pieces.next_chunk()).flatten().collect(),
            Self::Stream(_) | Self::Incoming(_) => Vec::new(),
        }
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
            Self::Pieces(_) | Self::Stream(_) => false,
            Self::Incoming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Pieces(_) | Self::Stream(_) => SizeHint::default(),
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
        let mut body = Body::pieces(parts.into_iter());
        let (mut seen, mut chunks) = (Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            seen.extend_from_slice(&frame.unwrap().into_data().unwrap());
            chunks += 1;
        }
        assert!(seen == whole && chunks < 10, "{chunks} chunks");
    }

    #[test]
    fn what_is_short_has_a_length() {
        let short = Body::pieces(["", "ab", "", "c"].into_iter().map(Bytes::from));
        assert_eq!(http_body::Body::size_hint(&short).exact(), Some(3));
        let Body::Pieces(mut long) = Body::pieces(vec![Bytes::from(vec![0; CHUNK]); 3].into_iter()) else {
            panic!("it does not fit a chunk")
        };
        let told = std::sync::Arc::new(std::sync::OnceLock::new());
        let tell = told.clone();
        long.at_end(move |length| tell.set(length).unwrap());
        while long.next_chunk().is_some() {}
        assert_eq!(told.get(), Some(&(3 * CHUNK)));
        assert!(matches!(Body::pieces(std::iter::empty()), Body::Full(bytes) if bytes.is_empty()));
    }
}
