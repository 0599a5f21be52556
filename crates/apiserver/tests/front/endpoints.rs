//! What is there: every path and verb that discovery shows (no 404 for the path itself, no 405, no 501), and every
//! figure that dashboards query.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use tiphys_api::schema::Resource;
use tiphys_apiserver::served::Served;

use super::support::{Running, start, whole};

/// After this an answer will not come.
const PATIENCE: Duration = Duration::from_secs(30);

type Sender = SendRequest<Full<Bytes>>;

/// A request that has the verb on a path.
fn request(verb: &str, path: &str) -> (&'static str, String, &'static str, &'static str) {
    let json = "application/json";
    match verb {
        "create" => ("POST", path.to_owned(), json, "{}"),
        "update" => ("PUT", path.to_owned(), json, "{}"),
        "patch" => ("PATCH", path.to_owned(), "application/merge-patch+json", "{}"),
        "delete" | "deletecollection" => ("DELETE", format!("{path}?dryRun=All"), json, ""),
        "watch" => ("GET", format!("{path}?watch=1"), json, ""),
        _ => ("GET", path.to_owned(), json, ""),
    }
}

fn collection(resource: &Resource) -> String {
    let root = if resource.gvr.group.is_empty() { "/api/" } else { "/apis/" };
    let place = if resource.namespaced { "/namespaces/default" } else { "" };
    format!("{root}{}{place}/{}", resource.gvr.api_version(), resource.gvr.resource)
}

/// All requests for a resource: verb and path.
fn paths(resource: &Resource) -> Vec<(String, String)> {
    let collection = collection(resource);
    let own = resource.verbs.iter().map(|verb| match verb.as_ref() {
        "create" | "list" | "watch" | "deletecollection" => (verb.to_string(), collection.clone()),
        verb => (verb.to_owned(), format!("{collection}/x")),
    });
    let below = resource.subresources.iter().flat_map(|sub| {
        let path = format!("{collection}/x/{}", sub.name);
        sub.verbs.iter().map(move |verb| (verb.to_string(), path.clone()))
    });
    own.chain(below).collect()
}

async fn problem(running: &Running, sender: &mut Sender, verb: &str, path: &str) -> Option<String> {
    let (method, url, media, body) = request(verb, path);
    let request = running.request(method, &url, &[("content-type", media)], body);
    let response = sender.send_request(request).await.unwrap();
    let code = response.status();
    let suspect =
        [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED, StatusCode::NOT_IMPLEMENTED].contains(&code);
    if !suspect && !code.is_server_error() {
        return None;
    }
    let text = String::from_utf8_lossy(whole(response).await.body()).into_owned();
    // The metrics API names the namespace, too.
    let of_the_object = code == StatusCode::NOT_FOUND && text.contains("x\\\" not found");
    (!of_the_object).then(|| format!("{verb} {path}: {code} {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_discovery_shows_is_there() {
    let running = start().await;
    let mut sender = running.h2().await;
    let mut problems = Vec::new();
    for resource in Served::default().resources() {
        for (verb, path) in paths(resource) {
            problems.extend(problem(&running, &mut sender, &verb, &path).await);
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Series that the usual dashboards and alerts for an API server ask for, and what must be in them.
const FIGURES: &[&str] = &[
    "apiserver_current_inflight_requests{request_kind=\"readOnly\"}",
    "apiserver_longrunning_requests{",
    "apiserver_request_total{code=\"200\",",
    "apiserver_request_duration_seconds_bucket{",
    "apiserver_request_sli_duration_seconds_bucket{",
    "apiserver_response_sizes_sum{",
    "apiserver_resource_objects{group=\"\",resource=\"pods\"} 0",
    "apiserver_storage_objects{resource=\"deployments.apps\"} 0",
    "apiserver_storage_size_bytes{",
    "apiserver_watch_events_total{group=\"\",resource=\"configmaps\",version=\"v1\"} 1",
    "apiserver_watch_events_sizes_count{group=\"\",resource=\"configmaps\",version=\"v1\"} 1",
    "authentication_attempts{result=\"success\"}",
    "authorization_attempts_total{result=\"denied\"} 0",
    "etcd_request_duration_seconds_bucket{operation=\"create\",",
    "kubernetes_build_info{",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
];

#[tokio::test(flavor = "multi_thread")]
async fn figures_have_the_names_that_dashboards_query() {
    let running = start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let json = [("content-type", "application/json")];
    running.ask("POST", maps, &json, r#"{"metadata":{"name":"a"}}"#).await;
    let mut watch = running.h2().await;
    let request = running.request("GET", &format!("{maps}?watch=1"), &[], "");
    let mut events = watch.send_request(request).await.unwrap().into_body();
    tokio::time::timeout(PATIENCE, events.frame()).await.unwrap().unwrap().unwrap();
    let answer = running.ask("GET", "/metrics", &[], "").await;
    let text = String::from_utf8_lossy(answer.body());
    let missing: Vec<&&str> =
        FIGURES.iter().filter(|figure| !text.lines().any(|line| line.starts_with(**figure))).collect();
    assert!(missing.is_empty(), "{missing:?} in\n{text}");
}
