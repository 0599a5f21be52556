//! Group-versions of an extension server behind a Service: passed on as the client's own user, shown in discovery, told as
//! unavailable when they are.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::StatusCode;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tiphys_apiserver::pki::Authority;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::extension_server::{CREATOR, ExtensionServer};
use super::support::{Running, start, whole};

const PATH: &str = "/apis/wardle.example.com/v1alpha1";
const FLUNDERS: &str = "/apis/wardle.example.com/v1alpha1/namespaces/default/flunders";
const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
/// After this something will not come about.
const PATIENCE: Duration = Duration::from_secs(30);
const AGGREGATED: &[(&str, &str)] =
    &[("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];

async fn get(running: &Running, path: &str, headers: &[(&str, &str)]) -> (StatusCode, Value) {
    let answer = running.ask("GET", path, headers, "").await;
    (answer.status(), serde_json::from_slice(answer.body()).unwrap_or_default())
}

async fn create(running: &Running, path: &str, object: &Value) -> Value {
    let answer = running.ask("POST", path, JSON, &object.to_string()).await;
    assert!(answer.status().is_success(), "{answer:?}");
    serde_json::from_slice(answer.body()).unwrap()
}

/// Follows an APIService until it is as wanted.
async fn followed(running: &Running, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut sender = running.h2().await;
    let path = format!("{SERVICES}?watch=1&fieldSelector=metadata.name%3D{name}");
    let mut events = sender.send_request(running.request("GET", &path, &[], "")).await.unwrap().into_body();
    let mut text = Vec::new();
    let seen = async {
        loop {
            text.extend_from_slice(&events.frame().await.unwrap().unwrap().into_data().unwrap());
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line).unwrap();
                if event["type"] != "DELETED" && wanted(&event["object"]) {
                    return event["object"].clone();
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap()
}

/// Waits for the extension's condition to have a reason.
async fn reason(running: &Running, wanted: &str) -> Value {
    let condition = |service: &Value| service["status"]["conditions"][0].clone();
    let found =
        followed(running, "v1alpha1.wardle.example.com", |service| condition(service)["reason"] == wanted);
    condition(&found.await)
}

/// An extension server at this machine, registered.
async fn registered(running: &Running, aggregated: bool) -> ExtensionServer {
    use base64::Engine;
    let front_proxy = &running.pki.authority(Authority::FrontProxy).cert_pem;
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = ExtensionServer::start(anywhere, "wardle.default", front_proxy, aggregated).await;
    // A name leads to where no slice may: to this machine itself.
    let service = json!({"metadata": {"name": "wardle"}, "spec": {"type": "ExternalName", "externalName": "localhost"}});
    create(running, "/api/v1/namespaces/default/services", &service).await;
    let ca = base64::engine::general_purpose::STANDARD.encode(&server.ca_pem);
    let service = json!({"metadata": {"name": "v1alpha1.wardle.example.com"}, "spec": {
        "group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 2000, "versionPriority": 200,
        "caBundle": ca, "service": {"namespace": "default", "name": "wardle", "port": server.address.port()}}});
    create(running, SERVICES, &service).await;
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_server_is_part_of_the_api() {
    for aggregated in [true, false] {
        let running = start().await;
        let server = registered(&running, aggregated).await;
        assert_eq!(reason(&running, "Passed").await["message"], "all checks passed");
        let flunder = json!({"metadata": {"name": "a"}, "spec": {}});
        let made = create(&running, FLUNDERS, &flunder).await;
        assert_eq!(made["metadata"]["annotations"][CREATOR], "kubernetes-admin");
        assert_eq!(get(&running, FLUNDERS, &[]).await.1["items"][0], made);
        let mut sender = running.h2().await;
        let request = running.request("GET", &format!("{FLUNDERS}?watch=1"), &[], "");
        let mut events = sender.send_request(request).await.unwrap().into_body();
        let mut next = async || {
            let frame = tokio::time::timeout(PATIENCE, events.frame()).await.unwrap().unwrap().unwrap();
            serde_json::from_slice::<Value>(&frame.into_data().unwrap()).unwrap()["type"].clone()
        };
        assert_eq!(next().await, "ADDED");
        let gone = running.ask("DELETE", &format!("{FLUNDERS}/a"), &[], "").await;
        assert_eq!(gone.status(), StatusCode::OK);
        assert_eq!(next().await, "DELETED");
        shown(&running).await;
        drop(server);
        unavailable(&running).await;
    }
}

/// Discovery tells of it in all forms.
async fn shown(running: &Running) {
    let (_, groups) = get(running, "/apis", &[]).await;
    let groups = groups["groups"].as_array().unwrap();
    let place = |name: &str| groups.iter().position(|group| group["name"] == name).unwrap();
    assert!(place("wardle.example.com") < place("metrics.k8s.io"));
    let (_, group) = get(running, "/apis/wardle.example.com", &[]).await;
    assert_eq!(group["preferredVersion"]["version"], "v1alpha1");
    assert_eq!(get(running, PATH, &[]).await.1["resources"][0]["name"], "flunders");
    assert_eq!(version(running).await["resources"][0]["shortNames"][0], "fl");
    let (_, index) = get(running, "/openapi/v3", &[]).await;
    let url = index["paths"]["apis/wardle.example.com/v1alpha1"]["serverRelativeURL"].as_str().unwrap();
    let (_, document) = get(running, url, &[]).await;
    assert_eq!(document["info"]["title"], "Wardle");
}

/// The version in aggregated discovery.
async fn version(running: &Running) -> Value {
    let (_, list) = get(running, "/apis", AGGREGATED).await;
    let mut groups = list["items"].as_array().unwrap().iter();
    groups.find(|group| group["metadata"]["name"] == "wardle.example.com").unwrap()["versions"][0].clone()
}

/// It is told as such, and goes with its APIService.
async fn unavailable(running: &Running) {
    // The check is repeated from time to time; a change makes it happen now.
    let patch = r#"{"metadata":{"labels":{"changed":"1"}}}"#;
    let merge = &[("content-type", "application/merge-patch+json")];
    running.ask("PATCH", "/api/v1/namespaces/default/services/wardle", merge, patch).await;
    let condition = reason(running, "FailedDiscoveryCheck").await;
    let told = condition["message"].as_str().unwrap();
    assert!(told.starts_with("failing or missing response from https://localhost:"), "{told}");
    assert!(told.contains(": dial tcp localhost:"), "{told}");
    let (code, status) = get(running, FLUNDERS, &[]).await;
    assert_eq!((code.as_u16(), &status["reason"]), (503, &json!("ServiceUnavailable")));
    assert_eq!(
        status["message"],
        "the server is currently unable to handle the request (get flunders.wardle.example.com)"
    );
    assert_eq!(version(running).await["freshness"], "Stale");
    running.ask("DELETE", &format!("{SERVICES}/v1alpha1.wardle.example.com"), &[], "").await;
    gone(running, "/apis/wardle.example.com").await;
    assert_eq!(get(running, FLUNDERS, &[]).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_is_told_by_this_server_alone() {
    let running = start().await;
    let _server = registered(&running, true).await;
    reason(&running, "Passed").await;
    let claims = [
        ("x-remote-user", "root"),
        ("x-remote-group", "system:everything"),
        ("x-remote-extra-scopes", "all"),
        ("authorization", "Basic eDp5"),
        ("impersonate-user", "reader"),
        ("impersonate-group", "developers"),
    ];
    let (_, seen) = get(&running, &format!("{FLUNDERS}/a/whoami"), &claims).await;
    let groups = json!(["developers", "system:authenticated"]);
    assert_eq!(seen, json!({"x-remote-user": ["reader"], "x-remote-group": groups}));
    let moved = running.ask("GET", &format!("{FLUNDERS}/a/moved"), &[], "").await;
    assert_eq!(moved.status(), StatusCode::BAD_GATEWAY);
    let anonymous = running.request("GET", FLUNDERS, &[], "");
    let refused = whole(running.anonymous().await.send_request(anonymous).await.unwrap()).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN, "authorization is asked here, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn upgraded_connections_pass_through() {
    let running = start().await;
    let _server = registered(&running, true).await;
    reason(&running, "Passed").await;
    let mut sender = running.h1().await;
    let headers = [("connection", "Upgrade"), ("upgrade", "echo")];
    let request = running.request("GET", &format!("{FLUNDERS}/a/echo"), &headers, "");
    let response = sender.send_request(request.map(|_| Full::default())).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut stream = hyper_util::rt::TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_here_is_registered() {
    let running = start().await;
    let definition = tiphys_api::json!({"spec": {
        "group": "example.com", "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
    }});
    let widgets = tiphys_api::structural::versions(&definition, &|_| None).remove(0).resource;
    running.registered.set_custom(vec![widgets]);
    let made = followed(&running, "v1.example.com", |_| true).await;
    let managed = json!({"kube-aggregator.kubernetes.io/automanaged": "true"});
    assert_eq!(made["metadata"]["labels"], managed);
    assert_eq!(made["status"]["conditions"][0]["reason"], "Local");
    let path = format!("{SERVICES}/v1.example.com");
    running.ask("DELETE", &path, &[], "").await;
    followed(&running, "v1.example.com", |service| service["metadata"]["uid"] != made["metadata"]["uid"])
        .await;
    running.registered.set_custom(Vec::new());
    gone(&running, &path).await;
}

/// Waits until there is nothing at a path any more.
async fn gone(running: &Running, path: &str) {
    let gone = async {
        while get(running, path, &[]).await.0 != StatusCode::NOT_FOUND {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}
