//! Which requests a webhook is asked about.

use super::*;
use crate::admission::testing::Case;
use crate::admission::{Operation, Review};

/// Whether a webhook with such a rule is about a request.
async fn is_asked(rule: &Value, request: (&'static str, &'static str, Operation)) -> bool {
    struct Look<'a>(&'a Value, Mutex<Option<bool>>);
    #[async_trait]
    impl Plugin for Look<'_> {
        fn name(&self) -> &'static str {
            "Look"
        }
        async fn mutate(&self, review: &mut Review<'_>) -> Result<(), Status> {
            let webhook =
                super::super::config::tests::webhook(&json!({"rules": [self.0], "matchPolicy": "Exact"}));
            *self.1.lock() = Some(super::super::matching::told(&webhook, review, Vec::new).is_some());
            Ok(())
        }
    }
    let (path, namespace, operation) = request;
    let (path, subresource) = path.split_once(':').unwrap_or((path, ""));
    let look = Look(rule, Mutex::default());
    let case = Case::create(path, namespace, json!({})).operation(operation).subresource(subresource);
    case.mutate(&look).await.unwrap();
    look.1.into_inner().unwrap()
}

#[tokio::test]
async fn rules_name_requests() {
    use Operation::{Connect, Create, Delete};
    let rule = |operations: &[&str], group: &str, resources: &[&str], scope: &str| {
        json!({"operations": operations.to_vec(), "apiGroups": [group], "apiVersions": ["v1"],
               "resources": resources.to_vec(), "scope": scope})
    };
    let pods = rule(&["CREATE"], "", &["pods"], "*");
    for (rule, request, asked) in [
        (&pods, ("pods", "ns", Create), true),
        (&pods, ("pods", "ns", Delete), false),
        (&pods, ("apps/deployments", "ns", Create), false),
        (&pods, ("pods:status", "ns", Create), false),
        (&rule(&["CONNECT"], "", &["pods/attach"], "*"), ("pods:attach", "ns", Connect), true),
        (&rule(&["*"], "*", &["*"], "*"), ("pods:status", "ns", Create), false),
        (&rule(&["*"], "*", &["*/*"], "*"), ("pods:status", "ns", Create), true),
        (&rule(&["*"], "*", &["*/*"], "*"), ("pods", "ns", Create), true),
        (&rule(&["*"], "*", &["*/scale"], "*"), ("apps/deployments:scale", "ns", Create), true),
        (&rule(&["*"], "", &["pods/*"], "*"), ("pods", "ns", Create), true),
        (&rule(&["*"], "*", &["*"], "Cluster"), ("nodes", "", Create), true),
        (&rule(&["*"], "*", &["*"], "Cluster"), ("pods", "ns", Create), false),
        (&rule(&["*"], "*", &["*"], "Cluster"), ("namespaces", "", Create), true),
        (&rule(&["*"], "*", &["*"], "Namespaced"), ("namespaces", "", Create), false),
        (&rule(&["*"], "*", &["*"], "Namespaced"), ("pods", "ns", Create), true),
    ] {
        assert_eq!(is_asked(rule, request).await, asked, "{rule} {request:?}");
    }
}

#[tokio::test]
async fn selectors_choose_namespaces_and_objects() {
    let cluster = Cluster::new(&[("all", allow), ("ns", allow), ("other", allow), ("one", allow)]).await;
    let selector = |key: &str, value: &str| json!({"matchLabels": {key: value}});
    cluster.validating("ns", &json!({"namespaceSelector": selector("in", "ns")})).await;
    cluster.validating("other", &json!({"namespaceSelector": selector("in", "other")})).await;
    cluster.validating("one", &json!({"objectSelector": selector("of", "one")})).await;
    cluster.create("configmaps", &config_map("one", &json!({}))).await.unwrap();
    assert_eq!(cluster.paths(), ["ns", "one"]);
    cluster.create("configmaps", &config_map("two", &json!({}))).await.unwrap();
    assert_eq!(cluster.paths(), ["ns"]);
    // The old object counts as well.
    cluster.merge("configmaps", "one", "", &json!({"metadata": {"labels": null}})).await.unwrap();
    assert_eq!(cluster.paths(), ["ns", "one"]);
    // What is in no namespace is in none that could be left out; a namespace has its own labels.
    cluster.create("nodes", &json!({"metadata": {"name": "n"}})).await.unwrap();
    assert_eq!(cluster.paths(), ["ns", "other"]);
    let namespace = json!({"metadata": {"name": "new", "labels": {"in": "other"}}});
    cluster.create("namespaces", &namespace).await.unwrap();
    assert_eq!(cluster.paths(), ["other"]);
    cluster.delete("namespaces", "ns").await.unwrap();
    assert_eq!(cluster.paths(), ["ns"]);
}

#[tokio::test]
async fn configurations_are_under_no_control_and_changes_count_at_once() {
    let deny: Says = |_| Ok(json!({"allowed": false}));
    let cluster = Cluster::new(&[("deny", deny)]).await;
    cluster.validating("deny", &json!({})).await;
    assert_eq!(cluster.create("configmaps", &config_map("a", &json!({}))).await.unwrap_err().code, 400);
    let path = "admissionregistration.k8s.io/validatingwebhookconfigurations";
    cluster.delete(path, "deny").await.unwrap();
    cluster.create("configmaps", &config_map("a", &json!({}))).await.unwrap();
    assert_eq!(cluster.paths(), ["deny"]);
}

#[tokio::test]
async fn another_version_of_the_same_objects_is_a_match_too() {
    let cluster = Cluster::new(&[("equal", allow), ("exact", allow)]).await;
    let rule = json!([{"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v2"],
                       "resources": ["horizontalpodautoscalers"]}]);
    cluster.mutating("equal", &json!({"rules": rule})).await;
    cluster.validating("equal", &json!({"rules": rule})).await;
    cluster.validating("exact", &json!({"rules": rule, "matchPolicy": "Exact"})).await;
    let scaler = json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 2, "targetCPUUtilizationPercentage": 7,
                        "scaleTargetRef": {"kind": "Deployment", "name": "d"}}});
    let made = cluster.create("autoscaling/v1/horizontalpodautoscalers", &scaler).await.unwrap();
    assert_eq!(made["spec"]["targetCPUUtilizationPercentage"], 7);
    let asked = cluster.asked();
    assert_eq!(asked.len(), 2);
    for (path, request) in asked {
        assert_eq!((path.as_str(), &request["resource"]["version"]), ("equal", &json!("v2")));
        assert_eq!(request["requestResource"]["version"], "v1");
        assert_eq!(request["requestKind"]["version"], "v1");
        assert_eq!(request["object"]["apiVersion"], "autoscaling/v2");
        assert_eq!(request["object"]["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 7);
    }
}
