//! One group-version that another server answers: how to reach it, and what it told of itself.
//!
//! - Each request goes straight to a ready endpoint of the Service, as `services/proxy` does: nothing needs packet rules.
//! - Connections are kept, and HTTP/1.1: any of them can be upgraded, and a watch that nobody reads holds up no other request.
//! - The server's certificate must be for `<service>.<namespace>.svc`; ours tells it to believe whom we name.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tiphys_client::remote::{Config, ConfigError, Identity, Link};
use tokio_rustls::TlsConnector;

use super::identity;
use super::merge::{Found, Shown};
use super::priorities::Place;
use super::service::{ApiService, Reference, Spec};
use crate::auth::{Lister, User};
use crate::hook::refusal;
use crate::http::incoming::RequestBody;
use crate::node_proxy::authority;
use crate::node_proxy::connect::{ConnectError, secure};
use crate::node_proxy::endpoint::of_service_or_name;
use crate::pki::Pair;

/// How long connecting may take, handshakes included.
const CONNECT: Duration = Duration::from_secs(10);
/// Connections that wait for a request, per endpoint, and how long.
const IDLE_MAX: usize = 25;
const IDLE: Duration = Duration::from_secs(90);

type Connector = tower::util::BoxCloneSyncService<Uri, Link, ConnectError>;
type Pool = Client<Connector, RequestBody>;

/// A group-version behind a Service.
pub struct Extension {
    /// The APIService's name.
    pub name: String,
    /// What it says.
    pub spec: Spec,
    /// Where it leads.
    pub reference: Reference,
    available: AtomicBool,
    lister: Arc<dyn Lister>,
    /// Or why there is none.
    pool: Result<Pool, String>,
    /// Asks whether it is there at all, whoever signed its certificate.
    prober: Result<Pool, String>,
    found: ArcSwap<Found>,
}

impl Extension {
    /// What an APIService leads to; `None` when it stands for what is served here.
    pub fn new(name: &str, service: &ApiService, identity: &Pair, lister: &Arc<dyn Lister>) -> Option<Self> {
        let (spec, reference) = (service.spec.clone(), service.spec.service.clone()?);
        let ca = STANDARD.decode(&spec.ca_bundle).map_err(|error| format!("spec.caBundle: {error}"));
        let make = |ca, insecure, idle| {
            pool(&reference, ca, insecure, identity, idle).map_err(|error| error.to_string())
        };
        Some(Self {
            name: name.to_owned(),
            available: service.is_available().into(),
            lister: lister.clone(),
            pool: ca.and_then(|ca| make(ca, spec.insecure, IDLE_MAX)),
            prober: make(Vec::new(), true, 0),
            found: ArcSwap::default(),
            spec,
            reference,
        })
    }

    /// Whether requests are passed on.
    pub fn is_available(&self) -> bool {
        self.available.load(Ordering::Relaxed)
    }

    /// Takes note of whether requests are passed on.
    pub fn set_available(&self, available: bool) {
        self.available.store(available, Ordering::Relaxed);
    }

    /// What it told of itself.
    pub fn found(&self) -> Arc<Found> {
        self.found.load_full()
    }

    /// Takes note of what it told; returns whether that is news.
    pub fn set_found(&self, found: Found) -> bool {
        let news = **self.found.load() != found;
        if news {
            self.found.store(found.into());
        }
        news
    }

    /// As discovery shows it.
    pub fn shown(&self) -> Shown {
        let Spec { group, version, group_priority_minimum, version_priority, .. } = &self.spec;
        let place = Place { group: *group_priority_minimum, version: *version_priority };
        Shown { group: group.clone(), version: version.clone(), place, found: self.found() }
    }

    /// Path of its discovery document.
    pub fn path(&self) -> String {
        match self.spec.group.as_str() {
            "" => format!("/api/{}", self.spec.version),
            group => format!("/apis/{group}/{}", self.spec.version),
        }
    }

    /// Address of one of its endpoints.
    pub fn endpoint(&self) -> Result<String, String> {
        let Reference { namespace, name, .. } = &self.reference;
        let found = of_service_or_name(self.lister.as_ref(), namespace, name, self.reference.port());
        found.map(|(host, port)| authority(&host, port)).map_err(|status| status.message)
    }

    /// Sends a request, whose URI is a path, as a user.
    pub async fn send(
        &self,
        user: &User,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, String> {
        let endpoint = self.endpoint()?;
        ask(self.pool.as_ref().map_err(Clone::clone)?, &endpoint, user, request).await
    }

    /// The same to an endpoint of which is asked only whether it answers.
    pub async fn probe(
        &self,
        endpoint: &str,
        user: &User,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, String> {
        ask(self.prober.as_ref().map_err(Clone::clone)?, endpoint, user, request).await
    }
}

async fn ask(
    pool: &Pool,
    endpoint: &str,
    user: &User,
    mut request: Request<RequestBody>,
) -> Result<Response<Incoming>, String> {
    identity::put_on(user, request.headers_mut()).map_err(|status| status.message)?;
    let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme(Scheme::HTTPS).authority(endpoint).path_and_query(path).build();
    *request.uri_mut() = uri.map_err(|error| error.to_string())?;
    pool.request(request).await.map_err(|error| refusal::cause(&error))
}

fn pool(
    reference: &Reference,
    ca: Vec<u8>,
    insecure: bool,
    identity: &Pair,
    idle: usize,
) -> Result<Pool, ConfigError> {
    let url = format!("https://{}.{}.svc", reference.name, reference.namespace);
    let (chain, key) = (identity.cert_pem.as_bytes().to_vec(), identity.key_pem.as_bytes().to_vec());
    let config = Config { insecure, ..Config::new(&url, ca, Identity::Certificate { chain, key })? };
    let (tls, name): (TlsConnector, _) = (Arc::new(config.tls()?).into(), config.expected_name()?);
    let connect = move |uri: Uri| {
        let (tls, name) = (tls.clone(), name.clone());
        async move {
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
            let port = uri.port_u16().unwrap_or(443);
            let late = |_| ConnectError::Timeout(authority(host, port));
            tokio::time::timeout(CONNECT, secure(&tls, name, host, port)).await.map_err(late)?
        }
    };
    let builder = |mut builder: hyper_util::client::legacy::Builder| {
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(idle);
        builder.build(Connector::new(tower::service_fn(connect)))
    };
    Ok(builder(Client::builder(TokioExecutor::new())))
}
