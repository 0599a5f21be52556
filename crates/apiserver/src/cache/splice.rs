//! Puts `metadata.resourceVersion` into canonical JSON without parsing it into a tree.
//!
//! The store keeps objects without their revision (it is known only at the commit). Keys are sorted, so the one place
//! where the revision belongs is found by skipping values, and the result is one copy.

use bytes::Bytes;
use tiphys_api::value::{Gap, scan};
use tiphys_api::{Meta, Object};

/// The object with another revision, in header and bytes.
pub fn with_revision(object: &Object, revision: u64) -> Object {
    let (old, at) = (object.meta().resource_version, object.version_at());
    let known = at.and_then(|at| Some((replaced(object.json(), at, (old, revision))?, Some(at))));
    let (json, at) = known.unwrap_or_else(|| insert(object.json(), revision));
    let meta = Meta { resource_version: revision, ..object.meta().clone() };
    Object::versioned(meta, json, at)
}

/// JSON with another revision where one stands.
fn replaced(json: &[u8], at: usize, (old, new): (u64, u64)) -> Option<Bytes> {
    let (before, rest) = json.split_at_checked(at)?;
    let after = rest.strip_prefix(old.to_string().as_bytes()).filter(|after| after.starts_with(b"\""))?;
    Some([before, new.to_string().as_bytes(), after].concat().into())
}

/// Canonical JSON with `metadata.resourceVersion` set, whether or not it had one, and where that stands.
pub fn insert(json: &[u8], revision: u64) -> (Bytes, Option<usize>) {
    fill(json, None, revision)
}

/// The same where the gap for it may be known.
pub fn fill(json: &[u8], gap: Option<Gap>, revision: u64) -> (Bytes, Option<usize>) {
    let Some(place) = gap.map(Place::from).or_else(|| find(json)) else {
        return (Bytes::copy_from_slice(json), None);
    };
    let mut text = Vec::with_capacity(json.len() + 42);
    text.extend_from_slice(&json[..place.start]);
    if place.comma_before {
        text.push(b',');
    }
    text.extend_from_slice(b"\"resourceVersion\":\"");
    let at = text.len();
    text.extend_from_slice(revision.to_string().as_bytes());
    text.push(b'"');
    if place.comma_after {
        text.push(b',');
    }
    text.extend_from_slice(&json[place.end..]);
    (text.into(), Some(at))
}

/// Whether a value without revision is what `stored` is at this revision: told without a copy.
pub fn is_same(value: &[u8], gap: Option<Gap>, stored: &[u8], revision: u64) -> bool {
    let place = gap.map(Place::from).or_else(|| find(value));
    let Some(Place { start, end, comma_before, comma_after }) = place else { return false };
    let commas = usize::from(comma_before) + usize::from(comma_after);
    let text = format!("\"resourceVersion\":\"{revision}\"");
    let middle = start + text.len() + commas;
    let written = start + usize::from(comma_before);
    stored.len() == middle + (value.len() - end)
        && stored.get(..start) == value.get(..start)
        && stored.get(written..written + text.len()) == Some(text.as_bytes())
        && stored.get(middle..) == value.get(end..)
}

/// Where the revision goes: it replaces `start..end` (empty unless one is present).
#[derive(Debug, PartialEq, Eq)]
struct Place {
    start: usize,
    end: usize,
    comma_before: bool,
    comma_after: bool,
}

impl From<Gap> for Place {
    fn from(Gap { at, comma_before, comma_after }: Gap) -> Self {
        Self { start: at, end: at, comma_before, comma_after }
    }
}

const KEY: &[u8] = b"resourceVersion";

/// Walks the top-level keys to `metadata`, then its keys to where `resourceVersion` belongs. `None` when there is no
/// metadata object, which no stored object lacks.
fn find(json: &[u8]) -> Option<Place> {
    let mut at = enter(json, 0)?;
    while let Some((key, value)) = member(json, at) {
        if key == b"metadata" {
            return find_in_metadata(json, enter(json, value)?);
        }
        at = next(json, scan::value_end(json, value)?)?;
    }
    None
}

fn find_in_metadata(json: &[u8], first: usize) -> Option<Place> {
    let mut at = first;
    while let Some((key, value)) = member(json, at) {
        match key.cmp(KEY) {
            std::cmp::Ordering::Less => {
                let end = scan::value_end(json, value)?;
                if json.get(end) != Some(&b',') {
                    return Some(Place { start: end, end, comma_before: true, comma_after: false });
                }
                at = end + 1;
            }
            std::cmp::Ordering::Equal => {
                return Some(Place {
                    start: at,
                    end: scan::value_end(json, value)?,
                    comma_before: false,
                    comma_after: false,
                });
            }
            std::cmp::Ordering::Greater => {
                return Some(Place { start: at, end: at, comma_before: false, comma_after: true });
            }
        }
    }
    Some(Place { start: first, end: first, comma_before: false, comma_after: false })
}

/// The position after `{`.
fn enter(json: &[u8], at: usize) -> Option<usize> {
    (json.get(at) == Some(&b'{')).then_some(at + 1)
}

/// The key at `at` without quotes, and where its value starts. Keys that need escapes are returned as written.
fn member(json: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let end = (json.get(at) == Some(&b'"')).then(|| scan::text_end(json, at + 1))??;
    (json.get(end + 1) == Some(&b':')).then(|| (&json[at + 1..end], end + 2))
}

/// The position after a comma; `None` at the end of the object.
fn next(json: &[u8], at: usize) -> Option<usize> {
    (json.get(at) == Some(&b',')).then_some(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(before: &str, after: &str) {
        let (inserted, at) = insert(before.as_bytes(), 7);
        assert_eq!(std::str::from_utf8(&inserted).unwrap(), after);
        assert_eq!(at.map(|at| &inserted[at - 19..=at + 1]), at.map(|_| &br#""resourceVersion":"7""#[..]));
        assert!(!is_same(before.as_bytes(), None, &inserted, 8));
        assert!(
            !is_same(before.as_bytes(), None, before.as_bytes(), 7)
                || before.contains(r#""resourceVersion":"7""#)
        );
    }

    #[test]
    fn the_revision_goes_to_its_sorted_place() {
        check(
            r#"{"kind":"A","metadata":{"name":"x"}}"#,
            r#"{"kind":"A","metadata":{"name":"x","resourceVersion":"7"}}"#,
        );
        check(
            r#"{"data":{"k":"\"}{,"},"metadata":{"name":"x","uid":"u"},"z":1}"#,
            r#"{"data":{"k":"\"}{,"},"metadata":{"name":"x","resourceVersion":"7","uid":"u"},"z":1}"#,
        );
        check(r#"{"metadata":{"uid":"u"}}"#, r#"{"metadata":{"resourceVersion":"7","uid":"u"}}"#);
        check(r#"{"metadata":{}}"#, r#"{"metadata":{"resourceVersion":"7"}}"#);
        check(
            r#"{"metadata":{"labels":{"a":"}"}},"s":[]}"#,
            r#"{"metadata":{"labels":{"a":"}"},"resourceVersion":"7"},"s":[]}"#,
        );
    }

    #[test]
    fn the_gap_that_the_writer_tells_is_the_one_that_is_found() {
        for text in [
            r#"{"metadata":{"name":"x","uid":"u"},"z":1}"#,
            r#"{"metadata":{}}"#,
            r#"{"metadata":{"a":1}}"#,
            r#"{"a":{"metadata":{}},"metadata":{"uid":"u"}}"#,
        ] {
            let tree = tiphys_api::Value::from_json(text.as_bytes()).unwrap();
            let (json, gap) = tiphys_api::apply::folded::write_stored(&tree, None).unwrap();
            assert_eq!(gap.map(Place::from), find(&json), "{text}");
        }
    }

    #[test]
    fn an_older_revision_is_replaced() {
        check(
            r#"{"metadata":{"resourceVersion":"123","uid":"u"}}"#,
            r#"{"metadata":{"resourceVersion":"7","uid":"u"}}"#,
        );
        check(
            r#"{"metadata":{"name":"n","resourceVersion":"1"}}"#,
            r#"{"metadata":{"name":"n","resourceVersion":"7"}}"#,
        );
    }

    #[test]
    fn a_revision_that_stands_in_a_known_place_is_replaced_there() {
        let text =
            br#"{"data":{"resourceVersion":"7"},"metadata":{"name":"x","resourceVersion":"7","uid":"u"}}"#;
        let meta = Meta { resource_version: 7, ..Meta::default() };
        let found = insert(text, 7).1.unwrap();
        // Also where what is told of the place is wrong.
        for at in [None, Some(found), Some(found - 1), Some(text.len()), Some(20)] {
            let object = Object::versioned(meta.clone(), Bytes::from_static(text), at);
            let next = with_revision(&object, 10_000);
            let wanted = std::str::from_utf8(text)
                .unwrap()
                .replace(r#"x","resourceVersion":"7"#, r#"x","resourceVersion":"10000"#);
            assert_eq!(std::str::from_utf8(next.json()).unwrap(), wanted, "{at:?}");
            assert_eq!((next.version_at(), next.meta().resource_version), (Some(found), 10_000));
        }
    }

    #[test]
    fn an_unchanged_object_is_recognised_without_a_copy() {
        for value in
            [r#"{"metadata":{"name":"x","uid":"u"},"z":1}"#, r#"{"metadata":{}}"#, r#"{"metadata":{"a":1}}"#]
        {
            let (stored, _) = insert(value.as_bytes(), 7);
            assert!(is_same(value.as_bytes(), None, &stored, 7), "{value}");
            let other = value.replace('1', "2");
            assert_eq!(is_same(other.as_bytes(), None, &stored, 7), other == value, "{value}");
        }
    }

    #[test]
    fn broken_text_is_left_alone() {
        for text in ["", "{", "[]", r#"{"metadata"#, r#"{"metadata":[]}"#, r#"{"a":1}"#] {
            check(text, text);
        }
    }
}
