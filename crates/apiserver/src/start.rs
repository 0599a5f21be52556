//! The composition of an API server: store, caches, who may what, admission, registry, front. One function wires them.
//!
//! The port is taken first, so that a taken one is told before anything is written. The front opens last, when the
//! caches are filled and what every cluster holds is there: who can connect finds a cluster that is ready.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, pem};
use tiphys_client::Client;
use tiphys_store::Store;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admission::Plugin;
use crate::admission::policy::{MutatingAdmissionPolicies, ValidatingAdmissionPolicies};
use crate::admission::webhook::{Convertible, Webhooks};
use crate::aggregate::Aggregator;
use crate::allocate::{Cidr, ServiceAddresses};
use crate::auth::token::{KeyError, Keys, default_issuer, kept};
use crate::auth::x509::ClientCa;
use crate::auth::{
    Authentication, Authorizer, Authorizers, Lister, NodeAuthorizer, Rbac, ServiceAccountTokens, User, review,
};
use crate::bootstrap::masters::Masters;
use crate::cache::Caches;
use crate::custom::{self, Customs};
use crate::hook::{Caller, Hooks};
use crate::http::{self, Identity, Parts, Server, StaticDocument};
use crate::kinds::Kinds;
use crate::local::LocalClient;
use crate::metrics::Metrics;
use crate::node_proxy::{self, KubeletTls, NodeProxy};
use crate::pki::{Leaf, PemError, Pki};
use crate::registry::{self, Converter, Registry};
use crate::served::Served;
use crate::{admission, bootstrap};

/// How long the end of a server waits for the store to take its address away.
const LEAVE_MAX: Duration = Duration::from_secs(2);

/// What an API server is told.
pub struct Config {
    /// Where the cluster is kept.
    pub store: Arc<dyn Store>,
    /// Its keys and certificates.
    pub pki: Pki,
    /// Where it listens.
    pub bind: SocketAddr,
    /// At which address pods and other machines reach it.
    pub advertise: IpAddr,
    /// Whether other API servers may serve from the same store.
    pub shared: bool,
    /// Ranges of Service addresses, the primary family first.
    pub service_cidrs: Vec<Cidr>,
    /// Domain of the cluster.
    pub cluster_domain: String,
    /// Suffix of the version after `+`, as `tiphys0.1.0`.
    pub build: String,
    /// Which versions of the API are served.
    pub versions: Served,
}

/// Why there is no API server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot listen.
    #[error(transparent)]
    Listen(#[from] http::Error),
    /// The store does not answer.
    #[error("the state store cannot be read: {0}")]
    Store(#[from] tiphys_store::Error),
    /// A certificate or key cannot be read.
    #[error("a certificate or key of the cluster cannot be read: {0}")]
    Pem(#[from] pem::Error),
    /// One of the pairs holds no certificate or no key.
    #[error(transparent)]
    Pair(#[from] PemError),
    /// A CA is unfit to check clients.
    #[error("the cluster's CA cannot be used: {0}")]
    ClientCa(#[from] crate::auth::x509::Error),
    /// The service accounts' key cannot be used.
    #[error("the service accounts' key cannot be used: {0}")]
    TokenKey(#[from] KeyError),
    /// The identity toward kubelets cannot be used.
    #[error(transparent)]
    Kubelets(#[from] node_proxy::Error),
    /// What every cluster holds could not be written.
    #[error("the cluster cannot be brought up: {0}")]
    Bootstrap(#[from] bootstrap::Error),
    /// Custom resources cannot be served.
    #[error(transparent)]
    Custom(#[from] custom::Error),
}

/// A running API server.
pub struct ApiServer {
    server: Arc<Server>,
    registry: Arc<Registry>,
    authorizer: Arc<dyn Authorizer>,
    serving: JoinHandle<Result<(), http::Error>>,
    /// Ends once the others know that this server has gone.
    left: Option<JoinHandle<()>>,
    address: SocketAddr,
}

impl ApiServer {
    /// Starts a server; it serves when this returns, until `stop` is cancelled.
    pub async fn start(config: Config, stop: CancellationToken) -> Result<Self, Error> {
        let listener = http::bind(config.bind).await?;
        let address = listener.local_addr().unwrap_or(config.bind);
        let metrics = Arc::new(Metrics::new(&http::git_version(&config.build)));
        metrics.register(tiphys_client::render_metrics);
        let caches = Caches::builtin(metrics.timed(config.store.clone()), stop.clone()).await?;
        let lister: Arc<dyn Lister> = caches.clone();
        let access = Access::new(&config, &lister)?;
        let kinds = Arc::new(Kinds::new(config.versions.clone()));
        let hooks: Arc<dyn Caller> = Arc::new(Hooks::new(lister.clone()));
        let versions = Convertible { kinds: kinds.clone(), converter: Converter::new(hooks.clone()) };
        let webhooks =
            Webhooks::new(hooks.clone(), lister.clone(), access.authorizer.clone(), Arc::new(versions));
        let counted = webhooks.clone();
        metrics.register(move |out| counted.render(out));
        let registry = Registry::new(registry::Config {
            admission: plugins(&config, &access, &lister, &webhooks, &kinds),
            caches,
            kinds,
            hooks,
            computed: review::all(&access.authorizer, &access.rbac, &access.tokens),
        });
        let first: Arc<dyn Client> = Arc::new(LocalClient::new(
            registry.clone(),
            access.authorizer.clone(),
            User::apiserver(),
            "kube-apiserver",
        ));
        let holds = bootstrap_config(&config, address.port());
        let own = SocketAddr::new(config.advertise, address.port());
        let masters = match config.shared {
            true => Masters::join(config.store.clone(), own, stop.clone()).await?,
            false => Masters::alone(own),
        };
        let known = masters.known.borrow().clone();
        bootstrap::run(first.as_ref(), &holds, &known).await?;
        Customs::start(registry.clone(), first.clone(), stop.clone()).await?;
        let aggregator = aggregator(&config, &first, &lister, &registry, &stop).await?;
        webhooks.open();
        tokio::spawn(kept::note(first.clone(), lister.clone(), access.tokens.uses(), stop.clone()));
        tokio::spawn(bootstrap::keep(first, holds, masters.known, stop.clone()));
        let parts = Known {
            metrics,
            registry: registry.clone(),
            lister,
            aggregator,
            port: address.port(),
            stop: stop.clone(),
        };
        let server = Server::new(parts.complete(&config, &access)?);
        let front = http::Config { listener, identity: identity(&config.pki)? };
        let serving = tokio::spawn(http::serve(front, server.clone(), stop));
        let left = masters.left;
        Ok(Self { server, registry, authorizer: access.authorizer, serving, left, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What gives clients to components of this process.
    pub fn identities(&self) -> Identities {
        let (server, registry, authorizer) =
            (self.server.clone(), self.registry.clone(), self.authorizer.clone());
        Identities { server, registry, authorizer }
    }

    /// See [`Identities::client`].
    pub fn client(&self, user: User, agent: &str) -> Arc<dyn Client> {
        self.identities().client(user, agent)
    }

    /// Returns once it has drained after `stop`, or failed.
    pub async fn ended(self) -> Result<(), Error> {
        if let Some(left) = self.left {
            // A store that does not answer holds nobody up: the lease runs out by itself.
            drop(tokio::time::timeout(LEAVE_MAX, left).await);
        }
        match self.serving.await {
            Ok(result) => Ok(result?),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

/// Gives clients to components of this process.
#[derive(Clone)]
pub struct Identities {
    server: Arc<Server>,
    registry: Arc<Registry>,
    authorizer: Arc<dyn Authorizer>,
}

impl Identities {
    /// The cluster as one identity may use it, without leaving the process. `agent` names the component.
    pub fn client(&self, user: User, agent: &str) -> Arc<dyn Client> {
        let client = LocalClient::new(self.registry.clone(), self.authorizer.clone(), user, agent);
        Arc::new(client.with_documents(self.server.clone()))
    }
}

/// Who asks, and whether they may.
struct Access {
    rbac: Arc<Rbac>,
    authorizer: Arc<dyn Authorizer>,
    tokens: Arc<ServiceAccountTokens>,
}

impl Access {
    fn new(config: &Config, lister: &Arc<dyn Lister>) -> Result<Self, Error> {
        let rbac = Arc::new(Rbac::new(lister.clone()));
        let nodes = NodeAuthorizer::new(lister.clone()).map_err(bootstrap::Error::from)?;
        let authorizer: Arc<dyn Authorizer> = Arc::new(Authorizers::new(vec![Arc::new(nodes), rbac.clone()]));
        let keys = Keys::new(&config.pki.service_account)?;
        let issuer = default_issuer(&config.cluster_domain);
        let tokens = Arc::new(ServiceAccountTokens::new(keys, issuer, lister.clone()));
        Ok(Self { rbac, authorizer, tokens })
    }
}

fn plugins(
    config: &Config,
    access: &Access,
    lister: &Arc<dyn Lister>,
    webhooks: &Arc<Webhooks>,
    kinds: &Arc<Kinds>,
) -> Vec<Arc<dyn Plugin>> {
    let mut plugins = admission::default_plugins(lister, &access.rbac, &access.authorizer);
    let (hooks, lists, all) = (|| webhooks.clone(), || lister.clone(), || kinds.clone());
    plugins.push(Arc::new(MutatingAdmissionPolicies::new(hooks(), lists(), all())));
    plugins.push(Arc::new(ValidatingAdmissionPolicies::new(hooks(), lists(), all())));
    plugins.extend(webhooks.plugins());
    // Last: what plugins made of a Service is what it gets addresses for.
    plugins.push(Arc::new(ServiceAddresses::new(lister.clone(), config.service_cidrs.clone())));
    plugins
}

/// Registers what is served here, and follows who serves more.
async fn aggregator(
    config: &Config,
    client: &Arc<dyn Client>,
    lister: &Arc<dyn Lister>,
    registry: &Registry,
    stop: &CancellationToken,
) -> Result<Arc<Aggregator>, bootstrap::Error> {
    let aggregator = Aggregator::new(lister.clone(), config.pki.leaf(Leaf::FrontProxyClient).clone());
    let registered = aggregator.start(client.as_ref(), registry.kinds()).await;
    registered.map_err(|status| bootstrap::Error::Api {
        action: "register",
        what: "apiservices".into(),
        status: Box::new(status),
    })?;
    tokio::spawn(aggregator.clone().run(client.clone(), registry.kinds().clone(), stop.clone()));
    Ok(aggregator)
}

/// What is made while starting, of which the front is put together.
struct Known {
    metrics: Arc<Metrics>,
    registry: Arc<Registry>,
    lister: Arc<dyn Lister>,
    aggregator: Arc<Aggregator>,
    port: u16,
    stop: CancellationToken,
}

impl Known {
    fn complete(self, config: &Config, access: &Access) -> Result<Parts, Error> {
        let Self { metrics, registry, lister, aggregator, port, stop } = self;
        let authentication = Authentication {
            client_ca: ClientCa::new(&cas(&config.pki)?)?,
            tokens: access.tokens.clone(),
            anonymous: true,
        };
        Ok(Parts {
            registry,
            lister,
            authenticator: Arc::new(authentication),
            authorizer: access.authorizer.clone(),
            nodes: NodeProxy::new(kubelet_tls(&config.pki)?)?,
            aggregator,
            documents: openid(&access.tokens),
            metrics,
            address: SocketAddr::new(config.advertise, port).to_string(),
            build: config.build.clone(),
            hooks: bootstrap::HOOKS,
            stop,
        })
    }
}

fn bootstrap_config(config: &Config, port: u16) -> bootstrap::Config {
    bootstrap::Config {
        service_cidrs: config.service_cidrs.clone(),
        port,
        server: format!("https://{}", SocketAddr::new(config.advertise, port)),
        ca_pem: config.pki.ca_pem().to_owned(),
        front_proxy_ca_pem: config.pki.authority(crate::pki::Authority::FrontProxy).cert_pem.clone(),
    }
}

fn cas(pki: &Pki) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_slice_iter(pki.ca_pem().as_bytes()).collect()
}

fn identity(pki: &Pki) -> Result<Identity, Error> {
    let leaf = pki.leaf(Leaf::ApiServer);
    Ok(Identity {
        chain: vec![leaf.certificate()?],
        key: leaf.key()?,
        client_cas: http::subjects(&cas(pki)?),
    })
}

fn kubelet_tls(pki: &Pki) -> Result<KubeletTls, Error> {
    let leaf = pki.leaf(Leaf::ApiServerKubeletClient);
    Ok(KubeletTls { chain: vec![leaf.certificate()?], key: leaf.key()?, cas: cas(pki)? })
}

fn openid(tokens: &ServiceAccountTokens) -> Vec<StaticDocument> {
    let document = |path, content_type, value: tiphys_api::Value| StaticDocument {
        path,
        content_type,
        body: Bytes::from(value.to_string()),
    };
    let jwks_uri = format!("{}/openid/v1/jwks", tokens.issuer());
    vec![
        document(
            "/.well-known/openid-configuration",
            "application/json",
            tokens.openid_configuration(&jwks_uri),
        ),
        document("/openid/v1/jwks", "application/jwk-set+json", tokens.jwks()),
    ]
}
