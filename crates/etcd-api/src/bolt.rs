//! A bbolt file, written once from front to back: what etcd's snapshots are.
//!
//! Only what that needs of the format: pages of 4 KiB, of which 0 and 1 are the meta pages (the same twice), 2 is the list
//! of free pages (empty), and the rest are trees, written from their leaves up. A page too large for its size goes on
//! over the following ones. All integers are little-endian.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

const PAGE_HEADER: usize = 16;
const ELEMENT: usize = 16;
/// Meta pages and the list of free pages.
const FIRST_PAGE: u64 = 3;
const FREE_LIST: u64 = 2;
const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const META: u16 = 0x04;
const FREE: u16 = 0x10;
/// An element of a leaf that is a bucket.
const BUCKET: u32 = 0x01;

/// Writes a file of buckets.
pub(crate) struct Writer {
    out: BufWriter<File>,
    next: u64,
    buckets: Vec<(Vec<u8>, u64)>,
}

/// What a page holds: keys, each with a value or (in a branch) a page.
#[derive(Default)]
struct Page {
    elements: Vec<Element>,
    bytes: usize,
}

struct Element {
    /// Of a leaf's element, whether it is a bucket.
    flags: u32,
    key: Vec<u8>,
    value: Vec<u8>,
    /// The page below a branch.
    below: u64,
}

impl Writer {
    /// Over an empty file.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(&[0; PAGE * FIRST_PAGE as usize])?;
        Ok(Self { out, next: FIRST_PAGE, buckets: Vec::new() })
    }

    /// Writes a bucket. The entries must come in the order of their keys; so must buckets in that of their names.
    pub(crate) fn bucket(
        &mut self,
        name: &str,
        entries: impl Iterator<Item = io::Result<(Vec<u8>, Vec<u8>)>>,
    ) -> io::Result<()> {
        let elements =
            entries.map(|entry| entry.map(|(key, value)| Element { flags: 0, key, value, below: 0 }));
        let root = self.tree(elements)?;
        self.buckets.push((name.into(), root));
        Ok(())
    }

    /// Writes what is left, and tells the file's length.
    pub(crate) fn finish(mut self) -> io::Result<(File, u64)> {
        let buckets = std::mem::take(&mut self.buckets);
        let elements = buckets.into_iter().map(|(key, root)| {
            // The bucket's root, and a sequence that nobody uses.
            let value = [root.to_le_bytes(), [0; 8]].concat();
            Ok(Element { flags: BUCKET, key, value, below: 0 })
        });
        let root = self.tree(elements)?;
        let length = self.next * PAGE as u64;
        let mut file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        for number in 0..2 {
            file.write_all(&meta(number, root, self.next))?;
        }
        let mut free = header(FREE_LIST, FREE, 0, 0);
        free.resize(PAGE, 0);
        file.write_all(&free)?;
        file.seek(SeekFrom::Start(0))?;
        Ok((file, length))
    }

    /// Writes a tree and tells its root.
    fn tree(&mut self, entries: impl Iterator<Item = io::Result<Element>>) -> io::Result<u64> {
        let mut level = self.level(LEAF, entries)?;
        if level.is_empty() {
            return self.page(LEAF, &Page::default());
        }
        while level.len() > 1 {
            let branches =
                level.into_iter().map(|(key, below)| Ok(Element { flags: 0, key, value: Vec::new(), below }));
            level = self.level(BRANCH, branches.collect::<Vec<_>>().into_iter())?;
        }
        Ok(level.first().map_or(0, |(_, root)| *root))
    }

    /// Writes one level of a tree; tells the first key and the number of each page.
    fn level(
        &mut self,
        kind: u16,
        entries: impl Iterator<Item = io::Result<Element>>,
    ) -> io::Result<Vec<(Vec<u8>, u64)>> {
        let (mut pages, mut page) = (Vec::new(), Page::default());
        for element in entries {
            let element = element?;
            let size = ELEMENT + element.key.len() + element.value.len();
            // A branch of one element would make a tree without an end.
            let least = if kind == BRANCH { 2 } else { 1 };
            if page.elements.len() >= least && PAGE_HEADER + page.bytes + size > PAGE {
                pages.extend(self.finish_page(kind, &mut page)?);
            }
            page.bytes += size;
            page.elements.push(element);
        }
        pages.extend(self.finish_page(kind, &mut page)?);
        Ok(pages)
    }

    fn finish_page(&mut self, kind: u16, page: &mut Page) -> io::Result<Option<(Vec<u8>, u64)>> {
        let page = std::mem::take(page);
        let number = if page.elements.is_empty() { return Ok(None) } else { self.page(kind, &page)? };
        Ok(page.elements.into_iter().next().map(|first| (first.key, number)))
    }

    fn page(&mut self, kind: u16, page: &Page) -> io::Result<u64> {
        let number = self.next;
        let pages = (PAGE_HEADER + page.bytes).div_ceil(PAGE);
        // A page is closed long before 2^16 elements, and its overflow is bounded by a value's size.
        let mut bytes = header(number, kind, page.elements.len() as u16, (pages - 1) as u32);
        let mut at = page.elements.len() * ELEMENT;
        for element in &page.elements {
            let (position, key) = ((at as u32).to_le_bytes(), (element.key.len() as u32).to_le_bytes());
            if kind == BRANCH {
                bytes.extend([position, key].concat());
                bytes.extend(element.below.to_le_bytes());
            } else {
                let value = (element.value.len() as u32).to_le_bytes();
                bytes.extend([element.flags.to_le_bytes(), position, key, value].concat());
            }
            // The position counts from the element itself.
            at = at + element.key.len() + element.value.len() - ELEMENT;
        }
        for element in &page.elements {
            bytes.extend_from_slice(&element.key);
            bytes.extend_from_slice(&element.value);
        }
        bytes.resize(pages * PAGE, 0);
        self.out.write_all(&bytes)?;
        self.next += pages as u64;
        Ok(number)
    }
}

fn header(number: u64, kind: u16, count: u16, overflow: u32) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend(kind.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend(overflow.to_le_bytes());
    bytes
}

fn meta(number: u64, root: u64, pages: u64) -> Vec<u8> {
    let mut body = Vec::new();
    for word in [MAGIC, VERSION, PAGE as u32, 0] {
        body.extend(word.to_le_bytes());
    }
    // Root and its sequence, the list of free pages, the number of pages, the transaction.
    for word in [root, 0, FREE_LIST, pages, number] {
        body.extend(word.to_le_bytes());
    }
    body.extend(fnv1a(&body).to_le_bytes());
    let mut page = header(number, META, 0, 0);
    page.extend(body);
    page.resize(PAGE, 0);
    page
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_fnv_1a() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn a_position_leads_from_its_element_to_its_key() {
        let file = std::env::temp_dir().join(format!("tiphys-bolt-{}", std::process::id()));
        let open = File::options().read(true).write(true).create(true).truncate(true).open(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        let mut writer = Writer::new(open).unwrap();
        let entries = [("a", "1"), ("bb", "22"), ("ccc", "")];
        writer.bucket("key", entries.into_iter().map(|(k, v)| Ok((k.into(), v.into())))).unwrap();
        let (mut file, length) = writer.finish().unwrap();
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        assert_eq!((bytes.len() as u64, length), (5 * PAGE as u64, 5 * PAGE as u64));
        let leaf = &bytes[3 * PAGE..4 * PAGE];
        for (i, (key, value)) in entries.iter().enumerate() {
            let element = PAGE_HEADER + i * ELEMENT;
            let number = |at: usize| u32::from_le_bytes(leaf[at..at + 4].try_into().unwrap()) as usize;
            let (position, ksize, vsize) = (number(element + 4), number(element + 8), number(element + 12));
            let at = element + position;
            assert_eq!(&leaf[at..at + ksize], key.as_bytes());
            assert_eq!(&leaf[at + ksize..at + ksize + vsize], value.as_bytes());
        }
    }
}
