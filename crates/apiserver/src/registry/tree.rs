//! Small reads and writes on an object's tree, mostly its metadata.

use jiff::Timestamp;
use tiphys_api::{Map, Value};

/// The metadata map; made when missing.
pub fn metadata(tree: &mut Value) -> &mut Map {
    child(tree, "metadata")
}

/// A child map; made when missing.
pub fn child<'t>(tree: &'t mut Value, name: &str) -> &'t mut Map {
    map_of(map_of(tree).entry(name).or_insert(Value::Null))
}

/// The value as a map; what is no map (decoding has ruled that out) is replaced by an empty one.
fn map_of(value: &mut Value) -> &mut Map {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("made an object just above")
}

/// A value at a path of keys; `Null` when any is missing.
pub fn at<'t>(tree: &'t Value, path: &[&str]) -> &'t Value {
    static NULL: Value = Value::Null;
    path.iter().try_fold(tree, |value, key| value.get(key)).unwrap_or(&NULL)
}

/// A text at a path of keys; empty when missing.
pub fn text<'t>(tree: &'t Value, path: &[&str]) -> &'t str {
    at(tree, path).as_str().unwrap_or_default()
}

/// Items of the list at a path; none when missing.
pub fn items<'t>(tree: &'t Value, path: &[&str]) -> &'t [Value] {
    at(tree, path).as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Sets a value at a path of keys, making maps on the way; `Null` removes it.
pub fn set(tree: &mut Value, path: &[&str], value: Value) {
    let Some((last, parents)) = path.split_last() else { return };
    if value.is_null() {
        let parent = parents.iter().try_fold(tree, |tree, key| tree.get_mut(key));
        if let Some(Value::Object(parent)) = parent {
            parent.remove(last);
        }
        return;
    }
    let parent = parents.iter().fold(map_of(tree), |map, key| map_of(map.entry(*key).or_insert(Value::Null)));
    parent.insert((*last).into(), value);
}

/// A time as `metav1.Time` writes it: whole seconds, the rest cut off.
pub fn time(time: Timestamp) -> Value {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string().into()
}
