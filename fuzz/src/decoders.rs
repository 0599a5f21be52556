//! Decoders: bytes and texts of clients to trees and values.

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use tiphys_api::jsonpath::JsonPath;
use tiphys_api::object::Labels;
use tiphys_api::quantity::{Quantity, is_plainly_canonical};
use tiphys_api::schema::{Resource, builtin};
use tiphys_api::selector::{FieldSelector, LabelSelector};
use tiphys_api::{Gvk, Value, cbor, convert, decode, defaults, json, protobuf, table, validate};

/// What is written is read back as it was.
pub fn json(data: &[u8]) {
    let Ok(parsed) = decode::json(data) else { return };
    let text = parsed.value.to_string();
    assert_eq!(decode::json(text.as_bytes()).map(|again| again.value), Ok(parsed.value), "{text}");
}

/// What YAML says can be said in JSON, which is YAML.
pub fn yaml(data: &[u8]) {
    let Ok(parsed) = decode::yaml(data) else { return };
    let text = parsed.value.to_string();
    assert_eq!(decode::json(text.as_bytes()).map(|again| again.value), Ok(parsed.value.clone()), "{text}");
    assert_eq!(decode::yaml(text.as_bytes()).map(|again| again.value), Ok(parsed.value), "{text}");
}

/// A message that was read once is written and read alike ever after.
pub fn protobuf(data: &[u8]) {
    let Some(first) = protobuf::open(data).ok().and_then(|tree| protobuf::encode(&tree).ok()) else { return };
    let tree = protobuf::open(&first).expect("what was written can be read");
    let second = protobuf::encode(&tree).expect("what was read can be written");
    assert_eq!(protobuf::open(&second), Ok(tree));
}

/// What is written is read back as it was.
pub fn cbor(data: &[u8]) {
    let Ok(tree) = cbor::decode(data) else { return };
    assert_eq!(cbor::decode(&cbor::encode(&tree)), Ok(tree));
}

/// The resource whose objects a tree says it is one of.
pub fn resource_of(tree: &Value) -> Option<&'static Arc<Resource>> {
    let text = |name: &str| tree.get(name).and_then(Value::as_str).unwrap_or_default();
    builtin().by_kind(&Gvk::from_api_version(text("apiVersion"), text("kind")))
}

/// An object of a known kind in canonical form.
pub fn canonical(data: &[u8]) -> Option<(&'static Arc<Resource>, Value)> {
    let mut tree = decode::json(data).ok()?.value;
    let resource = resource_of(&tree)?;
    decode::structure(resource, &mut tree).ok()?;
    Some((resource, tree))
}

/// The canonical form is stable, protobuf keeps it, defaults fit it, and whatever reads it takes it.
pub fn object(data: &[u8]) {
    let Some((resource, tree)) = canonical(data) else { return };
    let mut again = tree.clone();
    assert_eq!(decode::structure(resource, &mut again), Ok(Vec::new()), "{tree}");
    assert_eq!(again, tree);
    // What a kind cannot be without, protobuf brings back as empty. And it drops what is unknown in a schema that stands
    // where another form may stand (`items` of a schema), which nothing else looks into.
    let complete =
        validate::required(resource, &tree).is_empty() && *resource.gvk.kind != *"CustomResourceDefinition";
    if let Some(bytes) = protobuf::encode(&tree).ok().filter(|_| complete) {
        let mut back = protobuf::open(&bytes).expect("what was written can be read");
        assert_eq!(decode::structure(resource, &mut back), Ok(Vec::new()), "{tree}");
        assert_eq!(without_empty_lists(back), without_empty_lists(tree.clone()));
    }
    assert_eq!(cbor::decode(&cbor::encode(&tree)).as_ref(), Ok(&tree));
    defaults::apply(resource, &mut again);
    let defaulted = again.clone();
    defaults::apply(resource, &mut again);
    assert_eq!(again, defaulted, "{tree}");
    assert_eq!(decode::structure(resource, &mut again), Ok(Vec::new()), "{tree}");
    read(resource, &tree, &again);
    let storage = builtin().storage(&resource.gvr);
    convert::between(resource, storage, &mut again);
    convert::between(storage, resource, &mut again);
}

/// A list that is required may be left out where it may be empty; protobuf does not tell the two apart.
fn without_empty_lists(mut tree: Value) -> Value {
    match &mut tree {
        Value::Object(fields) => {
            fields.retain(|_, value| *value != json!([]));
            fields.values_mut().for_each(|value| *value = without_empty_lists(value.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = without_empty_lists(item.take())),
        _ => {}
    }
    tree
}

fn read(resource: &Resource, old: &Value, new: &Value) {
    let _ = validate::required(resource, new);
    let _ = validate::object_meta(resource, new);
    let _ = validate::object_meta_update(old, new);
    let _ = validate::immutable(resource, old, new);
    let _ = resource.selectable(new);
    let _ = table::cells(table::columns(resource), new, Timestamp::UNIX_EPOCH);
}

/// What is printed parses to the same selector.
pub fn label_selector(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(selector) = LabelSelector::parse(text) else { return };
    let printed = selector.to_string();
    assert_eq!(LabelSelector::parse(&printed).as_ref(), Ok(&selector), "{printed:?}");
    for labels in [&[][..], &[("a", "b")], &[("a", "5"), ("x", "")]] {
        let labels: Labels = labels.iter().copied().collect();
        assert_eq!(
            selector.matches(&labels),
            LabelSelector::parse(&printed).is_ok_and(|s| s.matches(&labels))
        );
    }
}

/// What is printed parses to the same selector.
pub fn field_selector(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(selector) = FieldSelector::parse(text) else { return };
    let printed = selector.to_string();
    assert_eq!(FieldSelector::parse(&printed).as_ref(), Ok(&selector), "{printed:?}");
    selector.matches(|path| (path == "metadata.name").then_some("a"));
}

/// The printed amount is the same amount, and is canonical.
pub fn quantity(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(amount) = text.parse::<Quantity>() else { return };
    let printed = amount.to_string();
    let again: Quantity = printed.parse().expect("what was printed parses");
    assert_eq!((again, again.to_string()), (amount, printed.clone()), "{text}");
    assert!(!is_plainly_canonical(text) || printed == text, "{text} became {printed}");
    assert!((amount + -amount).is_zero(), "{text}");
    assert_eq!(amount.value().signum(), i64::from(amount.sign()), "{text}");
    assert!(amount.milli_value().unsigned_abs() >= amount.value().unsigned_abs(), "{text}");
}

static SOME_OBJECT: LazyLock<Value> = LazyLock::new(|| {
    json!({"kind": "List", "spec": {"a": [1, 2, [3, {"b": "c"}]], "x.y": {"z": null}}, "items": [
        {"metadata": {"name": "n", "labels": {"k8s.io/a": "b"}}}, {"metadata": {"name": "m"}}]})
});

/// A path finds what is there and nothing else.
pub fn jsonpath(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(path) = JsonPath::parse(text) else { return };
    let _ = path.fields();
    let _ = JsonPath::join(&path.find(&SOME_OBJECT));
}
