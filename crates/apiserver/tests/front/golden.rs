//! Request → response, as text: one case per file under `golden/`, each answer's code, telling headers and body.
//!
//! A file is a list of requests parted by `====`, each followed by its answer after a line `----`. `REWRITE=1` writes the
//! answers anew; the difference is what is reviewed. What changes from run to run is masked: uids, times, revisions.
//!
//! - A body is written as JSON; under a binary `content-type` it is sent in that encoding, and binary answers are shown
//!   as JSON too.
//! - `$rev`, `$uid` and `$continue` stand for those of the answer before.
//! - Headers that are not sent: `take: 2` reads so many frames of a stream and leaves it; `as: nobody` asks without a
//!   certificate; `show: raw` shows the body as it came, `show: managedFields` who owns what; `quiet: yes` sets the scene
//!   and is not shown.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::Response;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tiphys_api::{Gvk, Value, cbor, protobuf};

use super::support::{Running, start};

/// Headers that belong to the contract.
const TELLING: &[&str] = &["content-type", "allow", "location", "retry-after", "warning", "cache-control"];
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const CBOR: &str = "application/cbor";
/// After this an answer will not come.
const PATIENCE: Duration = Duration::from_secs(30);
/// Cases at the same time.
const AT_ONCE: usize = 8;

struct Exchange {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
    /// The request as the file has it.
    text: String,
    expected: String,
}

/// What the answer before said.
#[derive(Default)]
struct Seen {
    revision: String,
    uid: String,
    continue_token: String,
}

fn cases() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/front/golden");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn parse(text: &str) -> Vec<Exchange> {
    text.split("\n====\n").map(exchange).collect()
}

fn exchange(text: &str) -> Exchange {
    let (request, expected) = text.split_once("\n----\n").unwrap_or((text, ""));
    let request = request.strip_suffix("\n----").unwrap_or(request).trim_end();
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
        body: body.join("\n").trim().to_owned(),
        text: request.to_owned(),
        expected: expected.trim_end().to_owned(),
    }
}

impl Seen {
    fn fill(&self, text: &str) -> String {
        text.replace("$rev", &self.revision)
            .replace("$uid", &self.uid)
            .replace("$continue", &self.continue_token)
    }

    fn note(&mut self, answer: &Value) {
        for (field, name) in [
            (&mut self.revision, "resourceVersion"),
            (&mut self.uid, "uid"),
            (&mut self.continue_token, "continue"),
        ] {
            if let Some(text) = answer.pointer(&format!("/metadata/{name}")).and_then(Value::as_str) {
                text.clone_into(field);
            }
        }
    }
}

impl Exchange {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }

    fn body(&self, seen: &Seen) -> Bytes {
        let text = seen.fill(&self.body);
        let tree = || serde_json::from_str::<Value>(&text);
        match self.header("content-type") {
            PROTOBUF => tree().map_or(text.clone().into(), |tree| protobuf::encode(&tree).unwrap().into()),
            CBOR | "application/apply-patch+cbor" => {
                tree().map_or(text.clone().into(), |tree| cbor::encode(&tree).into())
            }
            _ => text.into(),
        }
    }

    async fn send(&self, running: &Running, seen: &Seen) -> Response<Incoming> {
        let own = |name: &str| matches!(name, "take" | "as" | "show" | "quiet");
        let headers: Vec<(&str, &str)> =
            self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).filter(|(n, _)| !own(n)).collect();
        let request = running.request(&self.method, &seen.fill(&self.path), &headers, "");
        let request = request.map(|_| Full::new(self.body(seen)));
        let mut sender = match self.header("as") {
            "nobody" => running.anonymous().await,
            _ => running.h2().await,
        };
        sender.send_request(request).await.unwrap()
    }

    async fn answer(&self, running: &Running, seen: &mut Seen) -> String {
        let (head, mut body) = self.send(running, seen).await.into_parts();
        let take: usize = self.header("take").parse().unwrap_or(usize::MAX);
        let media = head.headers.get("content-type").map_or("", |value| value.to_str().unwrap());
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            whole.extend_from_slice(&frame.unwrap().into_data().unwrap_or_default());
            if frames(media, &whole).is_some_and(|frames| frames.len() >= take) {
                break;
            }
        }
        let mut out = head.status.as_u16().to_string();
        for name in TELLING {
            for value in head.headers.get_all(*name) {
                out.push_str(&format!("\n{name}: {}", value.to_str().unwrap()));
            }
        }
        let text = self.show(media, &whole, seen);
        if text.is_empty() { out } else { format!("{out}\n\n{text}") }
    }

    fn show(&self, media: &str, body: &[u8], seen: &mut Seen) -> String {
        let raw = || stilled(String::from_utf8_lossy(body).trim_end());
        let managed = self.header("show") == "managedFields";
        if !self.header("take").is_empty() {
            let mut frames = frames(media, body).unwrap_or_default();
            frames.truncate(self.header("take").parse().unwrap());
            let line = |mut frame: Value| {
                still(&mut frame, managed);
                frame.to_string()
            };
            return frames.into_iter().map(line).collect::<Vec<_>>().join("\n");
        }
        match tree(media, body).filter(|_| self.header("show") != "raw") {
            Some(mut value) => {
                seen.note(&value);
                still(&mut value, managed);
                serde_json::to_string_pretty(&value).unwrap()
            }
            None => raw(),
        }
    }
}

fn tree(media: &str, body: &[u8]) -> Option<Value> {
    match media {
        PROTOBUF => protobuf::open(body).ok(),
        CBOR => cbor::decode(body).ok(),
        _ => serde_json::from_slice(body).ok(),
    }
}

/// The whole frames of a stream so far; `None` for what is no stream.
fn frames(media: &str, body: &[u8]) -> Option<Vec<Value>> {
    match media {
        "application/json" => {
            let lines = body.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
            lines.map(|line| serde_json::from_slice(line).ok()).collect()
        }
        "application/cbor-seq" => {
            // Each document starts with the same three bytes, and so does the object in it.
            let starts: Vec<usize> =
                (0..body.len()).filter(|at| body[*at..].starts_with(&[0xd9, 0xd9, 0xf7, 0xa2])).collect();
            let ends = starts.iter().skip(1).copied().chain([body.len()]);
            let documents = starts.iter().zip(ends).map(|(start, end)| cbor::decode(&body[*start..end]).ok());
            documents.collect()
        }
        "application/vnd.kubernetes.protobuf;stream=watch" => Some(protobuf_frames(body)),
        _ => None,
    }
}

fn protobuf_frames(mut body: &[u8]) -> Vec<Value> {
    let mut found = Vec::new();
    while let Some((length, rest)) = body.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap();
        let Some((frame, next)) = rest.split_at_checked(length) else { break };
        found.push(protobuf::read(&Gvk::new("", "v1", "WatchEvent"), frame).unwrap().into());
        body = next;
    }
    found
}

/// Replaces what differs from run to run.
fn still(value: &mut Value, managed: bool) {
    match value {
        Value::Object(fields) => {
            if !managed {
                fields.remove("managedFields");
            }
            let prefix = fields.get("generateName").and_then(Value::as_str).map(str::to_owned);
            for (key, value) in fields.iter_mut() {
                match (key.as_str(), &value) {
                    ("uid", Value::String(text)) if uuid::Uuid::parse_str(text).is_ok() => {
                        *value = "<uid>".into()
                    }
                    ("resourceVersion", Value::String(text)) if !text.is_empty() => {
                        *value = "<revision>".into()
                    }
                    ("continue" | "token", Value::String(_)) => *value = "<token>".into(),
                    ("name", Value::String(_)) if prefix.is_some() => {
                        *value = format!("{}<suffix>", prefix.as_deref().unwrap_or_default()).into();
                    }
                    _ => still(value, managed),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| still(item, managed)),
        Value::String(text) => *text = stilled(text).into(),
        _ => (),
    }
}

/// The text with what differs from run to run replaced in it.
fn stilled(text: &str) -> String {
    let split = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | ':' | '=' | '.');
    let mut out = text.to_owned();
    for word in text.split(split).map(|word| word.trim_matches([':', '.'])) {
        let mask = match word {
            _ if word.len() == 36 && uuid::Uuid::parse_str(word).is_ok() => "<uid>",
            _ if word.parse::<jiff::Timestamp>().is_ok() => "<time>",
            _ if word.starts_with("X509SHA256=") => "<fingerprint>",
            _ if word.strip_suffix('s').is_some_and(|age| age.parse::<u8>().is_ok()) => "<age>",
            _ => continue,
        };
        out = out.replace(word, mask);
    }
    out
}

/// A case played on a server of its own, as text.
async fn play(text: &str) -> String {
    let running = start().await;
    let mut seen = Seen::default();
    let mut fresh = Vec::new();
    for exchange in parse(text) {
        let answer = tokio::time::timeout(PATIENCE, exchange.answer(&running, &mut seen)).await;
        let answer =
            answer.unwrap_or_else(|_| panic!("{} {} is not answered", exchange.method, exchange.path));
        let shown = if exchange.header("quiet").is_empty() { answer } else { quiet(&exchange, &answer) };
        fresh.push(format!("{}\n----\n{shown}\n", exchange.text));
    }
    fresh.join("====\n")
}

/// Only the code of what sets the scene.
fn quiet(exchange: &Exchange, answer: &str) -> String {
    let code = answer.lines().next().unwrap_or_default();
    assert!(code.starts_with('2'), "{} {}: {answer}", exchange.method, exchange.path);
    code.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_the_golden_files() {
    let rewrite = std::env::var_os("REWRITE").is_some();
    let played = futures::stream::iter(cases())
        .map(|file| async {
            let text = std::fs::read_to_string(&file).unwrap();
            (play(&text).await, text, file)
        })
        .buffer_unordered(AT_ONCE);
    let wrong: Vec<String> = played
        .filter_map(|(fresh, text, file)| async move {
            if rewrite && fresh != text {
                std::fs::write(&file, &fresh).unwrap();
            }
            (!rewrite && fresh != text).then(|| difference(&file, &text, &fresh))
        })
        .collect()
        .await;
    assert!(wrong.is_empty(), "REWRITE=1 writes the answers anew\n{}", wrong.join("\n"));
}

/// The first exchange whose answer is another one.
fn difference(file: &Path, text: &str, fresh: &str) -> String {
    let pairs = parse(text).into_iter().zip(parse(fresh));
    let first = pairs.into_iter().find(|(was, is)| was.expected != is.expected);
    let told = first.map(|(was, is)| {
        format!("{} {}\nexpected:\n{}\nanswered:\n{}", was.method, was.path, was.expected, is.expected)
    });
    format!("{}: {}", file.display(), told.unwrap_or_else(|| "blank lines differ".to_owned()))
}
