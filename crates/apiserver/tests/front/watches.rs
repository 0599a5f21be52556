//! Watches as they come over the wire: HTTP/1.1 chunks and HTTP/2 frames, whole objects, tables and protobuf.

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tiphys_api::{Value, json};

use super::support::{Running, start, whole};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn make(running: &Running, name: &str) -> Value {
    let body = format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}}}}"#);
    let response = running.ask("POST", MAPS, &[], &body).await;
    assert_eq!(response.status(), 201);
    serde_json::from_slice(response.body()).unwrap()
}

/// The next whole lines of a stream.
async fn lines(body: &mut Incoming, count: usize) -> Vec<Value> {
    let mut text = Vec::new();
    while text.iter().filter(|byte| **byte == b'\n').count() < count {
        let frame = body.frame().await.expect("the stream goes on").unwrap();
        text.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect()
}

fn seen(frames: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    frames.iter().map(|frame| (text(&frame["type"]), text(&frame["object"]["metadata"]["name"]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_arrive_in_order_over_both_protocols() {
    let running = start().await;
    make(&running, "before").await;
    let path = format!("{MAPS}?watch=1");
    let mut h1 = running.h1().await;
    let old = h1.send_request(running.request("GET", &path, &[], "")).await.unwrap();
    assert_eq!(old.headers()["transfer-encoding"], "chunked");
    let mut old = old.into_body();
    let mut h2 = running.h2().await;
    let mut new = h2.send_request(running.request("GET", &path, &[], "")).await.unwrap().into_body();
    make(&running, "after").await;
    running.ask("DELETE", &format!("{MAPS}/before"), &[], "").await;
    let expected = [("ADDED", "before"), ("ADDED", "after"), ("DELETED", "before")];
    let expected = expected.map(|(kind, name)| (kind.to_owned(), name.to_owned()));
    assert_eq!(seen(&lines(&mut old, 3).await), expected);
    assert_eq!(seen(&lines(&mut new, 3).await), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_begins_after_its_revision_and_ends_with_its_time() {
    let running = start().await;
    let first = make(&running, "a").await;
    make(&running, "b").await;
    let revision = first["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!("{MAPS}?watch=1&resourceVersion={revision}&timeoutSeconds=1");
    let response = running.ask("GET", &path, &[], "").await;
    let text = String::from_utf8(response.body().to_vec()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains(r#""name":"b""#), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streaming_lists_end_with_a_marked_bookmark() {
    let running = start().await;
    make(&running, "a").await;
    let query = "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan";
    let mut sender = running.h2().await;
    let request = running.request("GET", &format!("{MAPS}?{query}"), &[], "");
    let mut body = sender.send_request(request).await.unwrap().into_body();
    let frames = lines(&mut body, 2).await;
    assert_eq!(frames[1]["type"], "BOOKMARK");
    assert_eq!(frames[1]["object"]["metadata"]["annotations"], json!({"k8s.io/initial-events-end": "true"}));
    assert_eq!(frames[1]["object"]["kind"], "ConfigMap");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_first_table_has_columns() {
    let running = start().await;
    make(&running, "a").await;
    make(&running, "b").await;
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let mut sender = running.h2().await;
    let request = running.request("GET", &format!("{MAPS}?watch=1"), &accept, "");
    let mut body = sender.send_request(request).await.unwrap().into_body();
    let frames = lines(&mut body, 2).await;
    assert_eq!(frames[0]["object"]["columnDefinitions"][0]["name"], "Name");
    assert_eq!(frames[1]["object"]["columnDefinitions"], Value::Null);
    assert_eq!(frames[1]["object"]["rows"][0]["cells"][0], "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_watch_over_websocket() {
    let running = start().await;
    make(&running, "before").await;
    let mut socket = running.websocket(&format!("{MAPS}?watch=1"), None).await;
    make(&running, "after").await;
    let mut frames = Vec::new();
    while frames.len() < 2 {
        let message = socket.next().await.unwrap().unwrap();
        frames.push(serde_json::from_str(message.to_text().unwrap()).unwrap());
    }
    let expected = [("ADDED", "before"), ("ADDED", "after")];
    assert_eq!(seen(&frames), expected.map(|(kind, name)| (kind.to_owned(), name.to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn protobuf_goes_in_and_out() {
    let running = start().await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    let body = tiphys_api::protobuf::encode(&map).unwrap();
    let protobuf = "application/vnd.kubernetes.protobuf";
    let request = http::Request::post(format!("https://{}{MAPS}", running.address));
    let request = request.header("content-type", protobuf).header("accept", protobuf);
    let request = request.body(http_body_util::Full::new(Bytes::from(body))).unwrap();
    let made = whole(running.h2().await.send_request(request).await.unwrap()).await;
    assert_eq!((made.status().as_u16(), made.headers()["content-type"].to_str().unwrap()), (201, protobuf));
    let made = tiphys_api::protobuf::open(made.body()).unwrap();
    assert_eq!((&made["data"]["k"], &made["kind"]), (&json!("v"), &json!("ConfigMap")));
    let list = running.ask("GET", MAPS, &[("accept", protobuf)], "").await;
    let list = tiphys_api::protobuf::open(list.body()).unwrap();
    assert_eq!(
        (&list["kind"], &list["items"][0]["metadata"]["name"]),
        (&json!("ConfigMapList"), &json!("a"))
    );
    let watch =
        running.ask("GET", &format!("{MAPS}?watch=1&timeoutSeconds=1"), &[("accept", protobuf)], "").await;
    assert_eq!(watch.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    let length = u32::from_be_bytes(watch.body()[..4].try_into().unwrap()) as usize;
    assert_eq!(watch.body().len(), 4 + length);
}
