use crate::json;
use proptest::prelude::*;

use super::*;

fn found(path: &str, root: &Value) -> String {
    JsonPath::join(&JsonPath::parse(path).unwrap().find(root))
}

#[test]
fn paths_find_what_kubectl_finds() {
    let root = json!({
        "spec": {"replicas": 3, "a.b": "dotted", "list": [10, 20, 30, 40]},
        "status": {"conditions": [
            {"type": "Ready", "status": "True", "n": 1},
            {"type": "Synced", "status": "False", "n": 2, "reason": "R"},
        ]},
    });
    for (path, expected) in [
        (".spec.replicas", "3"),
        ("{.spec.replicas}", "3"),
        ("$.spec.replicas", "3"),
        ("spec.replicas", "3"),
        (r".spec.a\.b", "dotted"),
        (".spec['a.b']", "dotted"),
        (".spec.list[0]", "10"),
        (".spec.list[-1]", "40"),
        (".spec.list[1:3]", "20 30"),
        (".spec.list[:2]", "10 20"),
        (".spec.list[0:4:2]", "10 30"),
        (".spec.list[0,2]", "10 30"),
        (".spec.list[*]", "10 20 30 40"),
        (".spec.list[9]", ""),
        (".spec['replicas','a.b']", "3 dotted"),
        (".status.conditions[?(@.type=='Ready')].status", "True"),
        (".status.conditions[?(@.type==\"Synced\")].status", "False"),
        (".status.conditions[?(@.n > 1)].type", "Synced"),
        (".status.conditions[?(@.n<=1)].type", "Ready"),
        (".status.conditions[?( @.type != 'Ready' )].type", "Synced"),
        (".status.conditions[?(@.reason)].type", "Synced"),
        (".status.conditions[*].type", "Ready Synced"),
        ("..type", "Ready Synced"),
        (".missing.field", ""),
        (".spec.*", "dotted [10,20,30,40] 3"),
    ] {
        assert_eq!(found(path, &root), expected, "{path}");
    }
    assert_eq!(JsonPath::parse(".spec.replicas").unwrap().fields(), Some(vec!["spec", "replicas"]));
    assert_eq!(JsonPath::parse(".spec.list[0]").unwrap().fields(), None);
}

#[test]
fn what_is_no_path_is_refused() {
    for text in ["{.a", ".a[", ".a[x]", ".a[?(@.b=='c'", ".a['b", ".a[]", ".a)", ".a[?()]", ".a[0:1:0]"] {
        assert!(JsonPath::parse(text).is_err(), "{text}");
    }
    assert!(JsonPath::parse(&".a".repeat(1000)).is_err());
    assert!(JsonPath::parse(&"[?(@".repeat(1000)).is_err());
}

proptest! {
    #[test]
    fn no_path_panics_or_runs_away(text in "[.a*?@()\\[\\]'=0-9:,<{}$\\\\é-]{0,30}") {
        let root = json!({"a": [{"a": [1, {"a": "é"}]}, [2, [3, [4]]]], "é": 1});
        if let Ok(path) = JsonPath::parse(&text) {
            prop_assert!(path.find(&root).len() <= FOUND_MAX);
        }
    }
}
