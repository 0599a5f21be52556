//! Equality of any two values, and the order of those that have one.

use std::cmp::Ordering;

use tiphys_api::schema::ListKind;

use super::{List, Map, Opaque, Value};

/// Whether two values are equal; values of different types are not, numbers aside.
pub fn equal<'a>(a: &Value<'a>, b: &Value<'a>) -> bool {
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => **a == **b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => a.runtime_name() == b.runtime_name(),
        (Value::List(a), Value::List(b)) => equal_lists(a, b),
        (Value::Map(a), Value::Map(b)) => equal_maps(a, b),
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (Some(a), Some(b)) => equal(a, b),
            (a, b) => a.is_none() && b.is_none(),
        },
        (Value::Opaque(a), Value::Opaque(b)) => equal_opaque(a, b),
        _ => numbers(a, b) == Some(Ordering::Equal),
    }
}

/// The order of two values of a type that has one; `None` otherwise, and for NaN.
pub fn compare(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::String(a), Value::String(b)) => Some((**a).cmp(&**b)),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
        _ => numbers(a, b),
    }
}

/// The order of two numbers of any types.
fn numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(a), b) => double_and(*a, whole(b)?),
        (a, Value::Double(b)) => double_and(*b, whole(a)?).map(Ordering::reverse),
        (a, b) => Some(whole(a)?.cmp(&whole(b)?)),
    }
}

fn whole(value: &Value<'_>) -> Option<i128> {
    match value {
        Value::Int(value) => Some(i128::from(*value)),
        Value::Uint(value) => Some(i128::from(*value)),
        _ => None,
    }
}

fn double_and(double: f64, whole: i128) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // Beyond this, no 64-bit number compares equal, and the conversion stays exact enough below.
    if double.abs() >= 2e19 {
        return Some(if double > 0.0 { Ordering::Greater } else { Ordering::Less });
    }
    let floor = double.floor();
    Some((floor as i128).cmp(&whole).then(if double > floor { Ordering::Greater } else { Ordering::Equal }))
}

fn equal_lists<'a>(a: &List<'a>, b: &List<'a>) -> bool {
    if let (List::Tree(x, _), List::Tree(y, _)) = (a, b)
        && std::ptr::eq(*x, *y)
    {
        return true;
    }
    if a.len() != b.len() {
        return false;
    }
    let kind = [a, b].into_iter().find_map(|list| match list {
        List::Tree(_, of) if of.kind != ListKind::Atomic => Some(of.kind.clone()),
        _ => None,
    });
    let ordered = || a.iter().zip(b.iter()).all(|pair| matches!(pair, (Ok(a), Ok(b)) if equal(&a, &b)));
    match kind {
        // In most cases the order is the same too, which is cheap to see.
        Some(_) => ordered() || same_members(a, b),
        None => ordered(),
    }
}

/// Whether each item of one is in the other, for lists in which an item comes once.
fn same_members<'a>(a: &List<'a>, b: &List<'a>) -> bool {
    let Ok(others) = b.to_vec() else { return false };
    a.iter().all(|item| item.is_ok_and(|item| others.iter().any(|other| equal(&item, other))))
}

fn equal_maps<'a>(a: &Map<'a>, b: &Map<'a>) -> bool {
    if let (Map::Tree(x, _), Map::Tree(y, _)) = (a, b)
        && x.same(y)
    {
        return true;
    }
    a.made_as() == b.made_as()
        && a.len() == b.len()
        && a.entries().into_iter().all(|(key, value)| match (value, b.get(&key)) {
            (Ok(value), Some(Ok(other))) => equal(&value, &other),
            _ => false,
        })
}

fn equal_opaque<'a>(a: &Opaque<'a>, b: &Opaque<'a>) -> bool {
    match (a, b) {
        (Opaque::Quantity(a), Opaque::Quantity(b)) => a == b,
        (Opaque::Url(a), Opaque::Url(b)) => a == b,
        (Opaque::Ip(a), Opaque::Ip(b)) => a == b,
        (Opaque::Cidr(a), Opaque::Cidr(b)) => a == b,
        (Opaque::Semver(a), Opaque::Semver(b)) => a.cmp_precedence(b) == Ordering::Equal,
        (Opaque::Format(a), Opaque::Format(b)) => a.name == b.name,
        (Opaque::Host(a), Opaque::Host(b)) => std::rc::Rc::ptr_eq(a, b),
        _ => false,
    }
}
