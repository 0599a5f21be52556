//! An extension API server in memory, as somebody may run one behind a Service: it believes only the front proxy, and keeps
//! one kind of object, `flunders`.
//!
//! Used by the tests of this crate and by the end-to-end cases.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// The group that it serves.
pub const GROUP: &str = "wardle.example.com";
/// The version that it serves.
pub const VERSION: &str = "v1alpha1";
/// The annotation that names who created an object.
pub const CREATOR: &str = "wardle.example.com/creator";

type Body = BoxBody<Bytes, Infallible>;

/// A running server; it ends when this is dropped.
pub struct ExtensionServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// PEM of the CA that signed its certificate.
    pub ca_pem: String,
    state: Arc<State>,
}

struct State {
    flunders: Mutex<Flunders>,
    events: broadcast::Sender<Value>,
    /// Whether all of discovery is told in one document.
    aggregated: bool,
    stop: CancellationToken,
}

#[derive(Default)]
struct Flunders {
    revision: u64,
    objects: BTreeMap<(String, String), Value>,
}

impl Drop for ExtensionServer {
    fn drop(&mut self) {
        self.state.stop.cancel();
    }
}

impl ExtensionServer {
    /// Starts one for a Service `name` in `namespace` at `address`; it believes who shows a certificate of `front_proxy`.
    pub async fn start(address: SocketAddr, service: &str, front_proxy: &str, aggregated: bool) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tls, ca_pem) = tls(service, front_proxy);
        let state = Arc::new(State {
            flunders: Mutex::default(),
            events: broadcast::channel(64).0,
            aggregated,
            stop: CancellationToken::new(),
        });
        tokio::spawn(serve(listener, tls, state.clone()));
        Self { address, ca_pem, state }
    }
}

/// A certificate for the Service, and the CA that signed it.
fn tls(service: &str, front_proxy: &str) -> (TlsAcceptor, String) {
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let leaf = CertificateParams::new(vec![format!("{service}.svc")]).unwrap();
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(front_proxy.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        );
    (Arc::new(config.unwrap()).into(), ca_pem)
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, state: Arc<State>) {
    let stop = state.stop.clone();
    let accept = async {
        while let Ok((socket, _)) = listener.accept().await {
            let (tls, state) = (tls.clone(), state.clone());
            tokio::spawn(async move {
                let Ok(stream) = tls.accept(socket).await else { return };
                let answering = state.clone();
                let service = service_fn(move |request| {
                    let state = answering.clone();
                    async move { Ok::<_, Infallible>(answer(&state, request).await) }
                });
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades();
                tokio::select! { _ = serving => {}, () = state.stop.cancelled() => {} }
            });
        }
    };
    tokio::select! { () = accept => {}, () = stop.cancelled() => {} }
}

fn respond(code: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())).boxed());
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, "application/json".parse().unwrap());
    response
}

fn failure(code: u16, reason: &str, message: &str) -> Response<Body> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code});
    respond(StatusCode::from_u16(code).unwrap(), &status)
}

async fn answer(state: &Arc<State>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().trim_end_matches('/').to_owned();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts.as_slice() {
        ["whoami"] => respond(StatusCode::OK, &claims(request.headers())),
        ["apis"] if state.aggregated => respond(StatusCode::OK, &discovery()),
        ["apis", GROUP, VERSION] => respond(StatusCode::OK, &resources()),
        ["openapi", "v3"] => {
            let key = format!("apis/{GROUP}/{VERSION}");
            let url = json!({"serverRelativeURL": format!("/openapi/v3/{key}?hash=A")});
            respond(StatusCode::OK, &json!({"paths": {key: url}}))
        }
        ["openapi", "v3", "apis", GROUP, VERSION] => respond(StatusCode::OK, &openapi()),
        ["apis", GROUP, VERSION, "flunders"] => collection(state, "", request).await,
        ["apis", GROUP, VERSION, "namespaces", namespace, "flunders"] => {
            collection(state, namespace, request).await
        }
        ["apis", GROUP, VERSION, "namespaces", namespace, "flunders", name] => {
            object(state, namespace, name, request).await
        }
        ["apis", GROUP, VERSION, "namespaces", _, "flunders", _, "echo"] => echo(request),
        ["apis", GROUP, VERSION, "namespaces", _, "flunders", _, "whoami"] => {
            respond(StatusCode::OK, &claims(request.headers()))
        }
        ["apis", GROUP, VERSION, "namespaces", _, "flunders", _, "moved"] => {
            let mut moved = failure(302, "", "");
            moved.headers_mut().insert("location", "https://example.com/".parse().unwrap());
            moved
        }
        _ => failure(404, "NotFound", "the server could not find the requested resource"),
    }
}

/// What the headers say of who asks.
fn claims(headers: &HeaderMap) -> Value {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in headers {
        let name = name.as_str();
        if name.starts_with("x-remote-") || name == "authorization" || name.starts_with("impersonate-") {
            found.entry(name).or_default().push(value.to_str().unwrap());
        }
    }
    json!(found)
}

const VERBS: [&str; 7] = ["create", "delete", "get", "list", "update", "patch", "watch"];

fn resources() -> Value {
    let entry = json!({"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder",
        "verbs": VERBS, "shortNames": ["fl"]});
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/{VERSION}"),
        "resources": [entry]})
}

fn discovery() -> Value {
    let kind = json!({"group": GROUP, "version": VERSION, "kind": "Flunder"});
    let resource = json!({"resource": "flunders", "singularResource": "flunder", "scope": "Namespaced",
        "responseKind": kind, "verbs": VERBS, "shortNames": ["fl"]});
    let version = json!({"version": VERSION, "resources": [resource], "freshness": "Current"});
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": [{"metadata": {"name": GROUP, "creationTimestamp": null}, "versions": [version]}]})
}

fn openapi() -> Value {
    let kind = json!({"group": GROUP, "version": VERSION, "kind": "Flunder"});
    let schema = json!({"type": "object", "description": "A flunder flunders.",
        "properties": {"spec": {"type": "object", "description": "How it flunders."}},
        "x-kubernetes-group-version-kind": [kind]});
    let path = format!("/apis/{GROUP}/{VERSION}/namespaces/{{namespace}}/flunders");
    let post = json!({"post": {"x-kubernetes-action": "post", "x-kubernetes-group-version-kind": kind}});
    json!({"openapi": "3.0.0", "info": {"title": "Wardle", "version": "1"}, "paths": {path: post},
        "components": {"schemas": {"com.example.wardle.v1alpha1.Flunder": schema}}})
}

impl State {
    /// Puts or removes an object, and tells it.
    fn change(&self, kind: &str, mut object: Value) -> Value {
        let mut flunders = self.flunders.lock();
        flunders.revision += 1;
        object["metadata"]["resourceVersion"] = flunders.revision.to_string().into();
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
        let key = (text("namespace"), text("name"));
        match kind {
            "DELETED" => drop(flunders.objects.remove(&key)),
            _ => drop(flunders.objects.insert(key, object.clone())),
        }
        // Nobody may be watching.
        drop(self.events.send(json!({"type": kind, "object": object})));
        object
    }

    fn list(&self, namespace: &str) -> Value {
        let flunders = self.flunders.lock();
        let inside = |key: &&(String, String)| namespace.is_empty() || key.0 == namespace;
        let items: Vec<&Value> =
            flunders.objects.iter().filter(|(key, _)| inside(key)).map(|(_, object)| object).collect();
        json!({"kind": "FlunderList", "apiVersion": format!("{GROUP}/{VERSION}"),
            "metadata": {"resourceVersion": flunders.revision.to_string()}, "items": items})
    }
}

async fn read(request: Request<Incoming>) -> Value {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap_or_default()
}

async fn collection(state: &Arc<State>, namespace: &str, request: Request<Incoming>) -> Response<Body> {
    let watches = request.uri().query().unwrap_or_default().contains("watch=");
    match *request.method() {
        Method::GET if watches => watch(state, namespace.to_owned()),
        Method::GET => respond(StatusCode::OK, &state.list(namespace)),
        Method::POST => {
            let user = request.headers()["x-remote-user"].to_str().unwrap().to_owned();
            let mut object = read(request).await;
            object["apiVersion"] = format!("{GROUP}/{VERSION}").into();
            object["kind"] = "Flunder".into();
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            object["metadata"]["namespace"] = namespace.into();
            object["metadata"]["uid"] = format!("uid-{namespace}-{name}").into();
            object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
            object["metadata"]["annotations"][CREATOR] = user.into();
            respond(StatusCode::CREATED, &state.change("ADDED", object))
        }
        _ => failure(405, "MethodNotAllowed", "not here"),
    }
}

fn watch(state: &Arc<State>, namespace: String) -> Response<Body> {
    let receiver = state.events.subscribe();
    let present = state.list(&namespace)["items"].as_array().cloned().unwrap_or_default();
    let present = present.into_iter().map(|object| json!({"type": "ADDED", "object": object}));
    let later = futures::stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await.ok()?, receiver))
    });
    let inside = move |event: &Value| {
        let inside = namespace.is_empty() || event["object"]["metadata"]["namespace"] == *namespace;
        std::future::ready(inside)
    };
    let events = futures::stream::iter(present).chain(later).filter(inside);
    let frames = events.map(|event| Ok(Frame::data(Bytes::from(format!("{event}\n")))));
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    response.headers_mut().insert(CONTENT_TYPE, "application/json".parse().unwrap());
    response
}

async fn object(state: &State, namespace: &str, name: &str, request: Request<Incoming>) -> Response<Body> {
    let key = (namespace.to_owned(), name.to_owned());
    let found = state.flunders.lock().objects.get(&key).cloned();
    let Some(found) = found else {
        return failure(404, "NotFound", &format!("flunders.{GROUP} \"{name}\" not found"));
    };
    match *request.method() {
        Method::GET => respond(StatusCode::OK, &found),
        Method::PUT => {
            let object = read(request).await;
            respond(StatusCode::OK, &state.change("MODIFIED", object))
        }
        Method::DELETE => {
            state.change("DELETED", found);
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
            respond(StatusCode::OK, &status)
        }
        _ => failure(405, "MethodNotAllowed", "not here"),
    }
}

/// Gives back what it gets, on the upgraded connection.
fn echo(mut request: Request<Incoming>) -> Response<Body> {
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(stream) = upgraded.await else { return };
        let (mut read, mut write) = tokio::io::split(TokioIo::new(stream));
        drop(tokio::io::copy(&mut read, &mut write).await);
    });
    let mut response = Response::new(Full::default().boxed());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, "Upgrade".parse().unwrap());
    response.headers_mut().insert(UPGRADE, "echo".parse().unwrap());
    response
}
