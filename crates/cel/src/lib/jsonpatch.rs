//! `jsonpatch.escapeKey`: keys as they are written in a JSON pointer.

use super::operators::text;
use super::strings::BYTES_MAX;
use crate::error::EvalError;
use crate::value::Value;

/// See the module.
pub const FUNCTIONS: super::Library = &[("jsonpatch.escapeKey", |args| {
    let key = text(args, 0)?;
    // What is escaped may be twice as long.
    if key.len() > BYTES_MAX / 2 {
        return Err(EvalError::failed("result too large"));
    }
    Ok(Value::text(key.replace('~', "~0").replace('/', "~1")))
})];
