use std::convert::Infallible;
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;

use super::*;
use crate::WatchEvent;

const PODS: Gvr = Gvr::new("", "v1", "pods");

/// Answers with what the request was: method, version, path, authorization.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path_and_query().unwrap().to_string();
    let header = request.headers().get(AUTHORIZATION).and_then(|h| h.to_str().ok()).unwrap_or_default();
    let told = format!("{} {:?} {path} {header}", request.method(), request.version());
    let pod = format!(r#"{{"kind":"Pod","metadata":{{"name":{told:?},"resourceVersion":"3"}}}}"#);
    let (code, body) = match path.as_str() {
        "/api/v1/pods?watch=true" => {
            let gone = r#"{"kind":"Status","code":410,"reason":"Expired"}"#;
            let frames = format!(
                "{{\"type\":\"ADDED\",\"object\":{pod}}}\n{{\"type\":\"ERROR\",\"object\":{gone}}}\n"
            );
            (200, frames)
        }
        "/large" => (200, "x".repeat(1 << 20)),
        "/api/v1/namespaces/n/pods/none" => (404, Status::not_found(&PODS, "none").to_json_text()),
        _ => (200, pod),
    };
    Ok(Response::builder().status(code).body(Full::new(body.into())).unwrap())
}

trait JsonText {
    fn to_json_text(&self) -> String;
}
impl JsonText for Status {
    fn to_json_text(&self) -> String {
        String::from_utf8(self.to_json()).unwrap()
    }
}

/// A TLS server with these protocols; returns its URL and CA.
async fn serve(alpn: &[&str]) -> (String, Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().self_signed(&key).unwrap();
    let ca = certificate.pem().into_bytes();
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    tls.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(tcp).await else { return };
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
            });
        }
    });
    (url, ca)
}

fn client(url: &str, ca: Vec<u8>, identity: Identity) -> RemoteClient {
    RemoteClient::new(&Config::new(url, ca, identity).unwrap()).unwrap()
}

#[tokio::test]
async fn http2_is_used_where_the_server_has_it() {
    for (alpn, version) in [(&["h2", "http/1.1"][..], "HTTP/2.0"), (&["http/1.1"], "HTTP/1.1")] {
        let (url, ca) = serve(alpn).await;
        let client = client(&url, ca, Identity::Token("t".into()));
        let object = client.get(&Target::new(&PODS, "n", "p")).await.unwrap();
        let expected = format!("GET {version} /api/v1/namespaces/n/pods/p Bearer t");
        assert_eq!(object.meta().name.as_ref(), expected);
    }
}

#[tokio::test]
async fn watches_deliver_and_end_with_the_servers_error() {
    let (url, ca) = serve(&["h2"]).await;
    let client = client(&url, ca, Identity::Anonymous);
    let mut events = client.watch(&PODS, "", &WatchOptions::default()).await.unwrap();
    assert!(matches!(events.next().await, Some(Ok(WatchEvent::Added(o))) if o.meta().resource_version == 3));
    assert_eq!(events.next().await.unwrap().unwrap_err().code, 410);
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn refusals_and_failures_are_statuses() {
    let (url, ca) = serve(&["h2"]).await;
    let known = client(&url, ca, Identity::Anonymous);
    let status = known.get(&Target::new(&PODS, "n", "none")).await.unwrap_err();
    assert_eq!(status, Status::not_found(&PODS, "none"));
    let (_, other_ca) = serve(&["h2"]).await;
    let status = client(&url, other_ca, Identity::Anonymous).get_path("/version").await.unwrap_err();
    assert_eq!(status.code, 503);
    assert!(status.message.contains("certificate"), "{}", status.message);
    let nobody = client("https://127.0.0.1:1", Vec::new(), Identity::Anonymous);
    let status = nobody.get_path("/version").await.unwrap_err();
    assert!(status.message.contains("refused"), "{}", status.message);
}

#[tokio::test]
async fn a_token_file_is_read() {
    let (url, ca) = serve(&["h2"]).await;
    let path = std::env::temp_dir().join(format!("tiphys-token-{}", std::process::id()));
    std::fs::write(&path, "from-file\n").unwrap();
    let client = client(&url, ca, Identity::TokenFile(path.clone()));
    let object = client.get(&Target::new(&PODS, "n", "p")).await.unwrap();
    assert!(object.meta().name.ends_with("Bearer from-file"));
    std::fs::remove_file(path).unwrap();
}

#[tokio::test]
async fn an_answer_that_nobody_reads_holds_up_no_other() {
    let (url, ca) = serve(&["h2"]).await;
    let client = client(&url, ca, Identity::Anonymous);
    let mut unread = Vec::new();
    for _ in 0..8 {
        unread.push(client.send(Method::GET, "/large", &[], Bytes::new()).await.unwrap());
    }
    let other = tokio::time::timeout(Duration::from_secs(30), client.get_path("/version")).await;
    other.expect("the connection is stuck").unwrap();
    for answer in unread {
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 1 << 20);
    }
}
