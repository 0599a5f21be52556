//! Every path and verb that discovery shows is there: no 404 for the path itself, no 405, no 501.

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use hyper::client::conn::http2::SendRequest;
use tiphys_api::schema::Resource;
use tiphys_apiserver::served::Served;

use super::support::{Running, start, whole};

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
    let of_the_object = code == StatusCode::NOT_FOUND && text.contains("\\\"x\\\" not found");
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
