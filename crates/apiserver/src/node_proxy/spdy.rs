//! SPDY/3.1, as far as a client of container runtimes needs it: making frames, and reading the other side's.
//!
//! - Only this side opens streams. What the other side's header blocks say does not matter here, so they are skipped
//!   and never decompressed.
//! - Go's servers keep no flow control windows: what holds a fast sender back is TCP itself, and so it is here.
//! - A frame of data is handed on in pieces as it arrives, so that its length costs no memory.

use std::io;

use bytes::{Bytes, BytesMut};
use flate2::{Compress, Compression, FlushCompress};
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};

/// The protocol's name in `Upgrade`.
pub const NAME: &str = "SPDY/3.1";

/// The largest piece of data that is handed on at once, in bytes: what Go's copies send, too.
const PIECE: usize = 32 * 1024;
/// Marks a control frame, and the protocol's version.
const CONTROL: u16 = 0x8003;
const SYN_STREAM: u16 = 1;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
/// The last frame of a stream in its direction.
const FIN: u8 = 1;
/// The largest length that a frame can say.
const LENGTH_MAX: usize = 0x00ff_ffff;

/// Opens streams. The header blocks of one connection are one compressed text.
pub struct Opener {
    compress: Compress,
    next: u32,
}

impl Opener {
    /// For a new connection.
    pub fn new() -> Self {
        // Three short headers are not worth the time; a reader takes stored blocks as well.
        Self { compress: Compress::new(Compression::none(), true), next: 1 }
    }

    /// A new stream's number, and the frame that opens it. Names of headers are in lower case.
    pub fn open(&mut self, headers: &[(&str, &str)]) -> io::Result<(u32, Vec<u8>)> {
        let stream = self.next;
        self.next += 2;
        let mut block = length(headers.len())?.to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.extend_from_slice(&length(text.len())?);
            block.extend_from_slice(text.as_bytes());
        }
        // Of no other stream, of the highest priority.
        let mut payload = [stream.to_be_bytes(), [0; 4]].concat();
        payload.extend_from_slice(&[0, 0]);
        // More than the stored blocks' own heads ever take.
        payload.reserve(block.len() + 64);
        let compressed = self.compress.compress_vec(&block, &mut payload, FlushCompress::Sync);
        compressed.map_err(io::Error::other)?;
        Ok((stream, control(SYN_STREAM, &payload)?))
    }
}

fn length(length: usize) -> io::Result<[u8; 4]> {
    u32::try_from(length).map(u32::to_be_bytes).map_err(io::Error::other)
}

fn control(kind: u16, payload: &[u8]) -> io::Result<Vec<u8>> {
    let mut frame = [CONTROL.to_be_bytes(), kind.to_be_bytes()].concat();
    frame.extend_from_slice(&length(payload.len())?);
    frame.extend_from_slice(payload);
    Ok(frame)
}

/// The answer to a ping.
pub fn pong(id: u32) -> io::Result<Vec<u8>> {
    control(PING, &id.to_be_bytes())
}

/// What goes before this much data; with `last`, no more will follow on this stream.
pub fn data(stream: u32, bytes: usize, last: bool) -> io::Result<[u8; 8]> {
    if bytes > LENGTH_MAX {
        return Err(io::Error::other("too much data for one frame"));
    }
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    let [_, l1, l2, l3] = length(bytes)?;
    Ok([s0, s1, s2, s3, if last { FIN } else { 0 }, l1, l2, l3])
}

/// What the other side says.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Data of a stream, or a part of it.
    Data(u32, Bytes),
    /// A stream is over.
    End(u32),
    /// It asks whether we live.
    Ping(u32),
}

/// Reads the other side's frames.
pub struct Reader<R> {
    from: BufReader<R>,
    /// The stream whose data is being read, what is left of the frame, and whether the stream ends with it.
    stream: u32,
    left: usize,
    last: bool,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads from the beginning of a connection.
    pub fn new(from: R) -> Self {
        Self { from: BufReader::with_capacity(2 * PIECE, from), stream: 0, left: 0, last: false }
    }

    /// The next event; `None` at the end of the connection.
    pub async fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            if self.left > 0 {
                return self.piece().await.map(Some);
            }
            if std::mem::take(&mut self.last) {
                return Ok(Some(Event::End(self.stream)));
            }
            let mut head = [0; 8];
            match self.from.read_exact(&mut head).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                read => read.map(drop)?,
            }
            let [a, b, c, d, flags, rest @ ..] = head;
            let length = rest.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            if u16::from_be_bytes([a, b]) & 0x8000 == 0 {
                (self.stream, self.left, self.last) =
                    (u32::from_be_bytes([a, b, c, d]), length, flags & FIN != 0);
            } else if let Some(event) = self.control(u16::from_be_bytes([c, d]), length).await? {
                return Ok(Some(event));
            }
        }
    }

    async fn piece(&mut self) -> io::Result<Event> {
        let mut piece = BytesMut::with_capacity(self.left.min(PIECE));
        let read = (&mut self.from).take(self.left.min(PIECE) as u64).read_buf(&mut piece).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = self.left.saturating_sub(read);
        Ok(Event::Data(self.stream, piece.freeze()))
    }

    /// Of control frames only those matter that end a stream or want an answer.
    async fn control(&mut self, kind: u16, length: usize) -> io::Result<Option<Event>> {
        let mut start = [0; 4];
        let known = length.min(start.len());
        if let Some(start) = start.get_mut(..known) {
            self.from.read_exact(start).await?;
        }
        let mut rest = (&mut self.from).take((length - known) as u64);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
        let number = u32::from_be_bytes(start);
        Ok(match kind {
            RST_STREAM => Some(Event::End(number)),
            PING => Some(Event::Ping(number)),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Decompress, FlushDecompress};

    use super::*;

    async fn events(bytes: &[u8]) -> Vec<Event> {
        let mut reader = Reader::new(bytes);
        let mut events = Vec::new();
        while let Some(event) = reader.next().await.unwrap() {
            events.push(event);
        }
        events
    }

    #[test]
    fn a_stream_is_opened_with_its_headers() {
        let (mut opener, mut zlib) = (Opener::new(), Decompress::new(true));
        for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
            let (number, frame) = opener.open(&[("streamtype", kind)]).unwrap();
            assert_eq!((number, &frame[..4]), (stream, [0x80, 3, 0, 1].as_slice()));
            assert_eq!(frame[4..8], u32::try_from(frame.len() - 8).unwrap().to_be_bytes());
            assert_eq!(frame[8..12], stream.to_be_bytes());
            let mut block = Vec::with_capacity(100);
            zlib.decompress_vec(&frame[18..], &mut block, FlushDecompress::Sync).unwrap();
            let told = [&[0, 0, 0, 1, 0, 0, 0, 10], b"streamtype".as_slice(), &[0, 0, 0]].concat();
            assert_eq!(block, [told, vec![u8::try_from(kind.len()).unwrap()], kind.into()].concat());
        }
    }

    #[tokio::test]
    async fn frames_are_read_whatever_stands_between_them() {
        let mut sent = control(2, &[0; 40]).unwrap();
        sent.extend(data(5, 3, false).unwrap());
        sent.extend(b"abc");
        sent.extend(control(PING, &2_u32.to_be_bytes()).unwrap());
        sent.extend(control(9, &[]).unwrap());
        sent.extend(data(5, 0, true).unwrap());
        sent.extend(control(RST_STREAM, &[0, 0, 0, 7, 0, 0, 0, 5]).unwrap());
        let data = Event::Data(5, Bytes::from_static(b"abc"));
        assert_eq!(events(&sent).await, [data, Event::Ping(2), Event::End(5), Event::End(7)]);
        assert!(
            Reader::new(&sent[..58]).next().await.is_ok_and(|event| event.is_some()),
            "a part of the data"
        );
    }

    #[tokio::test]
    async fn a_large_frame_comes_in_pieces() {
        let all = vec![7; 5 * PIECE + 1];
        let sent = [data(1, all.len(), true).unwrap().as_slice(), &all].concat();
        let mut heard = Vec::new();
        for event in events(&sent).await {
            match event {
                Event::Data(1, piece) if piece.len() <= PIECE => heard.extend(piece),
                other => assert_eq!(other, Event::End(1)),
            }
        }
        assert!(heard == all);
        assert!(data(1, LENGTH_MAX + 1, false).is_err());
    }
}
