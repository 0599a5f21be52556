//! From JSON to a tree, fast, for what comes all the time.
//!
//! It takes what is plain: correct JSON without repeated names. Everything else (an error, a name that comes twice) is
//! left to the general reader, which knows how to say what is wrong. So there is one place for messages, and this reader can
//! give up whenever something is rare.

use std::ops::Range;

use serde_json::value::RawValue;

use super::{Map, Text, Value, scan};

/// Deeper documents are left to the general reader, which has a limit.
const DEPTH: usize = 64;

/// The fields of a document, and where their values stand in its text.
pub type Parts = Vec<(Text, Range<usize>)>;

/// Reads a document. `raw`: the names that lead to values that stay JSON text, through lists too. `None` says nothing
/// about the document but that another reader has to look at it.
pub fn read(json: &[u8], raw: &[&str]) -> Option<Value> {
    Reader::of(json, None)?.document(raw).map(|(value, _)| value)
}

/// Reads a document of one's own making: what stays text is not checked.
pub fn read_own(json: &[u8], raw: &[&str]) -> Option<(Value, Parts)> {
    Reader::of(json, Some(Parts::new()))?.document(raw)
}

/// A place in the text, and what has been read of the objects and lists around it: one list for all of them, so that
/// each is allocated once and in its size.
struct Reader<'t> {
    text: &'t str,
    at: usize,
    fields: Vec<(Text, Value)>,
    items: Vec<Value>,
    /// Of a document of one's own making.
    parts: Option<Parts>,
}

impl<'t> Reader<'t> {
    fn of(json: &'t [u8], parts: Option<Parts>) -> Option<Self> {
        let text = std::str::from_utf8(json).ok()?;
        Some(Self { text, at: 0, fields: Vec::new(), items: Vec::new(), parts })
    }

    fn document(mut self, raw: &[&str]) -> Option<(Value, Parts)> {
        let value = self.value(raw, DEPTH)?;
        self.blank();
        (self.at == self.text.len()).then(|| (value, self.parts.unwrap_or_default()))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// The next byte that is not blank.
    fn token(&mut self) -> Option<u8> {
        self.blank();
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn word(&mut self, rest: &str, value: Value) -> Option<Value> {
        let end = self.at + rest.len();
        (self.text.get(self.at..end)? == rest).then(|| self.at = end)?;
        Some(value)
    }

    /// `path`: the names from here to what stays text; none if this value is not on the way.
    fn value(&mut self, path: &[&str], depth: usize) -> Option<Value> {
        match self.token()? {
            b'"' => self.string().map(Value::String),
            b'{' => self.object(path, depth.checked_sub(1)?),
            b'[' => self.array(path, depth.checked_sub(1)?),
            b't' => self.word("rue", Value::Bool(true)),
            b'f' => self.word("alse", Value::Bool(false)),
            b'n' => self.word("ull", Value::Null),
            _ => self.number(),
        }
    }

    fn object(&mut self, path: &[&str], depth: usize) -> Option<Value> {
        let first = self.fields.len();
        let mut token = self.token()?;
        while token != b'}' {
            let name = (token == b'"').then(|| self.string())??;
            (self.token()? == b':').then_some(())?;
            let start = self.at;
            let value = match path {
                [step] if *step == name => self.raw()?,
                [step, below @ ..] if *step == name => self.value(below, depth)?,
                _ => self.value(&[], depth)?,
            };
            if let Some(parts) = self.parts.as_mut().filter(|_| depth + 1 == DEPTH) {
                parts.push((name.clone(), start..self.at));
            }
            self.fields.push((name, value));
            token = self.next(b'}')?;
        }
        Map::drained(&mut self.fields, first).map(Value::Object)
    }

    fn array(&mut self, path: &[&str], depth: usize) -> Option<Value> {
        let first = self.items.len();
        self.blank();
        if self.peek()? == b']' {
            self.at += 1;
            return Some(Value::Array(Vec::new()));
        }
        loop {
            let item = self.value(path, depth)?;
            self.items.push(item);
            match self.token()? {
                b',' => {}
                b']' => return Some(Value::Array(self.items.drain(first..).collect())),
                _ => return None,
            }
        }
    }

    /// What comes after a field: its list's `end`, or the token after a comma, which is not the end.
    fn next(&mut self, end: u8) -> Option<u8> {
        match self.token()? {
            b',' => self.token().filter(|token| *token != end),
            token => (token == end).then_some(token),
        }
    }

    /// After the opening quote.
    fn string(&mut self) -> Option<Text> {
        let rest = self.text.get(self.at..)?;
        let length = scan::plain(rest.as_bytes());
        match rest.as_bytes().get(length)? {
            b'"' => {
                self.at += length + 1;
                rest.get(..length).map(Text::new)
            }
            b'\\' => self.escaped(length),
            _ => None,
        }
    }

    /// A text with escapes, of which `plain` bytes have been seen.
    fn escaped(&mut self, plain: usize) -> Option<Text> {
        let start = self.at;
        let end = scan::text_end(self.text.as_bytes(), start + plain)?;
        self.at = end + 1;
        serde_json::from_str::<String>(self.text.get(start - 1..=end)?).ok().map(Text::from)
    }

    /// A number whose first byte has been taken.
    fn number(&mut self) -> Option<Value> {
        let start = self.at - 1;
        while matches!(self.peek(), Some(b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')) {
            self.at += 1;
        }
        let text = self.text.get(start..self.at)?;
        let whole = || small(text.as_bytes()).map(|number| Value::Number(number.into()));
        whole().or_else(|| serde_json::from_str(text).ok().map(Value::Number))
    }

    /// The text of the next value, which is any JSON.
    fn raw(&mut self) -> Option<Value> {
        if self.parts.is_some() {
            self.blank();
            let end = scan::value_end(self.text.as_bytes(), self.at)?;
            let raw = self.text.get(std::mem::replace(&mut self.at, end)..end)?;
            return Some(Value::String(Text::new(raw)));
        }
        let mut source =
            serde_json::Deserializer::from_str(self.text.get(self.at..)?).into_iter::<&RawValue>();
        let raw = source.next()?.ok()?;
        self.at += source.byte_offset();
        Some(Value::String(Text::new(raw.get())))
    }
}

/// A whole number of few digits, which most are.
fn small(digits: &[u8]) -> Option<u64> {
    let canonical = matches!(digits, [b'0'] | [b'1'..=b'9', ..]) && digits.len() < 18;
    let add = |sum: u64, digit: &u8| digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0'));
    canonical.then(|| digits.iter().try_fold(0, add))?
}
