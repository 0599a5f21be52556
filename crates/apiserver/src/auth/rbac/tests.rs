//! Decisions from small sets of roles; the default roles have their own golden file (see `bootstrap`).

use tiphys_api::{Value, json};

use super::covers::{describe, missing};
use super::*;
use crate::auth::testing::Fake;

fn put(fake: &Fake, gvr: &Gvr, namespace: &str, name: &str, rest: &Value) {
    let mut object = json!({"metadata": {"namespace": namespace, "name": name}});
    for (key, value) in rest.as_object().unwrap() {
        if key == "labels" {
            object["metadata"]["labels"] = value.clone();
        } else {
            object[key] = value.clone();
        }
    }
    fake.put(gvr, &object);
}

fn rule(verbs: &[&str], groups: &[&str], resources: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": groups, "resources": resources})
}

/// Jane reads pods in `dev`; the group `ops` reads nodes everywhere; the account `dev/robot` reads one config map.
pub(crate) fn sample() -> Fake {
    let fake = Fake::default();
    put(&fake, &ROLES, "dev", "reader", &json!({"rules": [rule(&["get", "list"], &[""], &["pods"])]}));
    put(
        &fake,
        &CLUSTER_ROLES,
        "",
        "nodes",
        &json!({"rules": [rule(&["get"], &[""], &["nodes", "*/scale"]),
        {"verbs": ["get"], "nonResourceURLs": ["/metrics", "/debug/*"]}]}),
    );
    put(
        &fake,
        &ROLES,
        "dev",
        "one",
        &json!({"rules": [
        {"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["cfg"]}]}),
    );
    let bind = |gvr: &Gvr, namespace: &str, kind: &str, role: &str, subject: Value| {
        let rest = json!({"roleRef": {"apiGroup": GROUP, "kind": kind, "name": role}, "subjects": [subject]});
        put(&fake, gvr, namespace, &format!("{role}-binding"), &rest);
    };
    bind(&ROLE_BINDINGS, "dev", "Role", "reader", json!({"kind": "User", "name": "jane"}));
    bind(&CLUSTER_ROLE_BINDINGS, "", "ClusterRole", "nodes", json!({"kind": "Group", "name": "ops"}));
    bind(&ROLE_BINDINGS, "dev", "Role", "one", json!({"kind": "ServiceAccount", "name": "robot"}));
    bind(&ROLE_BINDINGS, "dev", "ClusterRole", "lost", json!({"kind": "User", "name": "joe"}));
    fake
}

fn user(name: &str, groups: &[&str]) -> User {
    User { name: name.into(), groups: groups.iter().map(|&g| g.into()).collect(), ..User::default() }
}

fn asked<'a>(user: &'a User, verb: &'a str, resource: &'a str, namespace: &'a str) -> Attributes<'a> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let (resource, name) = resource.split_once(':').unwrap_or((resource, ""));
    Attributes { user, verb, group: "", version: "v1", resource, subresource, namespace, name, path: "" }
}

#[test]
fn bindings_give_what_they_say_and_no_more() {
    let rbac = Rbac::new(Arc::new(sample()));
    let may = |name: &str, groups: &[&str], verb: &str, resource: &str, namespace: &str| {
        rbac.decide(&asked(&user(name, groups), verb, resource, namespace)) == Decision::Allow
    };
    assert!(may("jane", &[], "get", "pods", "dev"));
    assert!(!may("jane", &[], "get", "pods", "prod") && !may("jane", &[], "get", "pods", ""));
    assert!(!may("jane", &[], "delete", "pods", "dev") && !may("jane", &[], "get", "pods/log", "dev"));
    assert!(!may("joan", &[], "get", "pods", "dev"));
    assert!(may("x", &["a", "ops"], "get", "nodes", "") && may("x", &["ops"], "get", "nodes", "any"));
    assert!(may("x", &["ops"], "get", "deployments/scale", "dev"));
    assert!(may("system:serviceaccount:dev:robot", &[], "get", "configmaps:cfg", "dev"));
    assert!(!may("system:serviceaccount:dev:robot", &[], "get", "configmaps:other", "dev"));
    assert!(!may("system:serviceaccount:dev:robot", &[], "get", "configmaps", "dev"));
    assert!(!may("robot", &[], "get", "configmaps:cfg", "dev"));
}

#[test]
fn paths_match_exactly_or_by_prefix() {
    let rbac = Rbac::new(Arc::new(sample()));
    let ops = user("x", &["ops"]);
    let may = |path| rbac.decide(&Attributes { path, ..asked(&ops, "get", "", "") }) == Decision::Allow;
    assert!(may("/metrics") && may("/debug/pprof") && !may("/metrics/x") && !may("/debug"));
}

#[test]
fn a_role_that_is_not_there_is_told() {
    let rbac = Rbac::new(Arc::new(sample()));
    let Decision::NoOpinion(why) = rbac.decide(&asked(&user("joe", &[]), "get", "pods", "dev")) else {
        panic!()
    };
    assert_eq!(why, r#"RBAC: clusterrole.rbac.authorization.k8s.io "lost" not found"#);
}

#[test]
fn changes_count_at_once_with_and_without_versions() {
    for versioned in [false, true] {
        let mut fake = sample();
        fake.versioned = versioned;
        let fake = Arc::new(fake);
        let rbac = Rbac::new(fake.clone());
        let jane = user("jane", &[]);
        let may = || rbac.decide(&asked(&jane, "get", "pods", "dev")) == Decision::Allow;
        assert!(may());
        put(&fake, &ROLES, "dev", "reader", &json!({"rules": [rule(&["list"], &[""], &["pods"])]}));
        assert!(!may());
        put(&fake, &ROLES, "dev", "reader", &json!({"rules": [rule(&["*"], &["*"], &["*"])]}));
        assert!(may());
        fake.delete(&ROLE_BINDINGS, "dev", "reader-binding");
        assert!(!may());
    }
}

#[test]
fn aggregated_roles_have_what_they_select_even_in_a_circle() {
    let fake = sample();
    let select = |label: &str| json!({"clusterRoleSelectors": [{"matchLabels": {(label): "true"}}]});
    put(&fake, &CLUSTER_ROLES, "", "top", &json!({"aggregationRule": select("to-top"), "rules": null}));
    put(
        &fake,
        &CLUSTER_ROLES,
        "",
        "mid",
        &json!({"aggregationRule": select("to-mid"),
        "labels": {"to-top": "true", "to-mid": "true"}, "rules": [rule(&["stale"], &[""], &["x"])]}),
    );
    put(
        &fake,
        &CLUSTER_ROLES,
        "",
        "leaf",
        &json!({"labels": {"to-mid": "true"},
        "rules": [rule(&["get"], &[""], &["secrets"])]}),
    );
    let rbac = Rbac::new(Arc::new(fake));
    let rules = rbac.rules_of("", "top").unwrap();
    assert_eq!(describe(&rules), r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}"#);
    assert!(rbac.rules_of("", "none").is_none());
}

fn rules(texts: &[Value]) -> Vec<Rule> {
    texts.iter().map(|text| text.to().unwrap()).collect()
}

#[test]
fn nobody_gives_what_they_do_not_hold() {
    let held = rules(&[
        rule(&["get", "list"], &[""], &["pods", "*/scale"]),
        json!({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a", "b"]}),
        json!({"verbs": ["get"], "nonResourceURLs": ["/x/*"]}),
    ]);
    let lacks = |wanted: Value| describe(&missing(&held, &rules(&[wanted])));
    assert_eq!(lacks(rule(&["list", "get"], &[""], &["pods", "deployments/scale"])), "");
    assert_eq!(
        lacks(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["b"]})),
        ""
    );
    assert_eq!(lacks(json!({"verbs": ["get"], "nonResourceURLs": ["/x/y", "/x/*"]})), "");
    assert_eq!(
        lacks(rule(&["get", "watch", "delete"], &["", "apps"], &["pods"])),
        "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"watch\" \"delete\"]}\n\
         {APIGroups:[\"apps\"], Resources:[\"pods\"], Verbs:[\"get\" \"watch\" \"delete\"]}"
    );
    assert_eq!(
        lacks(rule(&["get"], &[""], &["secrets"])),
        r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}"#
    );
    assert_eq!(lacks(rule(&["*"], &["*"], &["*"])), r#"{APIGroups:["*"], Resources:["*"], Verbs:["*"]}"#);
    assert_eq!(
        lacks(json!({"verbs": ["get"], "nonResourceURLs": ["*"]})),
        r#"{NonResourceURLs:["*"], Verbs:["get"]}"#
    );
}
