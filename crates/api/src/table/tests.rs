//! Golden rows: each block of `golden.txt` is an object and, below `=>`, the table that kubectl prints of it with
//! `-o wide`. `REWRITE=1` writes the present rows into the file; review what changed.

use crate::json;
use proptest::prelude::*;

use super::*;

const GOLDEN: &str = include_str!("golden.txt");

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn table(object: &Value) -> String {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let gvk = Gvk::from_api_version(text("apiVersion"), text("kind"));
    let columns = kinds::columns(&gvk.group, &gvk.kind);
    let heads = columns.iter().map(|c| c.name.to_uppercase().replace(' ', "-")).collect::<Vec<_>>();
    let cells: Vec<String> = cells(columns, object, now())
        .into_iter()
        .map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned))
        .collect();
    format!("{}\n{}\n", heads.join(" | "), cells.join(" | "))
}

#[test]
fn rows_are_those_that_kubectl_prints() {
    let mut blessed = String::new();
    let mut wrong = Vec::new();
    for block in GOLDEN.split_inclusive("\n\n") {
        let (object, expected) = block.split_once("=>\n").expect("a block is an object, =>, and its table");
        let value: Value = serde_saphyr::from_str(object).expect(object);
        let actual = table(&value);
        if actual.trim() != expected.trim() {
            wrong.push(format!("{object}expected:\n{expected}\nactual:\n{actual}"));
        }
        blessed.push_str(&format!("{object}=>\n{actual}\n"));
    }
    if std::env::var_os("REWRITE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/table/golden.txt");
        std::fs::write(path, blessed.trim_end().to_owned() + "\n").unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_built_in_kind_has_columns_that_fill_from_nothing() {
    for resource in crate::schema::builtin().iter() {
        let columns = columns(resource);
        assert!(columns.iter().any(|c| c.format == "name"), "{}", resource.gvk);
        assert_eq!(cells(columns, &json!({}), now()).len(), columns.len());
    }
}

#[test]
fn ages_have_kubernetes_precision() {
    for (seconds, text) in [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (200, "3m20s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (11_100, "3h5m"),
        (28_800, "8h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (180_000, "2d2h"),
        (691_200, "8d"),
        (63_072_000, "2y"),
        (63_158_400, "2y1d"),
        (252_288_000, "8y"),
    ] {
        assert_eq!(duration::human_seconds(seconds), text);
    }
}

#[test]
fn custom_columns_fill_by_their_type() {
    let object = json!({"spec": {"n": 3, "f": 1.5, "b": true, "s": ["x", "y"]},
        "metadata": {"creationTimestamp": "2026-11-22T11:00:00Z"}});
    for (kind, path, expected) in [
        ("integer", ".spec.n", json!(3)),
        ("number", ".spec.f", json!(1.5)),
        ("boolean", ".spec.b", json!(true)),
        ("string", ".spec.s[*]", json!("x y")),
        ("string", ".spec.n", json!("3")),
        ("date", ".metadata.creationTimestamp", json!("60m")),
        ("date", ".spec.s[0]", json!("<invalid>")),
        ("integer", ".spec.missing", json!(null)),
    ] {
        let column = Column::custom("X", kind, "", "", 0, JsonPath::parse(path).unwrap());
        assert_eq!(cells(&[column], &object, now()), [expected], "{kind} {path}");
    }
}

#[test]
fn finished_pods_are_marked() {
    let pod = json!({"status": {"phase": "Succeeded"}});
    let conditions = row_conditions(&Gvk::new("", "v1", "Pod"), &pod);
    assert_eq!(conditions[0]["type"], "Completed");
    assert!(row_conditions(&Gvk::new("", "v1", "Pod"), &json!({})).is_empty());
}

/// Objects with the fields that cells read, holding anything.
fn any_object() -> impl Strategy<Value = Value> {
    let key = proptest::sample::select(vec![
        "metadata",
        "spec",
        "status",
        "name",
        "creationTimestamp",
        "deletionTimestamp",
        "containers",
        "conditions",
        "containerStatuses",
        "initContainerStatuses",
        "state",
        "terminated",
        "waiting",
        "reason",
        "type",
        "ports",
        "rules",
        "host",
        "subsets",
        "addresses",
        "metrics",
        "current",
        "target",
        "resource",
        "data",
        "webhooks",
        "labels",
        "selector",
        "matchExpressions",
        "key",
        "operator",
        "values",
        "template",
        "limited",
        "subjects",
    ]);
    let text =
        proptest::sample::select(vec!["", "a", "Pod", "True", "2026-11-22T12:00:00Z", "Resource", "é"]);
    let leaf = prop_oneof![
        Just(Value::Null),
        text.prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 80, 6, move |inner| {
        let pairs = proptest::collection::vec((key.clone().prop_map(str::to_owned), inner.clone()), 0..6);
        prop_oneof![
            1 => proptest::collection::vec(inner, 0..4).prop_map(Value::Array),
            2 => pairs.prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_object_panics(object in any_object(), seconds in any::<i64>()) {
        for resource in crate::schema::builtin().iter() {
            let columns = columns(resource);
            prop_assert_eq!(cells(columns, &object, now()).len(), columns.len());
        }
        duration::human_seconds(seconds);
    }
}
