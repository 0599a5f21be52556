//! Kubernetes' quantities.

use std::cmp::Ordering;

use tiphys_api::quantity::{Format, Quantity};

use super::operators::text;
use crate::error::EvalError;
use crate::value::{Opaque, Value};

/// See the module.
pub const FUNCTIONS: super::Library = &[
    ("quantity", |args| {
        let parsed: std::result::Result<Quantity, _> = text(args, 0)?.parse();
        parsed.map(made).map_err(|error| EvalError::failed(error.to_string()))
    }),
    ("isQuantity", |args| Ok(Value::Bool(text(args, 0)?.parse::<Quantity>().is_ok()))),
    ("sign", |args| one(args).map(|quantity| Value::Int(i64::from(quantity.sign())))),
    ("isInteger", |args| one(args).map(|quantity| Value::Bool(is_integer(&quantity)))),
    ("asInteger", |args| match one(args)? {
        quantity if is_integer(&quantity) => Ok(Value::Int(quantity.value())),
        _ => Err(EvalError::failed("cannot convert value to integer")),
    }),
    ("asApproximateFloat", |args| one(args).map(|quantity| Value::Double(as_double(&quantity)))),
    ("add", |args| two(args).map(|(a, b)| made(a + b))),
    ("sub", |args| two(args).map(|(a, b)| made(a + -b))),
];

fn made<'a>(quantity: Quantity) -> Value<'a> {
    Value::Opaque(Opaque::Quantity(quantity))
}

fn of(value: Option<&Value<'_>>) -> Option<Quantity> {
    match value {
        Some(Value::Opaque(Opaque::Quantity(quantity))) => Some(*quantity),
        _ => None,
    }
}

fn one(args: &[Value<'_>]) -> std::result::Result<Quantity, EvalError> {
    of(args.first()).ok_or_else(EvalError::no_such_overload)
}

fn two(args: &[Value<'_>]) -> std::result::Result<(Quantity, Quantity), EvalError> {
    let second = match args.get(1) {
        Some(Value::Int(number)) => Some(Quantity::from_units(*number, Format::DecimalSi)),
        value => of(value),
    };
    Ok((one(args)?, second.ok_or_else(EvalError::no_such_overload)?))
}

fn is_integer(quantity: &Quantity) -> bool {
    *quantity == Quantity::from_units(quantity.value(), Format::DecimalSi)
}

fn as_double(quantity: &Quantity) -> f64 {
    match is_integer(quantity) {
        true => quantity.value() as f64,
        false => quantity.milli_value() as f64 / 1000.0,
    }
}

/// The order of two quantities; `None` if these are none.
pub fn order(args: &[Value<'_>]) -> Option<Ordering> {
    Some(of(args.first())?.cmp(&of(args.get(1))?))
}
