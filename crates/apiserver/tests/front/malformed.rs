//! Ten thousand malformed requests: each gets a 4xx Status, none harms the server.
//!
//! The requests come from a seeded generator, so a failure names a request that fails again.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Running, start, whole};

const REQUESTS: u64 = 10_000;

/// A small generator (splitmix64): the tests need spread, not secrecy.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    /// Printable text that is no JSON value.
    fn junk(&mut self) -> String {
        let length = 1 + self.below(40);
        let text: String =
            (0..length).map(|_| char::from(b'!' + u8::try_from(self.below(90)).unwrap())).collect();
        format!("~{text}")
    }
}

const OBJECT: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x","labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":80}]}]}}"#;
const PODS: &str = "/api/v1/namespaces/default/pods";

/// One malformed request: method, path, content type, body.
type Bad = (&'static str, String, &'static str, Vec<u8>);

fn malformed(chance: &mut Chance) -> Bad {
    match chance.below(10) {
        0 => ("POST", PODS.into(), "application/json", cut(chance)),
        1 => ("POST", PODS.into(), "application/json", wrong_type(chance)),
        2 => ("POST", PODS.into(), "application/yaml", format!("a: [{}\nb: {{", chance.junk()).into_bytes()),
        3 => ("POST", PODS.into(), "application/json", nested(chance)),
        4 => ("PATCH", format!("{PODS}/none"), patch_type(chance), chance.junk().into_bytes()),
        5 => ("GET", nowhere(chance), "", Vec::new()),
        6 => ("GET", format!("/api/v1/pods?{}", bad_query(chance)), "", Vec::new()),
        7 => (
            "POST",
            PODS.into(),
            chance.pick(&["text/plain", "application/x-nothing", "multipart/form-data"]),
            cut(chance),
        ),
        8 => ("DELETE", format!("{PODS}/none"), "application/json", chance.junk().into_bytes()),
        _ => (
            "PUT",
            format!("{PODS}/y"),
            "application/json",
            OBJECT.replace("\"x\"", "\"Bad_Name!\"").into_bytes(),
        ),
    }
}

/// A proper beginning of an object.
fn cut(chance: &mut Chance) -> Vec<u8> {
    OBJECT.as_bytes()[..1 + chance.below(OBJECT.len() - 1)].to_vec()
}

fn wrong_type(chance: &mut Chance) -> Vec<u8> {
    let (from, to) = [
        (r#"{"name":"x","labels":{"a":"b"}}"#, "7"),
        (r#"{"a":"b"}"#, "[1,2]"),
        (r#"[{"containerPort":80}]"#, r#""many""#),
        ("80", r#""eighty""#),
        (r#""Pod""#, r#""Node""#),
        (r#""v1""#, r#""v9""#),
        (r#""x""#, r#""UPPER case""#),
        (r#""i""#, "{}"),
    ][chance.below(8)];
    OBJECT.replacen(from, to, 1).into_bytes()
}

fn nested(chance: &mut Chance) -> Vec<u8> {
    chance.pick(&["[", "{\"a\":"]).repeat(200 + chance.below(2000)).into_bytes()
}

fn patch_type(chance: &mut Chance) -> &'static str {
    chance.pick(&[
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        "application/apply-patch+yaml",
        "application/json",
    ])
}

fn nowhere(chance: &mut Chance) -> String {
    let word = format!("w{:x}", chance.next());
    match chance.below(6) {
        0 => format!("/api/v1/{word}"),
        1 => format!("/apis/{word}/v1/pods"),
        2 => format!("{PODS}/x/{word}"),
        3 => format!("/{word}/%ff%fe"),
        4 => format!("/api/v1/namespaces/%zz/{word}"),
        _ => format!("/{word}"),
    }
}

fn bad_query(chance: &mut Chance) -> String {
    let junk = chance.next();
    match chance.below(5) {
        0 => format!("limit=a{junk}"),
        1 => format!("labelSelector=a%3D%3D%3D{junk}%21"),
        2 => format!("fieldSelector=no.such.field%3D{junk}"),
        3 => format!("continue=!{junk}"),
        _ => format!("resourceVersion=x{junk}&watch=1"),
    }
}

fn request(running: &Running, bad: &Bad) -> Request<Full<Bytes>> {
    let (method, path, form, body) = bad;
    let uri = format!("https://{}{path}", running.address);
    let request = Request::builder().method(*method).uri(uri).header("content-type", *form);
    request.body(Full::new(Bytes::copy_from_slice(body))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_get_only_client_errors() {
    let running = start().await;
    let mut chance = Chance(36);
    let mut sender = running.h2().await;
    for _ in 0..REQUESTS {
        let bad = malformed(&mut chance);
        let response = whole(sender.send_request(request(&running, &bad)).await.unwrap()).await;
        let code = response.status().as_u16();
        let body = String::from_utf8_lossy(response.body()).into_owned();
        let about = || {
            format!("{} {} [{}] {:?} → {code} {body}", bad.0, bad.1, bad.2, String::from_utf8_lossy(&bad.3))
        };
        assert!((400..500).contains(&code), "{}", about());
        let status: Value = serde_json::from_slice(response.body()).unwrap_or_else(|_| panic!("{}", about()));
        assert_eq!((&status["kind"], &status["code"]), (&"Status".into(), &code.into()), "{}", about());
    }
    assert_eq!(running.ask("GET", "/healthz", &[], "").await.status(), 200);
}

/// Not even HTTP, or not as it should be.
const RAW: &[&[u8]] = &[
    b"\x00\x01\x02\x03\xff\xfe",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
    b"POST /api/v1/namespaces HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\n",
    b"POST /api/v1/namespaces HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"GET /api/v1/namespaces/default/pods/p/exec HTTP/1.1\r\nhost: x\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_http_harms_nobody() {
    let running = start().await;
    for raw in RAW {
        let mut stream = running.tls(true, "http/1.1").await;
        stream.write_all(raw).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A reset is an answer, too.
        let _ = stream.read_to_end(&mut answer).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{raw:?} → {text}");
    }
    assert_eq!(running.ask("GET", "/healthz", &[], "").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused() {
    let running = start().await;
    let body = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"a"}},"data":{{"k":"{}"}}}}"#,
        "x".repeat(3 << 20)
    );
    let response = running.ask("POST", "/api/v1/namespaces/default/configmaps", &[], &body).await;
    assert_eq!(response.status(), 413);
    let status: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(status["reason"], "RequestEntityTooLarge");
}
