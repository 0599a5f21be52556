use super::escape::{escape, unescape};

#[test]
fn names_are_escaped_as_in_kubernetes() {
    for (name, written) in [
        ("plain", "plain"),
        ("namespace", "__namespace__"),
        ("x-y", "x__dash__y"),
        ("a.b/c", "a__dot__b__slash__c"),
        ("a__b", "a__underscores__b"),
        ("in", "__in__"),
    ] {
        assert_eq!(escape(name).as_deref(), Some(written));
        assert_eq!(unescape(written), name);
    }
    for name in ["", "1a", "a b", "é"] {
        assert_eq!(escape(name), None, "{name}");
    }
}
