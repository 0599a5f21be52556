//! Reading and writing the text of a field set, member by member.
//!
//! Texts are canonical JSON of nested objects: what this program wrote itself. A text that is not (a damaged store)
//! reads as shorter than it is, and never panics.

use super::fields::{FieldSet, SELF};
use crate::value::scan;

/// Whether a node is itself in the set.
pub(super) fn is_member(node: &str) -> bool {
    node == "{}" || node.starts_with("{\".\":")
}

/// The children of a node: key as written (without quotes) and node, without the mark of its own membership.
pub(super) fn children(node: &str) -> impl Iterator<Item = (&str, &str)> {
    Members { text: node, at: 1 }.filter(|(key, _)| *key != SELF)
}

/// The members of an object's text, in order.
struct Members<'t> {
    text: &'t str,
    /// Where the next member begins, or the closing brace stands.
    at: usize,
}

impl<'t> Iterator for Members<'t> {
    type Item = (&'t str, &'t str);

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.text.as_bytes();
        let key_end = (bytes.get(self.at) == Some(&b'"')).then(|| scan::text_end(bytes, self.at + 1))??;
        let node = key_end + 2;
        let end = (bytes.get(node) == Some(&b'{')).then(|| scan::value_end(bytes, node))??;
        let key = self.text.get(self.at + 1..key_end)?;
        let item = (key, self.text.get(node..end)?);
        self.at = end + usize::from(bytes.get(end) == Some(&b','));
        Some(item)
    }
}

/// Writes a set from the root down. A node that was opened and got neither children nor membership leaves no trace.
pub(super) struct Writer(String);

/// An open node.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Where its key begins, with the comma before it.
    start: usize,
    /// Where its content begins.
    content: usize,
    member: bool,
}

const MARK: &str = "\".\":{}";

impl Default for Writer {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl Writer {
    /// With room for a set of so many bytes.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        let mut text = String::with_capacity(bytes);
        text.push('{');
        Self(text)
    }

    /// Begins a node under a path element.
    pub(super) fn open(&mut self, element: &str, member: bool) -> Place {
        self.open_parts("", element, member)
    }

    /// Begins the node of a field.
    pub(super) fn open_field(&mut self, name: &str, member: bool) -> Place {
        self.open_parts("f:", name, member)
    }

    /// Begins a node under a key as it is written.
    pub(super) fn open_raw(&mut self, key: &str, member: bool) -> Place {
        let start = self.comma();
        self.0.push('"');
        self.0.push_str(key);
        self.begin(start, member)
    }

    fn open_parts(&mut self, prefix: &str, name: &str, member: bool) -> Place {
        let start = self.comma();
        self.0.push('"');
        self.0.push_str(prefix);
        push_escaped(&mut self.0, name);
        self.begin(start, member)
    }

    fn begin(&mut self, start: usize, member: bool) -> Place {
        self.0.push_str("\":{");
        let content = self.0.len();
        if member {
            self.0.push_str(MARK);
        }
        Place { start, content, member }
    }

    fn comma(&mut self) -> usize {
        let start = self.0.len();
        if !self.0.ends_with('{') {
            self.0.push(',');
        }
        start
    }

    /// Ends the node that was opened last.
    pub(super) fn close(&mut self, place: Place) {
        let mark = if place.member { MARK.len() } else { 0 };
        if self.0.len() > place.content + mark {
            self.0.push('}');
        } else if place.member {
            self.0.truncate(place.content);
            self.0.push('}');
        } else {
            self.0.truncate(place.start);
        }
    }

    /// Copies a whole node under its key, both as written.
    pub(super) fn copy(&mut self, key: &str, node: &str) {
        self.comma();
        self.0.push('"');
        self.0.push_str(key);
        self.0.push_str("\":");
        self.0.push_str(node);
    }

    /// The set.
    pub(super) fn finish(mut self) -> FieldSet {
        self.0.push('}');
        FieldSet::trusted(self.0)
    }
}

/// Writes a text as it stands between quotes in JSON.
pub(super) fn push_escaped(out: &mut String, text: &str) {
    let plain = scan::plain(text.as_bytes());
    if plain == text.len() {
        return out.push_str(text);
    }
    if text.bytes().any(|byte| byte < 0x20) {
        let quoted = crate::Value::from(text).to_string();
        let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        return out.push_str(inner.unwrap_or_default());
    }
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
}
