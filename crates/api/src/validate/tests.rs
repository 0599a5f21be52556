use serde_json::json;

use super::*;
use crate::gvr::Gvr;
use crate::schema::builtin;

fn resource(group: &'static str, version: &'static str, name: &'static str) -> &'static Resource {
    builtin().get(&Gvr::new(group, version, name)).unwrap()
}

fn texts(errors: &[Error]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn missing_fields_are_named_by_their_path() {
    let pod = json!({"spec": {"containers": [{"image": "a"}], "restartPolicy": "Sometimes"}});
    let wanted = [
        r#"spec.containers[0].name: Required value"#,
        r#"spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never""#,
    ];
    assert_eq!(texts(&required(resource("", "v1", "pods"), &pod)), wanted);
    let deployment = json!({"spec": {}});
    let wanted = ["spec.selector: Required value"];
    assert_eq!(texts(&required(resource("apps", "v1", "deployments"), &deployment)), wanted);
}

#[test]
fn what_clients_leave_out_by_right_is_not_demanded() {
    let slice = json!({"addressType": "IPv4", "endpoints": []});
    assert!(required(resource("discovery.k8s.io", "v1", "endpointslices"), &slice).is_empty());
    let lease = json!({"spec": {}});
    assert!(required(resource("coordination.k8s.io", "v1", "leases"), &lease).is_empty());
    let node = json!({"metadata": {"name": "n"}, "status": {"conditions": [{}]}});
    assert!(required(resource("", "v1", "nodes"), &node).is_empty());
}

#[test]
fn metadata_is_held_to_the_rules_of_all_kinds() {
    let pods = resource("", "v1", "pods");
    let object = json!({"metadata": {
        "name": "Web_1", "labels": {"a b": "x", "ok": "-"}, "finalizers": ["mine"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": ""}],
    }});
    let found = texts(&object_meta(pods, &object));
    assert_eq!(found.len(), 6, "{found:#?}");
    assert!(
        found[0].starts_with(r#"metadata.name: Invalid value: "Web_1": a lowercase RFC 1123 subdomain must"#)
    );
    assert_eq!(found[1], "metadata.namespace: Required value");
    assert!(found[2].starts_with(r#"metadata.labels: Invalid value: "a b": name part must consist of"#));
    assert!(found[3].starts_with(r#"metadata.labels[ok]: Invalid value: "-": a valid label must be"#));
    assert_eq!(found[4], r#"metadata.ownerReferences[0].uid: Invalid value: "": must not be empty"#);
    assert!(found[5].ends_with("name is neither a standard finalizer name nor is it fully qualified"));
    let node = json!({"metadata": {"name": "n", "namespace": "x"}});
    let found = texts(&object_meta(resource("", "v1", "nodes"), &node));
    assert_eq!(found, ["metadata.namespace: Forbidden: not allowed on this type"]);
}

#[test]
fn names_follow_the_kind() {
    let ok = |group, version, name: &'static str, object: &str| {
        let meta = json!({"metadata": {"name": object, "namespace": "d"}});
        let resource = resource(group, version, name);
        object_meta(resource, &meta).iter().all(|e| e.path.as_str() != "metadata.name")
    };
    assert!(
        ok("", "v1", "pods", "a.b-1")
            && !ok("", "v1", "namespaces", "a.b")
            && !ok("", "v1", "services", "1a")
    );
    assert!(ok("rbac.authorization.k8s.io", "v1", "roles", "system:x") && !ok("", "v1", "pods", "system:x"));
    assert!(
        NameRule::Label.check_prefix("web-").is_empty() && !NameRule::Label.check_prefix("-web-").is_empty()
    );
    assert!(!dns1123_label(&"a".repeat(64)).is_empty() && dns1123_subdomain(&"a".repeat(64)).is_empty());
}

#[test]
fn identity_never_changes() {
    let old = json!({"metadata": {"name": "a", "uid": "1"}});
    let new = json!({"metadata": {"name": "a", "uid": "2"}});
    assert_eq!(
        texts(&object_meta_update(&old, &new)),
        [r#"metadata.uid: Invalid value: "2": field is immutable"#]
    );
    assert!(object_meta_update(&old, &old).is_empty());
}

#[test]
fn every_rule_names_a_field_that_exists() {
    let schema = builtin().schema();
    for ((name, field), _) in ABSENCE.iter() {
        let record = schema.structs.iter().find(|s| s.short_name() == *name);
        assert!(record.is_some_and(|r| r.field(field).is_some()), "{name} {field}");
    }
    let all: Vec<String> = builtin().iter().map(|r| r.gvr.group_resource()).collect();
    for line in RULES.lines().filter_map(|l| l.strip_prefix("name ")) {
        let name = line.split(' ').next().unwrap();
        assert!(all.iter().any(|a| a == name), "{name}");
    }
}
