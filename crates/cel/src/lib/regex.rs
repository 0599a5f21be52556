//! Patterns: RE2's, which the `regex` crate's are but for corners, and in linear time as they are.

use regex::{Regex, RegexBuilder};

use super::operators::{int, text};
use crate::error::EvalError;
use crate::value::{Result, Value};

/// Largest automaton of a pattern.
const SIZE_MAX: usize = 1 << 20;

/// See the module.
pub const FUNCTIONS: super::Library = &[
    ("matches", |args| dynamic("matches", args)),
    ("find", |args| dynamic("find", args)),
    ("findAll", |args| dynamic("findAll", args)),
];

/// A pattern made ready.
pub fn compile(pattern: &str) -> std::result::Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(SIZE_MAX).build()
}

fn dynamic<'a>(name: &str, args: &[Value<'a>]) -> Result<'a> {
    let pattern = text(args, 1)?;
    let wrong = |error| EvalError::failed(format!("error parsing regexp: {error}"));
    with(name, &compile(pattern).map_err(wrong)?, args)
}

/// Calls `matches`, `find` or `findAll` with a pattern that is ready.
pub fn with<'a>(name: &str, pattern: &Regex, args: &[Value<'a>]) -> Result<'a> {
    let subject = text(args, 0)?;
    Ok(match name {
        "matches" => Value::Bool(pattern.is_match(subject)),
        "find" => Value::text(pattern.find(subject).map_or("", |found| found.as_str())),
        _ => {
            let limit = if args.len() > 2 { int(args, 2)? } else { -1 };
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let found: Vec<_> =
                pattern.find_iter(subject).take(limit).map(|found| Value::text(found.as_str())).collect();
            Value::list(found)
        }
    })
}
