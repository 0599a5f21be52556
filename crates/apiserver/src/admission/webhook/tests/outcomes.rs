//! What follows from what webhooks say.

use super::*;

const NO: Says = |_| Ok(json!({"allowed": false, "status": {"reason": "the reason"}}));
const GONE: Says =
    |_| Err(HookError::Unreachable { url: "https://h/gone".to_owned(), cause: "EOF".to_owned() });

#[tokio::test]
async fn a_patched_object_is_pruned_and_defaulted_again() {
    let add: Says = |_| {
        let container = json!([{"name": "added", "image": "i", "nonsense": 1}]);
        Ok(patch(&json!([{"op": "add", "path": "/spec/initContainers", "value": container}])))
    };
    let cluster = Cluster::new(&[("add", add)]).await;
    cluster.mutating("add", &json!({})).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let made = cluster.create("pods", &pod).await.unwrap();
    let added = &made["spec"]["initContainers"][0];
    assert_eq!((&added["name"], &added["terminationMessagePolicy"]), (&json!("added"), &json!("File")));
    assert!(added.get("nonsense").is_none());
    let books = &made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    assert!(books.get("f:containers").is_some() && books.get("f:initContainers").is_none(), "{books}");
}

#[tokio::test]
async fn webhooks_are_called_in_order_and_again_after_a_later_change() {
    fn next(request: &Value, has: &str, adds: &str) -> Result<Value, HookError> {
        let data = &request["object"]["data"];
        let add = json!([{"op": "add", "path": format!("/data/{adds}"), "value": "yes"}]);
        let due = data.get(has).is_some() && data.get(adds).is_none();
        Ok(if due { patch(&add) } else { json!({"allowed": true}) })
    }
    let cluster = Cluster::new(&[
        ("a-early", |request| next(request, "two", "three")),
        ("b-one", |request| next(request, "start", "one")),
        ("c-two", |request| next(request, "one", "two")),
    ])
    .await;
    cluster.mutating("c-two", &json!({})).await;
    cluster.mutating("b-one", &json!({})).await;
    cluster.mutating("a-early", &json!({"reinvocationPolicy": "IfNeeded"})).await;
    let made = cluster.create("configmaps", &config_map("a", &json!({"start": "yes"}))).await.unwrap();
    assert_eq!(made["data"], json!({"start": "yes", "one": "yes", "two": "yes", "three": "yes"}));
    assert_eq!(cluster.paths(), ["a-early", "b-one", "c-two", "a-early"]);
}

#[tokio::test]
async fn a_no_is_a_no_and_a_failure_is_what_its_policy_makes_of_it() {
    let cluster = Cluster::new(&[("no", NO), ("gone", GONE)]).await;
    cluster.validating("gone", &json!({"failurePolicy": "Ignore"})).await;
    cluster.mutating("gone", &json!({"failurePolicy": "Ignore"})).await;
    cluster.create("configmaps", &config_map("a", &json!({}))).await.unwrap();
    assert_eq!(cluster.paths(), ["gone", "gone"]);
    cluster.validating("no", &json!({})).await;
    let refused = cluster.create("configmaps", &config_map("b", &json!({}))).await.unwrap_err();
    let why = r#"admission webhook "no.example.com" denied the request: the reason"#;
    assert_eq!((refused.code, refused.reason.as_str(), refused.message.as_str()), (400, "the reason", why));
    cluster.hook("validating", "a", "gone", &json!({})).await;
    let failed = cluster.create("configmaps", &config_map("b", &json!({}))).await.unwrap_err();
    let why =
        r#"failed calling webhook "gone.example.com": failed to call webhook: Post "https://h/gone": EOF"#;
    assert_eq!((failed.code, failed.reason.as_str()), (500, "InternalError"));
    assert_eq!(failed.message, format!("Internal error occurred: {why}"));
}

#[tokio::test]
async fn a_dry_run_leaves_no_trace() {
    let cluster = Cluster::new(&[("some", allow), ("old", allow)]).await;
    cluster.mutating("some", &json!({"sideEffects": "NoneOnDryRun"})).await;
    let params = WriteParams { dry_run: true, ..WriteParams::default() };
    let map = config_map("a", &json!({}));
    cluster.create_with("configmaps", &map, &params).await.unwrap();
    assert_eq!(cluster.asked()[0].1["dryRun"], true);
    // Nobody can write such a one any more.
    let webhook = super::super::config::tests::webhook(&json!({"sideEffects": "Some"}));
    assert_eq!(webhook.dry_runs, Some(false));
}

#[tokio::test]
async fn what_cannot_be_done_is_an_error() {
    let cluster = Cluster::new(&[
        ("delete", |_| Ok(patch(&json!([{"op": "add", "path": "/x", "value": 1}])))),
        ("type", |_| Ok(patch(&json!([{"op": "add", "path": "/data/x", "value": 1}])))),
        ("name", |_| Ok(patch(&json!([{"op": "replace", "path": "/metadata/name", "value": "z"}])))),
        ("lost", |_| Ok(patch(&json!([{"op": "remove", "path": "/lost"}])))),
        ("label", |_| Ok(patch(&json!([{"op": "add", "path": "/metadata/labels/l", "value": "/"}])))),
    ])
    .await;
    let rule = |operation: &str, of: &str| {
        json!({"objectSelector": {"matchLabels": {"of": of}},
            "rules": [{"operations": [operation], "apiGroups": [""], "apiVersions": ["v1"],
                       "resources": ["configmaps"]}]})
    };
    for path in ["type", "name", "lost", "label"] {
        cluster.mutating(path, &rule("CREATE", path)).await;
    }
    cluster.mutating("delete", &rule("DELETE", "kept")).await;
    cluster.create("configmaps", &config_map("kept", &json!({}))).await.unwrap();
    let refused = cluster.delete("configmaps", "kept").await.unwrap_err();
    let why = r#"Internal error occurred: admission webhook "delete.example.com" attempted to modify the object, which is not supported for this operation"#;
    assert_eq!((refused.code, refused.message.as_str()), (500, why));
    for (path, code) in [("type", 500), ("name", 500), ("lost", 500), ("label", 422)] {
        let refused = cluster.create("configmaps", &config_map(path, &json!({}))).await.unwrap_err();
        assert_eq!(refused.code, code, "{path}: {}", refused.message);
    }
}

#[tokio::test]
async fn conditions_say_who_is_asked_about() {
    let cluster = Cluster::new(&[("all", allow)]).await;
    let conditions = json!([
        {"name": "created", "expression": "request.operation == 'CREATE' && request.userInfo.username == 'jane'"},
        {"name": "named", "expression": "object.metadata.name.startsWith('a') && object.data.n == '1'"},
    ]);
    cluster.validating("all", &json!({"matchConditions": conditions})).await;
    cluster.create("configmaps", &config_map("b", &json!({"n": "1"}))).await.unwrap();
    assert_eq!(cluster.paths().len(), 0, "one is false");
    cluster.create("configmaps", &config_map("a", &json!({"n": "1"}))).await.unwrap();
    assert_eq!(cluster.paths().len(), 1, "all are true");
    let refused = cluster.create("configmaps", &config_map("a2", &json!({}))).await.unwrap_err();
    assert!(refused.code == 403 && refused.message.contains("no such key"), "{}", refused.message);
    assert_eq!(cluster.paths().len(), 0, "one has no value, and the webhook fails closed");
}

#[tokio::test]
async fn warnings_reach_who_asked() {
    let cluster = Cluster::new(&[("warn", |_| Ok(json!({"allowed": false, "warnings": ["careful"]})))]).await;
    cluster.validating("warn", &json!({})).await;
    let map = config_map("a", &json!({}));
    let (outcome, warnings) = crate::warning::collect(cluster.create("configmaps", &map)).await;
    assert!(outcome.is_err());
    assert_eq!(warnings, ["careful"]);
}

#[tokio::test]
async fn a_server_that_starts_is_not_held_up() {
    let fake = Arc::new(Fake { says: vec![("gone", GONE)], asked: Mutex::default() });
    let caller = fake.clone();
    let fixture = fixture_with(|lister| {
        Webhooks::new(caller.clone(), lister, Arc::new(AllowAll), versions(caller)).plugins()
    })
    .await;
    let cluster = Cluster { fixture, fake, user: User::default() };
    cluster.validating("gone", &json!({})).await;
    cluster.create("configmaps", &config_map("a", &json!({}))).await.unwrap();
}
