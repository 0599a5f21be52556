//! Which fields a write changed.
//!
//! They are written down as texts while the objects are walked. A place is written when it is entered and taken back
//! when nothing below it was found, so two equal objects cost one walk and no allocation. What was not there before is
//! left to [`super::present`].

use std::sync::LazyLock;

use crate::Value;

use super::fields::{FieldSet, Node};
use super::present::{added_field, added_item};
use super::shape::{Form, Index, Items, Shape};
use super::text::{Member, Place, Writer};

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

pub(super) fn is_ownable(name: &str) -> bool {
    !UNOWNED_METADATA.contains(&name)
}

static EMPTY: LazyLock<Value> = LazyLock::new(|| Value::Object(Node::new()));

/// Compares two versions of an object (`Null`: it does not exist). Top-level fields of `ignored` are left out.
pub(super) fn compare(root: Shape<'_>, old: &Value, new: &Value, ignored: &[&str]) -> Changes {
    // Of a new object all is written.
    let room = if old.is_null() { 4096 } else { 128 };
    let mut found = Diff { written: Writer::with_capacity(room), removed: Writer::default() };
    for (name, old, new) in zip(old.as_object(), new.as_object()) {
        if name == "apiVersion" || name == "kind" || ignored.contains(&name) {
            continue;
        }
        let shape = root.child(name);
        if name == "metadata" {
            // It always exists as such; what it holds appears and goes.
            let place = found.open((false, false), |set, member| set.open_field(name, member));
            compare_members(shape, old, new, is_ownable, &mut found);
            found.close(place);
        } else if matches!(shape, Shape::Struct(..)) {
            // The parts of an object (spec, status) always exist, too.
            found.field(shape, name, Some(old.unwrap_or(&EMPTY)), Some(new.unwrap_or(&EMPTY)));
        } else {
            found.field(shape, name, old, new);
        }
    }
    Changes { written: found.written.finish(), removed: found.removed.finish() }
}

/// The two sets on their way.
struct Diff {
    written: Writer,
    removed: Writer,
}

/// A node that is open in both; below what did not exist before or does not exist now, in one only.
#[derive(Clone, Copy)]
struct Both {
    written: Option<Place>,
    removed: Option<Place>,
}

impl Diff {
    fn open(
        &mut self,
        (written, removed): (bool, bool),
        open: impl Fn(&mut Writer, Member) -> Place,
    ) -> Both {
        Both {
            written: (!removed).then(|| open(&mut self.written, Member::when(written))),
            removed: (!written).then(|| open(&mut self.removed, Member::when(removed))),
        }
    }

    fn close(&mut self, place: Both) {
        place.written.into_iter().for_each(|place| self.written.close(place));
        place.removed.into_iter().for_each(|place| self.removed.close(place));
    }

    /// A named field or the entry of a map.
    fn field(&mut self, shape: Shape<'_>, name: &str, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (Some(Value::Object(old)), Some(Value::Object(new))) if old.same(new) => return,
            (None, Some(new)) => return added_field(shape, name, new, &mut self.written),
            _ => {}
        }
        let form = shape.resolve(old, new);
        let changed = changed(&form, old, new);
        if matches!(form, Form::Leaf) && changed == (false, false) {
            return;
        }
        let place = self.open(changed, |set, member| set.open_field(name, member));
        self.inside(form, old, new);
        self.close(place);
    }

    /// An item of a list.
    fn item(&mut self, shape: Shape<'_>, element: &str, old: Option<&Value>, new: Option<&Value>) {
        if let (None, Some(new)) = (old, new) {
            return added_item(shape, element, new, &mut self.written);
        }
        let form = shape.resolve(old, new);
        let place = self.open(changed(&form, old, new), |set, member| set.open(element, member));
        self.inside(form, old, new);
        self.close(place);
    }

    fn inside(&mut self, form: Form<'_>, old: Option<&Value>, new: Option<&Value>) {
        match form {
            Form::Leaf => {}
            Form::Object(shape) => compare_members(shape, old, new, |_| true, self),
            Form::List(items) => compare_lists(items, as_slice(old), as_slice(new), self),
        }
    }
}

/// Whether the place itself was written, and whether it was removed.
fn changed(form: &Form<'_>, old: Option<&Value>, new: Option<&Value>) -> (bool, bool) {
    match (form, old, new) {
        (Form::Leaf, Some(old), Some(new)) => (old != new, false),
        _ => (old.is_none(), new.is_none()),
    }
}

fn compare_members(
    shape: Shape<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
    counts: fn(&str) -> bool,
    found: &mut Diff,
) {
    for (name, before, after) in zip(old.and_then(Value::as_object), new.and_then(Value::as_object)) {
        if !counts(name) {
            continue;
        }
        // What the API always has did exist before, unless the whole parent is new.
        let look = shape.look(name);
        let before = before.or((look.always && old.is_some()).then_some(&EMPTY));
        let after = after.or((look.always && new.is_some()).then_some(&EMPTY));
        found.field(look.shape, name, before, after);
    }
}

fn compare_lists(items: Items<'_>, before: &[Value], after: &[Value], found: &mut Diff) {
    let aligned = before.len() == after.len() && before.iter().zip(after).all(|(a, b)| items.same(a, b));
    if !aligned {
        return compare_by_identity(items, before, after, found);
    }
    let changed = before.iter().zip(after).filter(|(a, b)| a != b);
    let mut changed: Vec<(String, &Value, &Value)> =
        changed.filter_map(|(a, b)| Some((items.element(b)?, a, b))).collect();
    changed.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    for (element, a, b) in changed {
        found.item(items.shape(), &element, Some(a), Some(b));
    }
}

fn compare_by_identity(items: Items<'_>, before: &[Value], after: &[Value], found: &mut Diff) {
    let (before, after) = (items.index(before), items.index(after));
    if before.is_empty() {
        return after.iter().for_each(|(element, new)| found.item(items.shape(), element, None, Some(new)));
    }
    for (element, old, new) in merge_sorted(&before, &after) {
        found.item(items.shape(), element, old, new);
    }
}

/// The items of both, each identity once, in order.
fn merge_sorted<'i, 'v>(before: &'i Index<'v>, after: &'i Index<'v>) -> impl Iterator<Item = Pair<'i>> {
    let get = |index: &'i Index<'v>, element: &str| {
        let at = index.binary_search_by(|(other, _)| other.as_str().cmp(element)).ok()?;
        index.get(at).map(|(_, value)| *value)
    };
    let mut elements: Vec<&str> = before.iter().chain(after).map(|(element, _)| element.as_str()).collect();
    elements.sort_unstable();
    elements.dedup();
    elements.into_iter().map(move |element| (element, get(before, element), get(after, element)))
}

fn as_slice(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

type Pair<'v> = (&'v str, Option<&'v Value>, Option<&'v Value>);

/// All keys of two objects in order, with their values; null counts as absent.
fn zip<'v>(old: Option<&'v Node>, new: Option<&'v Node>) -> impl Iterator<Item = Pair<'v>> {
    let mut ours = old.into_iter().flatten().filter(|(_, value)| !value.is_null()).peekable();
    let mut theirs = new.into_iter().flatten().filter(|(_, value)| !value.is_null()).peekable();
    std::iter::from_fn(move || {
        let (a, b) = (ours.peek().map(|(name, _)| *name), theirs.peek().map(|(name, _)| *name));
        let name = match (a, b) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => a.or(b)?,
        };
        let old = ours.next_if(|(key, _)| *key == name).map(|(_, value)| value);
        let new = theirs.next_if(|(key, _)| *key == name).map(|(_, value)| value);
        Some((name.as_str(), old, new))
    })
}
