//! Lists as sets.

use crate::error::EvalError;
use crate::value::{Result, Value, equal};

/// See the module.
pub const FUNCTIONS: super::Library = &[
    ("sets.contains", |args| two(args).map(|(a, b)| Value::Bool(has_all(&a, &b)))),
    ("sets.equivalent", |args| two(args).map(|(a, b)| Value::Bool(has_all(&a, &b) && has_all(&b, &a)))),
    ("sets.intersects", |args| {
        two(args).map(|(a, b)| Value::Bool(a.iter().any(|item| has_all(&b, std::slice::from_ref(item)))))
    }),
];

fn two<'a>(args: &[Value<'a>]) -> Result<'a, (Vec<Value<'a>>, Vec<Value<'a>>)> {
    match args {
        [Value::List(a), Value::List(b)] => Ok((a.to_vec()?, b.to_vec()?)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn has_all<'a>(set: &[Value<'a>], items: &[Value<'a>]) -> bool {
    items.iter().all(|item| set.iter().any(|other| equal(item, other)))
}
