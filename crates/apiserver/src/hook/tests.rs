use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tiphys_api::{Gvr, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::auth::testing::Fake;

const SECOND: Duration = Duration::from_secs(1);

/// A webhook: says `answer` to every request, over as many connections as are opened.
struct Webhook {
    ca: Box<str>,
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Webhook {
    async fn start(name: &str, answer: &'static str) -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
        Self::with(leaf, &key, &ca_pem, answer).await
    }

    /// One whose certificate is its own CA, as `openssl req -x509` makes it.
    async fn self_signed(name: &str, answer: &'static str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut own = CertificateParams::new(vec![name.to_owned()]).unwrap();
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = own.self_signed(&key).unwrap();
        let ca_pem = own.pem();
        Self::with(own, &key, &ca_pem, answer).await
    }

    async fn with(leaf: Certificate, key: &KeyPair, ca_pem: &str, answer: &'static str) -> Self {
        use base64::Engine;
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((socket, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let acceptor = acceptor.clone();
                tokio::spawn(async move { serve(acceptor, socket, answer).await });
            }
        });
        let ca = base64::engine::general_purpose::STANDARD.encode(ca_pem).into();
        Self { ca, port, connections }
    }

    fn service(&self, name: &str) -> ClientConfig {
        let service =
            ServiceReference { namespace: "ns".into(), name: name.into(), path: None, port: Some(443) };
        ClientConfig { url: None, service: Some(service), ca_bundle: Some(self.ca.clone()) }
    }

    /// A cluster in which this is the Service `hook`.
    fn cluster(&self) -> Arc<Fake> {
        let fake = Fake::default();
        let (services, slices) =
            (Gvr::new("", "v1", "services"), Gvr::new("discovery.k8s.io", "v1", "endpointslices"));
        for (name, spec) in [
            ("hook", json!({"ports": [{"port": 443, "targetPort": self.port}]})),
            ("named", json!({"type": "ExternalName", "externalName": "127.0.0.1"})),
        ] {
            fake.put(&services, &json!({"metadata": {"name": name, "namespace": "ns"}, "spec": spec}));
        }
        fake.put(
            &slices,
            &json!({"metadata": {"name": "hook-1", "namespace": "ns",
                                 "labels": {"kubernetes.io/service-name": "hook"}},
                    "endpoints": [{"addresses": ["127.0.0.1"]}], "ports": [{"port": self.port}]}),
        );
        Arc::new(fake)
    }
}

/// Requests of one connection. `answer` is what follows `HTTP/1.1 `; without one there is none.
async fn serve(acceptor: TlsAcceptor, socket: TcpStream, answer: &str) {
    let Ok(mut stream) = acceptor.accept(socket).await else { return };
    let mut seen = Vec::new();
    while stream.read_buf(&mut seen).await.is_ok_and(|read| read > 0) {
        if seen.ends_with(b"{}") && !answer.is_empty() {
            seen.clear();
            stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await.unwrap();
        }
    }
}

async fn ask(hooks: &Hooks, to: &ClientConfig, timeout: Duration) -> Result<Bytes, String> {
    hooks.call(to, Bytes::from_static(b"{}"), timeout).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_service_leads_to_its_endpoint_and_connections_are_kept() {
    let hook = Webhook::start("hook.ns.svc", "200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let hooks = Hooks::new(hook.cluster());
    for _ in 0..3 {
        assert_eq!(ask(&hooks, &hook.service("hook"), SECOND).await.unwrap(), "ok");
    }
    assert_eq!(hook.connections.load(Ordering::Relaxed), 1);
    let told = ask(&hooks, &hook.service("other"), SECOND).await.unwrap_err();
    assert_eq!(told, r#"Post "https://other.ns.svc:443/?timeout=1s": service "other" not found"#);
}

#[tokio::test]
async fn names_and_cas_are_checked() {
    let hook = Webhook::start("else.ns.svc", "200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let hooks = Hooks::new(hook.cluster());
    let told = ask(&hooks, &hook.service("hook"), SECOND).await.unwrap_err();
    assert!(told.contains("failed to verify certificate: x509: "), "{told}");
    let other = Webhook::start("hook.ns.svc", "").await;
    let told = ask(&hooks, &other.service("hook"), SECOND).await.unwrap_err();
    let unknown = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    assert!(told.ends_with(unknown), "{told}");
}

#[tokio::test]
async fn a_webhook_may_be_its_own_ca() {
    let hook = Webhook::self_signed("hook.ns.svc", "200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let hooks = Hooks::new(hook.cluster());
    assert_eq!(ask(&hooks, &hook.service("hook"), SECOND).await.unwrap(), "ok");
}

#[tokio::test]
async fn refusals_and_silence_are_told() {
    let hook = Webhook::start("127.0.0.1", "500 No\r\ncontent-length: 3\r\n\r\nbad").await;
    let hooks = Hooks::new(Arc::new(Fake::default()));
    let url = |port| ClientConfig {
        url: Some(format!("https://127.0.0.1:{port}/a").into()),
        service: None,
        ca_bundle: Some(hook.ca.clone()),
    };
    let told = ask(&hooks, &url(hook.port), SECOND).await.unwrap_err();
    assert_eq!(told, r#"an error on the server ("bad") has prevented the request from succeeding"#);
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let told = ask(&hooks, &url(free), SECOND).await.unwrap_err();
    let why = format!("dial tcp 127.0.0.1:{free}: connect: connection refused");
    assert_eq!(told, format!("Post \"https://127.0.0.1:{free}/a?timeout=1s\": {why}"));
    let silent = Webhook::start("127.0.0.1", "").await;
    let config = ClientConfig { ca_bundle: Some(silent.ca.clone()), ..url(silent.port) };
    let told = ask(&hooks, &config, Duration::from_millis(50)).await.unwrap_err();
    assert!(told.ends_with("context deadline exceeded"), "{told}");
}

#[tokio::test]
async fn an_answer_is_bounded_and_a_config_must_lead_somewhere() {
    let hook = Webhook::start("127.0.0.1", "200 OK\r\ncontent-length: 4000000\r\n\r\n").await;
    let hooks = Hooks::new(Arc::new(Fake::default()));
    let url = format!("https://127.0.0.1:{}", hook.port);
    let config = ClientConfig { url: Some(url.into()), service: None, ca_bundle: Some(hook.ca.clone()) };
    let told = ask(&hooks, &config, SECOND).await.unwrap_err();
    assert!(told.ends_with("the answer is larger than 3145728 bytes"), "{told}");
    for wrong in [ClientConfig::default(), ClientConfig { url: Some("http://x".into()), ..config }] {
        let error = hooks.call(&wrong, Bytes::new(), SECOND).await.unwrap_err();
        assert!(matches!(error, HookError::Config(_)), "{error}");
    }
}
