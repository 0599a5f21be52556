//! Functions of lists.

use std::cmp::Ordering;

use tiphys_api::schema::ListKind;

use super::operators;
use crate::error::EvalError;
use crate::value::{List, Result, Value, compare, equal};

/// See the module.
pub const FUNCTIONS: super::Library = &[
    ("isSorted", is_sorted),
    ("sum", sum),
    ("min", |args| extreme(args, Ordering::Less, "min")),
    ("max", |args| extreme(args, Ordering::Greater, "max")),
];

fn list<'v, 'a>(args: &'v [Value<'a>]) -> std::result::Result<&'v List<'a>, EvalError> {
    match args.first() {
        Some(Value::List(list)) => Ok(list),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// Both lists in a row. Sets stay sets, and a list of named items takes the other's items under their names.
pub fn concatenated<'a>(a: &List<'a>, b: &List<'a>) -> Result<'a, List<'a>> {
    let kind = match a {
        List::Tree(_, of) => of.kind.clone(),
        List::Items(_) => ListKind::Atomic,
    };
    let mut items = a.to_vec()?;
    match kind {
        ListKind::Atomic => items.extend(b.to_vec()?),
        ListKind::Set => {
            for item in b.iter() {
                let item = item?;
                if !items.iter().any(|other| equal(other, &item)) {
                    items.push(item);
                }
            }
        }
        ListKind::Map(keys) => {
            for item in b.iter() {
                let item = item?;
                match items.iter_mut().find(|other| same_keys(other, &item, &keys)) {
                    Some(other) => *other = item,
                    None => items.push(item),
                }
            }
        }
    }
    Ok(List::Items(items.into()))
}

fn same_keys<'a>(a: &Value<'a>, b: &Value<'a>, keys: &[Box<str>]) -> bool {
    keys.iter().all(|key| match (a.field(key), b.field(key)) {
        (Some(Ok(a)), Some(Ok(b))) => equal(&a, &b),
        (a, b) => a.is_none() && b.is_none(),
    })
}

/// Where an item is, first or last; -1 if nowhere.
pub fn index_of<'a>(list: &List<'a>, wanted: Option<&Value<'a>>, last: bool) -> Result<'a> {
    let wanted = wanted.ok_or_else(EvalError::no_such_overload)?;
    let items = list.to_vec()?;
    let found = match last {
        true => items.iter().rposition(|item| equal(item, wanted)),
        false => items.iter().position(|item| equal(item, wanted)),
    };
    Ok(Value::Int(found.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1)))
}

fn is_sorted<'a>(args: &[Value<'a>]) -> Result<'a> {
    let items = list(args)?.to_vec()?;
    for pair in items.windows(2) {
        if let [a, b] = pair {
            match compare(a, b) {
                Some(Ordering::Greater) => return Ok(Value::Bool(false)),
                Some(_) => {}
                None => return Err(EvalError::no_such_overload()),
            }
        }
    }
    Ok(Value::Bool(true))
}

fn sum<'a>(args: &[Value<'a>]) -> Result<'a> {
    let mut items = list(args)?.iter();
    let Some(first) = items.next() else { return Ok(Value::Int(0)) };
    let add = operators::FUNCTIONS.iter().find(|(name, _)| *name == "_+_").map(|(_, add)| *add);
    let add = add.ok_or_else(EvalError::no_such_overload)?;
    items.try_fold(first?, |total, item| add(&[total, item?]))
}

fn extreme<'a>(args: &[Value<'a>], wanted: Ordering, name: &str) -> Result<'a> {
    let mut items = list(args)?.iter();
    let Some(first) = items.next() else {
        return Err(EvalError::failed(format!("{name} called on empty list")));
    };
    items.try_fold(first?, |best, item| {
        let item = item?;
        let order = compare(&item, &best).ok_or_else(EvalError::no_such_overload)?;
        Ok(if order == wanted { item } else { best })
    })
}
