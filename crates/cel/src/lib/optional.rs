//! Values that may not be there.

use std::rc::Rc;

use crate::error::EvalError;
use crate::value::{Result, Value};

/// See the module.
pub const FUNCTIONS: super::Library = &[
    ("optional.none", |_| Ok(Value::Optional(None))),
    ("optional.of", |args| one(args).map(|value| Value::some(value.clone()))),
    ("optional.ofNonZeroValue", |args| {
        one(args).map(|value| Value::Optional((!value.is_zero()).then(|| Rc::new(value.clone()))))
    }),
    ("hasValue", |args| inner(args).map(|inner| Value::Bool(inner.is_some()))),
    ("value", |args| {
        let inner = inner(args)?.ok_or_else(|| EvalError::failed("optional.none() dereference"))?;
        Ok((*inner).clone())
    }),
    ("or", |args| match inner(args)? {
        Some(value) => Ok(Value::Optional(Some(value))),
        None => args.get(1).cloned().ok_or_else(EvalError::no_such_overload),
    }),
    ("orValue", |args| match inner(args)? {
        Some(value) => Ok((*value).clone()),
        None => args.get(1).cloned().ok_or_else(EvalError::no_such_overload),
    }),
];

fn one<'v, 'a>(args: &'v [Value<'a>]) -> std::result::Result<&'v Value<'a>, EvalError> {
    args.first().ok_or_else(EvalError::no_such_overload)
}

fn inner<'a>(args: &[Value<'a>]) -> Result<'a, Option<Rc<Value<'a>>>> {
    match args.first() {
        Some(Value::Optional(inner)) => Ok(inner.clone()),
        _ => Err(EvalError::no_such_overload()),
    }
}
