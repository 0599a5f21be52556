//! What is asked of an extension server on this server's own account: whether it is there, and what it serves.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use tiphys_api::{Value, json};

use super::available::Finding;
use super::extension::Extension;
use super::merge::Found;
use crate::auth::{User, groups};
use crate::http::incoming::RequestBody;

/// The largest document taken, in bytes.
const DOCUMENT_MAX: usize = 16 << 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Endpoints are asked at once, after the first has failed: one that answers suffices.
const MORE: usize = 4;
const AGGREGATED: HeaderValue = HeaderValue::from_static(
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
     application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
);
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Who asks: everybody may be refused but this one.
fn aggregator() -> User {
    User {
        groups: vec![groups::MASTERS.to_owned()],
        name: "system:kube-aggregator".into(),
        ..User::default()
    }
}

fn get(path: &str, accept: HeaderValue) -> Result<Request<RequestBody>, String> {
    let mut request = Request::new(RequestBody::empty());
    *request.uri_mut() = path.parse().map_err(|_| format!("{path:?} is no path"))?;
    request.headers_mut().insert(ACCEPT, accept);
    Ok(request)
}

/// Asks whether it answers.
pub async fn probe(extension: &Extension) -> Finding {
    let Err(first) = probe_once(extension).await else { return Finding::passed() };
    let mut more: FuturesUnordered<_> = (0..MORE).map(|_| probe_once(extension)).collect();
    let mut last = first;
    while let Some(outcome) = more.next().await {
        match outcome {
            Ok(()) => return Finding::passed(),
            Err(error) => last = error,
        }
    }
    Finding::failed(last)
}

async fn probe_once(extension: &Extension) -> Result<(), String> {
    let (endpoint, path) = (extension.endpoint()?, extension.path());
    let url = format!("https://{endpoint}{path}");
    let asked = async {
        let response = extension.probe(&endpoint, &aggregator(), get(&path, JSON)?).await;
        let code = response.map_err(|error| format!("Get {url:?}: {error}"))?.status();
        if code.is_success() { Ok(()) } else { Err(format!("bad status from {url}: {}", code.as_u16())) }
    };
    let late = || Err(format!("Get {url:?}: context deadline exceeded"));
    let outcome = tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| late());
    outcome.map_err(|error| format!("failing or missing response from {url}: {error}"))
}

/// An answer, read whole.
struct Page {
    code: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

async fn read(extension: &Extension, request: Request<RequestBody>) -> Result<Page, String> {
    let asked = async {
        let (head, body) = extension.send(&aggregator(), request).await?.into_parts();
        let body = Limited::new(body, DOCUMENT_MAX).collect().await.map_err(|error| error.to_string())?;
        Ok(Page { code: head.status, headers: head.headers, body: body.to_bytes() })
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

async fn document(extension: &Extension, path: &str) -> Result<Value, String> {
    let page = read(extension, get(path, JSON)?).await?;
    match page.code {
        StatusCode::OK => Value::from_json(&page.body).map_err(|error| format!("{path}: {error}")),
        code => Err(format!("{path}: {code}")),
    }
}

/// What it serves; what was known before stands where nothing changed.
pub async fn discover(extension: &Extension, before: &Found) -> Result<Found, String> {
    let mut request = get("/apis", AGGREGATED)?;
    if let Ok(tag) = HeaderValue::from_str(&before.tag)
        && before.current
        && !before.tag.is_empty()
    {
        request.headers_mut().insert(IF_NONE_MATCH, tag);
    }
    let page = read(extension, request).await?;
    let (resources, tag) = match page.code {
        StatusCode::NOT_MODIFIED => (before.resources.clone(), before.tag.clone()),
        code => match aggregated(extension, code, &page.body) {
            Some(resources) => {
                let tag = page.headers.get(ETAG).and_then(|tag| tag.to_str().ok()).unwrap_or_default();
                (resources, tag.to_owned())
            }
            // It knows only the form of one document per group-version.
            None => (resources(&document(extension, &extension.path()).await?), String::new()),
        },
    };
    let openapi = match document(extension, "/openapi/v3").await {
        Ok(index) => {
            let key = extension.path();
            let url = index["paths"][key.trim_start_matches('/')]["serverRelativeURL"].as_str();
            url.unwrap_or_default().to_owned()
        }
        Err(error) => {
            tracing::debug!(extension = extension.name, %error, "an extension server has no OpenAPI documents");
            String::new()
        }
    };
    Ok(Found { resources, current: true, tag, openapi })
}

/// Its resources out of a document with all of them; `None` when this is none.
fn aggregated(extension: &Extension, code: StatusCode, body: &[u8]) -> Option<Vec<Value>> {
    let list = Value::from_json(body).ok().filter(|_| code == StatusCode::OK)?;
    let groups = list["items"].as_array().filter(|_| list["kind"] == "APIGroupDiscoveryList")?;
    let spec = &extension.spec;
    let group = groups.iter().find(|group| group["metadata"]["name"] == *spec.group.as_str());
    let versions = group.and_then(|group| group["versions"].as_array()).into_iter().flatten();
    let version = versions.into_iter().find(|version| version["version"] == *spec.version.as_str());
    Some(version.and_then(|version| version["resources"].as_array().cloned()).unwrap_or_default())
}

/// An `APIResourceList`'s entries in the form of aggregated discovery.
fn resources(list: &Value) -> Vec<Value> {
    let entries = list["resources"].as_array().map(Vec::as_slice).unwrap_or_default();
    let (group, version) = split(list["groupVersion"].as_str().unwrap_or_default());
    let kind = |entry: &Value| {
        let own = |name: &str, default: &str| match entry[name].as_str() {
            None | Some("") => Value::from(default),
            Some(text) => text.into(),
        };
        json!({"group": own("group", group), "version": own("version", version), "kind": entry["kind"]})
    };
    let mut resources: Vec<Value> = Vec::new();
    for entry in entries {
        let name = entry["name"].as_str().unwrap_or_default();
        let Some((parent, subresource)) = name.split_once('/') else {
            resources.push(resource(entry, &kind(entry)));
            continue;
        };
        let sub = json!({"responseKind": kind(entry), "subresource": subresource, "verbs": entry["verbs"]});
        let Some(of) = resources.iter_mut().find(|resource| resource["resource"] == *parent) else {
            continue;
        };
        match of["subresources"].as_array_mut() {
            Some(list) => list.push(sub),
            None => of["subresources"] = Value::Array(vec![sub]),
        }
    }
    resources
}

fn split(group_version: &str) -> (&str, &str) {
    group_version.split_once('/').unwrap_or(("", group_version))
}

fn resource(entry: &Value, kind: &Value) -> Value {
    let scope = if entry["namespaced"].as_bool() == Some(true) { "Namespaced" } else { "Cluster" };
    let mut resource = json!({
        "resource": entry["name"], "responseKind": kind, "scope": scope,
        "singularResource": entry["singularName"].as_str().unwrap_or_default(), "verbs": entry["verbs"],
    });
    for name in ["shortNames", "categories"] {
        if let Some(list) = entry.get(name).filter(|list| list.is_array()) {
            resource[name] = list.clone();
        }
    }
    resource
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_form_of_discovery_says_the_same_as_the_new() {
        let list = json!({"groupVersion": "wardle.example.com/v1alpha1", "resources": [
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder",
                "verbs": ["get", "list"], "shortNames": ["fl"]},
            {"name": "flunders/scale", "singularName": "", "namespaced": true, "kind": "Scale",
                "group": "autoscaling", "version": "v1", "verbs": ["get"]},
            {"name": "lost/status", "kind": "Lost", "verbs": []},
        ]});
        let kind = json!({"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"});
        let scale = json!({"group": "autoscaling", "version": "v1", "kind": "Scale"});
        let wanted = json!([{
            "resource": "flunders", "responseKind": kind, "scope": "Namespaced", "singularResource": "flunder",
            "verbs": ["get", "list"], "shortNames": ["fl"],
            "subresources": [{"responseKind": scale, "subresource": "scale", "verbs": ["get"]}],
        }]);
        assert_eq!(Value::Array(resources(&list)), wanted);
    }
}
