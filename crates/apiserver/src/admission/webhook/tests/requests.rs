//! What webhooks are told.

use super::*;
use crate::registry::ListParams;

#[tokio::test]
async fn a_request_is_told_in_full() {
    let cluster = Cluster::new(&[("all", allow)]).await;
    cluster.validating("all", &json!({})).await;
    let params = WriteParams { field_manager: "me".into(), dry_run: true, ..WriteParams::default() };
    cluster.create_with("configmaps", &config_map("a", &json!({"k": "v"})), &params).await.unwrap();
    let (_, mut request) = cluster.asked().pop().unwrap();
    assert_eq!(request["object"]["data"]["k"], "v");
    assert_eq!(request["object"]["metadata"]["managedFields"][0]["fieldsV1"]["f:data"]["f:k"], json!({}));
    for masked in ["object", "uid"] {
        request.as_object_mut().unwrap().remove(masked);
    }
    let kind = json!({"group": "", "version": "v1", "kind": "ConfigMap"});
    let resource = json!({"group": "", "version": "v1", "resource": "configmaps"});
    assert_eq!(
        request,
        json!({"kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
            "name": "a", "namespace": "ns", "operation": "CREATE", "dryRun": true, "oldObject": null,
            "userInfo": {"username": "jane", "groups": ["devs"]},
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions", "dryRun": ["All"],
                        "fieldManager": "me", "fieldValidation": "Warn"}})
    );
}

#[tokio::test]
async fn every_operation_shows_its_objects() {
    let cluster = Cluster::new(&[("all", allow)]).await;
    cluster.create("configmaps", &config_map("a", &json!({"k": "1"}))).await.unwrap();
    cluster.create("configmaps", &config_map("b", &json!({"k": "1"}))).await.unwrap();
    cluster.validating("all", &json!({})).await;
    let one = || {
        let mut asked = cluster.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked.pop().unwrap().1
    };
    cluster.merge("configmaps", "a", "", &json!({"data": {"k": "2"}})).await.unwrap();
    let request = one();
    assert_eq!(
        (&request["operation"], &request["options"]["kind"]),
        (&json!("UPDATE"), &json!("UpdateOptions"))
    );
    assert_eq!(
        (&request["oldObject"]["data"]["k"], &request["object"]["data"]["k"]),
        (&json!("1"), &json!("2"))
    );
    cluster.delete("configmaps", "a").await.unwrap();
    let request = one();
    assert_eq!((&request["operation"], &request["name"]), (&json!("DELETE"), &json!("a")));
    assert_eq!((&request["oldObject"]["data"]["k"], &request["object"]), (&json!("2"), &Value::Null));
    assert_eq!(request["options"]["gracePeriodSeconds"], 0);
    let all = resource("configmaps");
    let (list, params) = (ListParams::default(), DeleteParams::default());
    cluster.fixture.registry.delete_collection(&cluster.request(&all, ""), &list, &params).await.unwrap();
    let request = one();
    assert_eq!((&request["oldObject"]["data"]["k"], &request["operation"]), (&json!("1"), &json!("DELETE")));
}

#[tokio::test]
async fn a_scale_is_judged_as_a_scale() {
    let more: Says = |request| {
        assert_eq!((&request["kind"]["kind"], &request["subResource"]), (&json!("Scale"), &json!("scale")));
        assert_eq!(request["oldObject"]["spec"]["replicas"], 1);
        Ok(patch(&json!([{"op": "replace", "path": "/spec/replicas", "value": 5}])))
    };
    let cluster = Cluster::new(&[("more", more)]).await;
    let pod =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let deployment = json!({"metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": pod}});
    cluster.create("apps/deployments", &deployment).await.unwrap();
    cluster.mutating("more", &json!({})).await;
    let scale =
        cluster.merge("apps/deployments", "d", "scale", &json!({"spec": {"replicas": 2}})).await.unwrap();
    assert_eq!(scale["spec"]["replicas"], 5);
}

#[tokio::test]
async fn a_stream_is_judged_by_its_options() {
    let deny: Says = |request| Ok(json!({"allowed": request["object"]["stdin"] != true}));
    let cluster = Cluster::new(&[("attach", deny)]).await;
    let rule = json!([{"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"],
                       "resources": ["pods/attach"]}]);
    cluster.validating("attach", &json!({"rules": rule})).await;
    let pods = resource("pods");
    let request = Request { subresource: "attach", ..cluster.request(&pods, "p") };
    let gvk = &pods.subresource("attach").unwrap().gvk;
    for (stdin, allowed) in [(false, true), (true, false)] {
        let mut options = json!({"apiVersion": "v1", "kind": "PodAttachOptions", "stdin": stdin});
        let outcome = cluster.fixture.registry.admit_connect(&request, gvk, &mut options).await;
        assert_eq!(outcome.is_ok(), allowed);
    }
    let (_, request) = cluster.asked().pop().unwrap();
    assert_eq!((&request["operation"], &request["name"]), (&json!("CONNECT"), &json!("p")));
    assert_eq!(request["kind"]["kind"], "PodAttachOptions");
    assert_eq!(request["options"], Value::Null);
}
