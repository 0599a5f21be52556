//! A snapshot as a stream of bytes, to be kept elsewhere and restored later, on any engine.
//!
//! It begins with [`MAGIC`], then come blocks: a length (4 bytes), a CRC-32 of the place in the stream and the body
//! (4 bytes), the body. The first block holds the revision and the leases, the following ones keys, the last one is
//! empty: so a cut, a changed byte and a block out of place are all noticed. All integers are little-endian.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::{Stream, StreamExt, TryStreamExt, stream};

use crate::{Error, Key, KeyValue, Lease, Snapshot};

/// The first bytes of an archive; the number is the format's.
pub const MAGIC: &[u8; 16] = b"tiphys-archive-1";

/// A block's length and checksum.
const FRAME_BYTES: usize = 8;
/// A larger block is a damaged length: what the engines hand over at a time is far smaller.
const BLOCK_MOST: usize = 256 << 20;
/// A key's numbers: create, modification, version, lease.
const NUMBERS: usize = 4;

/// Writes a snapshot.
pub fn encode(snapshot: Snapshot) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    let mut head = BytesMut::new();
    head.put_u64_le(snapshot.revision);
    for lease in &snapshot.leases {
        head.put_u64_le(lease.id);
        head.put_u64_le(lease.ttl.as_millis() as u64);
        head.put_u64_le(lease.remaining.as_millis() as u64);
    }
    let bodies = stream::once(async move { Ok(head) })
        .chain(snapshot.items.map_ok(|items| block(&items)).try_filter(|body| {
            // An empty body would be the end.
            futures::future::ready(!body.is_empty())
        }))
        .chain(stream::once(async { Ok(BytesMut::new()) }));
    let blocks = bodies.scan(0, |place, body: Result<BytesMut, Error>| {
        let framed = body.map(|body| frame(*place, &body));
        *place += 1;
        futures::future::ready(Some(framed))
    });
    stream::once(async { Ok(Bytes::from_static(MAGIC)) }).chain(blocks)
}

fn block(items: &[KeyValue]) -> BytesMut {
    let mut body = BytesMut::new();
    for kv in items {
        for number in [kv.create_revision, kv.mod_revision, kv.version, kv.lease] {
            body.put_u64_le(number);
        }
        for bytes in [kv.key.as_bytes(), &kv.value] {
            // Both are far below 4 GiB: a transaction's size is limited.
            body.put_u32_le(bytes.len() as u32);
            body.put_slice(bytes);
        }
    }
    body
}

fn frame(place: u64, body: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(FRAME_BYTES + body.len());
    framed.put_u32_le(body.len() as u32);
    framed.put_u32_le(checksum(place, body));
    framed.put_slice(body);
    framed.freeze()
}

fn checksum(place: u64, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&place.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// Reads a snapshot back from chunks of any size. What is wrong with it is told as [`Error::Corrupt`], at once or by
/// the stream of its items; only one that ends without an error is whole.
pub async fn decode<S, E>(chunks: S) -> Result<Snapshot, Error>
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let mut blocks = Blocks { chunks, buffer: BytesMut::new(), place: 0 };
    let magic = blocks.take(MAGIC.len()).await?;
    if *magic != MAGIC[..] {
        return Err(corrupt("it does not begin as an archive of this format"));
    }
    let mut head = blocks.next().await?;
    let revision = head.try_get_u64_le().map_err(|_| corrupt("no revision"))?;
    let mut leases = Vec::new();
    while head.has_remaining() {
        leases.push(lease(&mut head).ok_or_else(|| corrupt("a lease"))?);
    }
    let items = stream::try_unfold(blocks, |mut blocks| async move {
        let body = blocks.next().await?;
        if body.is_empty() {
            return blocks.end().await.map(|()| None);
        }
        Ok(Some((parse(body).ok_or_else(|| corrupt("a key"))?, blocks)))
    });
    Ok(Snapshot { revision, leases, items: items.boxed() })
}

fn corrupt(what: &str) -> Error {
    Error::Corrupt(format!("the archive is damaged: {what}").into())
}

fn lease(head: &mut Bytes) -> Option<Lease> {
    let mut number = || head.try_get_u64_le().ok();
    let (id, ttl, remaining) = (number()?, number()?, number()?);
    let (ttl, remaining) = (Duration::from_millis(ttl), Duration::from_millis(remaining));
    Some(Lease { id, ttl, remaining, keys: Vec::new() })
}

fn parse(mut body: Bytes) -> Option<Vec<KeyValue>> {
    let mut items = Vec::new();
    while body.has_remaining() {
        let mut numbers = [0; NUMBERS];
        for number in &mut numbers {
            *number = body.try_get_u64_le().ok()?;
        }
        let [create_revision, mod_revision, version, lease] = numbers;
        let (key, value) = (part(&mut body)?, part(&mut body)?);
        items.push(KeyValue {
            key: Key::from(&key[..]),
            value,
            create_revision,
            mod_revision,
            version,
            lease,
        });
    }
    Some(items)
}

fn part(body: &mut Bytes) -> Option<Bytes> {
    let length = body.try_get_u32_le().ok()? as usize;
    (length <= body.len()).then(|| body.split_to(length))
}

/// Cuts chunks of any size into blocks.
struct Blocks<S> {
    chunks: S,
    buffer: BytesMut,
    place: u64,
}

impl<S, E> Blocks<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    async fn next(&mut self) -> Result<Bytes, Error> {
        let mut frame = self.take(FRAME_BYTES).await?;
        let (length, expected) = (frame.get_u32_le() as usize, frame.get_u32_le());
        if length > BLOCK_MOST {
            return Err(corrupt("a length"));
        }
        let body = self.take(length).await?;
        if checksum(self.place, &body) != expected {
            return Err(corrupt("a checksum does not fit"));
        }
        self.place += 1;
        Ok(body)
    }

    async fn take(&mut self, bytes: usize) -> Result<Bytes, Error> {
        while self.buffer.len() < bytes {
            match self.chunks.next().await {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(error)) => return Err(Error::Read(error.to_string().into())),
                None => return Err(corrupt("it is cut off")),
            }
        }
        Ok(self.buffer.split_to(bytes).freeze())
    }

    async fn end(&mut self) -> Result<(), Error> {
        let rest = self.buffer.is_empty() && self.chunks.next().await.is_none();
        if rest { Ok(()) } else { Err(corrupt("something follows its end")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let kv = |key: &str, value: &'static str| KeyValue {
            key: key.into(),
            value: Bytes::from_static(value.as_bytes()),
            create_revision: 3,
            mod_revision: 5,
            version: 2,
            lease: 7,
        };
        let second = Duration::from_secs(1);
        let lease = Lease { id: 7, ttl: 60 * second, remaining: second, keys: Vec::new() };
        let items = [Ok(vec![kv("/a", "1"), kv("/b", "")]), Ok(Vec::new()), Ok(vec![kv("/c", "3")])];
        Snapshot { revision: 9, leases: vec![lease], items: stream::iter(items).boxed() }
    }

    async fn written() -> Vec<u8> {
        let chunks: Vec<Bytes> = encode(snapshot()).try_collect().await.unwrap();
        chunks.concat()
    }

    /// Reads all of it, handed over in chunks of `size`.
    async fn read(bytes: &[u8], size: usize) -> Result<(Snapshot, Vec<KeyValue>), Error> {
        let chunks: Vec<_> =
            bytes.chunks(size).map(|part| Ok::<_, Error>(Bytes::copy_from_slice(part))).collect();
        let mut found = decode(stream::iter(chunks)).await?;
        let items = std::mem::replace(&mut found.items, stream::empty().boxed());
        let items: Vec<Vec<KeyValue>> = items.try_collect().await?;
        Ok((found, items.concat()))
    }

    #[tokio::test]
    async fn comes_back_as_written_whatever_the_chunks() {
        let bytes = written().await;
        for size in [1, 7, 1000] {
            let (found, items) = read(&bytes, size).await.unwrap();
            assert_eq!((found.revision, found.leases), (9, snapshot().leases));
            let keys: Vec<_> = items.iter().map(|kv| kv.key.to_string()).collect();
            assert_eq!(
                (keys.join(" "), &items[0].value[..], items[2].lease),
                ("/a /b /c".into(), &b"1"[..], 7)
            );
        }
    }

    #[tokio::test]
    async fn every_flipped_bit_and_every_cut_is_noticed() {
        let good = written().await;
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read(&bad, 64).await, Err(Error::Corrupt(_))), "bit {bit}");
        }
        for cut in 0..good.len() {
            assert!(read(&good[..cut], 64).await.is_err(), "cut at {cut}");
        }
        assert!(read(&[&good[..], b"x"].concat(), 64).await.is_err());
    }
}
