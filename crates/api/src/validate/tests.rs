use crate::json;

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
    let deployment = json!({"spec": {"strategy": {"type": "Recreate"}}});
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
    assert!(found[3].starts_with(r#"metadata.labels: Invalid value: "-": a valid label must be"#));
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
fn every_rule_names_what_exists() {
    assert!(rules::parse(builtin().schema(), crate::schema::RULES).is_some());
    assert!(rules::parse(builtin().schema(), "form core.v1.Pod nope label").is_none());
    let all: Vec<String> = builtin().iter().map(|r| r.gvr.group_resource()).collect();
    for line in crate::schema::RULES.lines() {
        let mut words = line.split(' ');
        if matches!(words.next(), Some("name" | "immutable")) {
            let name = words.next().unwrap();
            assert!(all.iter().any(|a| a == name), "{name}");
        }
    }
}

/// One object of a resource and the errors it has.
fn found(group: &'static str, name: &'static str, mut object: Value) -> Vec<String> {
    let version = if group == "autoscaling" { "v2" } else { "v1" };
    let resource = resource(group, version, name);
    crate::defaults::apply(resource, &mut object);
    texts(&required(resource, &object))
}

#[test]
fn pods_are_checked_as_by_kubernetes() {
    let container = |name: &str| json!({"name": name, "image": "i"});
    let mut first = container("a");
    first["volumeMounts"] = json!([{"name": "v", "mountPath": "/x"}, {"name": "w", "mountPath": "/x"}]);
    first["resources"] = json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}});
    first["ports"] = json!([{"containerPort": 70000}, {"name": "Web", "containerPort": 80}]);
    first["livenessProbe"] = json!({"successThreshold": 2});
    let spec = json!({
        "containers": [first, container("a"), {"name": "b_", "image": ""}],
        "volumes": [{"name": "v", "emptyDir": {}, "secret": {"secretName": "x"}}],
        "terminationGracePeriodSeconds": -1, "tolerations": [{"operator": "Equal"}],
    });
    let wanted = [
        r#"spec.containers[0].livenessProbe: Required value: must specify a handler type"#,
        r#"spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"#,
        r#"spec.containers[0].ports[1].name: Invalid value: "Web": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"#,
        r#"spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1"#,
        r#"spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/x": must be unique"#,
        r#"spec.containers[2].name: Invalid value: "b_": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"#,
        r#"spec.containers[2].image: Required value"#,
        r#"spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0"#,
        r#"spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values and all keys""#,
        r#"spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type"#,
        r#"spec.containers[1].name: Duplicate value: "a""#,
        r#"spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"#,
        r#"spec.containers[0].volumeMounts[1].name: Not found: "w""#,
    ];
    assert_eq!(found("", "pods", json!({"spec": spec})), wanted);
}

#[test]
fn workloads_select_their_own_pods() {
    let pod =
        json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"selector": {"matchLabels": {"app": "b"}}, "template": pod, "replicas": -1,
        "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}});
    let wanted = [
        r#"spec.replicas: Invalid value: -1: must be greater than or equal to 0"#,
        r#"spec.template.metadata.labels: Invalid value: {"app":"a"}: `selector` does not match template `labels`"#,
        r#"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0"#,
    ];
    assert_eq!(found("apps", "deployments", json!({"spec": spec})), wanted);
    let mut mounting = pod.clone();
    mounting["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    let claims = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}}]);
    let spec = json!({"selector": {"matchLabels": {"app": "a"}}, "template": mounting, "serviceName": "s",
        "volumeClaimTemplates": claims});
    assert_eq!(found("apps", "statefulsets", json!({"spec": spec})), [""; 0]);
    let job = json!({"spec": {"template": pod}});
    let wanted = [r#"spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never""#];
    assert_eq!(found("batch", "jobs", job), wanted);
    let cron = json!({"spec": {"schedule": "* *", "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never",
        "containers": [{"name": "c", "image": "i"}]}}}}}});
    let wanted = [r#"spec.schedule: Invalid value: "* *": expected exactly 5 fields, found 2: [* *]"#];
    assert_eq!(found("batch", "cronjobs", cron), wanted);
}

#[test]
fn services_and_configuration_are_checked() {
    let ports = json!([{"port": 80, "nodePort": 30000}, {"port": 80, "name": "b", "targetPort": "x y"}]);
    let wanted = [
        "spec.ports[1].targetPort: Invalid value: \"x y\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        "spec.ports[0].name: Required value",
        "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        r#"spec.ports[1]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}"#,
    ];
    assert_eq!(found("", "services", json!({"spec": {"ports": ports}})), wanted);
    assert_eq!(found("", "services", json!({"spec": {}})), ["spec.ports: Required value"]);
    let tls = json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "", "a b": ""}});
    let errors = found("", "secrets", tls);
    assert!(
        errors[0].starts_with(r#"data[a b]: Invalid value: "a b": a valid config key must consist of"#),
        "{errors:?}"
    );
    assert_eq!(errors[1], "data[tls.key]: Required value");
    let role = json!({"rules": [{"verbs": ["get"]}]});
    assert_eq!(found("rbac.authorization.k8s.io", "roles", role).len(), 2);
    let scaler =
        json!({"spec": {"maxReplicas": 1, "minReplicas": 2, "scaleTargetRef": {"kind": "D", "name": "d"}}});
    assert_eq!(found("autoscaling", "horizontalpodautoscalers", scaler).len(), 1);
}

#[test]
fn some_fields_never_change() {
    let deployments = resource("apps", "v1", "deployments");
    let (old, new) = (json!({"spec": {"selector": {"a": 1}}}), json!({"spec": {"selector": {"a": 2}}}));
    let wanted = [r#"spec.selector: Invalid value: {"a":2}: field is immutable"#];
    assert_eq!(texts(&immutable(deployments, &old, &new)), wanted);
    assert!(immutable(deployments, &old, &old).is_empty());
}

/// A request of a few megabytes must not be answered with gigabytes, nor take as long as its square.
#[test]
fn long_lists_cost_no_more_than_their_length() {
    let pods = resource("", "v1", "pods");
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true});
    let owned = json!({"metadata": {"name": "a", "namespace": "n", "ownerReferences": vec![owner; 20_000]}});
    assert_eq!(object_meta(pods, &owned).len(), 1);
    let amounts: crate::Map = (0..2_000).map(|n| (format!("requests.x{n}/y"), json!("1"))).collect();
    let spec = json!({"hard": amounts, "scopes": vec!["Never"; 2_000]});
    assert!(found("", "resourcequotas", json!({"spec": spec})).len() <= 1_000);
    let many = |make: &dyn Fn(usize) -> Value| -> Value { (0..10_000).map(make).collect() };
    let container = json!({"name": "c", "image": "i",
        "volumeMounts": many(&|n| json!({"name": format!("v{n}"), "mountPath": format!("/m{n}")})),
        "volumeDevices": many(&|n| json!({"name": format!("d{n}"), "devicePath": format!("/d{n}")}))});
    let spec = json!({"containers": [container],
        "volumes": many(&|n| json!({"name": format!("v{}", 9_999 - n), "emptyDir": {}}))});
    // None of the devices is there; the mounts are.
    assert_eq!(found("", "pods", json!({"spec": spec})).len(), 1_000);
    let codes = json!({"operator": "In", "values": many(&|n| json!(n % 200 + 1))});
    let policy = json!({"rules": [{"action": "Count", "onExitCodes": codes}]});
    let wanted =
        "spec.podFailurePolicy.rules[0].onExitCodes.values: Too many: 10000: must have at most 255 items";
    let errors = found("batch", "jobs", json!({"spec": {"podFailurePolicy": policy}}));
    assert_eq!(errors.iter().filter(|error| error.contains("onExitCodes")).collect::<Vec<_>>(), [wanted]);
}
