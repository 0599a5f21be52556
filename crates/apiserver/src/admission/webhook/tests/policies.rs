//! Policies in CEL, which tell by the same means what they are about.

use super::*;

const POLICIES: &str = "admissionregistration.k8s.io/validatingadmissionpolicies";
const BINDINGS: &str = "admissionregistration.k8s.io/validatingadmissionpolicybindings";

/// A policy about config maps that has what is given.
fn policy(more: &Value) -> Value {
    let rule = json!({"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]});
    let mut spec = json!({"matchConstraints": {"resourceRules": [rule]}, "failurePolicy": "Fail"});
    for (key, value) in more.as_object().unwrap() {
        spec[key.as_str()] = value.clone();
    }
    json!({"metadata": {"name": "p"}, "spec": spec})
}

fn binding(actions: &[&str], more: &Value) -> Value {
    let mut spec = json!({"policyName": "p", "validationActions": actions});
    for (key, value) in more.as_object().unwrap() {
        spec[key.as_str()] = value.clone();
    }
    json!({"metadata": {"name": "b"}, "spec": spec})
}

async fn cluster(more: &Value, actions: &[&str], bound: &Value) -> Cluster {
    let cluster = Cluster::new(&[]).await;
    cluster.create(POLICIES, &policy(more)).await.unwrap();
    cluster.create(BINDINGS, &binding(actions, bound)).await.unwrap();
    cluster
}

impl Cluster {
    async fn map(&self, name: &str, data: &Value) -> Result<Value, Status> {
        self.create("configmaps", &config_map(name, data)).await
    }
}

#[tokio::test]
async fn what_an_expression_objects_to_is_refused() {
    let validations = json!([
        {"expression": "variables.size <= 2", "messageExpression": "'has ' + string(variables.size)"},
        {"expression": "namespaceObject.metadata.labels['in'] == 'ns'"},
        {"expression": "!has(object.data.secret)", "message": "no secrets", "reason": "Forbidden"},
    ]);
    let variables = json!([{"name": "size", "expression": "size(object.data)"}]);
    let spec = json!({"validations": validations, "variables": variables,
        "matchConditions": [{"name": "not-free", "expression": "object.metadata.name != 'free'"}]});
    let cluster = cluster(&spec, &["Deny"], &json!({})).await;
    cluster.map("good", &json!({"a": "1"})).await.unwrap();
    cluster.map("free", &json!({"a": "1", "b": "2", "c": "3"})).await.unwrap();
    let refused = cluster.map("many", &json!({"a": "1", "b": "2", "c": "3"})).await.unwrap_err();
    let why = "configmaps \"many\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: has 3";
    assert_eq!((refused.code, refused.message.as_str()), (422, why));
    let refused = cluster.map("open", &json!({"secret": "x"})).await.unwrap_err();
    assert!(
        refused.code == 403 && refused.message.ends_with("denied request: no secrets"),
        "{}",
        refused.message
    );
    let refused = cluster.create("configmaps", &json!({"metadata": {"name": "none"}})).await.unwrap_err();
    assert!(refused.message.contains("resulted in error: no such key: data"), "{}", refused.message);
}

#[tokio::test]
async fn a_binding_says_where_and_what_becomes_of_it() {
    let spec =
        json!({"validations": [{"expression": "object.metadata.name == 'x'"}], "failurePolicy": "Ignore"});
    let elsewhere = json!({"matchResources": {"namespaceSelector": {"matchLabels": {"in": "other"}}}});
    cluster(&spec, &["Deny"], &elsewhere).await.map("a", &json!({})).await.unwrap();
    let warns = cluster(&spec, &["Warn", "Audit"], &json!({})).await;
    let (outcome, warnings) = crate::warning::collect(warns.map("a", &json!({}))).await;
    assert!(outcome.is_ok());
    let told = "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': failed expression: object.metadata.name == 'x'";
    assert_eq!(warnings, [told]);
}

#[tokio::test]
async fn parameters_are_objects() {
    let spec = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "validations": [{"expression": "size(object.data) <= int(params.data.max)"}],
        "matchConditions": [{"name": "wanted", "expression": "params.data.max != '' && object.metadata.name != 'free'"}]});
    // Parameters are looked for before conditions, which read them.
    let others = json!({"matchExpressions": [{"key": "of", "operator": "NotIn", "values": ["limits"]}]});
    let bound = json!({"paramRef": {"name": "limits", "namespace": "ns", "parameterNotFoundAction": "Deny"},
        "matchResources": {"objectSelector": others}});
    let cluster = cluster(&spec, &["Deny"], &bound).await;
    let refused = cluster.map("a", &json!({})).await.unwrap_err();
    assert!(refused.message.contains("no params found"), "{}", refused.message);
    cluster.map("limits", &json!({"max": "1"})).await.unwrap();
    cluster.map("a", &json!({"a": "1"})).await.unwrap();
    cluster.map("free", &json!({"a": "1", "b": "2"})).await.unwrap();
    assert_eq!(cluster.map("b", &json!({"a": "1", "b": "2"})).await.unwrap_err().code, 422);
}

#[tokio::test]
async fn a_policy_that_does_not_compile_is_refused() {
    let cluster = Cluster::new(&[]).await;
    let spec = json!({"validations": [{"expression": "variables.none"}], "variables": [{"name": "a", "expression": "b +"}]});
    let refused = cluster.create(POLICIES, &policy(&spec)).await.unwrap_err();
    for place in ["spec.variables[0].expression", "spec.validations[0].expression"] {
        assert!(refused.message.contains(&format!("{place}: Invalid value")), "{}", refused.message);
    }
}
