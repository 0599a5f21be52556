//! Finding one's way in JSON text without reading it: how far a plain text goes, where a value ends.

/// Each byte of a word.
const fn each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// How many bytes come before the first `"`, `\` or control character, or before the end. Eight at a time: texts are
/// most of an object.
pub(crate) fn plain(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        match special(u64::from_le_bytes(*chunk)) {
            0 => at += 8,
            found => return at + found.trailing_zeros() as usize / 8,
        }
    }
    // What is left is looked at together with what was seen, or, in a short text, twice.
    if let Some(last) = bytes.last_chunk() {
        return match special(u64::from_le_bytes(*last)) {
            0 => bytes.len(),
            found => bytes.len() - 8 + found.trailing_zeros() as usize / 8,
        };
    }
    if let (Some([a, b, c, d]), Some([e, f, g, h])) = (bytes.first_chunk(), bytes.last_chunk())
        && special(u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h])) == 0
    {
        return bytes.len();
    }
    bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(bytes.len())
}

/// The high bit of the first byte that is no plain text's, and of some after it; 0 if there is none.
fn special(word: u64) -> u64 {
    below(word ^ each(b'"'), 1) | below(word ^ each(b'\\'), 1) | below(word, 0x20)
}

/// The high bit of each byte that is less than `limit` (at most 128). Bytes after the first such may be marked wrongly.
fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(each(limit)) & !word & each(0x80)
}

/// Where the closing quote is of a text that begins at `at`, after its opening quote.
pub fn text_end(json: &[u8], at: usize) -> Option<usize> {
    let mut at = at;
    loop {
        at += plain(json.get(at..)?);
        match json.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The place after the value that begins at `at`, in JSON that is known to be correct. In other text it finds some place or
/// none.
pub fn value_end(json: &[u8], at: usize) -> Option<usize> {
    match json.get(at)? {
        b'"' => text_end(json, at + 1).map(|end| end + 1),
        b'{' | b'[' => rest_end(json, at + 1),
        _ => {
            let rest = json.get(at..)?;
            let length = rest.iter().position(|byte| matches!(byte, b',' | b'}' | b']'));
            Some(at + length.unwrap_or(rest.len()))
        }
    }
}

/// The place after the object or list in which `at` is, before a member or its end.
pub(crate) fn rest_end(json: &[u8], at: usize) -> Option<usize> {
    let (mut at, mut depth) = (at, 1_usize);
    loop {
        match json.get(at)? {
            b'"' => at = text_end(json, at + 1)?,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 1 => return Some(at + 1),
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_special_byte_is_found_wherever_it_stands() {
        for length in 0..40 {
            let text = vec![b'~'; length];
            assert_eq!(plain(&text), length);
            for (first, second) in (0..length).flat_map(|first| (first..length).map(move |s| (first, s))) {
                for (a, b) in [(b'"', b'\\'), (b'\\', 0), (0x1f, b'"')] {
                    let mut text = text.clone();
                    (text[second], text[first]) = (b, a);
                    assert_eq!(plain(&text), first, "{text:?}");
                }
            }
            assert_eq!(plain(&vec![0x80; length]), length);
        }
    }
}
