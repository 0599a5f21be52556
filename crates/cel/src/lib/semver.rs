//! Semantic versions.

use std::cmp::Ordering;
use std::sync::Arc;

use ::semver::Version;

use super::operators::text;
use crate::error::EvalError;
use crate::value::{Opaque, Result, Value};

/// See the module.
pub const FUNCTIONS: super::Library = &[
    ("semver", |args| {
        let version = parse(args)?.map_err(|error| EvalError::failed(error.to_string()))?;
        Ok(Value::Opaque(Opaque::Semver(Arc::new(version))))
    }),
    ("isSemver", |args| Ok(Value::Bool(parse(args)?.is_ok()))),
    ("major", |args| number(args, |version| version.major)),
    ("minor", |args| number(args, |version| version.minor)),
    ("patch", |args| number(args, |version| version.patch)),
];

fn parse(
    args: &[Value<'_>],
) -> std::result::Result<std::result::Result<Version, ::semver::Error>, EvalError> {
    let text = text(args, 0)?;
    Ok(match args.get(1) {
        Some(Value::Bool(true)) => Version::parse(&normalized(text)),
        Some(Value::Bool(false)) | None => Version::parse(text),
        Some(_) => return Err(EvalError::no_such_overload()),
    })
}

/// Without a `v`, without zeros before numbers, with all three numbers.
fn normalized(text: &str) -> String {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    let mut numbers: Vec<&str> = numbers.split('.').collect();
    numbers.resize(numbers.len().max(3), "0");
    let plain = |number: &&str| match number.trim_start_matches('0') {
        "" if !number.is_empty() => "0".to_owned(),
        stripped => stripped.to_owned(),
    };
    let numbers: Vec<String> = numbers.iter().map(plain).collect();
    format!("{}{rest}", numbers.join("."))
}

fn of<'v>(value: Option<&'v Value<'_>>) -> Option<&'v Version> {
    match value {
        Some(Value::Opaque(Opaque::Semver(version))) => Some(version),
        _ => None,
    }
}

fn number<'a>(args: &[Value<'a>], of_version: fn(&Version) -> u64) -> Result<'a> {
    let version = of(args.first()).ok_or_else(EvalError::no_such_overload)?;
    Ok(Value::Int(i64::try_from(of_version(version)).unwrap_or(i64::MAX)))
}

/// The order of two versions; `None` if these are none.
pub fn order(args: &[Value<'_>]) -> Option<Ordering> {
    Some(of(args.first())?.cmp_precedence(of(args.get(1))?))
}
