//! What requests are served from: the server's parts, put together once by the composition root.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tiphys_api::Gvr;
use tiphys_api::schema::Resource;
use tokio_util::sync::CancellationToken;

use super::documents::Documents;
use super::health::{Health, Scope};
use crate::aggregate::Aggregator;
use crate::auth::{Authenticator, Authorizer, Lister, PeerCertificates};
use crate::metrics::Metrics;
use crate::node_metrics::NodeMetrics;
use crate::node_proxy::NodeProxy;
use crate::registry::Registry;
use crate::version::git_version;

/// The other end of a connection.
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Whether it is on this machine: nothing is gained by compressing for it.
    pub local: bool,
    /// What it showed in the TLS handshake.
    pub certificates: PeerCertificates,
}

impl Peer {
    /// A peer.
    pub fn new(address: SocketAddr, local: bool, certificates: PeerCertificates) -> Self {
        Self { address, local, certificates }
    }
}

/// A document served as it is, as `/openid/v1/jwks`.
#[derive(Clone, Debug)]
pub struct StaticDocument {
    /// The path.
    pub path: &'static str,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

/// What a [`Server`] is made of.
pub struct Parts {
    /// All verbs on all kinds.
    pub registry: Arc<Registry>,
    /// Cached reads, for finding the node of a pod.
    pub lister: Arc<dyn Lister>,
    /// Says who asks.
    pub authenticator: Arc<dyn Authenticator>,
    /// Says whether they may.
    pub authorizer: Arc<dyn Authorizer>,
    /// Connects to kubelets, pods and services.
    pub nodes: NodeProxy,
    /// Knows the extension servers.
    pub aggregator: Arc<Aggregator>,
    /// Documents of other parts: OpenID discovery and keys.
    pub documents: Vec<StaticDocument>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where clients reach the server, as `10.0.0.1:6443`: discovery says it.
    pub address: String,
    /// Suffix of the version after `+`, as `tiphys0.1.0`.
    pub build: String,
    /// What was done before, as health checks name it: `poststarthook/…`.
    pub hooks: &'static [&'static str],
    /// Ends watches and new work.
    pub stop: CancellationToken,
}

/// The server behind all connections.
pub struct Server {
    pub(super) registry: Arc<Registry>,
    pub(super) authenticator: Arc<dyn Authenticator>,
    pub(super) authorizer: Arc<dyn Authorizer>,
    pub(super) nodes: NodeProxy,
    pub(super) aggregator: Arc<Aggregator>,
    pub(super) node_metrics: NodeMetrics,
    pub(super) lister: Arc<dyn Lister>,
    pub(super) served: Vec<StaticDocument>,
    pub(super) documents: Documents,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Health,
    pub(super) git_version: String,
    pub(super) stop: CancellationToken,
}

impl Server {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Arc<Self> {
        let health = checks(&parts);
        let git_version = git_version(&parts.build);
        Arc::new(Self {
            authenticator: parts.authenticator,
            authorizer: parts.authorizer,
            node_metrics: NodeMetrics::new(parts.nodes.clone(), parts.lister.clone()),
            nodes: parts.nodes,
            lister: parts.lister,
            served: parts.documents,
            documents: Documents::new(
                &git_version,
                &parts.address,
                parts.registry.kinds().clone(),
                parts.aggregator.clone(),
            ),
            aggregator: parts.aggregator,
            registry: parts.registry,
            metrics: parts.metrics,
            health,
            git_version,
            stop: parts.stop,
        })
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The resource of a request in the version that it names, if that is served.
    pub(super) fn resource(&self, group: &str, version: &str, resource: &str) -> Option<Arc<Resource>> {
        self.registry.kinds().served(&Gvr::owned(group, version, resource))
    }
}

/// What `/livez` and `/readyz` look at, in Kubernetes' words and order. What was done before there was a server (the
/// hooks) stays done.
fn checks(parts: &Parts) -> Health {
    let mut health = Health::default();
    for (name, scope) in [("etcd", Scope::Live), ("etcd-readiness", Scope::Ready)] {
        let caches = parts.registry.caches().clone();
        health.add(name, scope, move || {
            let store = caches.store().clone();
            async move { store.status().await.map(drop).map_err(|error| error.to_string()) }
        });
    }
    let caches = parts.registry.caches().clone();
    health.add("informer-sync", Scope::Ready, move || {
        let caches = caches.clone();
        async move { caches.catch_up().await.map(drop).map_err(|status| status.message) }
    });
    for hook in parts.hooks {
        health.add(hook, Scope::Live, || async { Ok(()) });
    }
    let stop = parts.stop.clone();
    health.add("shutdown", Scope::Ready, move || {
        let stopping = stop.is_cancelled();
        async move { if stopping { Err("process is shutting down".to_owned()) } else { Ok(()) } }
    });
    health
}
