//! Laying an applied configuration over the live object, and taking away what is no longer applied.

use std::collections::{HashMap, HashSet};

use crate::Value;

use super::fields::{Node, child, child_nodes, element_path, field_element, is_member_node};
use super::shape::{Form, Items, Shape};

/// Merges a configuration into a value: what it names becomes so, the rest stays.
pub(super) fn merge(shape: Shape<'_>, live: &mut Value, config: &Value) {
    match shape.resolve(Some(live), Some(config)) {
        Form::Leaf => *live = without_nulls(config),
        Form::Object(shape) => {
            let (Value::Object(live), Value::Object(config)) = (live, config) else { return };
            for (name, value) in config.iter().filter(|(_, value)| !value.is_null()) {
                match live.get_mut(name).filter(|old| !old.is_null()) {
                    Some(old) => merge(shape.child(name), old, value),
                    None => {
                        live.insert(name.clone(), without_nulls(value));
                    }
                }
            }
        }
        Form::List(items) => {
            let (Value::Array(live), Value::Array(config)) = (live, config) else { return };
            *live = merge_items(items, std::mem::take(live), config);
        }
    }
}

/// A null in a configuration means that the field is not given.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            map.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), without_nulls(v))).collect()
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        plain => plain.clone(),
    }
}

/// Merged items in the configuration's order, with the live object's own items in between where they stood.
fn merge_items(items: Items<'_>, live: Vec<Value>, config: &[Value]) -> Vec<Value> {
    let applied: Vec<(Option<String>, &Value)> = config.iter().map(|v| (items.element(v), v)).collect();
    let applied_keys: HashSet<&str> = applied.iter().filter_map(|(key, _)| key.as_deref()).collect();
    let live: Vec<(Option<String>, Value)> = live.into_iter().map(|v| (items.element(&v), v)).collect();
    let shared = |key: &Option<String>| key.as_deref().is_some_and(|key| applied_keys.contains(key));
    // Live items of the configuration wait here; the others keep their place before the shared item that follows.
    let mut waiting: HashMap<String, Value> = HashMap::new();
    let mut own_before: HashMap<String, Vec<Value>> = HashMap::new();
    let mut own = Vec::new();
    for (key, value) in live {
        match key {
            Some(key) if shared(&Some(key.clone())) => {
                own_before.entry(key.clone()).or_default().append(&mut own);
                waiting.entry(key).or_insert(value);
            }
            _ => own.push(value),
        }
    }
    let mut merged = Vec::new();
    for (key, value) in applied {
        let key = key.unwrap_or_default();
        merged.append(&mut own_before.remove(&key).unwrap_or_default());
        merged.push(match waiting.remove(&key) {
            Some(mut old) => {
                merge(items.shape(), &mut old, value);
                old
            }
            None => without_nulls(value),
        });
    }
    merged.append(&mut own);
    merged
}

/// Removes what `last` (the manager's previous set) has and no set in `owned` (everyone's present ones) has.
/// A named field counts as owned with anything below it; an item or a map's entry only by itself.
pub(super) fn prune(shape: Shape<'_>, value: &mut Value, last: &Node, owned: &[&Node]) {
    match shape.resolve(None, Some(value)) {
        Form::Leaf => {}
        Form::Object(shape) => {
            let Value::Object(map) = value else { return };
            for (element, last) in child_nodes(last) {
                let Some(name) = element.strip_prefix("f:") else { continue };
                let Some(inner) = map.get_mut(name) else { continue };
                let named = shape.look(name).named;
                if decide(shape.child(name), inner, last, &below(owned, element), named) == Fate::Gone {
                    map.remove(name);
                }
            }
        }
        Form::List(items) => {
            let Value::Array(list) = value else { return };
            list.retain_mut(|item| {
                let Some(element) = items.element(item) else { return true };
                let Some(last) = child(last, &element) else { return true };
                decide(items.shape(), item, last, &below(owned, &element), false) == Fate::Stays
            });
        }
    }
}

#[derive(PartialEq)]
enum Fate {
    Stays,
    Gone,
}

fn decide(shape: Shape<'_>, value: &mut Value, last: &Node, owned: &[&Node], named: bool) -> Fate {
    let in_last = named || is_member_node(last);
    let in_owned = owned.iter().any(|node| named || is_member_node(node));
    if in_last && !in_owned {
        return Fate::Gone;
    }
    let was_empty = is_empty(value);
    prune(shape, value, last, owned);
    let emptied = is_empty(value) && !was_empty;
    match emptied && !owned.iter().any(|node| is_member_node(node)) {
        true => Fate::Gone,
        false => Fate::Stays,
    }
}

fn below<'n>(owned: &[&'n Node], element: &str) -> Vec<&'n Node> {
    owned.iter().filter_map(|node| child(node, element)).collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Whether two items of one list that must be unique have the same identity, or one has none; the path of the first
/// such, and what is wrong.
pub(super) fn duplicate(shape: Shape<'_>, value: &Value) -> Option<String> {
    let at = |element: &str, below: String| element_path(element) + &below;
    match shape.resolve(None, Some(value)) {
        Form::Leaf => None,
        Form::Object(shape) => value.as_object()?.iter().find_map(|(name, value)| {
            duplicate(shape.child(name), value).map(|below| at(&field_element(name), below))
        }),
        Form::List(items) => {
            let mut seen = HashSet::new();
            value.as_array()?.iter().enumerate().find_map(|(index, item)| {
                let Some(element) = items.element(item) else {
                    let keys = items.keys();
                    return Some(format!(
                        ": element {index}: associative list with keys has an element that omits all key fields \
                         {keys:?} (and doesn't have default values for any key)"
                    ));
                };
                if let Some(below) = duplicate(items.shape(), item) {
                    return Some(at(&element, below));
                }
                (!seen.insert(element.clone()))
                    .then(|| format!(": duplicate entries for key {}", at(&element, String::new())))
            })
        }
    }
}
