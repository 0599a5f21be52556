//! Small reads and changes of JSON trees, as plugins need them.

use serde::Deserialize;
use tiphys_api::{Object, Value};

/// The text at a pointer; empty when absent.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The items at a pointer; none when absent.
pub(super) fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The list under a key, made when absent.
pub(super) fn list<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Vec<Value>> {
    let list = value.as_object_mut()?.entry(key).or_insert_with(|| Value::Array(Vec::new()));
    if list.is_null() {
        *list = Value::Array(Vec::new());
    }
    list.as_array_mut()
}

/// Whether an annotation says `true`.
pub(super) fn annotated(object: &Object, keys: &[&str]) -> bool {
    #[derive(Default, Deserialize)]
    struct Annotated {
        #[serde(default)]
        metadata: Metadata,
    }
    #[derive(Default, Deserialize)]
    struct Metadata {
        annotations: Option<std::collections::BTreeMap<String, String>>,
    }
    let annotations =
        object.decode::<Annotated>().unwrap_or_default().metadata.annotations.unwrap_or_default();
    keys.iter().any(|key| annotations.get(*key).is_some_and(|value| value == "true"))
}

/// The newest of several, and of equally new ones the first by name: how a default is chosen among many.
pub(super) fn newest(mut objects: Vec<Object>) -> Option<Object> {
    objects.sort_by(|a, b| {
        let (a, b) = (a.meta(), b.meta());
        b.created.cmp(&a.created).then_with(|| a.name.cmp(&b.name))
    });
    objects.into_iter().next()
}
