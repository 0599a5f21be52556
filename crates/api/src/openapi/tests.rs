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
