//! Operators: arithmetic that never wraps, comparison, membership and indexes.

use std::cmp::Ordering;

use super::{lists, quantity, semver, time};
use crate::error::EvalError;
use crate::value::{List, Result, Text, Value, compare, equal};

/// See the module.
pub const FUNCTIONS: super::Library = &[
    ("!_", not),
    ("-_", negative),
    ("_+_", add),
    ("_-_", subtract),
    ("_*_", |args| arithmetic(args, "*")),
    ("_/_", |args| arithmetic(args, "/")),
    ("_%_", |args| arithmetic(args, "%")),
    ("_==_", |args| equality(args, true)),
    ("_!=_", |args| equality(args, false)),
    ("_<_", |args| order(args, Ordering::is_lt)),
    ("_<=_", |args| order(args, Ordering::is_le)),
    ("_>_", |args| order(args, Ordering::is_gt)),
    ("_>=_", |args| order(args, Ordering::is_ge)),
    ("@in", member),
    ("_[_]", index),
    ("_[?_]", optional_index),
    ("size", size),
    ("type", |args| {
        args.first().map(|value| Value::Type(value.type_of())).ok_or_else(EvalError::no_such_overload)
    }),
    ("dyn", |args| args.first().cloned().ok_or_else(EvalError::no_such_overload)),
    ("isLessThan", |args| compared(args).map(|order| Value::Bool(order.is_lt()))),
    ("isGreaterThan", |args| compared(args).map(|order| Value::Bool(order.is_gt()))),
    ("compareTo", |args| compared(args).map(|order| Value::Int(order as i64))),
];

/// The order of two values of a library's own.
fn compared(args: &[Value<'_>]) -> std::result::Result<Ordering, EvalError> {
    quantity::order(args).or_else(|| semver::order(args)).ok_or_else(EvalError::no_such_overload)
}

fn not<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Bool(value)] => Ok(Value::Bool(!value)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn overflow() -> EvalError {
    EvalError::failed("integer overflow")
}

fn negative<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(value)] => value.checked_neg().map(Value::Int).ok_or_else(overflow),
        [Value::Double(value)] => Ok(Value::Double(-value)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn add<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::String(a), Value::String(b)] => Ok(Value::text([&**a, &**b].concat())),
        [Value::Bytes(a), Value::Bytes(b)] => Ok(Value::Bytes([&**a, &**b].concat().into())),
        [Value::List(a), Value::List(b)] => Ok(Value::List(lists::concatenated(a, b)?)),
        [Value::Duration(a), Value::Duration(b)] => {
            a.checked_add(*b).map(Value::Duration).ok_or_else(|| EvalError::failed("duration overflow"))
        }
        [Value::Timestamp(at), Value::Duration(by)] | [Value::Duration(by), Value::Timestamp(at)] => {
            time::shifted(*at, *by)
        }
        _ => arithmetic(args, "+"),
    }
}

fn subtract<'a>(args: &[Value<'a>]) -> Result<'a> {
    let overflow = || EvalError::failed("duration overflow");
    match args {
        [Value::Duration(a), Value::Duration(b)] => {
            a.checked_sub(*b).map(Value::Duration).ok_or_else(overflow)
        }
        [Value::Timestamp(at), Value::Duration(by)] => {
            time::shifted(*at, by.checked_neg().ok_or_else(overflow)?)
        }
        [Value::Timestamp(a), Value::Timestamp(b)] => {
            let nanos = a.as_nanosecond() - b.as_nanosecond();
            i64::try_from(nanos).map(Value::Duration).map_err(|_| overflow())
        }
        _ => arithmetic(args, "-"),
    }
}

/// An operation on whole numbers of one type; none when its result does not fit.
macro_rules! whole {
    ($a:expr, $b:expr, $operator:expr) => {
        match $operator {
            "/" if *$b == 0 => return Err(EvalError::failed("division by zero")),
            "%" if *$b == 0 => return Err(EvalError::failed("modulus by zero")),
            "+" => $a.checked_add(*$b),
            "-" => $a.checked_sub(*$b),
            "*" => $a.checked_mul(*$b),
            "/" => $a.checked_div(*$b),
            _ => $a.checked_rem(*$b),
        }
    };
}

fn arithmetic<'a>(args: &[Value<'a>], operator: &str) -> Result<'a> {
    match args {
        [Value::Int(a), Value::Int(b)] => whole!(a, b, operator).map(Value::Int).ok_or_else(overflow),
        [Value::Uint(a), Value::Uint(b)] => {
            let overflow = || EvalError::failed("unsigned integer overflow");
            whole!(a, b, operator).map(Value::Uint).ok_or_else(overflow)
        }
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(match operator {
            "+" => a + b,
            "-" => a - b,
            "*" => a * b,
            "/" => a / b,
            _ => return Err(EvalError::no_such_overload()),
        })),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn equality<'a>(args: &[Value<'a>], wanted: bool) -> Result<'a> {
    match args {
        [a, b] => Ok(Value::Bool(equal(a, b) == wanted)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn order<'a>(args: &[Value<'a>], wanted: fn(Ordering) -> bool) -> Result<'a> {
    match args {
        // Nothing is before or after NaN.
        [Value::Double(value), _] | [_, Value::Double(value)] if value.is_nan() => Ok(Value::Bool(false)),
        [a, b] => {
            compare(a, b).map(|found| Value::Bool(wanted(found))).ok_or_else(EvalError::no_such_overload)
        }
        _ => Err(EvalError::no_such_overload()),
    }
}

fn member<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [value, Value::List(list)] => {
            Ok(Value::Bool(list.iter().any(|item| item.is_ok_and(|item| equal(&item, value)))))
        }
        [key, Value::Map(map)] => Ok(Value::Bool(map.get(key).is_some())),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// What is at an index or key; `Err` in the inner one says why nothing is.
fn found<'a>(of: &Value<'a>, at: &Value<'a>) -> Result<'a, std::result::Result<Value<'a>, EvalError>> {
    match (of, at) {
        (Value::List(list), at) => {
            let number = match at {
                Value::Int(number) => *number,
                Value::Uint(number) => i64::try_from(*number).unwrap_or(i64::MAX),
                Value::Double(number) if number.fract() == 0.0 => *number as i64,
                _ => return Err(EvalError::no_such_overload()),
            };
            item(list, number)
        }
        (Value::Map(map), key) => match map.get(key) {
            Some(value) => Ok(Ok(value?)),
            None => Ok(Err(EvalError::failed(format!("no such key: {}", super::convert::shown(key))))),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn item<'a>(list: &List<'a>, number: i64) -> Result<'a, std::result::Result<Value<'a>, EvalError>> {
    match usize::try_from(number).ok().and_then(|index| list.get(index)) {
        Some(value) => Ok(Ok(value?)),
        None => Ok(Err(EvalError::failed(format!("index out of bounds: {number}")))),
    }
}

fn index<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Optional(_), _] => optional_index(args),
        [of, at] => found(of, at)?,
        _ => Err(EvalError::no_such_overload()),
    }
}

fn optional_index<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Optional(None), _] => Ok(Value::Optional(None)),
        [Value::Optional(Some(of)), at] => Ok(found(of, at)?.map_or(Value::Optional(None), Value::some)),
        [of, at] => Ok(found(of, at)?.map_or(Value::Optional(None), Value::some)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn size<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [value @ (Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_))] => {
            Ok(Value::Int(i64::try_from(value.size()).unwrap_or(i64::MAX)))
        }
        _ => Err(EvalError::no_such_overload()),
    }
}

/// A text argument.
pub fn text<'v, 'a>(args: &'v [Value<'a>], at: usize) -> std::result::Result<&'v Text<'a>, EvalError> {
    match args.get(at) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// A number argument.
pub fn int(args: &[Value<'_>], at: usize) -> std::result::Result<i64, EvalError> {
    match args.get(at) {
        Some(Value::Int(number)) => Ok(*number),
        _ => Err(EvalError::no_such_overload()),
    }
}
