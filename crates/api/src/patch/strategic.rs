//! Applying a strategic merge patch.
//!
//! Values that are new to the object merge into nothing, so that no directive or null of the patch gets stored.

use std::collections::{HashMap, HashSet};

use crate::Value;

use super::order::{Places, arrange};
use super::{
    DELETE_VALUES, DIRECTIVE, Merging, Object, PatchError, RETAIN_KEYS, SET_ORDER, Shape, as_list, key_of,
};

/// Merges a patch into an object of some shape.
pub(super) fn merge_map(object: &mut Object, patch: &Object, shape: Shape<'_>) -> Result<(), PatchError> {
    match patch.get(DIRECTIVE).map(|d| (d, d.as_str())) {
        None | Some((_, Some("merge"))) => {}
        // What a replacing patch says is all there is; merging it into nothing strips its directives.
        Some((_, Some("replace"))) => object.clear(),
        Some((_, Some("delete"))) => {
            object.clear();
            return Ok(());
        }
        Some((other, _)) => return Err(bad_directive(other, patch)),
    }
    retain_keys(object, patch)?;
    for (name, value) in patch {
        if let Some(list) = name.strip_prefix(DELETE_VALUES) {
            delete_values(object, list, value)?;
        } else if let Some(list) = name.strip_prefix(SET_ORDER) {
            as_list(value, "setElementOrder list")?;
            if !patch.contains_key(list) {
                merge_list(object, list, &[], Some(value), shape)?;
            }
        } else if name != DIRECTIVE && name != RETAIN_KEYS {
            merge_field(object, name, value, patch, shape)?;
        }
    }
    Ok(())
}

fn merge_field(
    object: &mut Object,
    name: &str,
    value: &Value,
    patch: &Object,
    shape: Shape<'_>,
) -> Result<(), PatchError> {
    match value {
        Value::Null => {
            object.remove(name);
            Ok(())
        }
        Value::Object(inner) => {
            if shape.replaces(name) {
                object.remove(name);
            }
            merge_map(object_at(object, name), inner, shape.child(name))
        }
        Value::Array(items) => {
            let order = patch.get(&format!("{SET_ORDER}{name}"));
            if !matches!(object.get(name), Some(Value::Array(_))) {
                object.insert(name.into(), Value::Array(Vec::new()));
            }
            merge_list(object, name, items, order, shape)
        }
        plain => {
            object.insert(name.into(), plain.clone());
            Ok(())
        }
    }
}

/// The object in a field; an empty one takes the place of anything else.
fn object_at<'o>(object: &'o mut Object, name: &str) -> &'o mut Object {
    let slot = object.entry(name).or_insert(Value::Null);
    if !slot.is_object() {
        *slot = Value::Object(Object::new());
    }
    match slot {
        Value::Object(inner) => inner,
        _ => unreachable!("the slot was made an object above"),
    }
}

fn retain_keys(object: &mut Object, patch: &Object) -> Result<(), PatchError> {
    let Some(directive) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let kept: HashSet<&str> = as_list(directive, "retainKeys")?.iter().filter_map(Value::as_str).collect();
    let named = patch.iter().filter(|(name, value)| !value.is_null() && !name.starts_with('$'));
    for (name, _) in named {
        if !kept.contains(name.as_str()) {
            return Err(PatchError::Malformed("invalid patch format of retainKeys".into()));
        }
    }
    object.retain(|name, _| kept.contains(name.as_str()));
    Ok(())
}

fn delete_values(object: &mut Object, list: &str, values: &Value) -> Result<(), PatchError> {
    let gone: HashSet<&Value> = as_list(values, "primitive list")?.iter().collect();
    if let Some(Value::Array(items)) = object.get_mut(list) {
        items.retain(|item| !gone.contains(item));
    }
    Ok(())
}

/// Merges the patch's items into the list of a field, which then gets the patch's order.
fn merge_list(
    object: &mut Object,
    name: &str,
    patch: &[Value],
    order: Option<&Value>,
    shape: Shape<'_>,
) -> Result<(), PatchError> {
    let Some(Value::Array(items)) = object.get_mut(name) else { return Ok(()) };
    let order = order.map(|o| as_list(o, "setElementOrder list")).transpose()?;
    let (strategy, item_shape) = shape.list(name);
    let old = std::mem::take(items);
    *items = match strategy {
        Merging::Replace if patch.is_empty() && order.is_some() => old,
        Merging::Replace => patch.iter().filter(|item| item.get(DIRECTIVE).is_none()).cloned().collect(),
        Merging::Set => merge_set(&old, patch, order),
        Merging::Keyed(key) => merge_keyed(old, patch, order, key, item_shape)?,
    };
    Ok(())
}

fn merge_set(old: &[Value], patch: &[Value], order: Option<&[Value]>) -> Vec<Value> {
    let mut seen = HashSet::new();
    let all = old.iter().chain(patch).filter(|v| seen.insert(*v)).cloned().collect();
    let named = Places::new(order.unwrap_or(patch).iter());
    arrange(all, &named, &Places::new(old.iter()), |item| Some(item))
}

fn merge_keyed(
    old: Vec<Value>,
    patch: &[Value],
    order: Option<&[Value]>,
    key: &str,
    shape: Shape<'_>,
) -> Result<Vec<Value>, PatchError> {
    let directives = Directives::read(patch, key)?;
    check_order(&directives.plain, order, key)?;
    let before: Vec<Value> = old.iter().filter_map(|item| item.get(key)).cloned().collect();
    let mut merged = match directives.replace {
        true => Vec::new(),
        false => old,
    };
    merged.retain(|item| item.get(key).is_none_or(|k| !directives.delete.contains(k)));
    merge_items(&mut merged, &directives.plain, key, shape)?;
    let named: Vec<&Value> = match order {
        Some(order) => order.iter().map(|item| key_of(item, key)).collect::<Result<_, _>>()?,
        None => directives.plain.iter().filter_map(|item| item.get(key)).collect(),
    };
    let named = Places::new(named.into_iter());
    Ok(arrange(merged, &named, &Places::new(before.iter()), |item| item.get(key)))
}

fn merge_items(
    merged: &mut Vec<Value>,
    patch: &[&Value],
    key: &str,
    shape: Shape<'_>,
) -> Result<(), PatchError> {
    let mut places: HashMap<Value, usize> = HashMap::new();
    for (at, item) in merged.iter().enumerate() {
        if let Some(identity) = item.get(key) {
            places.entry(identity.clone()).or_insert(at);
        }
    }
    for item in patch {
        let identity = key_of(item, key)?;
        let at = *places.entry(identity.clone()).or_insert_with(|| {
            merged.push(Value::Object(Object::new()));
            merged.len() - 1
        });
        if let (Some(Value::Object(slot)), Value::Object(item)) = (merged.get_mut(at), item) {
            merge_map(slot, item, shape)?;
        }
    }
    Ok(())
}

/// A keyed list of a patch, taken apart.
struct Directives<'p> {
    plain: Vec<&'p Value>,
    delete: HashSet<&'p Value>,
    replace: bool,
}

impl<'p> Directives<'p> {
    fn read(patch: &'p [Value], key: &str) -> Result<Self, PatchError> {
        let mut found = Self { plain: Vec::new(), delete: HashSet::new(), replace: false };
        for item in patch {
            match (item.get(DIRECTIVE), item.get(DIRECTIVE).and_then(Value::as_str)) {
                (None, _) => {
                    key_of(item, key)?;
                    found.plain.push(item);
                }
                (_, Some("delete")) => {
                    found.delete.insert(key_of(item, key)?);
                }
                (_, Some("replace")) => found.replace = true,
                (_, Some("merge")) => {
                    return Err(PatchError::Malformed(
                        "merging lists cannot yet be specified in the patch".into(),
                    ));
                }
                (Some(other), _) => return Err(bad_directive(other, item)),
            }
        }
        Ok(found)
    }
}

/// The patch's items must stand in the order that `$setElementOrder` gives.
fn check_order(patch: &[&Value], order: Option<&[Value]>, key: &str) -> Result<(), PatchError> {
    let Some(order) = order else { return Ok(()) };
    let mut rest = order.iter();
    let in_order = patch.iter().all(|item| rest.any(|o| o.get(key) == item.get(key)));
    if in_order {
        return Ok(());
    }
    let (patch, order) = (Value::from_iter(patch.iter().copied().cloned()), Value::from(order.to_vec()));
    Err(PatchError::Malformed(format!(
        "The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n"
    )))
}

fn bad_directive(directive: &Value, at: impl serde::Serialize) -> PatchError {
    let at = serde_json::to_string(&at).unwrap_or_default();
    let directive = directive.as_str().map_or_else(|| directive.to_string(), str::to_owned);
    PatchError::Malformed(format!("unknown patch type [{directive}] in map: {at}"))
}
