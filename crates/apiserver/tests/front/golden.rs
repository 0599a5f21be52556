//! Request → response, as text: one scenario per file under `golden/`, each answer's code, telling headers and body.
//!
//! A file is a list of requests, each followed by the answer after a line `----`. `REWRITE=1` writes the answers
//! anew; the difference is what is reviewed. What changes from run to run is replaced: uids, times, revisions.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::Response;
use serde_json::Value;

use super::support::{Running, start};

/// Headers that belong to the contract.
const TELLING: &[&str] = &["content-type", "allow", "location", "retry-after", "warning", "cache-control"];

struct Exchange {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
    /// The request as the file has it.
    text: String,
    expected: String,
}

fn scenarios() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/front/golden");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Exchanges are parted by a line `====`.
fn parse(text: &str) -> Vec<Exchange> {
    text.split("\n====\n").map(exchange).collect()
}

fn exchange(text: &str) -> Exchange {
    let (request, expected) = text.split_once("\n----\n").unwrap_or((text.trim_end(), ""));
    let mut lines = request.lines().skip_while(|line| line.starts_with('#') || line.is_empty());
    let (method, path) = lines.next().unwrap().split_once(' ').unwrap();
    let (mut headers, mut body) = (Vec::new(), Vec::new());
    for line in lines {
        match line.split_once(": ").filter(|(name, _)| body.is_empty() && !name.contains(['"', '{', ' '])) {
            Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
            None => body.push(line),
        }
    }
    Exchange {
        method: method.to_owned(),
        path: path.to_owned(),
        headers,
        body: body.join("\n"),
        text: request.to_owned(),
        expected: expected.trim_end().to_owned(),
    }
}

async fn answer(running: &Running, exchange: &Exchange) -> String {
    let headers: Vec<(&str, &str)> = exchange.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let response = running.ask(&exchange.method, &exchange.path, &headers, &exchange.body).await;
    render(&response)
}

fn render(response: &Response<Bytes>) -> String {
    let mut out = response.status().as_u16().to_string();
    for name in TELLING {
        for value in response.headers().get_all(*name) {
            out.push_str(&format!("\n{name}: {}", value.to_str().unwrap()));
        }
    }
    let body = response.body();
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(mut value) => {
            still(&mut value);
            serde_json::to_string_pretty(&value).unwrap()
        }
        Err(_) => String::from_utf8_lossy(body).trim_end().to_owned(),
    };
    if text.is_empty() { out } else { format!("{out}\n\n{text}") }
}

/// Replaces what differs from run to run.
fn still(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // Who owns which field has its own tests, with the registry.
            fields.remove("managedFields");
            for (key, value) in fields.iter_mut() {
                match (key.as_str(), &value) {
                    ("uid", Value::String(_)) => *value = "<uid>".into(),
                    ("resourceVersion", Value::String(text)) if !text.is_empty() => {
                        *value = "<revision>".into()
                    }
                    ("creationTimestamp" | "deletionTimestamp" | "time", Value::String(_)) => {
                        *value = "<time>".into()
                    }
                    _ => still(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(still),
        _ => (),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_the_golden_files() {
    let update = std::env::var_os("REWRITE").is_some();
    for file in scenarios() {
        let running = start().await;
        let text = std::fs::read_to_string(&file).unwrap();
        let mut fresh = Vec::new();
        for exchange in parse(&text) {
            let seen = answer(&running, &exchange).await;
            if !update {
                assert_eq!(
                    seen,
                    exchange.expected,
                    "{}: {} {}",
                    file.display(),
                    exchange.method,
                    exchange.path
                );
            }
            fresh.push(format!("{}\n----\n{seen}\n", exchange.text));
        }
        if update {
            std::fs::write(&file, fresh.join("====\n").replace("\n\n====\n", "\n====\n")).unwrap();
        }
    }
}
