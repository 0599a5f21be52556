//! Policies in CEL that change objects, before webhooks do and again after them.

use super::*;

const POLICIES: &str = "admissionregistration.k8s.io/mutatingadmissionpolicies";
const BINDINGS: &str = "admissionregistration.k8s.io/mutatingadmissionpolicybindings";

fn apply(expression: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

fn json_patch(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

fn merged(mut spec: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        spec[key.as_str()] = value.clone();
    }
    spec
}

impl Cluster {
    /// A policy about config maps and pods that has what is given.
    async fn policy(&self, name: &str, mutations: &[Value], more: &Value) -> Result<Value, Status> {
        let rule = json!({"operations": ["CREATE", "UPDATE"], "apiGroups": ["", "apps", "autoscaling"],
            "apiVersions": ["v1"], "resources": ["configmaps", "pods", "horizontalpodautoscalers"]});
        let spec = json!({"matchConstraints": {"resourceRules": [rule]}, "reinvocationPolicy": "Never",
            "mutations": mutations});
        self.create(POLICIES, &json!({"metadata": {"name": name}, "spec": merged(spec, more)})).await
    }

    async fn bind(&self, policy: &str, name: &str, more: &Value) {
        let spec = merged(json!({"policyName": policy}), more);
        self.create(BINDINGS, &json!({"metadata": {"name": name}, "spec": spec})).await.unwrap();
    }

    /// A policy with a binding of its name.
    async fn bound(&self, name: &str, mutations: &[Value], more: &Value) {
        self.policy(name, mutations, more).await.unwrap();
        self.bind(name, name, &json!({})).await;
    }

    async fn made(&self, data: &Value) -> Result<Value, Status> {
        self.create("configmaps", &config_map("m", data)).await
    }
}

/// Adds a word to the config map's `seen`.
fn seen(word: &str) -> Value {
    apply(&format!(
        "Object{{data: {{'seen': (has(object.data) && has(object.data.seen) ? object.data.seen : '') + '{word}'}}}}"
    ))
}

/// The config map that a policy without anything special makes.
async fn made_by(mutations: &[Value], more: &Value) -> Result<Value, Status> {
    let cluster = Cluster::new(&[]).await;
    cluster.bound("p", mutations, more).await;
    cluster.made(&json!({"a": "1"})).await
}

#[tokio::test]
async fn configurations_are_laid_over_objects() {
    let labels =
        "Object{metadata: Object.metadata{labels: {'set': variables.name}, ?annotations: optional.none()}}";
    let more = json!({"variables": [{"name": "name", "expression": "request.operation + '-' + namespaceObject.metadata.name"}]});
    let made = made_by(&[apply(labels), apply("Object{data: {'b': object.metadata.labels['set']}}")], &more)
        .await
        .unwrap();
    assert_eq!(made["metadata"]["labels"], json!({"of": "m", "set": "CREATE-ns"}));
    assert_eq!(made["data"], json!({"a": "1", "b": "CREATE-ns"}));
}

#[tokio::test]
async fn a_pod_gets_a_container_with_its_defaults() {
    let cluster = Cluster::new(&[]).await;
    let sidecar = "Object{spec: Object.spec{initContainers: [Object.spec.initContainers{name: 'side', image: 'i:v1', \
                   restartPolicy: 'Always'}], containers: object.spec.containers.map(c, Object.spec.containers{name: c.name, \
                   env: [Object.spec.containers.env{name: 'SIDE', value: 'yes'}]})}}";
    cluster.bound("p", &[apply(sidecar)], &json!({})).await;
    let spec =
        json!({"containers": [{"name": "a", "image": "a:v1", "env": [{"name": "OWN", "value": "1"}]}]});
    let pod = cluster.create("pods", &json!({"metadata": {"name": "p"}, "spec": spec})).await.unwrap();
    let own = &pod["spec"]["containers"][0];
    assert_eq!(own["env"], json!([{"name": "SIDE", "value": "yes"}, {"name": "OWN", "value": "1"}]));
    assert_eq!(own["image"], "a:v1");
    let side = &pod["spec"]["initContainers"][0];
    assert_eq!(
        (&side["imagePullPolicy"], &side["restartPolicy"]),
        (&json!("IfNotPresent"), &json!("Always"))
    );
}

#[tokio::test]
async fn patches_are_applied_unless_a_test_fails() {
    let patch = |test: &str| {
        json_patch(&format!(
            "[JSONPatch{{op: 'test', path: '/data/a', value: '{test}'}},
              JSONPatch{{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('x.io/y'), value: 'z'}},
              JSONPatch{{op: 'move', from: '/data/a', path: '/data/b'}},
              JSONPatch{{op: 'add', path: '/metadata/annotations', value: Object.metadata.annotations{{c: 'd'}}}}]"
        ))
    };
    let made = made_by(&[patch("1")], &json!({})).await.unwrap();
    assert_eq!(made["metadata"]["labels"], json!({"of": "m", "x.io/y": "z"}));
    assert_eq!((&made["data"], &made["metadata"]["annotations"]), (&json!({"b": "1"}), &json!({"c": "d"})));
    let made = made_by(&[patch("2")], &json!({})).await.unwrap();
    assert_eq!(made["data"], json!({"a": "1"}));
}

#[tokio::test]
async fn what_goes_wrong_refuses_or_is_passed_over() {
    let wrong = [
        (
            apply("Object{data: {'b': object.data.none}}"),
            "expression 'Object{data: {'b': object.data.none}}' resulted in error: no such key: none",
        ),
        (
            apply("Object{metadata: Object.spec{x: 1}}"),
            "type mismatch: unexpected type name \"Object.spec\", expected \"Object.metadata\", which matches field name path from root Object type",
        ),
        (
            apply("Object{spec: Object.spec{x: 1}}"),
            "error applying patch: failed to convert patch object to typed object: .spec: field not declared in schema",
        ),
        (
            json_patch("[JSONPatch{op: 'remove', path: '/data/none'}]"),
            "JSONPath: remove operation does not apply: doc is missing path: /data/none: missing value",
        ),
        (
            json_patch("[JSONPatch{op: 'add', path: '/x', value: Object.x{y: [Object.z{}]}}]"),
            "type mismatch: unexpected type name \"Object.z\", expected \"Object.x.y\", which matches field name path from root Object type",
        ),
        (
            json_patch("[JSONPatch{op: dyn(1), path: '/x'}]"),
            "unexpected type int for JSONPatchType 'op' field",
        ),
    ];
    for (mutation, why) in wrong {
        let refused = made_by(std::slice::from_ref(&mutation), &json!({})).await.unwrap_err();
        let message = format!("policy 'p' with binding 'p' denied request: {why}");
        assert_eq!(
            (refused.code, refused.reason.as_str(), refused.message.as_str()),
            (403, "Invalid", message.as_str())
        );
        let others = [mutation, apply("Object{data: {'c': 'd'}}")];
        let made = made_by(&others, &json!({"failurePolicy": "Ignore"})).await.unwrap();
        assert_eq!(made["data"], json!({"a": "1", "c": "d"}));
    }
}

#[tokio::test]
async fn lists_without_keys_may_not_be_applied() {
    let cluster = Cluster::new(&[]).await;
    cluster.bound("p", &[apply("Object{spec: Object.spec{nodeSelector: {'a': 'b'}}}")], &json!({})).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "i"}]}});
    let refused = cluster.create("pods", &pod).await.unwrap_err();
    let why = "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.nodeSelector";
    assert!(refused.message.ends_with(why), "{}", refused.message);
}

#[tokio::test]
async fn a_value_that_would_be_huge_is_refused() {
    let list = |of: &str| format!("[{}]", [of; 10].join(","));
    let nested = (1..9).fold(String::new(), |before, at| {
        format!("{before}cel.bind(x{at}, {}, ", list(&format!("x{}", at - 1)))
    });
    let text = format!("cel.bind(x0, 'aaaaaaaaaa', {nested}Object{{data: {{'b': x8}}}}{}", ")".repeat(9));
    let refused = made_by(&[apply(&text)], &json!({})).await.unwrap_err();
    assert!(refused.message.contains("actual cost limit exceeded"), "{}", refused.message);
}

#[tokio::test]
async fn what_is_nested_too_deep_is_refused() {
    let refused = async |count: usize, levels: usize| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        let variable = |at: usize| match at {
            0 => json!({"name": "v0", "expression": "dyn('1')"}),
            at => {
                json!({"name": format!("v{at}"), "expression": format!("dyn({open}variables.v{}{close})", at - 1)})
            }
        };
        let variables = json!({"variables": (0..count).map(variable).collect::<Vec<_>>()});
        let read = apply(&format!("Object{{data: {{'a': variables.v{}}}}}", count - 1));
        made_by(&[read], &variables).await.unwrap_err().message
    };
    let why = refused(5000, 1).await;
    assert!(why.ends_with("variables refer to each other more than 32 deep"), "{why}");
    let why = refused(20, 8).await;
    assert!(why.ends_with("nested deeper than 128 levels"), "{why}");
}

#[tokio::test]
async fn policies_come_by_name_and_bindings_limit_them() {
    let cluster = Cluster::new(&[]).await;
    for name in ["b", "c", "a", "unbound", "elsewhere"] {
        cluster.policy(name, &[seen(name)], &json!({})).await.unwrap();
    }
    for (policy, binding) in [("a", "z"), ("c", "y"), ("b", "x"), ("a", "w")] {
        cluster.bind(policy, binding, &json!({})).await;
    }
    let other = json!({"matchResources": {"namespaceSelector": {"matchLabels": {"in": "other"}}}});
    cluster.bind("elsewhere", "e", &other).await;
    assert_eq!(cluster.made(&json!({})).await.unwrap()["data"], json!({"seen": "aabc"}));
}

#[tokio::test]
async fn parameters_and_conditions_decide() {
    let cluster = Cluster::new(&[]).await;
    let more = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "matchConditions": [
        {"name": "wanted", "expression": "has(object.metadata.labels) && has(object.metadata.labels.wants) && params.metadata.name != 'not'"}]});
    cluster
        .policy("p", &[apply("Object{data: {params.metadata.name: params.data.value}}")], &more)
        .await
        .unwrap();
    let selected = json!({"paramRef": {"selector": {"matchLabels": {"param": "yes"}}, "parameterNotFoundAction": "Deny"}});
    cluster.bind("p", "b", &selected).await;
    let wants = |name: &str| json!({"metadata": {"name": name, "labels": {"wants": "yes"}}});
    let refused = cluster.create("configmaps", &wants("early")).await.unwrap_err();
    let why = "policy 'p' with binding 'b' denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    assert_eq!((refused.reason.as_str(), refused.message.as_str()), ("Forbidden", why));
    // Nothing could be made while a parameter must be there.
    cluster.delete(BINDINGS, "b").await.unwrap();
    for name in ["one", "two", "not"] {
        let param = json!({"metadata": {"name": name, "labels": {"param": "yes"}}, "data": {"value": name}});
        cluster.create("configmaps", &param).await.unwrap();
    }
    cluster.bind("p", "b", &selected).await;
    assert_eq!(
        cluster.create("configmaps", &wants("m")).await.unwrap()["data"],
        json!({"one": "one", "two": "two"})
    );
    let without = cluster.create("configmaps", &json!({"metadata": {"name": "n"}})).await.unwrap();
    assert!(without["data"].is_null());
}

fn hook_adds(_: &Value) -> Result<Value, HookError> {
    Ok(patch(&json!([{"op": "add", "path": "/metadata/labels/hooked", "value": "yes"}])))
}

#[tokio::test]
async fn policies_are_called_again_when_others_changed_the_object() {
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    // Nothing changes the object after it.
    assert_eq!(made_by(&[seen("a")], &again).await.unwrap()["data"]["seen"], "a");
    let cluster = Cluster::new(&[]).await;
    cluster.bound("a", &[seen("a")], &again).await;
    cluster.bound("b", &[seen("b")], &json!({})).await;
    cluster.bound("c", &[seen("c")], &again).await;
    assert_eq!(cluster.made(&json!({})).await.unwrap()["data"]["seen"], "abcac");
    let cluster = Cluster::new(&[("adds", hook_adds)]).await;
    cluster
        .mutating(
            "adds",
            &json!({"rules": [{"operations": ["CREATE"], "apiGroups": [""],
        "apiVersions": ["v1"], "resources": ["configmaps"]}]}),
        )
        .await;
    cluster.bound("a", &[seen("a")], &again).await;
    cluster.bound("b", &[seen("b")], &json!({})).await;
    let made = cluster.made(&json!({})).await.unwrap();
    assert_eq!(
        (&made["data"]["seen"], &made["metadata"]["labels"]["hooked"]),
        (&json!("aba"), &json!("yes"))
    );
    assert_eq!(cluster.paths(), ["adds"]);
}

#[tokio::test]
async fn a_webhook_is_told_what_policies_made_and_again_if_they_change_it() {
    let cluster = Cluster::new(&[("sees", allow)]).await;
    let rules = json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]);
    cluster.mutating("sees", &json!({"rules": rules, "reinvocationPolicy": "IfNeeded"})).await;
    cluster.bound("a", &[seen("a")], &json!({"reinvocationPolicy": "IfNeeded"})).await;
    cluster.bound("b", &[seen("b")], &json!({})).await;
    cluster.made(&json!({})).await.unwrap();
    let told: Vec<Value> =
        cluster.asked().into_iter().map(|(_, request)| request["object"]["data"]["seen"].clone()).collect();
    assert_eq!(told, ["ab", "aba"]);
}

#[tokio::test]
async fn objects_are_changed_in_the_version_that_a_policy_names() {
    let cluster = Cluster::new(&[]).await;
    let target = "Object{spec: Object.spec{targetCPUUtilizationPercentage: 50}}";
    cluster.bound("p", &[apply(target)], &json!({})).await;
    let spec = json!({"maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}});
    let autoscaler = json!({"metadata": {"name": "h"}, "spec": spec});
    let made = cluster.create("autoscaling/v2/horizontalpodautoscalers", &autoscaler).await.unwrap();
    assert_eq!(made["apiVersion"], "autoscaling/v2");
    assert_eq!(made["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
}

#[tokio::test]
async fn updates_are_changed_and_deletions_and_policies_are_not() {
    let cluster = Cluster::new(&[]).await;
    let rule = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]});
    let more = json!({"matchConstraints": {"resourceRules": [rule]}});
    let labels = apply("Object{metadata: Object.metadata{labels: {'op': request.operation}}}");
    cluster.bound("p", &[labels], &more).await;
    assert_eq!(cluster.made(&json!({})).await.unwrap()["metadata"]["labels"]["op"], "CREATE");
    let changed = cluster.merge("configmaps", "m", "", &json!({"data": {"a": "b"}})).await.unwrap();
    assert_eq!(changed["metadata"]["labels"]["op"], "UPDATE");
    cluster.delete("configmaps", "m").await.unwrap();
    let policy = cluster.policy("q", &[apply("Object{}")], &json!({})).await.unwrap();
    assert!(policy["metadata"]["labels"].is_null());
}

#[tokio::test]
async fn an_object_keeps_its_name() {
    let renamed = made_by(&[apply("Object{metadata: Object.metadata{name: 'other'}}")], &json!({})).await;
    let why = "policy 'p' changed metadata.name of the object";
    assert!(renamed.unwrap_err().message.contains(why));
}

#[tokio::test]
async fn variables_may_not_nest_without_end() {
    let cluster = Cluster::new(&[]).await;
    let name = |at: usize| format!("v{at:02}");
    let wrapped = |at: usize| match at {
        0 => "[1]".to_owned(),
        _ => format!("{}variables.{}{}", "[".repeat(40), name(at - 1), "]".repeat(40)),
    };
    let variables: Vec<Value> =
        (0..5).map(|at| json!({"name": name(at), "expression": wrapped(at)})).collect();
    let labels = |at: usize| {
        let read: Vec<String> = (0..=at).map(|at| format!("size(variables.{})", name(at))).collect();
        apply(&format!(
            "Object{{metadata: Object.metadata{{labels: {{'n': string({})}}}}}}",
            read.join(" + ")
        ))
    };
    cluster.bound("p", &[labels(2)], &json!({"variables": variables})).await;
    assert_eq!(cluster.made(&json!({})).await.unwrap()["metadata"]["labels"]["n"], "3");
    let cluster = Cluster::new(&[]).await;
    cluster.bound("p", &[labels(4)], &json!({"variables": variables})).await;
    let refused = cluster.made(&json!({})).await.unwrap_err();
    assert!(refused.message.contains("nested deeper than 128 levels"), "{}", refused.message);
}
