use crate::Value;

use super::*;

fn apps() -> Value {
    let text = v3(builtin().iter(), "apps", "v1", "v1.36.0").unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Every `$ref` of a document names something in it.
fn dangling(document: &Value, at: &Value, lost: &mut Vec<String>) {
    match at {
        Value::Object(fields) => {
            if let Some(Value::String(target)) = fields.get("$ref")
                && document.pointer(target.trim_start_matches('#')).is_none()
            {
                lost.push(target.clone().into());
            }
            fields.values().for_each(|value| dangling(document, value, lost));
        }
        Value::Array(items) => items.iter().for_each(|value| dangling(document, value, lost)),
        _ => {}
    }
}

#[test]
fn kubectl_finds_kinds_and_patch_parameters() {
    let document = apps();
    let path = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"];
    assert_eq!(path["get"]["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    assert_eq!(path["get"]["operationId"], "listAppsV1NamespacedDeployment");
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert!(patch["parameters"].as_array().unwrap().iter().any(|p| p["name"] == "fieldValidation"));
    assert!(patch["requestBody"]["content"].get("application/strategic-merge-patch+json").is_some());
    let scale = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["get"];
    assert_eq!(scale["x-kubernetes-group-version-kind"]["group"], "autoscaling");
}

#[test]
fn deletions_answer_with_what_they_answer_with() {
    let document: Value = serde_json::from_str(&v2(builtin().iter(), "v")).unwrap();
    let answer = |path: &str| {
        document["paths"][path]["delete"]["responses"]["200"]["schema"]["$ref"].as_str().unwrap().to_owned()
    };
    assert_eq!(answer("/api/v1/namespaces/{namespace}/pods/{name}"), "#/definitions/io.k8s.api.core.v1.Pod");
    let status = "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.Status";
    assert_eq!(answer("/api/v1/namespaces/{namespace}/configmaps/{name}"), status);
}

#[test]
fn schemas_carry_texts_and_merge_keys() {
    let document = apps();
    let schemas = &document["components"]["schemas"];
    let container = &schemas["io.k8s.api.core.v1.Container"]["properties"];
    assert!(container["image"]["description"].as_str().unwrap().starts_with("Container image name."));
    assert_eq!(container["env"]["x-kubernetes-patch-merge-key"], "name");
    let reference = &container["resources"]["allOf"][0]["$ref"];
    assert_eq!(reference, "#/components/schemas/io.k8s.api.core.v1.ResourceRequirements");
    let kinds = schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"].clone();
    assert_eq!(kinds, crate::json!([{"group": "apps", "kind": "Deployment", "version": "v1"}]));
}

#[test]
fn no_reference_dangles() {
    for (group, version) in discovery::group_versions(builtin().iter()) {
        let text = v3(builtin().iter(), &group, &version, "v").unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        let mut lost = Vec::new();
        dangling(&document, &document, &mut lost);
        assert!(lost.is_empty(), "{group}/{version}: {lost:?}");
    }
    let document: Value = serde_json::from_str(&v2(builtin().iter(), "v")).unwrap();
    let mut lost = Vec::new();
    dangling(&document, &document, &mut lost);
    assert!(lost.is_empty(), "v2: {lost:?}");
    assert!(document["definitions"]["io.k8s.api.core.v1.Pod"]["properties"]["spec"]["$ref"].is_string());
}

#[test]
fn the_index_names_every_group_version_with_a_steady_hash() {
    let index: Value = serde_json::from_str(&v3_index(builtin().iter())).unwrap();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let hash = v3_hash(builtin().iter(), "apps", "v1");
    assert_eq!(url, format!("/openapi/v3/apis/apps/v1?hash={hash}"));
    assert_ne!(hash, v3_hash(builtin().iter(), "batch", "v1"));
    assert!(index["paths"]["api/v1"].is_object());
    assert!(v3(builtin().iter(), "apps", "v9", "v").is_none());
}

/// A custom resource with what version 2 cannot say.
fn custom() -> Vec<Arc<Resource>> {
    let schema = crate::json!({"type": "object", "description": "A foo.", "properties": {"spec": {
    "type": "object", "required": ["size"], "properties": {
        "size": {"type": "integer", "description": "How large."},
        "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        "note": {"type": "string", "nullable": true},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "string"}}},
        "template": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"x": {"type": "string"}}},
    }}}});
    let definition = crate::json!({"spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "foos", "kind": "Foo"},
        "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}, "scale": {
            "specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}},
            "schema": {"openAPIV3Schema": schema}}],
    }});
    crate::structural::versions(&definition, &|_| None).into_iter().map(|version| version.resource).collect()
}

#[test]
fn custom_resources_are_published_as_their_definitions_say() {
    let all: Vec<Arc<Resource>> = builtin().iter().cloned().chain(custom()).collect();
    let v3: Value = serde_json::from_str(&v3(&all, "example.com", "v1", "v").unwrap()).unwrap();
    let v2: Value = serde_json::from_str(&v2(&all, "v")).unwrap();
    for document in [&v2, &v3] {
        let mut lost = Vec::new();
        dangling(document, document, &mut lost);
        assert!(lost.is_empty(), "{lost:?}");
    }
    let path = &v3["paths"]["/apis/example.com/v1/namespaces/{namespace}/foos/{name}"]["patch"];
    assert!(path["requestBody"]["content"].get("application/strategic-merge-patch+json").is_none());
    let (old, new) =
        (&v2["definitions"]["com.example.v1.Foo"], &v3["components"]["schemas"]["com.example.v1.Foo"]);
    for schema in [old, new] {
        assert_eq!(schema["description"], "A foo.");
        assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "Foo");
        assert_eq!(schema["properties"]["spec"]["properties"]["size"]["description"], "How large.");
        assert_eq!(schema["properties"]["kind"]["type"], "string");
    }
    let (old, new) = (&old["properties"]["spec"]["properties"], &new["properties"]["spec"]["properties"]);
    for (name, gone) in [("port", "anyOf"), ("note", "type"), ("free", "properties")] {
        assert!(old[name].get(gone).is_none() && new[name].get(gone).is_some(), "{name}");
    }
    assert!(new["template"]["properties"]["metadata"]["allOf"].is_array());
    let items = &v3["components"]["schemas"]["com.example.v1.FooList"]["properties"]["items"]["items"];
    assert_eq!(items["allOf"][0]["$ref"], "#/components/schemas/com.example.v1.Foo");
}
