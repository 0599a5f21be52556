//! Streams to a node: a small kubelet over TLS, reached through the API server.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tiphys_apiserver::pki::{Authority, Leaf, Pki};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::support::{Running, start, whole};

/// Serves until the test ends: takes only the API server's certificate.
async fn kubelet(pki: &Pki) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pki.authority(Authority::Cluster).certificate().unwrap()).unwrap();
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let own = pki.leaf(Leaf::Kubelet);
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![own.certificate().unwrap()], own.key().unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(socket).await else { continue };
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(
                connection.serve_connection(TokioIo::new(stream), service_fn(answer)).with_upgrades(),
            );
        }
    });
    address
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = format!("{} {}", request.method(), request.uri());
    let secret = request.headers().contains_key("authorization");
    if text.contains("command=absent") {
        return Ok(Response::builder().status(500).body("container not found".into()).unwrap());
    }
    if request.headers().contains_key("upgrade") {
        let upgrade = hyper::upgrade::on(&mut request);
        match request.headers().contains_key("x-stream-protocol-version") {
            true => drop(tokio::spawn(runtime(upgrade))),
            false => drop(tokio::spawn(echo(upgrade))),
        }
        let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        let response = response.header("connection", "Upgrade").header("upgrade", "SPDY/3.1");
        return Ok(response.header("x-asked", text).body(Full::default()).unwrap());
    }
    if text.contains("previous=true") {
        let mut refused =
            Response::new(Full::new(Bytes::from_static(b"previous terminated container \"c\" not found")));
        *refused.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(refused);
    }
    Ok(Response::new(Full::new(Bytes::from(format!("{text} secret={secret}\n")))))
}

/// Says back what it hears; once the other side has said all, says goodbye.
async fn echo(upgraded: hyper::upgrade::OnUpgrade) {
    let mut stream = TokioIo::new(upgraded.await.unwrap());
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.unwrap();
    heard.extend_from_slice(b" and goodbye");
    stream.write_all(&heard).await.unwrap();
    stream.shutdown().await.unwrap();
}

/// A runtime that speaks SPDY: once standard input (its second stream) has ended, it says all of it on standard output
/// (the third), and on the first how it went.
async fn runtime(upgraded: hyper::upgrade::OnUpgrade) {
    let mut stream = TokioIo::new(upgraded.await.unwrap());
    let (mut heard, mut head) = (Vec::new(), [0; 8]);
    loop {
        stream.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize];
        stream.read_exact(&mut payload).await.unwrap();
        if head[..4] == [0, 0, 0, 3] {
            heard.extend(payload);
            if head[4] == 1 {
                break;
            }
        }
    }
    let frame = |stream: u8, text: &[u8]| {
        [&[0, 0, 0, stream, 0, 0, 0, u8::try_from(text.len()).unwrap()], text].concat()
    };
    let all = [frame(5, &heard), frame(1, br#"{"status":"#), frame(1, br#""Success"}"#)].concat();
    stream.write_all(&all).await.unwrap();
    stream.shutdown().await.unwrap();
}

async fn node_and_pod(running: &Running) {
    let kubelet = kubelet(&running.pki).await;
    let node = r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"n"}}"#;
    assert_eq!(running.ask("POST", "/api/v1/nodes", &[], node).await.status(), 201);
    let status = format!(
        r#"{{"status":{{"addresses":[{{"type":"InternalIP","address":"{}"}}],
            "daemonEndpoints":{{"kubeletEndpoint":{{"Port":{}}}}}}}}}"#,
        kubelet.ip(),
        kubelet.port()
    );
    let merge = [("content-type", "application/merge-patch+json")];
    assert_eq!(running.ask("PATCH", "/api/v1/nodes/n/status", &merge, &status).await.status(), 200);
    let pod = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},
        "spec":{"nodeName":"n","containers":[{"name":"c","image":"i"}]}}"#;
    let made = running.ask("POST", "/api/v1/namespaces/default/pods", &[], pod).await;
    assert_eq!(made.status(), 201, "{:?}", made.body());
}

const POD: &str = "/api/v1/namespaces/default/pods/p";

#[tokio::test(flavor = "multi_thread")]
async fn logs_and_node_paths_pass_through() {
    let running = start().await;
    node_and_pod(&running).await;
    let log = running.ask("GET", &format!("{POD}/log?tailLines=5"), &[], "").await;
    assert_eq!(log.body(), "GET /containerLogs/default/p/c?tailLines=5 secret=false\n");
    assert_eq!(log.headers()["content-type"], "text/plain");
    let refused = running.ask("GET", &format!("{POD}/log?previous=true"), &[], "").await;
    let text = String::from_utf8_lossy(refused.body()).into_owned();
    assert_eq!(refused.status(), 400);
    assert!(text.contains("previous terminated container") && text.contains("BadRequest"), "{text}");
    let pods =
        running.ask("GET", "/api/v1/nodes/n/proxy/pods?x=1", &[("authorization", "Bearer x")], "").await;
    assert_eq!(pods.body(), "GET /pods?x=1 secret=false\n");
    let moved = running.ask("GET", "/api/v1/namespaces/default/services/s/proxy", &[], "").await;
    assert_eq!(
        (moved.status().as_u16(), moved.headers()["location"].to_str().unwrap().ends_with("/proxy/")),
        (301, true)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_read_over_websocket() {
    let running = start().await;
    node_and_pod(&running).await;
    let mut socket = running.websocket(&format!("{POD}/log?tailLines=1"), Some("binary.k8s.io")).await;
    let message = socket.next().await.unwrap().unwrap();
    assert_eq!(message.into_data(), "GET /containerLogs/default/p/c?tailLines=1 secret=false\n");
    assert!(socket.next().await.unwrap().unwrap().is_close());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_half_closed_is_still_answered() {
    let running = start().await;
    node_and_pod(&running).await;
    let headers = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
    let path = format!("{POD}/exec?command=cat&stdin=1&stdout=1");
    let mut sender = running.h1().await;
    let mut response = sender.send_request(running.request("POST", &path, &headers, "")).await.unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["x-asked"], "POST /exec/default/p/c?input=1&output=1&command=cat");
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "hello and goodbye");
}

#[tokio::test(flavor = "multi_thread")]
async fn input_ends_before_output_over_websocket() {
    let running = start().await;
    node_and_pod(&running).await;
    let path = format!("{POD}/exec?command=cat&stdin=1&stdout=1");
    let both = Some("v5.channel.k8s.io, v4.channel.k8s.io");
    let mut socket = running.websocket(&path, both).await;
    // The official Python client sends text as text.
    socket.send(Message::text("\0hel")).await.unwrap();
    for message in [b"\0lo".as_slice(), b"\xff\0"] {
        socket.send(Message::Binary(Bytes::from_static(message))).await.unwrap();
    }
    assert_eq!(socket.next().await.unwrap().unwrap().into_data(), "\x01hello");
    assert_eq!(socket.next().await.unwrap().unwrap().into_data(), "\x03{\"status\":\"Success\"}");
    let Message::Close(Some(close)) = socket.next().await.unwrap().unwrap() else { panic!("no close") };
    assert_eq!(close.code, CloseCode::Normal);
    let mut absent = running.websocket(&format!("{POD}/exec?command=absent&stdout=1"), both).await;
    let told = absent.next().await.unwrap().unwrap().into_data();
    assert!(String::from_utf8_lossy(&told).contains("unable to upgrade connection: container not found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_ports_are_tunnelled_through_websocket() {
    let running = start().await;
    node_and_pod(&running).await;
    let tunnel = Some("SPDY/3.1+portforward.k8s.io");
    let mut socket = running.websocket(&format!("{POD}/portforward"), tunnel).await;
    let ended = [0, 0, 0, 3, 1, 0, 0, 3, b'a', b'b', b'c'];
    socket.send(Message::Binary(Bytes::copy_from_slice(&ended))).await.unwrap();
    let mut heard = Vec::new();
    while let Message::Binary(bytes) = socket.next().await.unwrap().unwrap() {
        heard.extend(bytes);
    }
    assert!(heard.starts_with(&[0, 0, 0, 5, 0, 0, 0, 3, b'a', b'b', b'c']), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_read_does_not_get_into_containers() {
    let running = start().await;
    node_and_pod(&running).await;
    let reader = |path: &str| {
        let (running, path) = (&running, format!("{POD}{path}"));
        async move { running.ask("GET", &path, &[("impersonate-user", "reader")], "").await }
    };
    assert_eq!(reader("").await.status(), 200);
    assert_eq!(reader("/log").await.status(), 200);
    for path in ["/exec?command=ls&stdout=1", "/attach?stdout=1", "/portforward"] {
        let refused = reader(path).await;
        let text = String::from_utf8_lossy(refused.body()).into_owned();
        assert!(
            refused.status() == 403 && text.contains(r#"cannot create resource \"pods/"#),
            "{path}: {text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_cannot_be_are_refused() {
    let running = start().await;
    node_and_pod(&running).await;
    let plain = running.ask("POST", &format!("{POD}/exec?command=ls&stdout=1"), &[], "").await;
    assert!(String::from_utf8_lossy(plain.body()).contains("Upgrade request required"));
    let unknown = running.ask("GET", &format!("{POD}/log?container=x"), &[], "").await;
    assert!(String::from_utf8_lossy(unknown.body()).contains("container x is not valid for pod p"));
    let nobody = r#"{"status":{"daemonEndpoints":{"kubeletEndpoint":{"Port":1}}}}"#;
    let merge = [("content-type", "application/merge-patch+json")];
    running.ask("PATCH", "/api/v1/nodes/n/status", &merge, nobody).await;
    let headers = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
    let path = format!("{POD}/exec?command=ls&stdout=1");
    let mut sender = running.h1().await;
    let answer =
        whole(sender.send_request(running.request("POST", &path, &headers, "")).await.unwrap()).await;
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    assert!(answer.status() == 500 && text.contains("error dialing backend: dial tcp 127.0.0.1:1"), "{text}");
}
