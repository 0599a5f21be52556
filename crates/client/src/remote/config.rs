//! Where a remote API server is and who we are there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::Uri;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::AnyServer;
use crate::known_server::KnownServer;

/// Distributions keep the public CAs here (Debian, Ubuntu; Fedora).
const SYSTEM_ROOTS: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];
/// Where the kubelet puts a pod's service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How to reach an API server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Base URL, as `https://127.0.0.1:6443`; a path is a prefix of all requests.
    pub server: Uri,
    /// PEM of the CAs that the server's certificate may be signed by; empty for the system's.
    pub ca: Vec<u8>,
    /// Accepts any server certificate.
    pub insecure: bool,
    /// The name to expect in the server's certificate when it is not the URL's host.
    pub server_name: Option<String>,
    /// Who we are.
    pub identity: Identity,
    /// `User-Agent`.
    pub user_agent: String,
}

/// How a client proves who it is.
#[derive(Clone, Debug, Default)]
pub enum Identity {
    /// It does not.
    #[default]
    Anonymous,
    /// A client certificate (chain) and its key, both PEM.
    Certificate {
        /// The chain, own certificate first.
        chain: Vec<u8>,
        /// The private key.
        key: Vec<u8>,
    },
    /// A bearer token.
    Token(String),
    /// A bearer token in a file that is renewed from time to time.
    TokenFile(PathBuf),
    /// User and password.
    Basic(String, String),
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The URL is none, or has no host, or another scheme.
    #[error("{0:?} is no http:// or https:// URL of a server")]
    Server(String),
    /// PEM that holds nothing usable.
    #[error("{what}: {source}")]
    Pem {
        /// Of what.
        what: &'static str,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// Certificates or keys that TLS refuses.
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    /// Not in a pod.
    #[error("not running in a pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be set")]
    NotInCluster,
}

impl Config {
    /// A server with an identity.
    pub fn new(server: &str, ca: Vec<u8>, identity: Identity) -> Result<Self, ConfigError> {
        let uri: Uri = server.parse().map_err(|_| ConfigError::Server(server.to_owned()))?;
        if uri.host().is_none() || !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(ConfigError::Server(server.to_owned()));
        }
        Ok(Self {
            server: uri,
            ca,
            insecure: false,
            server_name: None,
            identity,
            user_agent: concat!("tiphys/", env!("CARGO_PKG_VERSION")).to_owned(),
        })
    }

    /// The server and identity that the kubelet gives every pod.
    pub fn in_cluster() -> Result<Self, ConfigError> {
        let variable = |name| std::env::var(name).map_err(|_| ConfigError::NotInCluster);
        let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let directory = Path::new(SERVICE_ACCOUNT);
        let ca = read(&directory.join("ca.crt"))?;
        Self::new(&format!("https://{host}:{port}"), ca, Identity::TokenFile(directory.join("token")))
    }

    /// The TLS side of it, without ALPN.
    pub fn tls(&self) -> Result<ClientConfig, ConfigError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = match self.insecure {
            true => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer::new(provider))),
            false => {
                let verifier = Arc::new(KnownServer::new(self.roots()?, provider)?);
                builder.dangerous().with_custom_certificate_verifier(verifier)
            }
        };
        let Identity::Certificate { chain, key } = &self.identity else {
            return Ok(builder.with_no_client_auth());
        };
        let pem = |what| move |source| ConfigError::Pem { what, source };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let key = PrivateKeyDer::from_pem_slice(key).map_err(pem("client key"))?;
        Ok(builder.with_client_auth_cert(chain.map_err(pem("client certificate"))?, key)?)
    }

    fn roots(&self) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        let mut bundles = vec![self.ca.clone()];
        if self.ca.is_empty() {
            bundles = SYSTEM_ROOTS.iter().filter_map(|path| std::fs::read(path).ok()).collect();
        }
        let roots: Result<_, _> =
            bundles.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem)).collect();
        roots.map_err(|source| ConfigError::Pem { what: "server CA", source })
    }

    /// The name the server's certificate must have.
    pub fn expected_name(&self) -> Result<ServerName<'static>, ConfigError> {
        let host = self.server_name.as_deref().or(self.server.host()).unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        ServerName::try_from(bare).map_err(|_| ConfigError::Server(self.server.to_string()))
    }

    /// `host:port` to connect to.
    pub(super) fn authority(&self) -> String {
        let tls = self.server.scheme_str() == Some("https");
        let port = self.server.port_u16().unwrap_or(if tls { 443 } else { 80 });
        format!("{}:{port}", self.server.host().unwrap_or_default())
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}
