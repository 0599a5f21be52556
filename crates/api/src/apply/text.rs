//! Reading and writing the text of a field set, member by member.
//!
//! Texts are canonical JSON of nested objects: what this program wrote itself. A text that is not (a damaged store)
//! reads as shorter than it is, and never panics. Each byte is read once: whoever went into a node stands behind it
//! afterwards, and only a node that is passed over has its end looked for.

use super::fields::FieldSet;
use crate::value::scan;

/// A place in a text: where a node begins, or, in a node that was entered, before its next child or its end.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Cursor<'t> {
    /// Before the root.
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Whether the node that begins here is itself in the set.
    pub(super) fn is_member(&self) -> bool {
        self.rest().starts_with("{}") || self.rest().starts_with("{\".\":")
    }

    /// Goes into the node that begins here, behind the mark of its own membership.
    pub(super) fn enter(&mut self) {
        self.at += 1;
        if self.rest().starts_with(MARK) {
            self.at += MARK.len();
            self.comma();
        }
    }

    /// The key of the next child as written, without quotes; none at the end of the node.
    pub(super) fn key(&self) -> Option<&'t str> {
        let bytes = self.text.as_bytes();
        let end = (bytes.get(self.at) == Some(&b'"')).then(|| scan::text_end(bytes, self.at + 1))??;
        self.text.get(self.at + 1..end)
    }

    /// Goes to where the node of the next child begins, which has this key.
    pub(super) fn open(&mut self, key: &str) {
        self.at += "\"\":".len() + key.len();
    }

    /// Passes over the node that begins here. Answers its text.
    pub(super) fn skip(&mut self) -> &'t str {
        let end = scan::value_end(self.text.as_bytes(), self.at).unwrap_or(self.text.len());
        let node = self.text.get(self.at..end).unwrap_or_default();
        self.at = end;
        self.comma();
        node
    }

    /// Goes behind the node that was entered, whatever of it is left.
    pub(super) fn leave(&mut self) {
        self.at = scan::rest_end(self.text.as_bytes(), self.at).unwrap_or(self.text.len());
        self.comma();
    }

    fn comma(&mut self) {
        self.at += usize::from(self.text.as_bytes().get(self.at) == Some(&b','));
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
    member: Member,
}

/// Whether a node is itself in the set, beside what is below it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Member {
    Never,
    /// If it turns out that nothing is below it.
    IfEmpty,
    Always,
}

impl Member {
    /// Whatever is below it.
    pub(super) fn when(member: bool) -> Self {
        if member { Self::Always } else { Self::Never }
    }
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
    pub(super) fn open(&mut self, element: &str, member: Member) -> Place {
        let start = self.key("", element);
        self.begin(start, member)
    }

    /// Begins the node of a field.
    pub(super) fn open_field(&mut self, name: &str, member: Member) -> Place {
        let start = self.key("f:", name);
        self.begin(start, member)
    }

    /// Begins a node under a key as it is written.
    pub(super) fn open_raw(&mut self, key: &str, member: bool) -> Place {
        let start = self.comma();
        self.0.push('"');
        self.0.push_str(key);
        self.begin(start, Member::when(member))
    }

    /// Writes a field with nothing below it.
    pub(super) fn leaf_field(&mut self, name: &str) {
        self.key("f:", name);
        self.0.push_str("\":{}");
    }

    /// Writes a key up to its closing quote. Answers where it begins, with the comma before it.
    fn key(&mut self, prefix: &str, name: &str) -> usize {
        let start = self.comma();
        self.0.push('"');
        self.0.push_str(prefix);
        push_escaped(&mut self.0, name);
        start
    }

    fn begin(&mut self, start: usize, member: Member) -> Place {
        self.0.push_str("\":{");
        let content = self.0.len();
        if member == Member::Always {
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
        let mark = if place.member == Member::Always { MARK.len() } else { 0 };
        if self.0.len() > place.content + mark {
            self.0.push('}');
        } else if place.member == Member::Never {
            self.0.truncate(place.start);
        } else {
            self.0.truncate(place.content);
            self.0.push('}');
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
    let mut rest = text;
    while let Some((plain, special)) = rest.split_at_checked(scan::plain(rest.as_bytes())) {
        out.push_str(plain);
        let mut left = special.chars();
        match left.next() {
            None => return,
            Some(c @ ('"' | '\\')) => out.extend(['\\', c]),
            Some(control) => push_control(out, control),
        }
        rest = left.as_str();
    }
}

fn push_control(out: &mut String, control: char) {
    let quoted = crate::Value::from(control.to_string()).to_string();
    out.push_str(quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default());
}
