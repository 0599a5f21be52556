//! The tree against `serde_json`'s, which it stands in for.

use proptest::prelude::*;

use super::*;
use crate::json;

fn general(text: &str) -> Option<Value> {
    serde_json::from_str::<serde_json::Value>(text).ok().map(Value::from)
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let text = prop_oneof!["[a-z]{0,12}", ".{0,40}", "[\\x00-\\x20\"\\\\/é😀]{0,20}"];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        (-1e9..1e9).prop_map(|number: f64| number.into()),
        text.clone().prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 60, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::hash_map(text.clone(), inner, 0..8)
                .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn reads_and_writes_what_serde_json_does(json in any_json()) {
        let (compact, pretty) = (json.to_string(), serde_json::to_string_pretty(&json).unwrap());
        let tree = Value::from(json.clone());
        prop_assert_eq!(read(compact.as_bytes(), &[]), Some(tree.clone()));
        prop_assert_eq!(read(pretty.as_bytes(), &[]), Some(tree.clone()));
        let how = Writing { raw: &[], known: &|_, _| None, gap: None, room: 0 };
        prop_assert_eq!(String::from_utf8(write(&tree, how).unwrap().0).unwrap(), compact.clone());
        prop_assert_eq!(serde_json::to_string(&tree).unwrap(), compact);
        prop_assert_eq!(serde_json::Value::from(tree), json);
    }

    #[test]
    fn never_reads_what_serde_json_refuses(text in "[\\[\\]{}:,\"\\\\a0-9.eE+\\- \\n]{0,24}|[\\x00-\\x7f]{0,12}") {
        if let Some(value) = read(text.as_bytes(), &[]) {
            prop_assert_eq!(Some(value), general(&text));
        }
    }
}

#[test]
fn leaves_what_is_rare_to_the_general_reader() {
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(read(deep(60).as_bytes(), &[]).is_some());
    for text in
        [r#"{"a":1,"a":2}"#, "{\"a\":1,}", "[1,]", "[1 2]", "{} {}", "", "1e999", "01", "nul", &deep(5000)]
    {
        assert_eq!(read(text.as_bytes(), &[]), None, "{text}");
    }
    assert_eq!(read(b"\"\xff\"", &[]), None);
}

#[test]
fn numbers_of_any_length_are_read() {
    for text in ["0", "17", "99999999999999999", "100000000000000000", "18446744073709551615", "-1", "1.5e3"]
    {
        assert_eq!(read(text.as_bytes(), &[]), general(text), "{text}");
    }
    let long = "7".repeat(60);
    assert_eq!(read(long.as_bytes(), &[]), general(&long));
}

#[test]
fn many_fields_behave_as_few() {
    let name = |number: usize| format!("{:04}", number * 7919 % 1000);
    let (mut map, mut model) = (Map::new(), std::collections::BTreeMap::new());
    for number in 0..1000 {
        assert_eq!(map.insert(name(number).into(), number.into()), None);
        model.insert(name(number), Value::from(number));
        let same = map.iter().eq(model
            .iter()
            .map(|(name, value)| (Text::new(name), value))
            .collect::<Vec<_>>()
            .iter()
            .map(|(name, value)| (name, *value)));
        assert!(same, "after {number}");
    }
    assert_eq!((map.len(), map.get("0007"), map.get("x")), (1000, model.get("0007"), None));
    map.retain(|name, _| name.ends_with('3'));
    assert_eq!(map.len(), 100);
    assert_eq!(map.remove("0003"), model.get("0003").cloned());
    assert_eq!(map.insert("0013".into(), Value::Null), model.get("0013").cloned());
    *map.entry("0003").or_insert(Value::Null) = json!(1);
    assert_eq!(map.entry("0003").or_insert(Value::Null), &json!(1));
    let few: Map = map.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    assert_eq!(few, map);
}

#[test]
fn parts_are_found() {
    let mut value = json!({"a": {"b/c": [1, {"~": null}]}, "0": "x"});
    assert_eq!(value["a"]["b/c"][0], 1);
    assert_eq!(value["none"][3], Value::Null);
    assert_eq!(value.pointer("/a/b~1c/1/~0"), Some(&Value::Null));
    assert_eq!(value.pointer(""), Some(&value));
    for nothing in ["a", "/a/b~1c/01", "/a/b~1c/2", "/b"] {
        assert_eq!(value.pointer(nothing), None, "{nothing}");
    }
    *value.pointer_mut("/a/b~1c/0").unwrap() = "y".into();
    assert_eq!(value.to_string(), r#"{"0":"x","a":{"b/c":["y",{"~":null}]}}"#);
}
