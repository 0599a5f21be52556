//! Connections to webhooks, kept for the next call.
//!
//! They are shared by calls to the same host with the same CA, and HTTP/1.1: one that got stuck holds up one call, not all.
//! To which endpoint of a Service one leads is decided when it is opened.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tiphys_client::remote::{Config, Identity, Link};
use tokio_rustls::TlsConnector;

use super::{ClientConfig, HookError, ServiceReference};
use crate::auth::Lister;
use crate::node_proxy::connect::{ConnectError, secure};
use crate::node_proxy::endpoint;

/// Hosts whose connections are kept. Over this many are no cluster's; all are forgotten then, at the price of a handshake.
const HOSTS_MAX: usize = 256;
/// Connections that wait for a call, per host, and how long.
const IDLE_MAX: usize = 25;
const IDLE: Duration = Duration::from_secs(90);

type Connector = tower::util::BoxCloneSyncService<http::Uri, Link, ConnectError>;
/// Sends requests over kept connections.
pub(super) type HookClient = Client<Connector, Full<Bytes>>;
/// Scheme, host and port, and the CA.
type Key = (Box<str>, Option<Box<str>>);

pub(super) struct Pool {
    lister: Arc<dyn Lister>,
    clients: Mutex<HashMap<Key, HookClient>>,
}

impl Pool {
    pub(super) fn new(lister: Arc<dyn Lister>) -> Self {
        Self { lister, clients: Mutex::default() }
    }

    /// What calls a webhook at `base`.
    pub(super) fn client(&self, to: &ClientConfig, base: &str) -> Result<HookClient, HookError> {
        let key = (base.into(), to.ca_bundle.clone());
        if let Some(client) = self.clients.lock().get(&key) {
            return Ok(client.clone());
        }
        let client = self.make(to, base)?;
        let mut clients = self.clients.lock();
        if clients.len() >= HOSTS_MAX {
            clients.clear();
        }
        Ok(clients.entry(key).or_insert(client).clone())
    }

    fn make(&self, to: &ClientConfig, base: &str) -> Result<HookClient, HookError> {
        let dialer = Arc::new(Dialer::new(self.lister.clone(), to, base)?);
        let connect = move |_| {
            let dialer = dialer.clone();
            async move { dialer.link().await }
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(Connector::new(tower::service_fn(connect)));
        Ok(client)
    }
}

/// Opens connections to one host.
struct Dialer {
    lister: Arc<dyn Lister>,
    service: Option<ServiceReference>,
    host: String,
    port: u16,
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl Dialer {
    fn new(lister: Arc<dyn Lister>, to: &ClientConfig, base: &str) -> Result<Self, HookError> {
        let ca = STANDARD.decode(to.ca_bundle.as_deref().unwrap_or_default());
        let ca = ca.map_err(|error| HookError::Config(format!("clientConfig.caBundle: {error}")))?;
        let no_ca = ca.is_empty();
        let wrong = |error: &dyn std::fmt::Display| match no_ca {
            true => HookError::Config(format!("no clientConfig.caBundle, and no CA of the system: {error}")),
            false => HookError::Config(format!("unable to load root certificates: {error}")),
        };
        let config =
            Config::new(base, ca, Identity::Anonymous).map_err(|e| HookError::Config(e.to_string()))?;
        let name = config.expected_name().map_err(|error| HookError::Config(error.to_string()))?;
        let tls = Arc::new(config.tls().map_err(|error| wrong(&error))?).into();
        let host = config.server.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = config.server.port_u16().unwrap_or(443);
        Ok(Self { lister, service: to.service.clone(), host, port, name, tls })
    }

    async fn link(&self) -> Result<Link, ConnectError> {
        let (host, port) = self.place()?;
        secure(&self.tls, self.name.clone(), &host, port).await
    }

    fn place(&self) -> Result<(String, u16), ConnectError> {
        let Some(ServiceReference { namespace, name, .. }) = &self.service else {
            return Ok((self.host.clone(), self.port));
        };
        let found = endpoint::of_service_or_name(self.lister.as_ref(), namespace, name, self.port);
        found.map_err(|status| ConnectError::Service(status.message))
    }
}
