//! From a tree to JSON without blanks, as it is stored and served.

use super::{Text, Value, scan};

/// The text of a field of the document, where that is known.
pub type Known<'k> = &'k dyn Fn(&str, &Value) -> Option<&'k [u8]>;

/// Writes a document into about so much room. `raw`: the names that lead to texts that are JSON and are written as they
/// are, through lists too. Of these only the ends are looked at: one that is no object is an error.
pub fn write(
    value: &Value,
    raw: &[&str],
    known: Known<'_>,
    room: usize,
) -> Result<Vec<u8>, serde_json::Error> {
    let raw = (!raw.is_empty()).then_some(raw);
    let mut out = Vec::with_capacity(room);
    let Value::Object(fields) = value else {
        put(&mut out, value, raw)?;
        return Ok(out);
    };
    out.push(b'{');
    for (index, (name, value)) in fields.iter().enumerate() {
        key(&mut out, index, name)?;
        match known(name, value) {
            Some(text) => out.extend_from_slice(text),
            None => put(&mut out, value, below(raw, name))?,
        }
    }
    out.push(b'}');
    Ok(out)
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
