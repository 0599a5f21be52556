//! `"%d of %s".format([1, "x"])`.

use super::operators::text;
use super::strings::BYTES_MAX;
use super::{convert, time};
use crate::error::EvalError;
use crate::value::{List, Opaque, Result, Value};

/// See the module.
pub const FUNCTIONS: super::Library = &[("format", format)];

/// Most digits after the point.
const PRECISION_MAX: usize = 100;
/// Deepest value that is printed.
const DEPTH_MAX: usize = 64;

type Text = std::result::Result<String, EvalError>;

fn format<'a>(args: &[Value<'a>]) -> Result<'a> {
    let template = text(args, 0)?;
    let Some(Value::List(values)) = args.get(1) else { return Err(EvalError::no_such_overload()) };
    let mut out = String::new();
    let mut next = 0;
    let mut rest: &str = template;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let (precision, after) = precision(after)?;
        let mut clause = after.chars();
        let verb = clause.next().ok_or_else(|| EvalError::failed("unexpected end of string"))?;
        out.push_str(&clause_text(verb, precision, &argument(values, next)?)?);
        if out.len() > BYTES_MAX {
            return Err(EvalError::failed("result too large"));
        }
        next += 1;
        rest = clause.as_str();
    }
    out.push_str(rest);
    Ok(Value::text(out))
}

fn argument<'a>(values: &List<'a>, at: usize) -> Result<'a> {
    values.get(at).unwrap_or_else(|| Err(EvalError::failed(format!("index {at} out of range"))))
}

fn precision(clause: &str) -> std::result::Result<(usize, &str), EvalError> {
    let Some(digits) = clause.strip_prefix('.') else { return Ok((6, clause)) };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (number, rest) = digits.split_at_checked(end).unwrap_or((digits, ""));
    let parsed: Option<usize> = number.parse().ok().filter(|number| *number <= PRECISION_MAX);
    let number = parsed.ok_or_else(|| EvalError::failed("error while parsing precision"))?;
    Ok((number, rest))
}

fn clause_text(verb: char, precision: usize, value: &Value<'_>) -> Text {
    let wrong = |verb: &str, wanted: &str| {
        let found = value.type_of().runtime_name();
        EvalError::failed(format!(
            "error during formatting: {verb} clause can only be used on {wanted}, was given {found}"
        ))
    };
    match (verb, value) {
        ('s', value) => printed(value, false, 0),
        ('d', Value::Int(number)) => Ok(number.to_string()),
        ('d', Value::Uint(number)) => Ok(number.to_string()),
        ('d', _) => Err(wrong("decimal", "integers")),
        ('f', value) => fixed(value, precision).ok_or_else(|| wrong("fixed-point", "doubles")),
        ('e', Value::Double(number)) => Ok(scientific(*number, precision)),
        ('e', _) => Err(wrong("scientific", "doubles")),
        ('b', Value::Bool(value)) => Ok(u8::from(*value).to_string()),
        ('b', value) => {
            radix(value, |number| format!("{number:b}")).ok_or_else(|| wrong("binary", "integers and bools"))
        }
        ('o', value) => {
            radix(value, |number| format!("{number:o}")).ok_or_else(|| wrong("octal", "integers"))
        }
        ('x', value) => hex(value, false).ok_or_else(|| wrong("hex", "integers, byte buffers, and strings")),
        ('X', value) => hex(value, true).ok_or_else(|| wrong("hex", "integers, byte buffers, and strings")),
        (verb, _) => Err(EvalError::failed(format!(
            "could not parse formatting clause: unrecognized formatting clause \"{verb}\""
        ))),
    }
}

fn fixed(value: &Value<'_>, precision: usize) -> Option<String> {
    match value {
        Value::Double(number) if number.is_finite() => Some(format!("{number:.precision$}")),
        Value::Double(number) => Some(special(*number)),
        Value::String(text) if matches!(&**text, "NaN" | "Infinity" | "-Infinity") => Some(text.to_string()),
        _ => None,
    }
}

fn special(number: f64) -> String {
    match (number.is_nan(), number > 0.0) {
        (true, _) => "NaN".into(),
        (false, true) => "Infinity".into(),
        (false, false) => "-Infinity".into(),
    }
}

fn scientific(number: f64, precision: usize) -> String {
    if !number.is_finite() {
        return special(number);
    }
    let text = format!("{number:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

fn radix(value: &Value<'_>, print: impl Fn(u64) -> String) -> Option<String> {
    match value {
        Value::Int(number) => {
            let sign = if *number < 0 { "-" } else { "" };
            Some(format!("{sign}{}", print(number.unsigned_abs())))
        }
        Value::Uint(number) => Some(print(*number)),
        _ => None,
    }
}

fn hex(value: &Value<'_>, upper: bool) -> Option<String> {
    let bytes = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let text = match value {
        Value::String(text) => bytes(text.as_bytes()),
        Value::Bytes(value) => bytes(value),
        value => radix(value, |number| format!("{number:x}"))?,
    };
    Some(if upper { text.to_uppercase() } else { text })
}

/// A value for people; within lists and maps, texts are in quotes.
fn printed(value: &Value<'_>, within: bool, depth: usize) -> Text {
    if depth > DEPTH_MAX {
        return Err(EvalError::failed("value too deep to be formatted"));
    }
    Ok(match value {
        Value::String(text) if within => format!("\"{}\"", &**text),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Double(number) if !number.is_finite() => special(*number),
        Value::Timestamp(at) if within => format!("timestamp(\"{}\")", time::print_timestamp(*at)),
        Value::Duration(nanos) if within => format!("duration(\"{}\")", time::print_duration(*nanos)),
        Value::List(list) => {
            let items = list.iter().map(|item| printed(&item?, true, depth + 1));
            format!("[{}]", items.collect::<std::result::Result<Vec<_>, _>>()?.join(", "))
        }
        Value::Map(map) => {
            let entry = |(key, value): (Value<'_>, Result<'_>)| {
                Ok(format!("{}:{}", printed(&key, true, depth + 1)?, printed(&value?, true, depth + 1)?))
            };
            let mut entries =
                map.entries().into_iter().map(entry).collect::<std::result::Result<Vec<_>, _>>()?;
            entries.sort();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Optional(_) | Value::Opaque(Opaque::Host(_)) => return Err(EvalError::no_such_overload()),
        other => convert::shown(other),
    })
}
