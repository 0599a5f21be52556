use crate::json;
use proptest::prelude::*;

use super::*;
use crate::Gvr;
use crate::schema::builtin;

fn resource(group: &'static str, plural: &'static str) -> &'static Resource {
    builtin().get(&Gvr::new(group, "v1", plural)).unwrap()
}

fn by(manager: &'static str) -> Write<'static> {
    let now = "2026-11-22T10:00:00.9Z".parse().unwrap();
    Write { resource: resource("apps", "deployments"), subresource: "", manager, now }
}

fn deployment(spec: Value) -> Value {
    let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}});
    object["spec"] = spec;
    object
}

fn containers(list: Value) -> Value {
    let mut spec = json!({"template": {"spec": {}}});
    spec["template"]["spec"]["containers"] = list;
    deployment(spec)
}

/// `manager operation[/subresource]: paths`, one line for each entry.
fn owners(object: &Value) -> String {
    let lines = Managers::stored(Some(object))
        .iter()
        .map(|e| {
            let subresource =
                if e.subresource.is_empty() { String::new() } else { format!("/{}", e.subresource) };
            format!("{} {:?}{subresource}: {}\n", e.manager, e.operation, e.fields.paths().join(" "))
        })
        .collect::<String>();
    lines.trim_end().to_owned()
}

fn created(manager: &'static str, mut object: Value) -> Value {
    record_update(&by(manager), None, &mut object);
    object
}

fn updated(write: &Write<'_>, live: &Value, change: impl FnOnce(&mut Value)) -> Value {
    let mut new = live.clone();
    change(&mut new);
    record_update(write, Some(live), &mut new);
    new
}

#[test]
fn a_create_owns_what_it_wrote() {
    let mut object = containers(json!([{"name": "a", "image": "i", "ports": [{"containerPort": 80}]}]));
    object["metadata"] = json!({"name": "web", "uid": "u", "labels": {"x": "y"}, "finalizers": ["f"]});
    object["status"] = json!({"replicas": 1});
    let object = created("kubectl-create", object);
    let port = ".spec.template.spec.containers[name=\"a\"].ports[containerPort=80,protocol=\"TCP\"]";
    assert_eq!(
        owners(&object),
        format!(
            "kubectl-create Update: .metadata.finalizers .metadata.finalizers[=\"f\"] .metadata.labels \
         .metadata.labels.x .spec.template.spec .spec.template.spec.containers \
         .spec.template.spec.containers[name=\"a\"] .spec.template.spec.containers[name=\"a\"].image \
         .spec.template.spec.containers[name=\"a\"].name .spec.template.spec.containers[name=\"a\"].ports \
         {port} {port}.containerPort"
        )
    );
    let entry = &object["metadata"]["managedFields"][0];
    assert_eq!(entry["time"], "2026-11-22T10:00:00Z");
    assert!(entry["fieldsV1"].as_str().unwrap().contains(r#""f:labels":{".":{},"f:x":{}}"#), "{entry}");
    assert_eq!(entry["apiVersion"], "apps/v1");
}

#[test]
fn an_update_takes_what_it_changes_and_removal_disowns() {
    let live = created("a", deployment(json!({"replicas": 1, "paused": true, "minReadySeconds": 5})));
    let new = updated(&by("b"), &live, |o| {
        o["spec"]["replicas"] = json!(2);
        o["spec"].as_object_mut().unwrap().remove("paused");
        o["status"] = json!({"replicas": 2});
    });
    assert_eq!(owners(&new), "a Update: .spec.minReadySeconds\nb Update: .spec.replicas");
    let scale = Write { subresource: "scale", ..by("s") };
    let scaled = updated(&scale, &new, |o| o["spec"]["replicas"] = json!(3));
    assert_eq!(owners(&scaled), "a Update: .spec.minReadySeconds\ns Update/scale: .spec.replicas");
    let status = Write { subresource: "status", ..by("c") };
    let reported = updated(&status, &scaled, |o| o["status"] = json!({"replicas": 3}));
    assert!(owners(&reported).contains("c Update/status: .status.replicas"), "{}", owners(&reported));
    let same = updated(&by("d"), &reported, |_| {});
    assert_eq!(same, reported);
}

#[test]
fn clients_may_reset_or_send_entries() {
    let live = created("a", deployment(json!({"replicas": 1})));
    let reset = updated(&by("b"), &live, |o| {
        o["metadata"]["managedFields"] = json!([{}]);
        o["spec"]["replicas"] = json!(2);
    });
    assert_eq!(reset["metadata"].get("managedFields"), None);
    let untracked = updated(&by("b"), &reset, |o| o["spec"]["replicas"] = json!(3));
    assert_eq!(owners(&untracked), "");
    let broken =
        updated(&by("b"), &live, |o| o["metadata"]["managedFields"][0]["fieldsV1"] = json!({"x": 1}));
    assert_eq!(owners(&broken), owners(&live));
    let dropped = updated(&by("b"), &live, |o| {
        o["metadata"].as_object_mut().unwrap().remove("managedFields");
    });
    assert_eq!(owners(&dropped), owners(&live));
}

#[test]
fn the_oldest_updaters_are_merged_beyond_ten() {
    let names = ["m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "m9", "m10", "m11", "m12"];
    let mut object = created("first", deployment(json!({"replicas": 1})));
    for (i, name) in names.into_iter().enumerate() {
        let now = by(name).now + jiff::SignedDuration::from_secs(i64::try_from(i).unwrap() + 1);
        let write = Write { now, ..by(name) };
        object = updated(&write, &object, |o| o["metadata"]["labels"][name] = json!("x"));
    }
    let entries = owners(&object);
    assert_eq!(entries.lines().count(), 10, "{entries}");
    let ancient = "ancient-changes Update: .metadata.labels .metadata.labels.m0 .metadata.labels.m1 \
                   .metadata.labels.m2 .metadata.labels.m3 .spec.replicas";
    assert!(entries.starts_with(ancient), "{entries}");
}

#[test]
fn conflicts_name_the_owner_and_the_field() {
    let live = created("kubectl-client-side-apply", deployment(json!({"replicas": 1, "paused": true})));
    let config = deployment(json!({"replicas": 2}));
    let error = apply(&by("me"), Some(&live), &config, false).unwrap_err();
    let text = "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas";
    assert_eq!(error.to_string(), text);
    let status = error.status();
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    let cause = &status.details.unwrap().causes[0];
    assert_eq!((cause.reason.as_str(), cause.field.as_str()), ("FieldManagerConflict", ".spec.replicas"));
    let both = deployment(json!({"replicas": 2, "paused": false}));
    assert_eq!(
        apply(&by("me"), Some(&live), &both, false).unwrap_err().to_string(),
        "Apply failed with 2 conflicts: conflicts with \"kubectl-client-side-apply\" using apps/v1:\n\
         - .spec.paused\n- .spec.replicas"
    );
    let forced = apply(&by("me"), Some(&live), &config, true).unwrap();
    assert_eq!(owners(&forced), "me Apply: .spec.replicas\nkubectl-client-side-apply Update: .spec.paused");
    assert_eq!(forced["spec"], json!({"replicas": 2, "paused": true}));
    // The same value is no conflict: both own it.
    let shared = apply(&by("me"), Some(&live), &deployment(json!({"replicas": 1})), false).unwrap();
    assert!(
        owners(&shared)
            .starts_with("me Apply: .spec.replicas\nkubectl-client-side-apply Update: .spec.paused")
    );
}

#[test]
fn what_is_no_longer_applied_goes_unless_others_own_it() {
    let first =
        containers(json!([{"name": "a", "image": "1", "env": [{"name": "E", "value": "1"}]}, {"name": "b"}]));
    let live = apply(&by("me"), None, &first, false).unwrap();
    let live = updated(&by("defaulter"), &live, |o| {
        o["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
        o["spec"]["template"]["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .insert(0, json!({"name": "side"}));
    });
    let next =
        apply(&by("me"), Some(&live), &containers(json!([{"name": "a", "image": "2"}])), false).unwrap();
    assert_eq!(
        next["spec"]["template"]["spec"]["containers"],
        json!([{"name": "side"}, {"name": "a", "image": "2", "imagePullPolicy": "Always"}])
    );
    let other =
        apply(&by("you"), Some(&next), &containers(json!([{"name": "a", "image": "2"}])), false).unwrap();
    let left = apply(&by("me"), Some(&other), &deployment(json!({"paused": true})), false).unwrap();
    assert_eq!(left["spec"]["template"]["spec"]["containers"][1]["image"], "2");
    assert!(owners(&left).contains("me Apply: .spec.paused\n"), "{}", owners(&left));
}

#[test]
fn the_first_apply_of_an_untracked_object_finds_its_fields_owned() {
    let live = deployment(json!({"replicas": 1, "paused": true}));
    let error = apply(&by("me"), Some(&live), &deployment(json!({"replicas": 2})), false).unwrap_err();
    assert!(error.to_string().contains("\"before-first-apply\" using apps/v1: .spec.replicas"), "{error}");
}

#[test]
fn client_side_apply_hands_over_to_kubectl() {
    let applied = deployment(json!({"replicas": 1}));
    let mut object = applied.clone();
    object["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": applied.to_string()});
    let live = created("kubectl-client-side-apply", object);
    let config = deployment(json!({"replicas": 5}));
    assert!(apply(&by("someone"), Some(&live), &config, false).is_err());
    let taken = apply(&by("kubectl"), Some(&live), &config, false).unwrap();
    assert!(owners(&taken).starts_with("kubectl Apply: .spec.replicas\n"), "{}", owners(&taken));
    let annotation = taken.pointer("/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration");
    assert_eq!(annotation.unwrap(), &json!(format!("{config}\n")));
    let changed = updated(&by("other"), &live, |o| o["spec"]["replicas"] = json!(3));
    assert!(apply(&by("kubectl"), Some(&changed), &config, false).is_err());
}

#[test]
fn configurations_that_cannot_be_applied_are_refused() {
    let wrong = json!({"apiVersion": "apps/v2", "kind": "Deployment"});
    let text =
        "Incorrect version specified in apply patch. Specified patch version: apps/v2, expected: apps/v1";
    assert_eq!(apply(&by("me"), None, &wrong, false).unwrap_err().to_string(), text);
    let mut owned = deployment(json!({}));
    owned["metadata"]["managedFields"] = json!([]);
    assert_eq!(
        apply(&by("me"), None, &owned, false).unwrap_err().to_string(),
        "metadata.managedFields must be nil"
    );
    let twice = containers(json!([{"name": "a"}, {"name": "a"}]));
    assert_eq!(
        apply(&by("me"), None, &twice, false).unwrap_err().to_string(),
        "failed to create typed patch object (apps/v1, Kind=Deployment): .spec.template.spec.containers: \
         duplicate entries for key [name=\"a\"]"
    );
    let nameless = containers(json!([{"name": "a"}, {"image": "i"}]));
    assert_eq!(
        apply(&by("me"), None, &nameless, false).unwrap_err().to_string(),
        "failed to create typed patch object (apps/v1, Kind=Deployment): .spec.template.spec.containers: element 1: \
         associative list with keys has an element that omits all key fields [\"name\"] (and doesn't have default \
         values for any key)"
    );
}

fn configs() -> impl Strategy<Value = Value> {
    let env = proptest::collection::btree_map("[A-C]", "[1-2]", 0..3)
        .prop_map(|m| m.into_iter().map(|(k, v)| json!({"name": k, "value": v})).collect::<Value>());
    let container = (proptest::option::of("[1-2]"), proptest::option::of(env));
    let list = proptest::collection::btree_map("[a-c]", container, 0..3).prop_map(|m| {
        let item = |(name, (image, env)): (String, (Option<String>, Option<Value>))| {
            without_nulls(json!({"name": name, "image": image, "env": env}))
        };
        m.into_iter().map(item).collect::<Value>()
    });
    let maps = proptest::collection::btree_map("[x-z]", "[1-2]", 0..3);
    let parts = (
        proptest::option::of(0..3),
        proptest::option::of(list),
        proptest::option::of(maps.clone()),
        proptest::option::of(proptest::sample::subsequence(vec!["f", "g"], 0..=2)),
        proptest::option::of(maps),
    );
    parts.prop_map(|(replicas, list, labels, finalizers, selector)| {
        let spec = json!({"replicas": replicas, "selector": selector.map(|s| json!({"matchLabels": s})),
            "template": list.map(|list| json!({"spec": {"containers": list}}))});
        let mut config = deployment(without_nulls(spec));
        config["metadata"] =
            without_nulls(json!({"name": "web", "labels": labels, "finalizers": finalizers}));
        config
    })
}

fn without_nulls(mut value: Value) -> Value {
    value.as_object_mut().unwrap().retain(|_, v| !v.is_null());
    value
}

fn values_hold(write: &Write<'_>, object: &Value, config: &Value) -> bool {
    let mut merged = object.clone();
    merge::merge(write.root(), &mut merged, config);
    compare(write.root(), object, &merged, &[]).written.is_empty()
}

fn any_set() -> BoxedStrategy<Value> {
    let key = proptest::sample::select(vec![
        "f:a",
        "f:b",
        ".",
        "k:{\"name\":\"x\"}",
        "k:{ \"name\" : \"x\" }",
        "v:1",
        "v:\"s\"",
        "i:0",
        "bad",
        "k:{",
        "",
    ]);
    let leaf = prop_oneof![9 => Just(json!({})), 1 => Just(json!(1))];
    leaf.prop_recursive(4, 30, 4, move |inner| {
        let pairs = proptest::collection::vec((key.clone().prop_map(str::to_owned), inner), 0..4);
        pairs.prop_map(|pairs| Value::Object(pairs.into_iter().collect()))
    })
    .boxed()
}

fn any_object() -> BoxedStrategy<Value> {
    let key = proptest::sample::select(vec![
        "metadata",
        "spec",
        "status",
        "managedFields",
        "fieldsV1",
        "manager",
        "operation",
        "finalizers",
        "labels",
        "template",
        "containers",
        "name",
        "ports",
    ]);
    let word = proptest::sample::select(vec!["a", "b", "Update", "Apply", ""]);
    let leaf = prop_oneof![Just(Value::Null), word.prop_map(Value::from), (0..3).prop_map(Value::from)];
    let any = leaf.prop_recursive(6, 60, 4, move |inner| {
        let pairs = proptest::collection::vec((key.clone().prop_map(str::to_owned), inner.clone()), 0..4);
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::Array),
            pairs.prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    });
    any.prop_map(|mut any| {
        if let Value::Object(map) = &mut any {
            map.insert("apiVersion".into(), "apps/v1".into());
        }
        any
    })
    .boxed()
}

proptest! {
    #[test]
    fn no_object_panics(a in any_object(), b in any_object(), c in any_set()) {
        let mut new = b.clone();
        record_update(&by("x"), Some(&a), &mut new);
        let mut sent = b.clone();
        if let Some(Value::Object(metadata)) = sent.get_mut("metadata") {
            metadata.insert("managedFields".into(), json!([{"manager": "m", "operation": "Update", "fieldsV1": c}]));
        }
        record_update(&by("x"), Some(&a), &mut sent);
        let _ = apply(&by("kubectl"), Some(&sent), &b, true);
        let _ = apply(&by("kubectl"), Some(&a), &b, false);
    }

    #[test]
    fn applying_twice_is_applying_once(live in proptest::option::of(configs()), config in configs()) {
        let live = live.map(|live| created("other", live));
        let once = apply(&by("me"), live.as_ref(), &config, true).unwrap();
        let twice = apply(&by("me"), Some(&once), &config, false).unwrap();
        prop_assert_eq!(&twice, &once);
        let later = Write { now: by("me").now + jiff::SignedDuration::from_hours(1), ..by("me") };
        prop_assert_eq!(apply(&later, Some(&once), &config, false).unwrap(), once);
    }

    #[test]
    fn withdrawing_leaves_nothing_of_the_manager(config in configs(), next in configs()) {
        let nothing = deployment(json!({}));
        let bare = without_spec(nothing.clone());
        let applied = apply(&by("me"), None, &config, false).unwrap();
        let changed = apply(&by("me"), Some(&applied), &next, false).unwrap();
        prop_assert!(values_hold(&by("me"), &changed, &next));
        let gone = apply(&by("me"), Some(&changed), &bare, false).unwrap();
        prop_assert_eq!(gone, bare);
    }

    #[test]
    fn withdrawing_leaves_others_what_is_theirs(live in configs(), config in configs()) {
        let live = created("other", live);
        let applied = apply(&by("me"), Some(&live), &config, true).unwrap();
        let gone = apply(&by("me"), Some(&applied), &without_spec(deployment(json!({}))), false).unwrap();
        prop_assert!(!owners(&gone).contains("me Apply"), "{}", owners(&gone));
        let changes = compare(by("me").root(), &applied, &gone, &["status"]);
        for entry in Managers::stored(Some(&applied)).iter().filter(|e| e.manager == "other") {
            prop_assert!(entry.fields.intersection(&changes.removed).is_empty(), "{}", owners(&applied));
        }
    }

    #[test]
    fn a_forced_apply_wins_and_only_its_manager_owns_the_change(a in configs(), b in configs(), c in configs()) {
        let live = apply(&by("b"), Some(&created("a", a)), &b, true).unwrap();
        let forced = apply(&by("c"), Some(&live), &c, true).unwrap();
        prop_assert!(values_hold(&by("c"), &forced, &c));
        let changes = compare(by("c").root(), &live, &forced, &["status"]);
        for entry in Managers::stored(Some(&forced)).iter().filter(|e| e.manager != "c") {
            prop_assert!(entry.fields.intersection(&changes.written).is_empty(), "{}", owners(&forced));
        }
    }

    #[test]
    fn a_writer_owns_exactly_what_it_changed(a in configs(), b in configs()) {
        let live = created("a", a);
        prop_assume!(!owners(&live).is_empty());
        let mut new = b;
        record_update(&by("b"), Some(&live), &mut new);
        let changes = compare(by("b").root(), &live, &new, &["status"]);
        let stored = Managers::stored(Some(&new));
        let fields = |name| stored.iter().find(|e| e.manager == name).map(|e| e.fields.clone()).unwrap_or_default();
        prop_assert_eq!(fields("b"), changes.written.clone());
        prop_assert!(fields("a").intersection(&changes.written).is_empty());
        prop_assert!(fields("a").intersection(&changes.removed).is_empty());
    }

    #[test]
    fn sets_obey_their_laws(a in any_set(), b in any_set()) {
        let (Some(a), Some(b)) = (FieldSet::from_value(&a), FieldSet::from_value(&b)) else { return Ok(()) };
        let mut both = a.clone();
        both.union(&b);
        prop_assert_eq!(both.intersection(&a).paths(), a.paths());
        let mut rest = both.clone();
        rest.subtract(&b);
        prop_assert!(rest.intersection(&b).is_empty());
        rest.union(&b);
        prop_assert_eq!(rest.paths(), both.paths());
    }
}

fn without_spec(mut object: Value) -> Value {
    object.as_object_mut().unwrap().remove("spec");
    object
}
