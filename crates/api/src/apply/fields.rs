//! `metav1.FieldsV1`: a set of field paths as a trie, kept as the very text in which it is stored.
//!
//! - A key is a path element: `f:<field>`, `k:{<list-map keys>}`, `v:<set item>`, `i:<index>`.
//! - A node that is empty, or has the key `.`, is itself a member of the set; a node that only has other keys is not.
//! - The text is canonical: no spaces, keys sorted by their unescaped bytes (so `.` comes first). Two sets are combined
//!   by walking both texts side by side; what only one of them has is skipped or copied as it is. So a write costs
//!   what it changed plus a copy, and a manager's set of hundreds of paths is never built as a tree.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::{Map, Text, Value};

use super::text::{Cursor, Member, Writer, push_escaped};

/// A set of field paths. The empty set owns nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldSet(String);

/// A node of the trie as a tree; of the root, only the children count.
pub(super) type Node = Map;

/// The key that makes a node with children a member.
pub(super) const SELF: &str = ".";

const EMPTY: &str = "{}";

impl Default for FieldSet {
    fn default() -> Self {
        Self(EMPTY.into())
    }
}

impl FieldSet {
    /// Reads what a client sent: an object, or the text of one. `None` when it is not a well-formed set. Keys and
    /// values are brought to canonical form.
    pub fn from_value(value: &Value) -> Option<Self> {
        let node: Cow<'_, Node> = match value {
            Value::Object(node) => Cow::Borrowed(node),
            Value::String(text) => Cow::Owned(serde_json::from_str(text).ok()?),
            _ => return None,
        };
        let mut out = Writer::default();
        canonical(&node, &mut out)?;
        Some(out.finish())
    }

    /// Takes a text that this program wrote, as it is.
    pub(super) fn trusted(text: String) -> Self {
        match text.is_empty() {
            true => Self::default(),
            false => Self(text),
        }
    }

    /// The form to store.
    pub fn into_text(self) -> String {
        self.0
    }

    /// Whether no path is in the set.
    pub fn is_empty(&self) -> bool {
        let mut root = Cursor::new(&self.0);
        root.enter();
        root.key().is_none()
    }

    /// The trie as a tree, for walks that go up and down in it.
    pub(super) fn to_node(&self) -> Node {
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// Adds all paths of another set.
    pub fn union(&mut self, other: &Self) {
        if self.is_empty() {
            self.0.clone_from(&other.0);
        } else if !other.is_empty() {
            self.0 = combine(&self.0, &other.0, union).0;
        }
    }

    /// Removes the paths of another set; what lies below such a path stays.
    pub fn subtract(&mut self, other: &Self) {
        if !other.is_empty() && !self.is_empty() {
            self.0 = combine(&self.0, &other.0, subtract).0;
        }
    }

    /// Whether some path is in both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        meets(&mut Cursor::new(&self.0), &mut Cursor::new(&other.0))
    }

    /// The paths that are in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        combine(&self.0, &other.0, intersect)
    }

    /// All paths as text, as `.spec.template.spec.containers[name="web"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect_paths(&mut Cursor::new(&self.0), &mut String::new(), &mut found);
        found
    }
}

/// Writes the children of the combination of two nodes, and goes behind both.
type Combine = for<'t> fn(&mut Cursor<'t>, &mut Cursor<'t>, &mut Writer);

fn combine(a: &str, b: &str, how: Combine) -> FieldSet {
    let mut out = Writer::with_capacity(a.len() + 2);
    how(&mut Cursor::new(a), &mut Cursor::new(b), &mut out);
    out.finish()
}

fn union<'t>(a: &mut Cursor<'t>, b: &mut Cursor<'t>, out: &mut Writer) {
    side_by_side(a, b, |key, found| match found {
        Found::Both(ours, theirs) => {
            let place = out.open_raw(key, ours.is_member() || theirs.is_member());
            union(ours, theirs, out);
            out.close(place);
        }
        Found::Ours(only) | Found::Theirs(only) => out.copy(key, only.skip()),
    });
}

fn subtract<'t>(a: &mut Cursor<'t>, b: &mut Cursor<'t>, out: &mut Writer) {
    side_by_side(a, b, |key, found| match found {
        Found::Both(ours, theirs) => {
            let place = out.open_raw(key, ours.is_member() && !theirs.is_member());
            subtract(ours, theirs, out);
            out.close(place);
        }
        Found::Ours(ours) => out.copy(key, ours.skip()),
        Found::Theirs(theirs) => drop(theirs.skip()),
    });
}

fn intersect<'t>(a: &mut Cursor<'t>, b: &mut Cursor<'t>, out: &mut Writer) {
    side_by_side(a, b, |key, found| match found {
        Found::Both(ours, theirs) => {
            let place = out.open_raw(key, ours.is_member() && theirs.is_member());
            intersect(ours, theirs, out);
            out.close(place);
        }
        Found::Ours(only) | Found::Theirs(only) => drop(only.skip()),
    });
}

/// Whether some path is in both nodes. If not, goes behind both.
fn meets(a: &mut Cursor<'_>, b: &mut Cursor<'_>) -> bool {
    a.enter();
    b.enter();
    let mut ours = a.key();
    while let Some(key) = b.key() {
        while let Some(before) = ours.filter(|other| compare_keys(other, key).is_lt()) {
            a.open(before);
            a.skip();
            ours = a.key();
        }
        b.open(key);
        let Some(same) = ours.filter(|other| compare_keys(other, key).is_eq()) else {
            b.skip();
            continue;
        };
        a.open(same);
        if a.is_member() && b.is_member() || meets(a, b) {
            return true;
        }
        ours = a.key();
    }
    a.leave();
    b.leave();
    false
}

/// Who has a child; the cursors stand where its node begins, and are to go behind it.
enum Found<'v, 't> {
    Ours(&'v mut Cursor<'t>),
    Theirs(&'v mut Cursor<'t>),
    Both(&'v mut Cursor<'t>, &'v mut Cursor<'t>),
}

/// Visits the children of two nodes in the order of their keys, and goes behind both.
fn side_by_side<'t>(
    a: &mut Cursor<'t>,
    b: &mut Cursor<'t>,
    mut visit: impl for<'v> FnMut(&str, Found<'v, 't>),
) {
    a.enter();
    b.enter();
    let (mut ours, mut theirs) = (a.key(), b.key());
    loop {
        let order = match (ours, theirs) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => compare_keys(a, b),
        };
        let (in_a, in_b) = (ours.filter(|_| order.is_le()), theirs.filter(|_| order.is_ge()));
        in_a.into_iter().for_each(|key| a.open(key));
        in_b.into_iter().for_each(|key| b.open(key));
        match (in_a, in_b) {
            (Some(key), Some(_)) => visit(key, Found::Both(a, b)),
            (Some(key), None) => visit(key, Found::Ours(a)),
            (None, key) => visit(key.unwrap_or_default(), Found::Theirs(b)),
        }
        ours = if in_a.is_some() { a.key() } else { ours };
        theirs = if in_b.is_some() { b.key() } else { theirs };
    }
    a.leave();
    b.leave();
}

/// Compares two keys as written by what they mean.
fn compare_keys(a: &str, b: &str) -> Ordering {
    if !a.contains('\\') && !b.contains('\\') {
        return a.cmp(b);
    }
    unescape(a).cmp(&unescape(b))
}

/// A key as it was before JSON's escapes.
fn unescape(key: &str) -> Cow<'_, str> {
    if !key.contains('\\') {
        return Cow::Borrowed(key);
    }
    // It was read out of JSON text, so it is JSON again once quoted.
    serde_json::from_str(&format!("\"{key}\"")).map_or(Cow::Borrowed(key), Cow::Owned)
}

fn collect_paths(node: &mut Cursor<'_>, prefix: &mut String, found: &mut Vec<String>) {
    node.enter();
    while let Some(key) = node.key() {
        node.open(key);
        let length = prefix.len();
        push_element(prefix, &unescape(key));
        if node.is_member() {
            found.push(prefix.clone());
        }
        collect_paths(node, prefix, found);
        prefix.truncate(length);
    }
    node.leave();
}

fn push_element(path: &mut String, element: &str) {
    match element.split_once(':') {
        Some(("f", name)) => {
            path.push('.');
            path.push_str(name);
        }
        Some(("k", keys)) => {
            let keys: Node = serde_json::from_str(keys).unwrap_or_default();
            let pairs: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            path.push_str(&format!("[{}]", pairs.join(",")));
        }
        Some(("v", value)) => path.push_str(&format!("[={value}]")),
        Some((_, index)) => path.push_str(&format!("[{index}]")),
        None => path.push_str(element),
    }
}

/// The path of one element, as messages show it.
pub(super) fn element_path(element: &str) -> String {
    let mut path = String::new();
    push_element(&mut path, element);
    path
}

/// Checks a whole trie and writes its elements as this program writes them.
fn canonical(node: &Node, out: &mut Writer) -> Option<()> {
    let mut children = Vec::with_capacity(node.len());
    for (key, child) in node.iter().filter(|(key, _)| *key != SELF) {
        children.push((canonical_element(key)?, child.as_object()?));
    }
    if node.get(SELF).is_some_and(|mark| !mark.is_object()) {
        return None;
    }
    children.sort_by(|(a, _), (b, _)| a.cmp(b));
    children.dedup_by(|(a, _), (b, _)| a == b);
    for (element, child) in children {
        let place = out.open(&element, Member::when(is_member_node(child)));
        canonical(child, out)?;
        out.close(place);
    }
    Some(())
}

fn canonical_element(key: &str) -> Option<Cow<'_, str>> {
    match key.split_once(':')? {
        ("f", _) => Some(Cow::Borrowed(key)),
        ("k", keys) => serde_json::from_str::<Node>(keys).ok().map(|keys| node_element(&keys).into()),
        ("v", value) => serde_json::from_str::<Value>(value).ok().map(|value| value_element(&value).into()),
        ("i", index) => index.parse::<i64>().ok().map(|index| format!("i:{index}").into()),
        _ => None,
    }
}

/// Whether a node of a tree is itself in the set.
pub(super) fn is_member_node(node: &Node) -> bool {
    node.is_empty() || node.contains_key(SELF)
}

/// The node below a path element.
pub(super) fn child<'n>(node: &'n Node, element: &str) -> Option<&'n Node> {
    node.get(element).and_then(Value::as_object)
}

/// The children of a node, without the mark of its own membership.
pub(super) fn child_nodes(node: &Node) -> impl Iterator<Item = (&Text, &Node)> {
    let each = node.iter().filter(|(key, _)| *key != SELF);
    each.filter_map(|(key, child)| child.as_object().map(|child| (key, child)))
}

/// `f:<name>`
pub(super) fn field_element(name: &str) -> String {
    let mut element = String::with_capacity(name.len() + 2);
    element.push_str("f:");
    element.push_str(name);
    element
}

/// The element of keys as a client wrote them; without any, as they are.
fn node_element(keys: &Node) -> String {
    match keys.is_empty() {
        true => "k:{}".into(),
        false => key_element(keys.iter().map(|(key, value)| (key.as_str(), value))),
    }
}

/// Room for the keys of most items, in bytes.
const ELEMENT: usize = 64;

/// `k:{"name":"web"}`, of keys in order.
pub(super) fn key_element<'k>(keys: impl Iterator<Item = (&'k str, &'k Value)>) -> String {
    let mut element = String::with_capacity(ELEMENT);
    element.push_str("k:");
    for (index, (key, value)) in keys.enumerate() {
        element.push_str(if index == 0 { "{\"" } else { ",\"" });
        push_escaped(&mut element, key);
        element.push_str("\":");
        match value {
            Value::String(text) => {
                element.push('"');
                push_escaped(&mut element, text);
                element.push('"');
            }
            other => element.push_str(&other.to_string()),
        }
    }
    element.push('}');
    element
}

/// `v:"text"`
pub(super) fn value_element(value: &Value) -> String {
    format!("v:{value}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::json;

    #[test]
    fn texts_are_canonical_whatever_the_client_wrote() {
        let sent = json!({"k:{ \"name\" : \"x\" }": {"f:b": {}, ".": {}, "f:a": {}}, ".": {}, "f:\"q": {}});
        let set = FieldSet::from_value(&sent).unwrap();
        assert_eq!(set.0, r#"{"f:\"q":{},"k:{\"name\":\"x\"}":{".":{},"f:a":{},"f:b":{}}}"#);
        assert_eq!(FieldSet::from_value(&sent.to_string().into()), Some(set));
        for bad in [json!({"x": {}}), json!({"f:a": 1}), json!([]), json!("{"), json!({"f:a": {".": 1}})] {
            assert_eq!(FieldSet::from_value(&bad), None, "{bad}");
        }
    }

    #[test]
    fn keys_are_ordered_by_what_they_mean() {
        // As written, the escape of a quote sorts after letters; the quote itself sorts before them.
        let a = FieldSet::from_value(&json!({"f:a": {}, "f:\"": {}, "f:z": {}})).unwrap();
        let mut b = FieldSet::from_value(&json!({"f:\"": {}})).unwrap();
        assert_eq!(a.intersection(&b).paths(), [".\""]);
        b.union(&a);
        assert_eq!(b, a);
        let (x, y) = (r#"{"f:a":{"f:b":{}},"f:c":{}}"#, r#"{"f:a":{"f:x":{}},"f:b":{}}"#);
        let [x, y] = [x, y].map(|text| FieldSet::trusted(text.into()));
        assert!(!x.meets(&y) && !y.meets(&x) && x.meets(&x) && a.meets(&b));
        let mut rest = a.clone();
        rest.subtract(&FieldSet::from_value(&json!({"f:a": {}, "f:z": {}})).unwrap());
        assert_eq!(rest.paths(), [".\""]);
    }

    /// Paths of few elements, some of which need escapes.
    fn any_set() -> impl Strategy<Value = BTreeSet<Vec<&'static str>>> {
        let element = proptest::sample::select(vec!["f:a", "f:\"", "f:z", "k:{\"n\":\"}\"}", "v:\"x\""]);
        proptest::collection::btree_set(proptest::collection::vec(element, 1..5), 0..8)
    }

    fn set_of(paths: &BTreeSet<Vec<&str>>) -> FieldSet {
        let mut root = Value::Object(Node::new());
        for path in paths {
            let node = path.iter().fold(&mut root, |node, element| &mut node[*element]);
            node[SELF] = Value::Object(Node::new());
        }
        FieldSet::from_value(&root).unwrap()
    }

    proptest! {
        #[test]
        fn texts_combine_as_sets_of_paths_do(a in any_set(), b in any_set(), cut in 0.0..1.0) {
            let (ours, theirs) = (set_of(&a), set_of(&b));
            let mut union = ours.clone();
            union.union(&theirs);
            prop_assert_eq!(&union, &set_of(&a.union(&b).cloned().collect()));
            let mut rest = ours.clone();
            rest.subtract(&theirs);
            prop_assert_eq!(&rest, &set_of(&a.difference(&b).cloned().collect()));
            prop_assert_eq!(ours.intersection(&theirs), set_of(&a.intersection(&b).cloned().collect()));
            prop_assert_eq!(ours.meets(&theirs), !a.is_disjoint(&b));
            prop_assert_eq!((ours.is_empty(), ours.paths().len()), (a.is_empty(), a.len()));
            // A damaged text is read as far as it goes.
            let end = (union.0.len() as f64 * cut) as usize;
            let mut damaged = FieldSet(union.0.chars().take(end).collect());
            let _ = (damaged.meets(&ours), ours.meets(&damaged), damaged.paths(), damaged.intersection(&ours));
            damaged.union(&ours);
        }
    }
}
