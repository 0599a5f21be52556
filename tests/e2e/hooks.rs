//! HTTPS servers that the API server asks: webhooks, and servers of other API groups. They run in the tests' process,
//! behind a Service whose only endpoint is this machine's own address.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::harness::Namespace;
use crate::objects::{Kind, Objects, SERVICE};

const SLICE: Kind = Kind::new("discovery.k8s.io/v1", "EndpointSlice", "endpointslices");

/// Answers a request: its method, path with query, and body (`null` without one). No answer: it is never given.
pub type Answers = Arc<dyn Fn(&str, &str, &Value) -> Option<(u16, Value)> + Send + Sync>;

/// A server behind the Service `hook`. It ends when it is dropped.
pub struct Hook {
    /// Its CA, as `caBundle` has it.
    pub ca: String,
    namespace: String,
    _runtime: Runtime,
}

impl Hook {
    /// Serves answers in a case's namespace.
    pub fn serve(ns: &Namespace<'_>, objects: &Objects, answers: Answers) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let own = objects.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes")?;
        let address = own["endpoints"][0]["addresses"][0].as_str().context("no address")?.to_owned();
        let (ca, config) = identity(&format!("hook.{}.svc", ns.name))?;
        let listener = runtime.block_on(TcpListener::bind((address.as_str(), 0)))?;
        let port = listener.local_addr()?.port();
        runtime.spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), answers));
        let ports = json!([{"port": 443, "targetPort": port, "protocol": "TCP"}]);
        objects.at(SERVICE, "hook").create(json!({"spec": {"ports": ports}}))?;
        let slice = json!({
            "metadata": {"labels": {"kubernetes.io/service-name": "hook"}}, "addressType": "IPv4",
            "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
            "ports": [{"name": "", "port": port, "protocol": "TCP"}],
        });
        objects.at(SLICE, "hook-1").create(slice)?;
        Ok(Self { ca, namespace: ns.name.clone(), _runtime: runtime })
    }

    /// A webhook's `clientConfig` that leads to a path here.
    pub fn at(&self, path: &str) -> Value {
        let service = json!({"namespace": self.namespace, "name": "hook", "path": path, "port": 443});
        json!({"service": service, "caBundle": self.ca})
    }
}

/// A CA in base64, and a server's certificate of it.
fn identity(name: &str) -> Result<(String, ServerConfig)> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = ca.self_signed(&ca_key)?.pem();
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &Issuer::new(ca, ca_key))?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)?;
    Ok((STANDARD.encode(pem), config))
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, answers: Answers) {
    while let Ok((socket, _)) = listener.accept().await {
        let (acceptor, answers) = (acceptor.clone(), answers.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(socket).await else { return };
            let serve = service_fn(move |request| answer(answers.clone(), request));
            let connection = hyper::server::conn::http1::Builder::new();
            // The client's end of a connection is no failure of a case.
            drop(connection.serve_connection(TokioIo::new(stream), serve).await);
        });
    }
}

async fn answer(answers: Answers, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let path = head.uri.path_and_query().map_or("", |path| path.as_str());
    let Some((code, answer)) = answers(head.method.as_str(), path, &body) else {
        return std::future::pending().await;
    };
    let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    Ok(response)
}

/// Answers reviews of admission: `judge` gets the path and the request, and says what the response is.
pub fn admission(judge: impl Fn(&str, &Value) -> Option<Value> + Send + Sync + 'static) -> Answers {
    Arc::new(move |_, path, review| {
        let request = &review["request"];
        let mut response = judge(path.split('?').next().unwrap_or_default(), request)?;
        response["uid"] = request["uid"].clone();
        Some((
            200,
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}),
        ))
    })
}

/// A refusal, with a reason.
pub fn deny(why: &str) -> Value {
    json!({"allowed": false, "status": {"message": why}})
}

/// No objection, and some changes.
pub fn change(patch: &Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string())})
}

/// No objection.
pub fn allow() -> Value {
    json!({"allowed": true})
}
