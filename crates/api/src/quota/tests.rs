use crate::json;

use super::*;

fn pod(spec: &Value) -> Value {
    json!({"metadata": {"name": "p"}, "spec": spec, "status": {"phase": "Pending", "qosClass": "Burstable"}})
}

fn container(name: &str, requests: &Value, limits: &Value) -> Value {
    json!({"name": name, "resources": {"requests": requests, "limits": limits}})
}

fn of(object: &Value, resource: &str) -> String {
    usage("", resource, object, Timestamp::UNIX_EPOCH).amounts.text()
}

#[test]
fn a_pod_takes_the_most_that_it_needs_at_any_time() {
    let none = json!({});
    let mut sidecar = container("s", &json!({"cpu": "1"}), &none);
    sidecar["restartPolicy"] = "Always".into();
    let spec = json!({
        "initContainers": [sidecar, container("i", &json!({"cpu": "3", "memory": "1Gi"}), &none)],
        "containers": [
            container("a", &json!({"cpu": "500m", "example.com/gpu": "2"}), &json!({"memory": "2Gi"})),
            container("b", &json!({"cpu": "1"}), &none),
        ],
        "overhead": {"cpu": "100m", "memory": "1Gi"},
    });
    assert_eq!(
        of(&pod(&spec), "pods"),
        "count/pods=1,cpu=4100m,limits.memory=3Gi,memory=2Gi,pods=1,requests.cpu=4100m,\
         requests.example.com/gpu=2,requests.memory=2Gi"
    );
    let mut ended = pod(&spec);
    ended["status"]["phase"] = "Succeeded".into();
    assert_eq!(of(&ended, "pods"), "count/pods=1");
}

#[test]
fn services_and_claims_take_what_they_are() {
    let service = |kind: &str, more: &str| {
        let mut service = json!({"spec": {"type": kind, "ports": [{"port": 1}, {"port": 2}]}});
        if !more.is_empty() {
            service["spec"][more] = false.into();
        }
        of(&service, "services").replace("count/services=1,", "")
    };
    assert_eq!(service("ClusterIP", ""), "services=1,services.loadbalancers=0,services.nodeports=0");
    assert_eq!(service("NodePort", ""), "services=1,services.loadbalancers=0,services.nodeports=2");
    assert_eq!(
        service("LoadBalancer", "allocateLoadBalancerNodePorts"),
        "services=1,services.loadbalancers=1,services.nodeports=0"
    );
    let claim = json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "5Gi"}}}});
    assert_eq!(
        of(&claim, "persistentvolumeclaims"),
        "count/persistentvolumeclaims=1,fast.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
         fast.storageclass.storage.k8s.io/requests.storage=5Gi,persistentvolumeclaims=1,requests.storage=5Gi"
    );
    assert_eq!(of(&json!({}), "configmaps"), "configmaps=1,count/configmaps=1");
    assert_eq!(
        usage("apps", "deployments", &json!({}), Timestamp::UNIX_EPOCH).amounts.text(),
        "count/deployments.apps=1"
    );
}

#[test]
fn scopes_choose_their_pods() {
    let quota = |scopes: &Value| json!({"spec": {"hard": {"pods": "1"}, "scopes": scopes}});
    let mut short = pod(&json!({"activeDeadlineSeconds": 5, "priorityClassName": "high"}));
    short["status"]["qosClass"] = "BestEffort".into();
    let long = pod(&json!({}));
    let holds = |quota: &Value, pod: &Value| {
        !Quota::read(quota).share(&usage("", "pods", pod, Timestamp::UNIX_EPOCH)).is_empty()
    };
    for (scope, wanted) in [
        ("Terminating", (true, false)),
        ("NotTerminating", (false, true)),
        ("BestEffort", (true, false)),
        ("NotBestEffort", (false, true)),
    ] {
        let quota = quota(&json!([scope]));
        assert_eq!((holds(&quota, &short), holds(&quota, &long)), wanted, "{scope}");
    }
    let select = |operator: &str, values: &Value| {
        let wanted = json!([{"scopeName": "PriorityClass", "operator": operator, "values": values}]);
        json!({"spec": {"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": wanted}}})
    };
    for (operator, values, wanted) in [
        ("In", json!(["high"]), (true, false)),
        ("NotIn", json!(["high"]), (false, true)),
        ("Exists", json!([]), (true, false)),
        ("DoesNotExist", json!([]), (false, true)),
    ] {
        let quota = select(operator, &values);
        assert_eq!((holds(&quota, &short), holds(&quota, &long)), wanted, "{operator}");
    }
    let service = usage("", "services", &json!({}), Timestamp::UNIX_EPOCH);
    let scoped = json!({"spec": {"hard": {"services": "1"}, "scopes": ["BestEffort"]}});
    assert!(Quota::read(&scoped).share(&service).is_empty());
}

#[test]
fn a_charge_is_taken_or_refused_in_kubernetes_words() {
    let object = json!({
        "spec": {"hard": {"pods": "2", "requests.cpu": "1", "secrets": "1"}},
        "status": {"used": {"pods": "1", "requests.cpu": "800m"}},
    });
    let quota = Quota::read(&object);
    let small = usage(
        "",
        "pods",
        &pod(&json!({"containers": [container("c", &json!({"cpu": "200m"}), &json!({}))]})),
        Timestamp::UNIX_EPOCH,
    );
    assert_eq!(quota.charge("q", &quota.share(&small)).unwrap().text(), "pods=2,requests.cpu=1");
    let large = pod(&json!({"containers": [container("c", &json!({"cpu": "300m"}), &json!({}))]}));
    let large = usage("", "pods", &large, Timestamp::UNIX_EPOCH);
    assert_eq!(
        quota.charge("q", &quota.share(&large)).unwrap_err(),
        "exceeded quota: q, requested: requests.cpu=300m, used: requests.cpu=800m, limited: requests.cpu=1"
    );
    // Nobody has counted secrets yet.
    let secret = usage("", "secrets", &json!({}), Timestamp::UNIX_EPOCH);
    assert_eq!(quota.charge("q", &quota.share(&secret)).unwrap(), quota.used);
    let silent = pod(&json!({"containers": [{"name": "b"}, {"name": "a"}]}));
    assert_eq!(quota.unsaid(&silent).unwrap(), "must specify requests.cpu for: a,b");
    assert_eq!(
        quota.counted([&small, &large].into_iter()),
        json!({"hard": {"pods": "2", "requests.cpu": "1", "secrets": "1"},
               "used": {"pods": "2", "requests.cpu": "500m", "secrets": "0"}})
    );
}

#[test]
fn every_amount_is_found_under_its_resource() {
    let claim = json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "5Gi"}}}});
    let long = pod(&json!({"containers": [container("c", &json!({"cpu": "1"}), &json!({"memory": "1Gi"}))]}));
    for (group, resource, object) in [
        ("", "pods", long),
        ("", "services", json!({})),
        ("", "persistentvolumeclaims", claim),
        ("", "secrets", json!({})),
        ("apps", "deployments", json!({})),
    ] {
        for name in usage(group, resource, &object, Timestamp::UNIX_EPOCH).amounts.0.keys() {
            assert_eq!(resource_of(name), (group, resource), "{name}");
        }
    }
}
