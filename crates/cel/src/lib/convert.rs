//! Conversions between types: exact, or an error.

use base64::Engine as _;

use super::time;
use crate::error::EvalError;
use crate::types::Type;
use crate::value::{Opaque, Result, Value};

/// See the module.
pub const FUNCTIONS: super::Library = &[
    ("bool", to_bool),
    ("bytes", to_bytes),
    ("double", to_double),
    ("int", to_int),
    ("uint", to_uint),
    ("string", to_string),
];

fn cannot(value: Option<&Value<'_>>, to: &str) -> EvalError {
    let from = value.map_or_else(String::new, |value| value.type_of().runtime_name());
    EvalError::failed(format!("type conversion error from '{from}' to '{to}'"))
}

fn to_bool<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args.first() {
        Some(value @ Value::Bool(_)) => Ok(value.clone()),
        Some(Value::String(text)) => match &**text {
            "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(Value::Bool(false)),
            _ => Err(cannot(args.first(), "bool")),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn to_bytes<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args.first() {
        Some(value @ Value::Bytes(_)) => Ok(value.clone()),
        Some(Value::String(text)) => Ok(Value::Bytes(text.as_bytes().into())),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn to_double<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args.first() {
        Some(Value::Double(value)) => Ok(Value::Double(*value)),
        Some(Value::Int(value)) => Ok(Value::Double(*value as f64)),
        Some(Value::Uint(value)) => Ok(Value::Double(*value as f64)),
        Some(Value::String(text)) => {
            text.parse().map(Value::Double).map_err(|_| cannot(args.first(), "double"))
        }
        _ => Err(EvalError::no_such_overload()),
    }
}

fn to_int<'a>(args: &[Value<'a>]) -> Result<'a> {
    let overflow = || EvalError::failed("integer overflow");
    match args.first() {
        Some(Value::Int(value)) => Ok(Value::Int(*value)),
        Some(Value::Uint(value)) => i64::try_from(*value).map(Value::Int).map_err(|_| overflow()),
        Some(Value::Double(value)) => match *value > i64::MIN as f64 && *value < i64::MAX as f64 {
            true => Ok(Value::Int(*value as i64)),
            false => Err(overflow()),
        },
        Some(Value::String(text)) => text.parse().map(Value::Int).map_err(|_| cannot(args.first(), "int")),
        Some(Value::Timestamp(at)) => Ok(Value::Int(at.as_second())),
        Some(Value::Duration(nanos)) => Ok(Value::Int(*nanos)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn to_uint<'a>(args: &[Value<'a>]) -> Result<'a> {
    let overflow = || EvalError::failed("unsigned integer overflow");
    match args.first() {
        Some(Value::Uint(value)) => Ok(Value::Uint(*value)),
        Some(Value::Int(value)) => u64::try_from(*value).map(Value::Uint).map_err(|_| overflow()),
        Some(Value::Double(value)) => match *value >= 0.0 && *value < u64::MAX as f64 {
            true => Ok(Value::Uint(*value as u64)),
            false => Err(overflow()),
        },
        Some(Value::String(text)) => text.parse().map(Value::Uint).map_err(|_| cannot(args.first(), "uint")),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn to_string<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args.first() {
        Some(value @ Value::String(_)) => Ok(value.clone()),
        Some(Value::Bytes(bytes)) => match str::from_utf8(bytes) {
            Ok(text) => Ok(Value::text(text)),
            Err(_) => Err(EvalError::failed("invalid UTF-8 in bytes, cannot convert to string")),
        },
        Some(
            value @ (Value::Bool(_)
            | Value::Int(_)
            | Value::Uint(_)
            | Value::Double(_)
            | Value::Timestamp(_)
            | Value::Duration(_)
            | Value::Opaque(Opaque::Url(_) | Opaque::Ip(_) | Opaque::Cidr(_) | Opaque::Semver(_))),
        ) => Ok(Value::text(shown(value))),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// A value as text, for people and for `string()`.
pub fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => double(*value),
        Value::String(text) => text.to_string(),
        Value::Bytes(bytes) => base64::engine::general_purpose::STANDARD.encode(bytes),
        Value::Timestamp(at) => time::print_timestamp(*at),
        Value::Duration(nanos) => time::print_duration(*nanos),
        Value::Type(ty) => type_name(ty),
        Value::Opaque(opaque) => match opaque {
            Opaque::Quantity(quantity) => quantity.to_string(),
            Opaque::Url(url) => url.to_string(),
            Opaque::Ip(ip) => ip.to_string(),
            Opaque::Cidr(cidr) => cidr.to_string(),
            Opaque::Semver(version) => version.to_string(),
            Opaque::Format(format) => format.name.into(),
            Opaque::Host(host) => host.type_name().into(),
        },
        Value::List(_) | Value::Map(_) | Value::Optional(_) => value.type_of().runtime_name(),
    }
}

fn type_name(ty: &Type) -> String {
    ty.runtime_name()
}

/// As Go prints it: the shortest digits, an exponent for very large and very small numbers.
pub fn double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    value.to_string()
}
