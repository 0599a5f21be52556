//! Which fields a write changed, and which fields a configuration names.
//!
//! Only what differs is built: two equal objects cost one walk and no allocation.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::fields::{FieldSet, Node, field_element, make_member};
use super::shape::{Form, Items, Shape};

/// What a write did to an object.
#[derive(Default)]
pub(super) struct Changes {
    /// Fields added or changed.
    pub(super) written: FieldSet,
    /// Fields removed.
    pub(super) removed: FieldSet,
}

/// Fields that no one owns: identity and what the server itself keeps.
const UNOWNED_METADATA: [&str; 9] = [
    "clusterName",
    "creationTimestamp",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Compares two versions of an object (`Null`: it does not exist). Top-level fields of `ignored` are left out.
pub(super) fn compare(root: Shape<'_>, old: &Value, new: &Value, ignored: &[&str]) -> Changes {
    let mut found = Diff::default();
    for (name, old, new) in zip(old.as_object(), new.as_object()) {
        if name == "apiVersion" || name == "kind" || ignored.contains(&name) {
            continue;
        }
        let shape = root.child(name);
        let mut diff = match name {
            "metadata" => compare_objects(shape, old, new, |name| !UNOWNED_METADATA.contains(&name)),
            // The parts of an object (spec, status) always exist as such.
            _ if matches!(shape, Shape::Struct(..)) => {
                compare_objects(shape, Some(old.unwrap_or(&EMPTY)), Some(new.unwrap_or(&EMPTY)), |_| true)
            }
            _ => compare_values(shape, old, new),
        };
        if name == "metadata" {
            diff.drop_own_membership();
        }
        found.attach(|| field_element(name), diff);
    }
    found.into_changes()
}

static EMPTY: LazyLock<Value> = LazyLock::new(|| Value::Object(Node::new()));

/// The fields that a configuration names.
pub(super) fn named_fields(root: Shape<'_>, config: &Value, ignored: &[&str]) -> FieldSet {
    let mut set = Node::new();
    for (name, value) in config.as_object().into_iter().flatten() {
        if name == "apiVersion" || name == "kind" || ignored.contains(&name.as_str()) || value.is_null() {
            continue;
        }
        let mut node = fields_of(root.child(name), value);
        if name == "metadata" {
            UNOWNED_METADATA.iter().for_each(|name| {
                node.remove(&field_element(name));
            });
            if node.is_empty() {
                continue;
            }
        }
        set.insert(field_element(name), Value::Object(node));
    }
    FieldSet::trusted(set)
}

/// The node of a value: its members below, and itself a member if it is a leaf.
fn fields_of(shape: Shape<'_>, value: &Value) -> Node {
    let mut node = Node::new();
    match shape.resolve(None, Some(value)) {
        Form::Leaf => {}
        Form::Object(shape) => {
            for (name, value) in value.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null()) {
                let mut below = fields_of(shape.child(name), value);
                if !shape.names(name) {
                    make_member(&mut below);
                }
                node.insert(field_element(name), Value::Object(below));
            }
        }
        Form::List(items) => {
            for item in value.as_array().into_iter().flatten() {
                let Some(element) = items.element(item) else { continue };
                let mut below = fields_of(items.shape(), item);
                make_member(&mut below);
                node.insert(element, Value::Object(below));
            }
        }
    }
    node
}

/// Nodes of what one place wrote and removed; `None` where nothing was.
#[derive(Default)]
struct Diff {
    written: Option<Node>,
    removed: Option<Node>,
}

impl Diff {
    fn attach(&mut self, element: impl Fn() -> String, below: Self) {
        if let Some(node) = below.written {
            self.written.get_or_insert_default().insert(element(), Value::Object(node));
        }
        if let Some(node) = below.removed {
            self.removed.get_or_insert_default().insert(element(), Value::Object(node));
        }
    }

    /// The place itself appeared or went.
    fn mark(&mut self, old: Option<&Value>, new: Option<&Value>) {
        if old.is_none() {
            make_member(self.written.get_or_insert_default());
        }
        if new.is_none() {
            make_member(self.removed.get_or_insert_default());
        }
    }

    fn drop_own_membership(&mut self) {
        for node in [&mut self.written, &mut self.removed] {
            *node = node
                .take()
                .map(|mut n| {
                    n.remove(".");
                    n
                })
                .filter(|n| !n.is_empty());
        }
    }

    fn into_changes(self) -> Changes {
        let set = |node: Option<Node>| FieldSet::trusted(node.unwrap_or_default());
        Changes { written: set(self.written), removed: set(self.removed) }
    }
}

fn compare_values(shape: Shape<'_>, old: Option<&Value>, new: Option<&Value>) -> Diff {
    match shape.resolve(old, new) {
        Form::Leaf => {
            let mut diff = Diff::default();
            match (old, new) {
                (Some(old), Some(new)) if old == new => {}
                (Some(_), Some(_)) => diff.written = Some(Node::new()),
                _ => diff.mark(old, new),
            }
            diff
        }
        Form::Object(shape) => compare_objects(shape, old, new, |_| true),
        Form::List(items) => compare_lists(items, old, new),
    }
}

fn compare_objects(
    shape: Shape<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
    counts: impl Fn(&str) -> bool,
) -> Diff {
    let mut found = Diff::default();
    for (name, before, after) in zip(old.and_then(Value::as_object), new.and_then(Value::as_object)) {
        if !counts(name) {
            continue;
        }
        // What the API always has did exist before, unless the whole parent is new.
        let always = shape.always_has(name);
        let before = before.or((always && old.is_some()).then_some(&EMPTY));
        let after = after.or((always && new.is_some()).then_some(&EMPTY));
        found.attach(|| field_element(name), compare_values(shape.child(name), before, after));
    }
    found.mark(old, new);
    found
}

fn compare_lists(items: Items<'_>, old: Option<&Value>, new: Option<&Value>) -> Diff {
    let (before, after) = (as_slice(old), as_slice(new));
    let mut found = Diff::default();
    let aligned = before.len() == after.len() && before.iter().zip(after).all(|(a, b)| items.same(a, b));
    if aligned {
        for (a, b) in before.iter().zip(after) {
            let diff = compare_values(items.shape(), Some(a), Some(b));
            found.attach(|| items.element(b).unwrap_or_default(), diff);
        }
    } else {
        compare_by_identity(items, before, after, &mut found);
    }
    found.mark(old, new);
    found
}

fn compare_by_identity(items: Items<'_>, before: &[Value], after: &[Value], found: &mut Diff) {
    let (before, after) = (index(items, before), index(items, after));
    for (element, old) in &before {
        let diff = compare_item(items, Some(old), after.get(element).copied());
        found.attach(|| element.clone(), diff);
    }
    for (element, new) in after.iter().filter(|(element, _)| !before.contains_key(*element)) {
        found.attach(|| element.clone(), compare_item(items, None, Some(new)));
    }
}

fn compare_item(items: Items<'_>, old: Option<&Value>, new: Option<&Value>) -> Diff {
    compare_values(items.shape(), old, new)
}

/// The first item of each identity.
fn index<'v>(items: Items<'_>, list: &'v [Value]) -> HashMap<String, &'v Value> {
    let mut found = HashMap::with_capacity(list.len());
    for item in list {
        if let Some(element) = items.element(item) {
            found.entry(element).or_insert(item);
        }
    }
    found
}

fn as_slice(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

type Pair<'v> = (&'v str, Option<&'v Value>, Option<&'v Value>);

/// All keys of two objects with their values; null counts as absent.
fn zip<'v>(old: Option<&'v Node>, new: Option<&'v Node>) -> impl Iterator<Item = Pair<'v>> {
    fn get<'v>(map: Option<&'v Node>, name: &str) -> Option<&'v Value> {
        map.and_then(|m| m.get(name)).filter(|v| !v.is_null())
    }
    let ours =
        old.into_iter().flatten().map(move |(name, _)| (name.as_str(), get(old, name), get(new, name)));
    let added = new.into_iter().flatten().filter(move |(name, _)| old.is_none_or(|o| !o.contains_key(*name)));
    let added = added.map(move |(name, _)| (name.as_str(), None, get(new, name)));
    ours.chain(added).filter(|(_, old, new)| old.is_some() || new.is_some())
}
