//! Making strategic merge patches: what a client sends so that an object becomes what it wants.
//!
//! One recursion serves both: a two-way patch is a three-way patch whose last-applied object is the current one.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{Value, json};

use super::{DELETE_VALUES, DIRECTIVE, Merging, Object, PatchError, RETAIN_KEYS, SET_ORDER, Shape, key_of};
use crate::schema::{Schema, StructId};

/// The patch that turns `from` into `to`.
pub fn diff(schema: &Schema, root: StructId, from: &Value, to: &Value) -> Result<Value, PatchError> {
    three_way(schema, root, from, to, from)
}

/// The patch that makes `wanted` hold in `current`, and removes what `applied` (the last configuration applied
/// by the same client) had and `wanted` has no longer. What others set stays.
pub fn three_way(
    schema: &Schema,
    root: StructId,
    applied: &Value,
    wanted: &Value,
    current: &Value,
) -> Result<Value, PatchError> {
    let (Value::Object(wanted), Value::Object(current)) = (wanted, current) else {
        return Err(PatchError::Malformed("invalid JSON document".into()));
    };
    let shape = Shape::Struct(schema, schema.get(root));
    maps(applied.as_object(), wanted, current, shape, false).map(Value::Object)
}

fn maps(
    applied: Option<&Object>,
    wanted: &Object,
    current: &Object,
    shape: Shape<'_>,
    retain: bool,
) -> Result<Object, PatchError> {
    let mut patch = Object::new();
    for (name, want) in wanted {
        let had = applied.and_then(|a| a.get(name));
        match (want, current.get(name)) {
            (want, Some(have)) if want == have => {}
            (Value::Object(want), Some(Value::Object(have))) if !shape.replaces(name) => {
                let had = had.and_then(Value::as_object);
                let inner = maps(had, want, have, shape.child(name), shape.retains_keys(name))?;
                if !inner.is_empty() {
                    patch.insert(name.clone(), Value::Object(inner));
                }
            }
            (Value::Array(want), Some(Value::Array(have))) => {
                let had = had.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                lists(name, Lists { had, want, have }, shape, &mut patch)?;
            }
            (want, _) => {
                patch.insert(name.clone(), want.clone());
            }
        }
    }
    for name in applied.into_iter().flat_map(Object::keys) {
        if !wanted.contains_key(name) && current.contains_key(name) {
            patch.insert(name.clone(), Value::Null);
        }
    }
    let stray = || current.keys().any(|name| !wanted.contains_key(name));
    if retain && !wanted.is_empty() && (!patch.is_empty() || stray()) {
        patch.insert(RETAIN_KEYS.into(), wanted.keys().cloned().collect());
    }
    Ok(patch)
}

/// The three versions of one list.
#[derive(Clone, Copy)]
struct Lists<'v> {
    had: &'v [Value],
    want: &'v [Value],
    have: &'v [Value],
}

fn lists(name: &str, lists: Lists<'_>, shape: Shape<'_>, patch: &mut Object) -> Result<(), PatchError> {
    let (strategy, item) = shape.list(name);
    match strategy {
        Merging::Replace if lists.want == lists.have => {}
        Merging::Replace => {
            patch.insert(name.into(), lists.want.into());
        }
        Merging::Set => sets(name, lists, patch),
        Merging::Keyed(key) => keyed(name, lists, key, (item, shape.retains_keys(name)), patch)?,
    }
    Ok(())
}

fn sets(name: &str, Lists { had, want, have }: Lists<'_>, patch: &mut Object) {
    let wanted: HashSet<&Value> = want.iter().collect();
    let present: HashSet<&Value> = have.iter().collect();
    let added: Vec<Value> = want.iter().filter(|v| !present.contains(v)).cloned().collect();
    let gone: Vec<Value> =
        had.iter().filter(|v| !wanted.contains(v) && present.contains(v)).cloned().collect();
    if added.is_empty() && gone.is_empty() && in_order(want.iter(), have.iter()) {
        return;
    }
    patch.insert(format!("{SET_ORDER}{name}").into(), want.into());
    for (field, values) in [(name.to_owned(), added), (format!("{DELETE_VALUES}{name}"), gone)] {
        if !values.is_empty() {
            patch.insert(field.into(), values.into());
        }
    }
}

fn keyed(
    name: &str,
    Lists { had, want, have }: Lists<'_>,
    key: &str,
    (shape, retain): (Shape<'_>, bool),
    patch: &mut Object,
) -> Result<(), PatchError> {
    let (before, present, wanted) = (index(had, key)?, index(have, key)?, index(want, key)?);
    let mut changes = Vec::new();
    for item in want {
        let identity = key_of(item, key)?;
        let object = |item: &&'_ Value| item.as_object().cloned();
        let (Some(item), have) = (item.as_object(), present.get(identity).and_then(|i| object(&i.1))) else {
            continue;
        };
        let Some(have) = have else {
            changes.push(Value::Object(item.clone()));
            continue;
        };
        let had = before.get(identity).and_then(|i| object(&i.1));
        let mut change = maps(had.as_ref(), item, &have, shape, retain)?;
        if !change.is_empty() {
            change.insert(key.into(), identity.clone());
            changes.push(Value::Object(change));
        }
    }
    let gone: BTreeMap<usize, &Value> = before
        .iter()
        .filter(|(identity, _)| !wanted.contains_key(*identity) && present.contains_key(*identity))
        .map(|(identity, (at, _))| (*at, *identity))
        .collect();
    changes.extend(gone.into_values().map(|identity| json!({DIRECTIVE: "delete", key: identity})));
    let keys = |items| -> Vec<&Value> { <[Value]>::iter(items).filter_map(|i| i.get(key)).collect() };
    if !changes.is_empty() || !in_order(keys(want).into_iter(), keys(have).into_iter()) {
        let order: Vec<Value> = keys(want).into_iter().map(|identity| json!({key: identity})).collect();
        patch.insert(format!("{SET_ORDER}{name}").into(), order.into());
    }
    if !changes.is_empty() {
        patch.insert(name.into(), changes.into());
    }
    Ok(())
}

type Index<'v> = HashMap<&'v Value, (usize, &'v Value)>;

fn index<'v>(items: &'v [Value], key: &str) -> Result<Index<'v>, PatchError> {
    items.iter().enumerate().map(|(at, item)| Ok((key_of(item, key)?, (at, item)))).collect()
}

/// Whether the first list's values stand in the second in the same order.
fn in_order<'v>(
    values: impl Iterator<Item = &'v Value>,
    mut within: impl Iterator<Item = &'v Value>,
) -> bool {
    let mut values = values;
    values.all(|value| within.any(|w| w == value))
}
