//! How the embedded engine's records look on disk.
//!
//! Two kinds: a **row** is one change of one key, with its value, under the number of the change; a **head** says
//! where a living key's newest row is. Both end in a CRC over the record and its own key, so that a record which was
//! damaged, or is found in a wrong place, is noticed and never served. All integers are little-endian.

use bytes::Bytes;

use super::index::{Entry, RowId};
use crate::{Error, Event, Key, KeyValue};

/// The size of a head.
pub(super) const HEAD_BYTES: usize = 40;

/// A row's fields before its key and value: kind, create, version, lease, previous row, key length.
const ROW_HEADER_BYTES: usize = 1 + 8 + 8 + 8 + 8 + 4 + 4;
const CRC_BYTES: usize = 4;

const KIND_PUT: u8 = 1;
const KIND_DELETE: u8 = 2;

/// One change of one key, as found on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// The key changed.
    pub key: Key,
    /// What it became; none = deleted.
    pub after: Option<(Entry, Bytes)>,
    /// The row this one replaced.
    pub previous: Option<RowId>,
}

impl Row {
    /// The key's state after the change, unless it was a deletion.
    pub fn into_key_value(self) -> Option<KeyValue> {
        let (entry, value) = self.after?;
        Some(entry.key_value(self.key, value))
    }

    /// The change as watchers see it.
    pub fn into_event(self, at: RowId) -> Event {
        let previous_revision = self.previous.map_or(0, |row| row.revision);
        match self.after {
            Some((entry, value)) => {
                Event::Put { kv: entry.key_value(self.key, value), previous_revision, previous: None }
            }
            None => Event::Delete { key: self.key, revision: at.revision, previous_revision, previous: None },
        }
    }
}

/// Writes a row into `out`, replacing what is there.
pub(super) fn encode_row(
    out: &mut Vec<u8>,
    at: RowId,
    key: &Key,
    after: Option<&(Entry, Bytes)>,
    previous: Option<RowId>,
) {
    out.clear();
    out.push(if after.is_some() { KIND_PUT } else { KIND_DELETE });
    let entry = after.map(|(entry, _)| *entry).unwrap_or_default();
    let previous = previous.unwrap_or_default();
    for number in [entry.create_revision, entry.version, entry.lease, previous.revision] {
        out.extend(number.to_le_bytes());
    }
    out.extend(previous.sub.to_le_bytes());
    // Keys are far below 4 GiB: a transaction's size is limited.
    out.extend((key.as_bytes().len() as u32).to_le_bytes());
    out.extend(key.as_bytes());
    out.extend(after.map_or(&[][..], |(_, value)| value));
    let crc = row_crc(at, out);
    out.extend(crc.to_le_bytes());
}

fn row_crc(at: RowId, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&at.revision.to_le_bytes());
    hasher.update(&at.sub.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// Reads a row back.
pub(super) fn decode_row(at: RowId, bytes: &[u8]) -> Result<Row, Error> {
    parse_row(at, bytes).ok_or_else(|| Error::Corrupt(format!("row {}.{}", at.revision, at.sub).into()))
}

fn parse_row(at: RowId, bytes: &[u8]) -> Option<Row> {
    let (body, crc) = bytes.split_at_checked(bytes.len().checked_sub(CRC_BYTES)?)?;
    if row_crc(at, body).to_le_bytes() != crc {
        return None;
    }
    let (header, rest) = body.split_at_checked(ROW_HEADER_BYTES)?;
    let (kind, header) = header.split_first()?;
    let (create_revision, header) = take_u64(header)?;
    let (version, header) = take_u64(header)?;
    let (lease, header) = take_u64(header)?;
    let (revision, header) = take_u64(header)?;
    let (sub, header) = take_u32(header)?;
    let (key_bytes, _) = take_u32(header)?;
    let (key, value) = rest.split_at_checked(key_bytes as usize)?;
    let entry = Entry { create_revision, mod_revision: at.revision, version, lease, sub: at.sub };
    let after = match *kind {
        KIND_PUT => Some((entry, Bytes::copy_from_slice(value))),
        KIND_DELETE => None,
        _ => return None,
    };
    let previous = (revision != 0).then_some(RowId { revision, sub });
    Some(Row { key: Key::from(key), after, previous })
}

/// Writes a head.
pub(super) fn encode_head(key: &[u8], entry: &Entry) -> [u8; HEAD_BYTES] {
    let mut out = Vec::with_capacity(HEAD_BYTES);
    for number in [entry.mod_revision, entry.create_revision, entry.version, entry.lease] {
        out.extend(number.to_le_bytes());
    }
    out.extend(entry.sub.to_le_bytes());
    let crc = head_crc(key, &out);
    out.extend(crc.to_le_bytes());
    let mut head = [0; HEAD_BYTES];
    head.copy_from_slice(&out);
    head
}

fn head_crc(key: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(body);
    hasher.finalize()
}

/// Reads a head back.
pub(super) fn decode_head(key: &[u8], bytes: &[u8; HEAD_BYTES]) -> Result<Entry, Error> {
    parse_head(key, bytes)
        .ok_or_else(|| Error::Corrupt(format!("head of {}", String::from_utf8_lossy(key)).into()))
}

fn parse_head(key: &[u8], bytes: &[u8; HEAD_BYTES]) -> Option<Entry> {
    let (body, crc) = bytes.split_at_checked(HEAD_BYTES - CRC_BYTES)?;
    if head_crc(key, body).to_le_bytes() != crc {
        return None;
    }
    let (mod_revision, rest) = take_u64(body)?;
    let (create_revision, rest) = take_u64(rest)?;
    let (version, rest) = take_u64(rest)?;
    let (lease, rest) = take_u64(rest)?;
    let (sub, _) = take_u32(rest)?;
    Some(Entry { create_revision, mod_revision, version, lease, sub })
}

fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (head, rest) = bytes.split_first_chunk()?;
    Some((u64::from_le_bytes(*head), rest))
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*head), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: RowId = RowId { revision: 7, sub: 2 };

    fn entry() -> Entry {
        Entry { create_revision: 3, mod_revision: 7, version: 4, lease: 9, sub: 2 }
    }

    fn sample() -> Vec<u8> {
        let mut bytes = Vec::new();
        let after = (entry(), Bytes::from_static(b"value"));
        encode_row(&mut bytes, AT, &Key::from("/a"), Some(&after), Some(RowId { revision: 5, sub: 1 }));
        bytes
    }

    #[test]
    fn rows_and_heads_come_back_as_written() {
        let row = decode_row(AT, &sample()).unwrap();
        assert_eq!(row.after, Some((entry(), Bytes::from_static(b"value"))));
        assert_eq!((row.key, row.previous), (Key::from("/a"), Some(RowId { revision: 5, sub: 1 })));
        assert_eq!(decode_head(b"/a", &encode_head(b"/a", &entry())).unwrap(), entry());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let good = sample();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode_row(AT, &bad), Err(Error::Corrupt(_))), "bit {bit}");
        }
        for cut in 0..good.len() {
            assert!(decode_row(AT, &good[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_record_in_a_wrong_place_is_noticed() {
        assert!(decode_row(RowId { revision: 8, sub: 2 }, &sample()).is_err());
        assert!(decode_head(b"/b", &encode_head(b"/a", &entry())).is_err());
    }
}
