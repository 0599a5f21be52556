use crate::json;

use super::*;
use crate::gvr::Gvr;
use crate::schema::{Resource, builtin};

fn resource(group: &'static str, version: &'static str, name: &'static str) -> &'static Resource {
    builtin().get(&Gvr::new(group, version, name)).unwrap()
}

fn structured(resource: &Resource, value: Value) -> Result<(Value, Vec<String>), String> {
    let mut value = value;
    let unknown = structure(resource, &mut value).map_err(|error| error.to_string())?;
    Ok((value, unknown))
}

#[test]
fn duplicates_are_named_and_the_last_one_counts() {
    let parsed = super::json(br#"{"spec":{"a":1,"l":[{"x":1,"x":2}],"a":3}}"#).unwrap();
    assert_eq!(parsed.value, json!({"spec": {"a": 3, "l": [{"x": 2}]}}));
    assert_eq!(parsed.duplicates, [r#"duplicate field "spec.l[0].x""#, r#"duplicate field "spec.a""#]);
    let parsed = yaml(b"spec:\n  a: 1\n  a: 2\n").unwrap();
    assert_eq!((parsed.value, parsed.duplicates.len()), (json!({"spec": {"a": 2}}), 1));
}

#[test]
fn only_one_object_is_a_body() {
    let error = super::json(b"[1]").unwrap_err().to_string();
    assert!(
        error.starts_with("couldn't get version/kind; json parse error: json: cannot unmarshal array"),
        "{error}"
    );
    assert!(matches!(super::json(br#"{"a":1} x"#), Err(DecodeError::Json(_))));
    assert!(matches!(super::json(b"{"), Err(DecodeError::Json(_))));
    assert!(matches!(super::json(&[b'['; 100_000]), Err(DecodeError::Json(_))));
    assert!(matches!(yaml(b"a: [1"), Err(DecodeError::Yaml(_))));
    assert!(matches!(yaml(b"just text"), Err(DecodeError::NotAnObject("string"))));
    assert!(yaml(b"a: 1\n---\nb: 2\n").is_err());
}

#[test]
fn yaml_means_what_it_means_to_kubernetes() {
    let parsed = yaml(b"mode: 0644\non: yes\ntext: \"0644\"\nn: ~\nf: 1.5\nl: [1, a]\n1: x\n").unwrap();
    let wanted =
        json!({"mode": 420, "on": true, "text": "0644", "n": null, "f": 1.5, "l": [1, "a"], "1": "x"});
    assert_eq!(parsed.value, wanted);
}

#[test]
fn unknown_fields_go_and_are_named() {
    let pod = json!({"spec": {"foo": 1, "containers": [{"name": "a", "bar": {"x": 1}}]}, "zap": 2});
    let (value, unknown) = structured(resource("", "v1", "pods"), pod).unwrap();
    assert_eq!(value, json!({"spec": {"containers": [{"name": "a"}]}}));
    let wanted = [
        r#"unknown field "spec.containers[0].bar""#,
        r#"unknown field "spec.foo""#,
        r#"unknown field "zap""#,
    ];
    assert_eq!(unknown, wanted);
}

#[test]
fn nulls_and_empty_collections_go_and_values_become_canonical() {
    let pod = json!({
        "metadata": {"creationTimestamp": null, "labels": {}, "annotations": {"a": null},
            "deletionTimestamp": "2026-11-22T10:00:00.5+02:00"},
        "spec": {"containers": [{"name": "a", "args": [], "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}],
            "volumes": [null], "securityContext": {}},
    });
    let (value, _) = structured(resource("", "v1", "pods"), pod).unwrap();
    let wanted = json!({
        "metadata": {"annotations": {"a": ""}, "deletionTimestamp": "2026-11-22T08:00:00Z"},
        "spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}],
            "volumes": [{}], "securityContext": {}},
    });
    assert_eq!(value, wanted);
    let lease =
        json!({"spec": {"renewTime": "2026-11-22T10:00:00Z", "acquireTime": "2026-11-22T10:00:00.123456Z"}});
    let (value, _) = structured(resource("coordination.k8s.io", "v1", "leases"), lease).unwrap();
    assert_eq!(value["spec"]["renewTime"], "2026-11-22T10:00:00.000000Z");
    assert_eq!(value["spec"]["acquireTime"], "2026-11-22T10:00:00.123456Z");
}

#[test]
fn a_zero_stays_where_it_differs_from_absence() {
    let spec =
        json!({"hostNetwork": false, "nodeName": "", "hostUsers": false, "priority": 0, "containers": []});
    let (value, _) = structured(resource("", "v1", "pods"), json!({"spec": spec})).unwrap();
    assert_eq!(value, json!({"spec": {"hostUsers": false, "priority": 0, "containers": []}}));
    let (value, _) =
        structured(resource("apps", "v1", "deployments"), json!({"spec": {"replicas": 0}})).unwrap();
    assert_eq!(value, json!({"spec": {"replicas": 0}}));
}

#[test]
fn wrong_types_are_refused_in_gos_words() {
    let deployments = resource("apps", "v1", "deployments");
    let refused = |value| structured(deployments, value).unwrap_err();
    assert_eq!(
        refused(json!({"spec": {"replicas": "3"}})),
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    assert_eq!(
        refused(json!({"spec": {"template": {"spec": {"containers": [{"image": 5}]}}}})),
        "json: cannot unmarshal number 5 into Go struct field Container.spec.template.spec.containers.image of type string"
    );
    assert_eq!(
        refused(json!({"spec": {"template": {"spec": {"containers": {}}}}})),
        "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container"
    );
    assert!(refused(json!({"spec": {"replicas": 3_000_000_000_i64}})).contains("number 3000000000"));
    let limits = json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "much"}}}]}});
    let error = structured(resource("", "v1", "pods"), limits).unwrap_err();
    assert!(error.starts_with("quantities must match"), "{error}");
    let secret = structured(resource("", "v1", "secrets"), json!({"data": {"a": "%%"}})).unwrap_err();
    assert_eq!(secret, "illegal base64 data at input byte 0");
}

#[test]
fn a_refusal_reads_as_kube_apiservers() {
    let pod = Gvk::new("", "v1", "Pod");
    let status = refusal(&pod, &strict(&[r#"unknown field "spec.x""#.into()]));
    assert_eq!(status.code, 400);
    let wanted =
        r#"Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.x""#;
    assert_eq!(status.message, wanted);
}

#[test]
fn times_are_written_in_one_way() {
    let lease = builtin().get(&crate::Gvr::new("coordination.k8s.io", "v1", "leases")).unwrap();
    let micro = |time: &str| {
        let mut value =
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {"renewTime": time}});
        structure(lease, &mut value)
            .map(|_| value["spec"]["renewTime"].as_str().unwrap_or_default().to_owned())
    };
    for same in [
        "2026-11-22T10:00:00.5Z",
        "2026-11-22T10:00:00,500000Z",
        "2026-11-22T11:00:00.5+01:00",
        "2026-11-22T10:00:00.500000Z",
    ] {
        assert_eq!(micro(same).unwrap(), "2026-11-22T10:00:00.500000Z", "{same}");
    }
    for broken in ["2026-11-22", "2026-11-22T10:00:60.000000Z", "2026-11-22 10:00:00.000000Z"] {
        assert!(micro(broken).is_err(), "{broken}");
    }
}
