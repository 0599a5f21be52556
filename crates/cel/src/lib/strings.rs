//! Functions of texts. Places in a text are counted in characters.

use super::lists;
use super::operators::{int, text};
use crate::error::EvalError;
use crate::value::{Result, Value};

/// Longest text that a function makes; what is longer than an object can be is of no use.
pub const BYTES_MAX: usize = 16 << 20;

/// See the module.
pub const FUNCTIONS: super::Library = &[
    ("contains", |args| Ok(Value::Bool(text(args, 0)?.contains(&**text(args, 1)?)))),
    ("startsWith", |args| Ok(Value::Bool(text(args, 0)?.starts_with(&**text(args, 1)?)))),
    ("endsWith", |args| Ok(Value::Bool(text(args, 0)?.ends_with(&**text(args, 1)?)))),
    ("lowerAscii", |args| Ok(Value::text(text(args, 0)?.to_ascii_lowercase()))),
    ("upperAscii", |args| Ok(Value::text(text(args, 0)?.to_ascii_uppercase()))),
    ("trim", |args| Ok(Value::text(text(args, 0)?.trim()))),
    ("charAt", char_at),
    ("indexOf", index_of),
    ("lastIndexOf", last_index_of),
    ("replace", replace),
    ("split", split),
    ("substring", substring),
    ("join", join),
    ("strings.quote", |args| Ok(Value::text(quoted(text(args, 0)?)))),
];

fn out_of_range<'a>(at: i64) -> Result<'a> {
    Err(EvalError::failed(format!("index out of range: {at}")))
}

/// The byte at which a character begins; the end counts as one.
fn byte_at(text: &str, character: i64) -> Option<usize> {
    let character = usize::try_from(character).ok()?;
    text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(character)
}

fn characters_before(text: &str, byte: usize) -> i64 {
    let before = text.get(..byte).unwrap_or_default();
    i64::try_from(before.chars().count()).unwrap_or(i64::MAX)
}

fn char_at<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (text, index) = (text(args, 0)?, int(args, 1)?);
    match byte_at(text, index) {
        Some(at) => Ok(Value::text(
            text.get(at..).and_then(|rest| rest.chars().next()).map(String::from).unwrap_or_default(),
        )),
        None => out_of_range(index),
    }
}

fn index_of<'a>(args: &[Value<'a>]) -> Result<'a> {
    if let Some(Value::List(list)) = args.first() {
        return lists::index_of(list, args.get(1), false);
    }
    let (text, wanted) = (text(args, 0)?, self::text(args, 1)?);
    let from = if args.len() > 2 { int(args, 2)? } else { 0 };
    let Some(start) = byte_at(text, from) else {
        return if from < 0 { out_of_range(from) } else { Ok(Value::Int(-1)) };
    };
    let found = text.get(start..).and_then(|rest| rest.find(&**wanted));
    Ok(Value::Int(found.map_or(-1, |at| characters_before(text, start + at))))
}

fn last_index_of<'a>(args: &[Value<'a>]) -> Result<'a> {
    if let Some(Value::List(list)) = args.first() {
        return lists::index_of(list, args.get(1), true);
    }
    let (text, wanted) = (text(args, 0)?, self::text(args, 1)?);
    if args.len() < 3 {
        return Ok(Value::Int(text.rfind(&**wanted).map_or(-1, |at| characters_before(text, at))));
    }
    let until = int(args, 2)?;
    let Some(start) = byte_at(text, until) else {
        return if until < 0 { out_of_range(until) } else { Ok(Value::Int(-1)) };
    };
    // The last occurrence that begins there or before.
    let end = (start + wanted.len()).min(text.len());
    let found = text.get(..end).and_then(|head| head.rfind(&**wanted));
    Ok(Value::Int(found.map_or(-1, |at| characters_before(text, at))))
}

fn too_long<'a>() -> Result<'a> {
    Err(EvalError::failed("result too large"))
}

fn replace<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (text, old, new) = (text(args, 0)?, self::text(args, 1)?, self::text(args, 2)?);
    let limit = if args.len() > 3 { int(args, 3)? } else { -1 };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let count = text.matches(&**old).take(limit).count();
    if text.len().saturating_add(count.saturating_mul(new.len())) > BYTES_MAX {
        return too_long();
    }
    Ok(Value::text(text.replacen(&**old, new, count)))
}

fn split<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (text, by) = (text(args, 0)?, self::text(args, 1)?);
    let limit = if args.len() > 2 { int(args, 2)? } else { -1 };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let parts: Vec<Value<'a>> = match (limit, by.is_empty()) {
        (0, _) => Vec::new(),
        (limit, false) => text.splitn(limit, &**by).map(Value::text).collect(),
        (limit, true) => characters(text, limit).into_iter().map(Value::text).collect(),
    };
    Ok(Value::list(parts))
}

/// Each character, the rest together once there are enough.
fn characters(text: &str, limit: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if parts.len() + 1 >= limit {
            parts.push(rest);
            break;
        }
        let (head, tail) = rest.split_at(first.len_utf8());
        parts.push(head);
        rest = tail;
    }
    parts
}

fn substring<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (text, start) = (text(args, 0)?, int(args, 1)?);
    let Some(from) = byte_at(text, start) else { return out_of_range(start) };
    if args.len() < 3 {
        return Ok(Value::text(text.get(from..).unwrap_or_default()));
    }
    let end = int(args, 2)?;
    let Some(until) = byte_at(text, end) else { return out_of_range(end) };
    if start > end {
        let message = format!("invalid substring range. start: {start}, end: {end}");
        return Err(EvalError::failed(message));
    }
    Ok(Value::text(text.get(from..until).unwrap_or_default()))
}

fn join<'a>(args: &[Value<'a>]) -> Result<'a> {
    let Some(Value::List(list)) = args.first() else { return Err(EvalError::no_such_overload()) };
    let by = if args.len() > 1 { &**text(args, 1)? } else { "" };
    let mut joined = String::new();
    for (number, item) in list.iter().enumerate() {
        let Value::String(item) = item? else { return Err(EvalError::no_such_overload()) };
        if number > 0 {
            joined.push_str(by);
        }
        joined.push_str(&item);
        if joined.len() > BYTES_MAX {
            return too_long();
        }
    }
    Ok(Value::text(joined))
}

/// In quotes, with escapes.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
