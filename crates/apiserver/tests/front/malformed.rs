//! Ten thousand malformed requests: each gets a 4xx Status, none harms the server.
//!
//! They are broken in every place: bodies in each encoding, patches in each form (that do not parse, and that do not
//! fit an object that is there), paths, selectors, continue tokens, options, accepted types. The requests come from a
//! seeded generator, so a failure names a request that fails again.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tiphys_api::Value;
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

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = 1 + self.below(60);
        (0..length).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
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

/// An object that is there.
const MAP: &str = "/api/v1/namespaces/default/configmaps/there";

/// One malformed request: method, path, a header, body.
type Bad = (&'static str, String, (&'static str, &'static str), Vec<u8>);

const JSON: (&str, &str) = ("content-type", "application/json");
const YAML: (&str, &str) = ("content-type", "application/yaml");
const PROTOBUF: (&str, &str) = ("content-type", "application/vnd.kubernetes.protobuf");
const CBOR: (&str, &str) = ("content-type", "application/cbor");

/// The ways to be wrong.
const WAYS: &[fn(&mut Chance) -> Bad] = &[
    |c| ("POST", PODS.into(), JSON, cut(c)),
    |c| ("POST", PODS.into(), JSON, wrong_type(c)),
    |c| ("POST", PODS.into(), YAML, format!("a: [{}\nb: {{", c.junk()).into_bytes()),
    |c| ("POST", PODS.into(), JSON, nested(c)),
    |c| ("POST", PODS.into(), YAML, nested(c)),
    |c| ("POST", PODS.into(), PROTOBUF, protobuf(c)),
    |c| ("POST", PODS.into(), CBOR, [&b"\xd9\xd9\xf7"[..c.pick(&[0, 3])], &c.bytes()].concat()),
    |c| ("POST", PODS.into(), ("content-type", c.pick(UNKNOWN_TYPES)), cut(c)),
    |c| ("PATCH", format!("{PODS}/none"), ("content-type", c.pick(PATCH_TYPES)), c.junk().into_bytes()),
    |c| {
        let (form, body) = c.pick(BAD_PATCHES);
        let fitting = if form == APPLY { "?fieldManager=m" } else { "" };
        ("PATCH", format!("{MAP}{fitting}"), ("content-type", form), body.into())
    },
    |c| ("GET", nowhere(c), ("accept", "*/*"), Vec::new()),
    |c| ("GET", format!("/api/v1/pods?{}", bad_query(c)), ("accept", "*/*"), Vec::new()),
    |c| ("GET", format!("/api/v1/pods?{}", bad_watch(c)), ("accept", "*/*"), Vec::new()),
    |c| ("GET", c.pick(&[MAP, PODS, "/api/v1"]).into(), ("accept", c.pick(UNKNOWN_TYPES)), Vec::new()),
    |c| ("DELETE", format!("{PODS}/none"), JSON, c.junk().into_bytes()),
    |c| ("DELETE", MAP.into(), JSON, c.pick(BAD_DELETIONS).into()),
    |c| ("DELETE", format!("{PODS}?{}", bad_query(c)), JSON, Vec::new()),
    |c| ("DELETE", MAP.into(), PROTOBUF, protobuf(c)),
    |_| ("PUT", format!("{PODS}/y"), JSON, OBJECT.replace("\"x\"", "\"Bad_Name!\"").into_bytes()),
    |c| ("POST", format!("{PODS}?{}", c.pick(BAD_OPTIONS)), JSON, OBJECT.into()),
    |c| ("POST", format!("{MAP}/{}", c.pick(&["status", "scale", "exec", "x"])), JSON, OBJECT.into()),
];

const UNKNOWN_TYPES: &[&str] = &["text/plain", "application/x-nothing", "multipart/form-data"];

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const PATCH_TYPES: &[&str] = &[JSON_PATCH, MERGE, STRATEGIC, APPLY, "application/json"];

/// Patches that parse and do not fit.
const BAD_PATCHES: &[(&str, &str)] = &[
    (JSON_PATCH, "{}"),
    (JSON_PATCH, "[7]"),
    (JSON_PATCH, r#"[{"op":"grow","path":"/data"}]"#),
    (JSON_PATCH, r#"[{"op":"remove","path":"/nothing"}]"#),
    (JSON_PATCH, r#"[{"op":"test","path":"/kind","value":"Pod"}]"#),
    (JSON_PATCH, r#"[{"op":"replace","path":"","value":7}]"#),
    (JSON_PATCH, r#"[{"op":"add","path":"/data","value":7}]"#),
    (JSON_PATCH, r#"[{"op":"copy","from":"/a/b/c","path":"/data"}]"#),
    (MERGE, "[]"),
    (MERGE, r#""text""#),
    (MERGE, r#"{"data":[1]}"#),
    (MERGE, r#"{"metadata":{"labels":7}}"#),
    (MERGE, r#"{"metadata":{"name":"other"}}"#),
    (MERGE, r#"{"metadata":null}"#),
    (STRATEGIC, "[]"),
    (STRATEGIC, r#"{"$patch":"explode"}"#),
    (STRATEGIC, r#"{"$retainKeys":5}"#),
    (STRATEGIC, r#"{"metadata":{"finalizers":"x"}}"#),
    (STRATEGIC, r#"{"metadata":{"ownerReferences":[{"name":"x"}]}}"#),
    (STRATEGIC, r#"{"metadata":{"$setElementOrder/finalizers":7}}"#),
    (APPLY, "7"),
    (APPLY, "{}"),
    (APPLY, "apiVersion: v1\nkind: Pod\n"),
    (APPLY, "apiVersion: v1\nkind: ConfigMap\ndata: 7\n"),
    (APPLY, "apiVersion: v1\nkind: ConfigMap\nmetadata: {managedFields: [{manager: x}]}\n"),
    (APPLY, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n"),
];

const BAD_DELETIONS: &[&str] = &[
    r#"{"kind":"Pod"}"#,
    r#"{"propagationPolicy":"Sometimes"}"#,
    r#"{"propagationPolicy":"Orphan","orphanDependents":true}"#,
    r#"{"gracePeriodSeconds":"soon"}"#,
    r#"{"dryRun":["Maybe"]}"#,
    r#"{"preconditions":{"uid":"another"}}"#,
    r#"{"preconditions":{"resourceVersion":"1"}}"#,
];

const BAD_OPTIONS: &[&str] =
    &["dryRun=Maybe", "fieldValidation=Perhaps", "fieldManager=a%00b", "timeout=soon", "timeout=-1s"];

/// A message that is cut off, another kind, or no message.
fn protobuf(chance: &mut Chance) -> Vec<u8> {
    let pod = tiphys_api::protobuf::encode(&serde_json::from_str(OBJECT).unwrap()).unwrap();
    match chance.below(3) {
        0 => pod[..1 + chance.below(pod.len() - 8)].to_vec(),
        1 => [&b"k8s\0"[..], &chance.bytes()].concat(),
        _ => chance.bytes(),
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
    match chance.below(6) {
        0 => format!("limit=a{junk}"),
        1 => format!("labelSelector={}", chance.pick(BAD_SELECTORS)),
        2 => format!("fieldSelector=no.such.field%3D{junk}"),
        3 => format!("continue=!{junk}"),
        4 => format!("continue={}", chance.pick(BAD_TOKENS)),
        _ => format!("resourceVersion=x{junk}"),
    }
}

const BAD_SELECTORS: &[&str] = &[
    "a%3D%3D%3Db",
    "a%20in%20(b",
    "%21",
    "%2Ca",
    "a%3Db%2C",
    "a%20b",
    "a%3Db_",
    "-a",
    "a%3E%3Db",
    "a%20in%20b",
];

/// `{}`, another version, nothing to start from, revision 0, no JSON, no base64.
const BAD_TOKENS: &[&str] = &[
    "e30",
    "eyJ2IjoibWV0YS5rOHMuaW8vdjIiLCJydiI6NSwic3RhcnQiOiJhXHUwMDAwIn0",
    "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NSwic3RhcnQiOiIifQ",
    "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MCwic3RhcnQiOiJhIn0",
    "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6",
    "AAAA",
    "%25",
];

fn bad_watch(chance: &mut Chance) -> String {
    let junk = chance.next();
    let what = match chance.below(5) {
        0 => format!("resourceVersion=x{junk}"),
        1 => "sendInitialEvents=true".into(),
        2 => "resourceVersionMatch=NotOlderThan".into(),
        3 => format!("timeoutSeconds=a{junk}"),
        _ => format!("fieldSelector=no.such.field%3D{junk}"),
    };
    format!("{what}&watch=1")
}

fn request(running: &Running, bad: &Bad) -> Request<Full<Bytes>> {
    let (method, path, (name, value), body) = bad;
    let uri = format!("https://{}{path}", running.address);
    let request = Request::builder().method(*method).uri(uri).header(*name, *value);
    request.body(Full::new(Bytes::copy_from_slice(body))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_get_only_client_errors() {
    let running = start().await;
    let map = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"there"},"data":{"k":"v"}}"#;
    let maps = MAP.trim_end_matches("/there");
    assert_eq!(running.ask("POST", maps, &[], map).await.status(), 201);
    let mut chance = Chance(36);
    let mut sender = running.h2().await;
    for _ in 0..REQUESTS {
        let bad = chance.pick(WAYS)(&mut chance);
        let response = whole(sender.send_request(request(&running, &bad)).await.unwrap()).await;
        let code = response.status().as_u16();
        let body = String::from_utf8_lossy(response.body()).into_owned();
        let about = || {
            format!("{} {} {:?} {:?} → {code} {body}", bad.0, bad.1, bad.2, String::from_utf8_lossy(&bad.3))
        };
        assert!((400..500).contains(&code), "{}", about());
        let status: Value = serde_json::from_slice(response.body()).unwrap_or_else(|_| panic!("{}", about()));
        assert_eq!((&status["kind"], &status["code"]), (&"Status".into(), &code.into()), "{}", about());
    }
    let unharmed = running.ask("GET", MAP, &[], "").await;
    let unharmed: Value = serde_json::from_slice(unharmed.body()).unwrap();
    assert_eq!(
        (&unharmed["data"]["k"], &unharmed["metadata"]["managedFields"][1]),
        (&"v".into(), &Value::Null)
    );
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
