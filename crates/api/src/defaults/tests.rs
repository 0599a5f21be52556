use crate::json;

use super::*;
use crate::gvr::Gvr;

fn filled(group: &'static str, version: &'static str, name: &'static str, mut value: Value) -> Value {
    let resource = builtin().get(&Gvr::new(group, version, name)).unwrap();
    apply(resource, &mut value);
    let mut again = value.clone();
    apply(resource, &mut again);
    assert_eq!(again, value, "defaults are stable");
    value
}

#[test]
fn every_rule_names_a_field_that_exists() {
    assert!(rules::plans(builtin().schema(), rules::TEXT).is_ok_and(|plans| !plans.is_empty()));
    assert!(rules::plans(builtin().schema(), "core.v1.Pod spec.nope 1").is_err());
}

#[test]
fn a_pod_is_filled_in_as_by_kubernetes() {
    let limits = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}});
    let container = json!({
        "name": "c", "image": "registry:5000/a/b:1", "resources": limits, "ports": [{"containerPort": 80}],
        "readinessProbe": {"httpGet": {"port": 80}},
    });
    let volumes = json!([{"name": "e"}, {"name": "s", "secret": {"secretName": "x"}}]);
    let pod = filled("", "v1", "pods", json!({"spec": {"containers": [container], "volumes": volumes}}));
    let wanted = json!({
        "spec": {
            "containers": [{
                "name": "c", "image": "registry:5000/a/b:1", "imagePullPolicy": "IfNotPresent",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "readinessProbe": {
                    "failureThreshold": 3, "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
                    "periodSeconds": 10, "successThreshold": 1, "timeoutSeconds": 1,
                },
                "resources": {
                    "limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"},
                },
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "restartPolicy": "Always",
            "schedulerName": "default-scheduler", "securityContext": {}, "terminationGracePeriodSeconds": 30,
            "volumes": [
                {"name": "e", "emptyDir": {}},
                {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}},
            ],
        },
        "status": {},
    });
    assert_eq!(pod, wanted);
}

#[test]
fn a_deployments_template_has_no_defaults_of_pods_alone() {
    let template = json!({"spec": {"containers": [{"name": "c", "image": "a"}]}});
    let deployment = filled("apps", "v1", "deployments", json!({"spec": {"template": template}}));
    let strategy =
        json!({"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}, "type": "RollingUpdate"});
    assert_eq!(deployment["spec"]["strategy"], strategy);
    assert_eq!(deployment["spec"]["replicas"], 1);
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["imagePullPolicy"], "Always");
    assert!(pod.get("enableServiceLinks").is_none());
}

#[test]
fn a_services_defaults_follow_its_type() {
    let spec = json!({"type": "LoadBalancer", "sessionAffinity": "ClientIP", "ports": [{"port": 80}]});
    let service = filled("", "v1", "services", json!({"spec": spec}));
    let wanted = json!({
        "allocateLoadBalancerNodePorts": true, "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}, "type": "LoadBalancer",
    });
    assert_eq!(service["spec"], wanted);
    let external =
        filled("", "v1", "services", json!({"spec": {"type": "ExternalName", "externalName": "x"}}));
    let wanted = json!({"type": "ExternalName", "externalName": "x", "sessionAffinity": "None"});
    assert_eq!(external["spec"], wanted);
}

#[test]
fn jobs_differ_from_templates_of_jobs() {
    let template = json!({"metadata": {"labels": {"a": "b"}}});
    let job = filled("batch", "v1", "jobs", json!({"spec": {"template": template}}));
    assert_eq!((&job["spec"]["completions"], &job["spec"]["backoffLimit"]), (&json!(1), &json!(6)));
    assert_eq!(job["metadata"]["labels"], json!({"a": "b"}));
    let cron = filled("batch", "v1", "cronjobs", json!({"spec": {"jobTemplate": {"spec": {}}}}));
    assert_eq!(cron["spec"]["jobTemplate"]["spec"], json!({}));
    assert_eq!(cron["spec"]["concurrencyPolicy"], "Allow");
}

#[test]
fn images_tell_how_to_be_pulled() {
    let pulled = |image: &str| {
        let pod = json!({"spec": {"containers": [{"image": image}]}});
        filled("", "v1", "pods", pod)["spec"]["containers"][0]["imagePullPolicy"].clone()
    };
    assert_eq!((pulled("a"), pulled("host:5000/a")), ("Always".into(), "Always".into()));
    assert_eq!((pulled("a:latest"), pulled("a:1")), ("Always".into(), "IfNotPresent".into()));
    assert_eq!(pulled("a@sha256:00"), "IfNotPresent");
}
