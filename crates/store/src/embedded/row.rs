//! How the embedded engine's records look on disk.
//!
//! A **row** is one change of one key, with its value and its own number. Rows lie one after the other in **packs**, in
//! order of their numbers: so a commit of a hundred small changes is a few inserts into the database, and a page holds
//! as much as fits. A **head** says where a living key's newest row is. Both end in a CRC, a row's over itself, a
//! head's over itself and its key, so that a record which was damaged, or is found in a wrong place, is noticed and
//! never served. All integers are little-endian.

use bytes::Bytes;

use super::index::{Change, Entry, RowId};
use crate::{Error, Event, Key, KeyValue};

/// The size of a head.
pub(super) const HEAD_BYTES: usize = 44;

/// A pack takes rows up to so many bytes, so that with the database's own few it fills a page of 8 KiB. A larger row has
/// one of its own. (Larger packs are written faster; but who reads a row reads its page.)
pub(super) const PACK_BYTES: usize = (8 << 10) - 64;

/// A row's length, which the fields follow: kind, number, create, version, lease, replaced row, key length, key, value.
const LENGTH_BYTES: usize = 4;
const FIELD_BYTES: usize = 1 + ID_BYTES + 3 * 8 + ID_BYTES + 4 + 4;
const ID_BYTES: usize = 8 + 4;
const CRC_BYTES: usize = 4;

const KIND_PUT: u8 = 1;
const KIND_DELETE: u8 = 2;

/// A row that was replaced by another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Replaced {
    pub at: RowId,
    /// How much it takes.
    pub bytes: u32,
}

/// One change of one key, as found on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// The key changed.
    pub key: Key,
    /// What it became; none = deleted.
    pub after: Option<(Entry, Bytes)>,
    /// The row this one replaced.
    pub previous: Option<Replaced>,
}

impl Row {
    /// A change as it will be found on disk.
    pub fn of(change: &Change) -> Self {
        let previous = change.before.map(|entry| entry.replaced());
        Self { key: change.key.clone(), after: change.after.clone(), previous }
    }

    /// The key's state after the change, unless it was a deletion.
    pub fn into_key_value(self) -> Option<KeyValue> {
        let (entry, value) = self.after?;
        Some(entry.key_value(self.key, value))
    }

    /// The change as watchers see it.
    pub fn into_event(self, at: RowId) -> Event {
        let previous_revision = self.previous.map_or(0, |row| row.at.revision);
        match self.after {
            Some((entry, value)) => {
                Event::Put { kv: entry.key_value(self.key, value), previous_revision, previous: None }
            }
            None => Event::Delete { key: self.key, revision: at.revision, previous_revision, previous: None },
        }
    }
}

/// How many bytes a row takes.
pub(super) fn row_bytes(key: &Key, value: &[u8]) -> usize {
    LENGTH_BYTES + FIELD_BYTES + key.as_bytes().len() + value.len() + CRC_BYTES
}

/// Appends a change's row to a pack.
pub(super) fn encode_change(out: &mut Vec<u8>, change: &Change) {
    let previous = change.before.map(|entry| entry.replaced());
    encode_row(out, change.at, &change.key, change.after.as_ref(), previous);
}

/// Appends a row to a pack.
pub(super) fn encode_row(
    out: &mut Vec<u8>,
    at: RowId,
    key: &Key,
    after: Option<&(Entry, Bytes)>,
    previous: Option<Replaced>,
) {
    let value = after.map_or(&[][..], |(_, value)| value);
    let entry = after.map(|(entry, _)| *entry).unwrap_or_default();
    let previous = previous.unwrap_or(Replaced { at: RowId::default(), bytes: 0 });
    // All lengths are far below 4 GiB: a transaction's size is limited.
    out.extend((row_bytes(key, value) as u32).to_le_bytes());
    let body = out.len();
    out.push(if after.is_some() { KIND_PUT } else { KIND_DELETE });
    put_id(out, at);
    for number in [entry.create_revision, entry.version, entry.lease] {
        out.extend(number.to_le_bytes());
    }
    put_id(out, previous.at);
    out.extend(previous.bytes.to_le_bytes());
    out.extend((key.as_bytes().len() as u32).to_le_bytes());
    out.extend(key.as_bytes());
    out.extend(value);
    let crc = crc32fast::hash(out.get(body..).unwrap_or_default());
    out.extend(crc.to_le_bytes());
}

fn put_id(out: &mut Vec<u8>, id: RowId) {
    out.extend(id.revision.to_le_bytes());
    out.extend(id.sub.to_le_bytes());
}

/// A row in a pack that has not been looked into: only its length and number.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawRow<'a> {
    /// The whole of it.
    pub bytes: &'a [u8],
    /// Its number; to be trusted once it is decoded.
    pub at: RowId,
}

/// The rows of a pack.
pub(super) struct Pack<'a>(pub &'a [u8]);

impl<'a> Iterator for Pack<'a> {
    type Item = Result<RawRow<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let row = cut(self.0);
        self.0 = row.map_or(&[], |(_, rest)| rest);
        Some(row.map(|(row, _)| row).ok_or_else(|| Error::Corrupt("a pack of rows".into())))
    }
}

fn cut(pack: &[u8]) -> Option<(RawRow<'_>, &[u8])> {
    let (bytes, body) = take_u32(pack)?;
    let (revision, sub) = take_u64(body.get(1..)?)?;
    let at = RowId { revision, sub: take_u32(sub)?.0 };
    let (bytes, rest) = pack.split_at_checked(bytes as usize)?;
    (bytes.len() > LENGTH_BYTES + FIELD_BYTES).then_some((RawRow { bytes, at }, rest))
}

impl RawRow<'_> {
    /// All of it, checked.
    pub fn decode(&self) -> Result<Row, Error> {
        let body = self.checked().ok_or_else(|| self.corrupt())?;
        self.parse(body).ok_or_else(|| self.corrupt())
    }

    /// Its key, checked like the rest.
    pub fn key(&self) -> Result<&[u8], Error> {
        let body = self.checked().ok_or_else(|| self.corrupt())?;
        let rest = body.get(FIELD_BYTES - 4..).and_then(take_u32);
        rest.and_then(|(bytes, rest)| rest.get(..bytes as usize)).ok_or_else(|| self.corrupt())
    }

    fn corrupt(&self) -> Error {
        Error::Corrupt(format!("row {}.{}", self.at.revision, self.at.sub).into())
    }

    fn checked(&self) -> Option<&[u8]> {
        let (body, crc) = self.bytes.split_at_checked(self.bytes.len().checked_sub(CRC_BYTES)?)?;
        let body = body.get(LENGTH_BYTES..)?;
        (crc32fast::hash(body).to_le_bytes() == crc).then_some(body)
    }

    fn parse(&self, body: &[u8]) -> Option<Row> {
        let (kind, fields) = body.split_first()?;
        let (create_revision, fields) = take_u64(fields.get(ID_BYTES..)?)?;
        let (version, fields) = take_u64(fields)?;
        let (lease, fields) = take_u64(fields)?;
        let (revision, fields) = take_u64(fields)?;
        let (sub, fields) = take_u32(fields)?;
        let (replaced_bytes, fields) = take_u32(fields)?;
        let (key_bytes, rest) = take_u32(fields)?;
        let (key, value) = rest.split_at_checked(key_bytes as usize)?;
        let RowId { revision: mod_revision, sub: own_sub } = self.at;
        let bytes = self.bytes.len() as u32;
        let entry = Entry { create_revision, mod_revision, version, lease, sub: own_sub, bytes };
        let after = match *kind {
            KIND_PUT => Some((entry, Bytes::copy_from_slice(value))),
            KIND_DELETE => None,
            _ => return None,
        };
        let at = RowId { revision, sub };
        let previous = (revision != 0).then_some(Replaced { at, bytes: replaced_bytes });
        Some(Row { key: Key::from(key), after, previous })
    }
}

/// Writes a head.
pub(super) fn encode_head(key: &[u8], entry: &Entry) -> [u8; HEAD_BYTES] {
    let mut out = Vec::with_capacity(HEAD_BYTES);
    for number in [entry.mod_revision, entry.create_revision, entry.version, entry.lease] {
        out.extend(number.to_le_bytes());
    }
    out.extend(entry.sub.to_le_bytes());
    out.extend(entry.bytes.to_le_bytes());
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
    let (sub, rest) = take_u32(rest)?;
    let (bytes, _) = take_u32(rest)?;
    Some(Entry { create_revision, mod_revision, version, lease, sub, bytes })
}

/// The number that something begins with, and the rest.
pub(super) fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (head, rest) = bytes.split_first_chunk()?;
    Some((u64::from_le_bytes(*head), rest))
}

/// The same of a smaller number.
pub(super) fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*head), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: RowId = RowId { revision: 7, sub: 2 };
    const NEXT: RowId = RowId { revision: 8, sub: 0 };

    fn entry() -> Entry {
        let bytes = row_bytes(&Key::from("/a"), b"value") as u32;
        Entry { create_revision: 3, mod_revision: 7, version: 4, lease: 9, sub: 2, bytes }
    }

    fn replaced() -> Replaced {
        Replaced { at: RowId { revision: 5, sub: 1 }, bytes: 77 }
    }

    fn sample() -> Vec<u8> {
        let mut pack = Vec::new();
        let after = (entry(), Bytes::from_static(b"value"));
        encode_row(&mut pack, AT, &Key::from("/a"), Some(&after), Some(replaced()));
        encode_row(&mut pack, NEXT, &Key::from("/b"), None, None);
        pack
    }

    fn read(pack: &[u8]) -> Result<Vec<(RowId, Row)>, Error> {
        Pack(pack).map(|row| row.and_then(|row| Ok((row.at, row.decode()?)))).collect()
    }

    #[test]
    fn rows_and_heads_come_back_as_written() {
        let rows = read(&sample()).unwrap();
        let after = Some((entry(), Bytes::from_static(b"value")));
        assert_eq!(rows[0], (AT, Row { key: "/a".into(), after, previous: Some(replaced()) }));
        assert_eq!(rows[1], (NEXT, Row { key: "/b".into(), after: None, previous: None }));
        assert_eq!(Pack(&sample()).next().unwrap().unwrap().key().unwrap(), b"/a");
        assert_eq!(decode_head(b"/a", &encode_head(b"/a", &entry())).unwrap(), entry());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let good = sample();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read(&bad), Err(Error::Corrupt(_))), "bit {bit}");
        }
        let first = entry().bytes as usize;
        for cut in (1..good.len()).filter(|cut| *cut != first) {
            assert!(read(&good[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_head_in_a_wrong_place_is_noticed() {
        assert!(decode_head(b"/b", &encode_head(b"/a", &entry())).is_err());
    }
}
