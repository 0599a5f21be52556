//! `metav1.FieldsV1`: a set of field paths as a trie, in the very form in which it is stored.
//!
//! - A key is a path element: `f:<field>`, `k:{<list-map keys>}`, `v:<set item>`, `i:<index>`.
//! - A node that is empty, or has the key `.`, is itself a member of the set; a node that only has other keys is not.
//! - Working on the stored form spares the conversion: a write touches only the paths that it changed, and a
//!   manager's set of hundreds of paths is neither parsed nor built again.

use serde_json::{Map, Value};

/// A set of field paths. The empty set owns nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldSet(Node);

/// A node of the trie; of the root, only the children count.
pub(super) type Node = Map<String, Value>;

/// The key that makes a node with children a member.
const SELF: &str = ".";

impl FieldSet {
    /// Reads stored JSON. `None` when it is not a well-formed set. Keys and values are brought to canonical form.
    pub fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Object(node) => canonical(node).map(Self),
            _ => None,
        }
    }

    /// Takes a trie that this program stored, as it is.
    pub(super) fn trusted(node: Node) -> Self {
        Self(node)
    }

    /// The form to store.
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    /// Whether no path is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.keys().all(|key| key == SELF)
    }

    pub(super) fn root(&self) -> &Node {
        &self.0
    }

    /// Adds all paths of another set.
    pub fn union(&mut self, other: &Self) {
        union(&mut self.0, &other.0);
    }

    /// Removes the paths of another set; what lies below such a path stays.
    pub fn subtract(&mut self, other: &Self) {
        subtract_children(&mut self.0, &other.0);
    }

    /// Just a top-level field.
    pub(super) fn of_root_field(name: &str) -> Self {
        Self(Node::from_iter([(field_element(name), Value::Object(Node::new()))]))
    }

    /// The paths that are in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(intersection(&self.0, &other.0))
    }

    /// All paths as text, as `.spec.template.spec.containers[name="web"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect_paths(&self.0, &mut String::new(), &mut found);
        found
    }
}

/// Whether a node is itself in the set.
pub(super) fn is_member(node: &Node) -> bool {
    node.is_empty() || node.contains_key(SELF)
}

/// Makes a node a member, keeping its children.
pub(super) fn make_member(node: &mut Node) {
    if !node.is_empty() {
        node.insert(SELF.into(), Value::Object(Node::new()));
    }
}

/// The node below a path element.
pub(super) fn child<'n>(node: &'n Node, element: &str) -> Option<&'n Node> {
    node.get(element).and_then(Value::as_object)
}

/// The children of a node, without the mark of its own membership.
pub(super) fn children(node: &Node) -> impl Iterator<Item = (&String, &Node)> {
    let each = node.iter().filter(|(key, _)| *key != SELF);
    each.filter_map(|(key, child)| child.as_object().map(|child| (key, child)))
}

fn union(into: &mut Node, other: &Node) {
    for (key, theirs) in children(other) {
        match into.get_mut(key) {
            Some(Value::Object(ours)) => {
                let member = is_member(ours) || is_member(theirs);
                union(ours, theirs);
                if member {
                    make_member(ours);
                }
            }
            _ => {
                into.insert(key.clone(), Value::Object(theirs.clone()));
            }
        }
    }
}

fn subtract_children(from: &mut Node, other: &Node) {
    for (key, theirs) in children(other) {
        let Some(Value::Object(ours)) = from.get_mut(key) else { continue };
        let member = is_member(ours) && !is_member(theirs);
        subtract_children(ours, theirs);
        ours.remove(SELF);
        match (member, ours.is_empty()) {
            (true, _) => make_member(ours),
            (false, true) => {
                from.remove(key);
            }
            (false, false) => {}
        }
    }
}

fn intersection(a: &Node, b: &Node) -> Node {
    let mut both = Node::new();
    for (key, ours) in children(a) {
        let Some(theirs) = child(b, key) else { continue };
        let mut node = intersection(ours, theirs);
        match (is_member(ours) && is_member(theirs), node.is_empty()) {
            (true, _) => make_member(&mut node),
            (false, true) => continue,
            (false, false) => {}
        }
        both.insert(key.clone(), Value::Object(node));
    }
    both
}

fn collect_paths(node: &Node, prefix: &mut String, found: &mut Vec<String>) {
    for (key, child) in children(node) {
        let length = prefix.len();
        push_element(prefix, key);
        if is_member(child) {
            found.push(prefix.clone());
        }
        collect_paths(child, prefix, found);
        prefix.truncate(length);
    }
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

/// Checks a whole trie and rewrites its elements as this program writes them.
fn canonical(node: Node) -> Option<Node> {
    let each = node.into_iter().map(|(key, child)| {
        let Value::Object(child) = child else { return None };
        Some((canonical_element(key)?, Value::Object(canonical(child)?)))
    });
    each.collect()
}

fn canonical_element(key: String) -> Option<String> {
    match key.split_once(':') {
        None if key == SELF => Some(key),
        Some(("f", _)) => Some(key),
        Some(("k", keys)) => serde_json::from_str::<Node>(keys).ok().map(|keys| key_element(&keys)),
        Some(("v", value)) => serde_json::from_str::<Value>(value).ok().map(|value| value_element(&value)),
        Some(("i", index)) => index.parse::<i64>().ok().map(|index| format!("i:{index}")),
        _ => None,
    }
}

/// `f:<name>`
pub(super) fn field_element(name: &str) -> String {
    let mut element = String::with_capacity(name.len() + 2);
    element.push_str("f:");
    element.push_str(name);
    element
}

/// `k:{"name":"web"}`
pub(super) fn key_element(keys: &Node) -> String {
    let keys = serde_json::to_string(keys).unwrap_or_default();
    format!("k:{keys}")
}

/// `v:"text"`
pub(super) fn value_element(value: &Value) -> String {
    format!("v:{value}")
}
