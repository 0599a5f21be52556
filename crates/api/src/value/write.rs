//! From a tree to JSON without blanks, as it is stored and served.

use super::{Map, Text, Value, scan};

/// The text of a field of the document, where that is known.
pub type Known<'k> = &'k dyn Fn(&str, &Value) -> Option<&'k [u8]>;

/// Where in a written document a field can be put in, and whether a comma goes before or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The place in the text.
    pub at: usize,
    /// The field comes after another, as the last.
    pub comma_before: bool,
    /// Another comes after it.
    pub comma_after: bool,
}

/// How a document is written.
#[derive(Clone, Copy)]
pub struct Writing<'w> {
    /// The names that lead to texts that are JSON and are written as they are, through lists too. Of these only the ends
    /// are looked at: one that is no object is an error.
    pub raw: &'w [&'w str],
    /// What is known already of the text.
    pub known: Known<'w>,
    /// A part of the document, and a field that it lacks: the gap for that is told.
    pub gap: Option<(&'w str, &'w str)>,
    /// Bytes that it will about take.
    pub room: usize,
}

/// Writes a document.
pub fn write(value: &Value, how: Writing<'_>) -> Result<(Vec<u8>, Option<Gap>), serde_json::Error> {
    let raw = (!how.raw.is_empty()).then_some(how.raw);
    let (mut out, mut gap) = (Vec::with_capacity(how.room), None);
    let Value::Object(fields) = value else {
        put(&mut out, value, raw)?;
        return Ok((out, None));
    };
    out.push(b'{');
    for (index, (name, value)) in fields.iter().enumerate() {
        key(&mut out, index, name)?;
        let missing = how.gap.filter(|(part, _)| part == name).map(|(_, field)| field);
        match (missing, value, (how.known)(name, value)) {
            (_, _, Some(text)) => out.extend_from_slice(text),
            (Some(field), Value::Object(fields), None) => {
                gap = Some(put_with_gap(&mut out, fields, below(raw, name), field)?);
            }
            (_, value, None) => put(&mut out, value, below(raw, name))?,
        }
    }
    out.push(b'}');
    Ok((out, gap))
}

/// Writes an object and tells where the missing field would be.
fn put_with_gap(
    out: &mut Vec<u8>,
    fields: &Map,
    raw: Option<&[&str]>,
    missing: &str,
) -> Result<Gap, serde_json::Error> {
    let mut gap = None;
    out.push(b'{');
    for (index, (name, value)) in fields.iter().enumerate() {
        comma(out, index);
        if gap.is_none() && name.as_str() > missing {
            gap = Some(Gap { at: out.len(), comma_before: false, comma_after: true });
        }
        key(out, 0, name)?;
        put(out, value, below(raw, name))?;
    }
    let last = Gap { at: out.len(), comma_before: !fields.is_empty(), comma_after: false };
    out.push(b'}');
    Ok(gap.unwrap_or(last))
}

/// `raw`: the names from here, if this value is on the way.
fn put(out: &mut Vec<u8>, value: &Value, raw: Option<&[&str]>) -> Result<(), serde_json::Error> {
    match (value, raw) {
        (Value::String(text), Some([])) if text.starts_with('{') && text.ends_with('}') => {
            out.extend_from_slice(text.as_bytes());
        }
        (Value::String(_), Some([])) => return Err(::serde::ser::Error::custom("a text is no object")),
        (value, Some([])) => put(out, value, None)?,
        (Value::Null, _) => out.extend_from_slice(b"null"),
        (Value::Bool(true), _) => out.extend_from_slice(b"true"),
        (Value::Bool(false), _) => out.extend_from_slice(b"false"),
        (Value::Number(number), _) => serde_json::to_writer(out, number)?,
        (Value::String(string), _) => text(out, string)?,
        (Value::Array(items), raw) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                comma(out, index);
                put(out, item, raw)?;
            }
            out.push(b']');
        }
        (Value::Object(fields), raw) => {
            out.push(b'{');
            for (index, (name, value)) in fields.iter().enumerate() {
                key(out, index, name)?;
                put(out, value, below(raw, name))?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn comma(out: &mut Vec<u8>, index: usize) {
    if index > 0 {
        out.push(b',');
    }
}

fn key(out: &mut Vec<u8>, index: usize, name: &Text) -> Result<(), serde_json::Error> {
    comma(out, index);
    text(out, name)?;
    out.push(b':');
    Ok(())
}

/// The way on from a field.
fn below<'r, 'n>(raw: Option<&'r [&'n str]>, name: &str) -> Option<&'r [&'n str]> {
    let (wanted, rest) = raw?.split_first()?;
    (*wanted == name).then_some(rest)
}

fn text(out: &mut Vec<u8>, text: &Text) -> Result<(), serde_json::Error> {
    if scan::plain(text.as_bytes()) < text.len() {
        return serde_json::to_writer(out, text.as_str());
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
    Ok(())
}
