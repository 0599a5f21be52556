//! Watchers that do not read: they lose their place and cost nobody anything.

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tiphys_api::Value;
use tiphys_apiserver::cache::Options;

use super::support::{Running, start_with, whole};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Far more than the server keeps, and than the connection holds in flight.
const WRITES: usize = 24;
const SIZE: usize = 512 << 10;

async fn started() -> Running {
    let running = start_with(Options { ring_bytes_max: 4 * SIZE, ..Options::default() }).await;
    let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"big"}}"#;
    assert_eq!(running.ask("POST", MAPS, &[], body).await.status(), 201);
    running
}

async fn watch(running: &Running) -> Incoming {
    let request = running.request("GET", &format!("{MAPS}?watch=1"), &[], "");
    running.h2().await.send_request(request).await.unwrap().into_body()
}

/// Reads up to the end of a line.
async fn line(body: &mut Incoming) -> Bytes {
    let mut text = Vec::new();
    while !text.ends_with(b"\n") {
        text.extend_from_slice(&body.frame().await.expect("the watch goes on").unwrap().into_data().unwrap());
    }
    text.into()
}

/// Writes while a quick watcher reads, each write as soon as it has seen the one before.
async fn write(running: &Running, quick: &mut Incoming) {
    let mut sender = running.h2().await;
    for number in 0..WRITES {
        let text = char::from(b'a' + u8::try_from(number).unwrap()).to_string().repeat(SIZE);
        let patch = format!(r#"{{"data":{{"k":"{text}"}}}}"#);
        let headers = [("content-type", "application/merge-patch+json")];
        let request = running.request("PATCH", &format!("{MAPS}/big"), &headers, &patch);
        assert_eq!(whole(sender.send_request(request).await.unwrap()).await.status(), 200);
        let seen = line(quick).await;
        assert!(seen.starts_with(b"{\"type\":\"MODIFIED\"") && seen.ends_with(b"}\n"));
    }
}

/// The first words of each event that a watcher got, up to the end of its stream.
fn kinds(text: &[u8]) -> Vec<Value> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

fn assert_cut_off(events: &[Value]) {
    let (last, before) = events.split_last().unwrap();
    assert_eq!((&last["type"], &last["object"]["code"]), (&"ERROR".into(), &410.into()));
    assert!(before.len() < WRITES, "it missed none of {} events", before.len());
    assert!(before.iter().all(|event| event["type"] != "ERROR"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_does_not_read_is_cut_off_and_the_others_go_on() {
    let running = started().await;
    let slow = watch(&running).await;
    let mut quick = watch(&running).await;
    line(&mut quick).await;
    write(&running, &mut quick).await;
    assert_cut_off(&kinds(&slow.collect().await.unwrap().to_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_does_not_read_is_cut_off_too() {
    let running = started().await;
    let mut slow = running.websocket(&format!("{MAPS}?watch=1"), None).await;
    let mut quick = watch(&running).await;
    line(&mut quick).await;
    write(&running, &mut quick).await;
    let mut events = Vec::new();
    while let Some(Ok(message)) = slow.next().await {
        if let Ok(text) = message.to_text()
            && !message.is_close()
        {
            events.push(serde_json::from_str(text).unwrap());
        }
    }
    assert_cut_off(&events);
}
