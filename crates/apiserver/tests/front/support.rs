//! A whole API server on a free loopback port, with its own keys and a store in memory, and a small HTTPS client.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tiphys_api::Status;
use tiphys_apiserver::admission::policy::{MutatingAdmissionPolicies, ValidatingAdmissionPolicies};
use tiphys_apiserver::admission::webhook::{Convertible, Webhooks};
use tiphys_apiserver::admission::{Operation, Plugin, Review};
use tiphys_apiserver::aggregate::Aggregator;
use tiphys_apiserver::auth::authenticate::Authentication;
use tiphys_apiserver::auth::token::{Keys, ServiceAccountTokens, default_issuer};
use tiphys_apiserver::auth::x509::ClientCa;
use tiphys_apiserver::auth::{Attributes, Authorizer, Decision, Rbac, User, review};
use tiphys_apiserver::cache::{self, Caches};
use tiphys_apiserver::custom::Customs;
use tiphys_apiserver::hook::{Caller, Hooks};
use tiphys_apiserver::http as front;
use tiphys_apiserver::kinds::Kinds;
use tiphys_apiserver::local::LocalClient;
use tiphys_apiserver::metrics::Metrics;
use tiphys_apiserver::node_proxy::{KubeletTls, NodeProxy};
use tiphys_apiserver::pki::{self, Leaf, Pki};
use tiphys_apiserver::registry::{self, Converter, Registry};
use tiphys_apiserver::served::Served;
use tiphys_client::Client;
use tiphys_store::Embedded;
use tiphys_store::embedded::Options;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A running server. Dropping it stops it.
pub struct Running {
    pub address: SocketAddr,
    pub kubeconfig: PathBuf,
    pub pki: Pki,
    /// Kinds that are registered in APIServices; none at first.
    pub registered: Arc<Kinds>,
    _dir: tempfile::TempDir,
    _stop: DropGuard,
}

/// Allows the administrator everything, everybody the health checks, and `reader` to read.
struct Masters;

#[async_trait]
impl Authorizer for Masters {
    async fn authorize(&self, asked: &Attributes<'_>) -> Decision {
        let master = asked.user.groups.iter().any(|group| group == "system:masters");
        let reads = asked.user.name == "reader" && asked.verb == "get";
        if master || reads || asked.path == "/healthz" {
            Decision::Allow
        } else {
            Decision::NoOpinion(String::new())
        }
    }
}

/// Refuses streams into containers called `secret`.
struct NoSecrets;

#[async_trait]
impl Plugin for NoSecrets {
    fn name(&self) -> &'static str {
        "NoSecrets"
    }

    async fn validate(&self, review: &Review<'_>) -> Result<(), Status> {
        let secret = review.operation == Operation::Connect && review.object["container"] == "secret";
        if secret { Err(review.forbidden("there are secrets inside")) } else { Ok(()) }
    }
}

fn keys(dir: &std::path::Path) -> Pki {
    let config = pki::Config {
        node_name: "n".into(),
        node_ips: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        service_ips: vec![],
        cluster_domain: "cluster.local".into(),
        extra_sans: vec![],
    };
    pki::ensure(dir, &config, Timestamp::now()).unwrap()
}

/// A plugin of the tests' own, and policies.
fn admission(caches: &Arc<Caches>, kinds: &Arc<Kinds>, hooks: Arc<dyn Caller>) -> Vec<Arc<dyn Plugin>> {
    let versions = Convertible { kinds: kinds.clone(), converter: Converter::new(hooks.clone()) };
    let webhooks = Webhooks::new(hooks, caches.clone(), Arc::new(Masters), Arc::new(versions));
    webhooks.open();
    vec![
        Arc::new(NoSecrets),
        Arc::new(MutatingAdmissionPolicies::new(webhooks.clone(), caches.clone(), kinds.clone())),
        Arc::new(ValidatingAdmissionPolicies::new(webhooks, caches.clone(), kinds.clone())),
    ]
}

/// Starts a server.
pub async fn start() -> Running {
    start_with(cache::Options::default()).await
}

/// Starts a server that keeps so much of the past.
pub async fn start_with(options: cache::Options) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let pki = keys(&dir.path().join("pki"));
    let stop = CancellationToken::new();
    let store = Embedded::in_memory(&Options::default()).unwrap();
    let caches = Caches::builtin_with(Arc::new(store), options, stop.clone()).await.unwrap();
    let ca = pki.authority(pki::Authority::Cluster).certificate().unwrap();
    let tokens = ServiceAccountTokens::new(
        Keys::new(&pki.service_account).unwrap(),
        default_issuer("cluster.local"),
        caches.clone(),
    );
    let tokens = Arc::new(tokens);
    let authorizer: Arc<dyn Authorizer> = Arc::new(Masters);
    let (kinds, hooks) = (Arc::<Kinds>::default(), Arc::new(Hooks::new(caches.clone())));
    let registry = Registry::new(registry::Config {
        caches: caches.clone(),
        kinds: kinds.clone(),
        admission: admission(&caches, &kinds, hooks.clone()),
        hooks,
        computed: review::all(&authorizer, &Arc::new(Rbac::new(caches.clone())), &tokens),
    });
    let user = User::apiserver();
    let client = LocalClient::new(registry.clone(), Arc::new(Masters), user, "kube-apiserver");
    let client: Arc<dyn Client> = Arc::new(client);
    Customs::start(registry.clone(), client.clone(), stop.clone()).await.unwrap();
    let authentication = Authentication {
        client_ca: ClientCa::new(std::slice::from_ref(&ca)).unwrap(),
        tokens,
        anonymous: true,
    };
    let kubelet = pki.leaf(Leaf::ApiServerKubeletClient);
    let tls = KubeletTls {
        chain: vec![kubelet.certificate().unwrap()],
        key: kubelet.key().unwrap(),
        cas: vec![ca.clone()],
    };
    let listener = front::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let aggregator = Aggregator::new(caches.clone(), pki.leaf(Leaf::FrontProxyClient).clone());
    let registered = Arc::new(Kinds::new(Served::parse(["api/all=false"]).unwrap()));
    tokio::spawn(aggregator.clone().run(client, registered.clone(), stop.clone()));
    let server = front::Server::new(front::Parts {
        registry,
        lister: caches,
        authenticator: Arc::new(authentication),
        authorizer,
        nodes: NodeProxy::new(tls).unwrap(),
        aggregator,
        documents: Vec::new(),
        metrics: Arc::new(Metrics::new("v1.36.0")),
        address: address.to_string(),
        build: "test".into(),
        hooks: &[],
        stop: stop.clone(),
    });
    let own = pki.leaf(Leaf::ApiServer);
    let identity = front::Identity {
        chain: vec![own.certificate().unwrap()],
        key: own.key().unwrap(),
        client_cas: front::subjects(&[ca]),
    };
    tokio::spawn(front::serve(front::Config { listener, identity }, server, stop.clone()));
    let kubeconfig = dir.path().join("admin.kubeconfig");
    pki::kubeconfig::write_admin(&kubeconfig, &pki, "test", &format!("https://{address}")).unwrap();
    Running { address, kubeconfig, pki, registered, _dir: dir, _stop: stop.drop_guard() }
}

impl Running {
    /// A TLS connection; with the administrator's certificate or none.
    pub async fn tls(&self, admin: bool, protocol: &str) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.pki.authority(pki::Authority::Cluster).certificate().unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let pair = self.pki.leaf(Leaf::Admin);
        let mut config = match admin {
            true => {
                builder.with_client_auth_cert(vec![pair.certificate().unwrap()], pair.key().unwrap()).unwrap()
            }
            false => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let socket = TcpSocket::new_v4().unwrap();
        // What a client does not read is to be the server's concern soon, not the kernel's.
        socket.set_recv_buffer_size(64 << 10).unwrap();
        let socket = socket.connect(self.address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let name = ServerName::from(self.address.ip());
        TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap()
    }

    /// An HTTP/1.1 connection as the administrator.
    pub async fn h1(&self) -> http1::SendRequest<Full<Bytes>> {
        let stream = TokioIo::new(self.tls(true, "http/1.1").await);
        let (sender, connection) = http1::handshake(stream).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    /// An HTTP/2 connection as the administrator.
    pub async fn h2(&self) -> http2::SendRequest<Full<Bytes>> {
        let stream = TokioIo::new(self.tls(true, "h2").await);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// An HTTP/2 connection without a certificate.
    pub async fn anonymous(&self) -> http2::SendRequest<Full<Bytes>> {
        let stream = TokioIo::new(self.tls(false, "h2").await);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// A WebSocket as the administrator.
    pub async fn websocket(
        &self,
        path: &str,
        protocol: Option<&str>,
    ) -> WebSocketStream<TlsStream<TcpStream>> {
        let url = format!("wss://{}{path}", self.address);
        let mut request = url.into_client_request().unwrap();
        if let Some(protocol) = protocol {
            request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
        }
        tokio_tungstenite::client_async(request, self.tls(true, "http/1.1").await).await.unwrap().0
    }

    /// A request for this server.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(method).uri(format!("https://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap()
    }

    /// One exchange on a connection of its own: code, headers and body.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response<Bytes> {
        let response = self.h2().await.send_request(self.request(method, path, headers, body)).await.unwrap();
        whole(response).await
    }
}

/// A response with its body read.
pub async fn whole(response: Response<Incoming>) -> Response<Bytes> {
    let (head, body) = response.into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}
