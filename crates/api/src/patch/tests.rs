use crate::json;
use proptest::prelude::*;

use super::*;
use crate::schema::{Field, List, ListKind, Patch};

/// A pod-like schema: keyed lists in keyed lists, a set, an atomic list, a map, and a struct with retained keys.
fn schema() -> Schema {
    let structs = vec![
        of(
            "Root",
            vec![
                plain("finalizers", strings(ListKind::Set), merge_by("")),
                plain("labels", Type::Map(Box::new(Type::String)), Patch::default()),
                plain("spec", Type::Struct(StructId(1)), Patch::default()),
            ],
        ),
        of(
            "Spec",
            vec![
                plain("args", strings(ListKind::Atomic), Patch::default()),
                plain("containers", list_of(2, "name"), merge_by("name")),
                plain("strategy", Type::Struct(StructId(4)), Patch { retain_keys: true, ..Patch::default() }),
                plain("volumes", list_of(4, "name"), Patch { retain_keys: true, ..merge_by("name") }),
            ],
        ),
        of(
            "Container",
            vec![
                plain("env", list_of(3, "name"), merge_by("name")),
                plain("image", Type::String, Patch::default()),
                plain("name", Type::String, Patch::default()),
            ],
        ),
        of(
            "Env",
            vec![
                plain("name", Type::String, Patch::default()),
                plain("value", Type::String, Patch::default()),
            ],
        ),
        of(
            "Union",
            vec![
                plain("a", Type::Map(Box::new(Type::String)), Patch::default()),
                plain("b", Type::String, Patch::default()),
                plain("name", Type::String, Patch::default()),
            ],
        ),
    ];
    Schema { structs }
}

fn of(name: &str, fields: Vec<Field>) -> Struct {
    Struct { name: name.into(), fields: fields.into(), atomic: false, preserve_unknown: false }
}

fn plain(name: &str, ty: Type, patch: Patch) -> Field {
    Field {
        name: name.into(),
        ty,
        required: false,
        default: None,
        allowed: Box::default(),
        atomic: None,
        patch,
        proto: None,
    }
}

fn strings(kind: ListKind) -> Type {
    Type::List(Box::new(List { item: Type::String, kind }))
}

fn list_of(item: u32, key: &str) -> Type {
    let kind = ListKind::Map([key.into()].into());
    Type::List(Box::new(List { item: Type::Struct(StructId(item)), kind }))
}

fn merge_by(key: &str) -> Patch {
    Patch { merge_key: Some(key.into()), ..Patch::default() }
}

fn patched(object: Value, patch: &Value) -> Result<Value, PatchError> {
    let mut object = object;
    strategic(&schema(), StructId(0), &mut object, patch)?;
    Ok(object)
}

#[test]
fn lists_merge_by_key_and_directives_are_obeyed() {
    let object = json!({"finalizers": ["x", "y"], "labels": {"a": "1"}, "spec": {"args": ["1", "2"],
        "containers": [{"name": "a", "image": "1", "env": [{"name": "E", "value": "1"}]}, {"name": "b"}],
        "strategy": {"a": {"k": "v"}}}});
    for (patch, pointer, expected) in [
        (
            json!({"spec": {"containers": [{"name": "a", "image": "2"}]}}),
            "/spec/containers",
            json!([{"name": "a", "image": "2", "env": [{"name": "E", "value": "1"}]}, {"name": "b"}]),
        ),
        (
            json!({"spec": {"containers": [{"name": "c"}]}}),
            "/spec/containers",
            json!([{"name": "c"}, {"name": "a", "image": "1", "env": [{"name": "E", "value": "1"}]}, {"name": "b"}]),
        ),
        (
            json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
            "/spec/containers",
            json!([{"name": "b"}]),
        ),
        (
            json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "z"}]}}),
            "/spec/containers",
            json!([{"name": "z"}]),
        ),
        (
            json!({"spec": {"containers": [{"name": "b", "$patch": "delete"}, {"name": "a", "$patch": "delete"}]}}),
            "/spec/containers",
            json!([]),
        ),
        (
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}),
            "/spec/containers",
            json!([{"name": "b"}, {"name": "a", "image": "1", "env": [{"name": "E", "value": "1"}]}]),
        ),
        (
            json!({"spec": {"containers": [{"name": "a", "env": [{"name": "E", "value": null}]}]}}),
            "/spec/containers/0/env",
            json!([{"name": "E"}]),
        ),
        (json!({"spec": {"args": ["3"]}}), "/spec/args", json!(["3"])),
        (json!({"finalizers": ["z"]}), "/finalizers", json!(["z", "x", "y"])),
        (json!({"$deleteFromPrimitiveList/finalizers": ["x"]}), "/finalizers", json!(["y"])),
        (json!({"$setElementOrder/finalizers": ["y", "x"]}), "/finalizers", json!(["y", "x"])),
        (json!({"labels": {"$patch": "replace", "b": "2"}}), "/labels", json!({"b": "2"})),
        (json!({"labels": {"$patch": "delete"}}), "/labels", json!({})),
        (json!({"labels": {"a": null, "b": "2"}}), "/labels", json!({"b": "2"})),
        (
            json!({"spec": {"strategy": {"$retainKeys": ["b"], "b": "x"}}}),
            "/spec/strategy",
            json!({"b": "x"}),
        ),
        (json!({"new": {"x": null, "y": {"$patch": "replace", "z": 1}}}), "/new", json!({"y": {"z": 1}})),
    ] {
        let result = patched(object.clone(), &patch).unwrap();
        assert_eq!(result.pointer(pointer), Some(&expected), "{patch}");
    }
}

#[test]
fn patches_that_break_the_format_are_malformed() {
    let object = json!({"spec": {"containers": [{"name": "a"}]}});
    for (patch, text) in [
        (json!([]), "invalid JSON document"),
        (json!({"$patch": "explode"}), "unknown patch type [explode] in map: {\"$patch\":\"explode\"}"),
        (
            json!({"spec": {"containers": [{"image": "x"}]}}),
            "map: {\"image\":\"x\"} does not contain declared merge key: name",
        ),
        (json!({"spec": {"containers": ["x"]}}), "list element types are not identical"),
        (
            json!({"spec": {"strategy": {"$retainKeys": ["a"], "b": "x"}}}),
            "invalid patch format of retainKeys",
        ),
        (json!({"$deleteFromPrimitiveList/finalizers": "x"}), "invalid patch format of primitive list"),
        (json!({"$setElementOrder/finalizers": 1}), "invalid patch format of setElementOrder list"),
    ] {
        let error = patched(object.clone(), &patch).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.status().code), (text, 400));
    }
    let order =
        json!({"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}});
    assert!(patched(object, &order).unwrap_err().to_string().starts_with("The order in patch list:"));
}

#[test]
fn kubectl_apply_keeps_what_others_set() {
    let applied = json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b"}]}});
    let wanted = json!({"spec": {"containers": [{"name": "a", "image": "2"}]}});
    let current = json!({"spec": {"containers": [{"name": "side"}, {"name": "a", "image": "1",
        "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]}});
    let patch = three_way(&schema(), StructId(0), &applied, &wanted, &current).unwrap();
    assert_eq!(
        patch,
        json!({"spec": {"$setElementOrder/containers": [{"name": "a"}],
        "containers": [{"name": "a", "image": "2"}, {"name": "b", "$patch": "delete"}]}})
    );
    assert_eq!(
        patched(current, &patch).unwrap(),
        json!({"spec": {"containers": [{"name": "side"},
        {"name": "a", "image": "2", "env": [{"name": "X", "value": "1"}]}]}})
    );
}

#[test]
fn json_patches_apply_in_order() {
    let mut object = json!({"a": [1, 2], "b": {"c": "d"}});
    let patch = json!([
        {"op": "test", "path": "/a/0", "value": 1},
        {"op": "test", "path": "/none", "value": null},
        {"op": "add", "path": "/a/-", "value": 3},
        {"op": "remove", "path": "/a/0"},
        {"op": "copy", "from": "/b", "path": "/e"},
        {"op": "move", "from": "/b/c", "path": "/f~1g"},
        {"op": "replace", "path": "/e/c", "value": "z"},
    ]);
    json(&mut object, &patch).unwrap();
    assert_eq!(object, json!({"a": [2, 3], "b": {}, "e": {"c": "z"}, "f/g": "d"}));
}

#[test]
fn json_patches_that_do_not_fit_are_told_apart_from_malformed_ones() {
    for (patch, code, text) in [
        (json!({}), 400, "json: cannot unmarshal object into Go value of type jsonpatch.Patch"),
        (json!([1]), 400, "json: cannot unmarshal number into Go value of type jsonpatch.Operation"),
        (json!([{"op": "grow", "path": "/a"}]), 422, "Unexpected kind: grow"),
        (json!([{"op": "test", "path": "/a", "value": 2}]), 422, "testing value /a failed: test failed"),
        (
            json!([{"op": "remove", "path": "/x"}]),
            422,
            "remove operation does not apply: doc is missing path: /x: missing value",
        ),
        (
            json!([{"op": "copy", "from": "/x", "path": "/y"}]),
            422,
            "copy operation does not apply: doc is missing path: /x: missing value",
        ),
    ] {
        let error = json(&mut json!({"a": 1}), &patch).unwrap_err();
        assert_eq!((error.status().code, error.to_string().as_str()), (code, text));
    }
    let many = Value::Array(vec![json!({"op": "test", "path": "/a", "value": 1}); 10_001]);
    assert_eq!(json(&mut json!({"a": 1}), &many).unwrap_err().status().code, 413);
}

#[test]
fn json_patches_cannot_grow_without_bound() {
    let double =
        Value::Array((0..40).map(|i| json!({"op": "copy", "from": "", "path": format!("/{i}")})).collect());
    let error = json(&mut json!({"a": "x".repeat(100)}), &double).unwrap_err().to_string();
    assert!(error.starts_with("Unable to complete the copy"), "{error}");
    let deepen = Value::Array(vec![json!({"op": "copy", "from": "", "path": "/a"}); 1000]);
    let error = json(&mut json!({"a": 1}), &deepen).unwrap_err().to_string();
    assert!(error.contains("nested deeper"), "{error}");
}

#[test]
fn merge_patches_delete_by_null() {
    let mut object = json!({"a": {"b": 1, "c": [1]}});
    merge(&mut object, &json!({"a": {"b": null, "c": [2], "d": {"e": null}}})).unwrap();
    assert_eq!(object, json!({"a": {"c": [2], "d": {}}}));
    assert_eq!(merge(&mut object, &json!([])).unwrap_err().status().code, 400);
}

fn text() -> impl Strategy<Value = Value> {
    "[a-c]".prop_map(Value::from)
}

fn some_of(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(name, value)| proptest::option::of(value).prop_map(move |v| v.map(|v| (name.to_owned(), v))))
        .collect();
    fields.prop_map(|fields| Value::Object(fields.into_iter().flatten().collect())).boxed()
}

fn keyed_list(item: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    let names = proptest::sample::subsequence(vec!["a", "b", "c", "d"], 0..=4).prop_shuffle();
    names
        .prop_flat_map(move |names| {
            let items: Vec<_> = names
                .into_iter()
                .map(|name| {
                    item.clone().prop_map(move |mut item| {
                        item["name"] = name.into();
                        item
                    })
                })
                .collect();
            items.prop_map(Value::Array)
        })
        .boxed()
}

fn objects() -> BoxedStrategy<Value> {
    let map = || proptest::collection::btree_map("[a-c]", "[a-b]", 0..3).prop_map(|m| json!(m)).boxed();
    let set = proptest::sample::subsequence(vec!["x", "y", "z"], 0..=3).prop_shuffle().prop_map(|v| json!(v));
    let env = keyed_list(some_of(vec![("value", text().boxed())]));
    let containers = keyed_list(some_of(vec![("image", text().boxed()), ("env", env)]));
    let union = || some_of(vec![("a", map()), ("b", text().boxed())]);
    let spec = some_of(vec![
        ("args", proptest::collection::vec(text(), 0..3).prop_map(Value::Array).boxed()),
        ("containers", containers),
        ("strategy", union()),
        ("volumes", keyed_list(union())),
    ]);
    some_of(vec![("finalizers", set.boxed()), ("labels", map()), ("spec", spec), ("unknown", map())])
}

fn any_json() -> BoxedStrategy<Value> {
    let key = proptest::sample::select(vec![
        "finalizers",
        "labels",
        "spec",
        "containers",
        "name",
        "$patch",
        "$retainKeys",
        "op",
        "path",
        "from",
        "value",
        "$setElementOrder/containers",
        "$deleteFromPrimitiveList/finalizers",
        "strategy",
        "env",
    ]);
    let word =
        proptest::sample::select(vec!["a", "delete", "replace", "merge", "/a/0", "add", "move", "copy", ""]);
    let leaf = prop_oneof![Just(Value::Null), word.prop_map(Value::from), (0..3).prop_map(Value::from)];
    leaf.prop_recursive(4, 40, 4, move |inner| {
        let pairs = proptest::collection::vec((key.clone().prop_map(str::to_owned), inner.clone()), 0..4);
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::Array),
            pairs.prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
    .boxed()
}

proptest! {
    #[test]
    fn a_diff_turns_any_object_into_any_other(from in objects(), to in objects()) {
        let patch = diff(&schema(), StructId(0), &from, &to).unwrap();
        prop_assert_eq!(patched(from.clone(), &patch).unwrap(), to.clone(), "{}", patch);
        prop_assert_eq!(diff(&schema(), StructId(0), &to, &to).unwrap(), json!({}));
    }

    #[test]
    fn no_patch_panics(object in any_json(), patch in any_json()) {
        let _ = json(&mut object.clone(), &patch);
        let _ = merge(&mut object.clone(), &patch);
        let _ = patched(object, &patch);
    }
}
