use crate::json;
use proptest::prelude::*;

use super::*;
use crate::decode::structure;
use crate::schema::{arbitrary, builtin};

/// Bytes written as pairs of hexadecimal digits.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn bytes_are_those_that_kubernetes_writes() {
    let tree = json!({"kind": "X", "n": [1, -1, 1.5, true, null]});
    // Keys and texts are byte strings (4x), floats as short as they can be.
    assert_eq!(encode(&tree), hex("d9d9f7 a2 44 6b696e64 41 58 41 6e 85 01 20 f93e00 f5 f6"));
}

#[test]
fn texts_come_in_several_forms() {
    for (item, wanted) in [
        ("6161", json!("a")),
        ("4161", json!("a")),
        // In two parts.
        ("5f 4161 4162 ff", json!("ab")),
        ("7f 6161 6162 ff", json!("ab")),
        // Expected later as base64url, base64, base16.
        ("d5 4401020304", json!("AQIDBA")),
        ("d6 4401020304", json!("AQIDBA==")),
        ("d7 4401020304", json!("01020304")),
        // Times, with and without a tag that says so.
        ("c0 74 323031332d30332d32315432303a30343a30305a", json!("2013-03-21T20:04:00Z")),
        ("c1 1a 514b67b0", json!("2013-03-21T20:04:00Z")),
        // Documents of no known size.
        ("bf 6161 9f 01 ff ff", json!({"a": [1]})),
        ("fb 3ff0000000000000", json!(1.0)),
        // Nothing at all, and a big number that is small.
        ("f7", json!(null)),
        ("c2 41 05", json!(5)),
    ] {
        assert_eq!(decode(&hex(item)).as_ref(), Ok(&wanted), "{item}");
        assert_eq!(decode(&hex(&format!("d9d9f7 {item}"))), Ok(wanted), "{item}");
    }
}

#[test]
fn what_json_cannot_say_is_refused() {
    for (item, wanted) in [
        ("a2 6161 01 4161 02", "duplicate map key \"a\""),
        ("a1 01 02", "map key"),
        ("f97c00", "inf"),
        ("f97e00", "NaN"),
        ("1b ffffffffffffffff", "overflows"),
        ("c2 49 010000000000000000", "any size"),
        ("41 ff", "UTF-8"),
        ("01 02", "extraneous"),
        ("", "unexpected EOF"),
        ("9b ffffffffffffffff", "unexpected EOF"),
        ("1c", "invalid data item at offset 0"),
    ] {
        let error = decode(&hex(item)).unwrap_err().to_string();
        assert!(error.contains(wanted), "{item}: {error}");
    }
    assert!(decode(&[0x81; 100_000]).is_err(), "too deep");
}

#[test]
fn lists_and_events_are_put_together_from_encoded_objects() {
    let item = encode(&json!({"metadata": {"name": "a"}}));
    for count in [0, 1, 30, 300, 5_000] {
        let head = list_head(&Gvk::new("", "v1", "ConfigMapList"), &json!({"resourceVersion": "5"}), count);
        let list = decode(&[head, item.repeat(count)].concat()).unwrap();
        assert_eq!(list["items"].as_array().unwrap().len(), count);
        assert_eq!(
            (&list["kind"], &list["metadata"]),
            (&json!("ConfigMapList"), &json!({"resourceVersion": "5"}))
        );
    }
    let event = decode(&event("ADDED", &item)).unwrap();
    assert_eq!(event, json!({"type": "ADDED", "object": {"metadata": {"name": "a"}}}));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_kind_comes_back_as_it_was(seed in any::<u64>(), pick in any::<prop::sample::Index>()) {
        let all: Vec<_> = builtin().iter().collect();
        let resource = pick.get(&all);
        let tree = arbitrary::object(resource, seed);
        let mut back = decode(&encode(&tree)).unwrap();
        prop_assert_eq!(&back, &tree);
        prop_assert_eq!(structure(resource, &mut back), Ok(Vec::new()));
        prop_assert_eq!(back, tree);
    }

    #[test]
    fn no_bytes_bring_it_down(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(tree) = decode(&bytes) {
            prop_assert_eq!(decode(&encode(&tree)), Ok(tree));
        }
    }
}
