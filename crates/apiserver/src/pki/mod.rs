//! The cluster's keys and certificates, under one directory, named as kubeadm names them.
//!
//! - [`ensure`] leaves a complete and current set behind: what is missing is made, and a certificate is issued anew once a
//!   third of its life is left, its names no longer fit, or its CA changed ([`plan`] decides, apart from any I/O).
//! - A CA keeps its key for ever and is only re-signed, so that what it signed stays good. A CA certificate whose key is
//!   missing is somebody's: it is never overwritten, the start fails and says so.
//! - Keys are ECDSA P-256: the whole set is made in some milliseconds.

mod files;
mod issue;
pub mod kubeconfig;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use files::write_private;

/// What the certificates must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of this machine's node.
    pub node_name: String,
    /// Addresses of this machine, at which the API server and the kubelet are reached.
    pub node_ips: Vec<IpAddr>,
    /// The `kubernetes` Service's addresses: the first one of each service range.
    pub service_ips: Vec<IpAddr>,
    /// Domain of the cluster, as `cluster.local`.
    pub cluster_domain: String,
    /// More names or addresses of the API server (`--tls-san`).
    pub extra_sans: Vec<String>,
}

/// The two authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Authority {
    /// Signs servers and clients of the cluster.
    Cluster,
    /// Signs nothing but the API server's identity toward extension API servers.
    FrontProxy,
}

/// The certificates below the authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leaf {
    /// The API server's own.
    ApiServer,
    /// The API server as a client of kubelets.
    ApiServerKubeletClient,
    /// The API server as a client of extension API servers.
    FrontProxyClient,
    /// The administrator (`system:masters`).
    Admin,
    /// `system:kube-scheduler`.
    Scheduler,
    /// `system:kube-controller-manager`.
    ControllerManager,
    /// `system:kube-proxy`.
    Proxy,
    /// The kubelet's own.
    Kubelet,
    /// The kubelet as a client: `system:node:<name>`.
    KubeletClient,
}

impl Leaf {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::ApiServer,
        Self::ApiServerKubeletClient,
        Self::FrontProxyClient,
        Self::Admin,
        Self::Scheduler,
        Self::ControllerManager,
        Self::Proxy,
        Self::Kubelet,
        Self::KubeletClient,
    ];

    /// Name of its files, without `.crt` and `.key`.
    pub fn stem(self) -> &'static str {
        match self {
            Self::ApiServer => "apiserver",
            Self::ApiServerKubeletClient => "apiserver-kubelet-client",
            Self::FrontProxyClient => "front-proxy-client",
            Self::Admin => "admin",
            Self::Scheduler => "kube-scheduler",
            Self::ControllerManager => "kube-controller-manager",
            Self::Proxy => "kube-proxy",
            Self::Kubelet => "kubelet",
            Self::KubeletClient => "kubelet-client",
        }
    }
}

impl Authority {
    /// Name of its files, without `.crt` and `.key`.
    pub fn stem(self) -> &'static str {
        match self {
            Self::Cluster => "ca",
            Self::FrontProxy => "front-proxy-ca",
        }
    }
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub cert_pem: String,
    /// The private key (PKCS #8).
    pub key_pem: String,
}

/// The key that signs service account tokens, as PEM.
#[derive(Clone)]
pub struct ServiceAccountKey {
    /// `sa.key` (PKCS #8).
    pub private_pem: String,
    /// `sa.pub`.
    pub public_pem: String,
}

/// The complete set.
#[derive(Clone)]
pub struct Pki {
    /// Where the files are.
    pub dir: PathBuf,
    /// Signs service account tokens.
    pub service_account: ServiceAccountKey,
    authorities: BTreeMap<Authority, Pair>,
    leaves: BTreeMap<Leaf, Pair>,
    /// Files that this call wrote, for the log.
    pub written: Vec<String>,
}

/// Why there is no complete set.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A CA certificate or the service account key is there, but not usable; it is never replaced unasked.
    #[error(
        "{path}: {why}; restore it from a backup, or remove it (and its .crt/.key/.pub twin) to make a new one"
    )]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A certificate cannot be made.
    #[error("issue {what}: {source}")]
    Issue {
        /// Which.
        what: &'static str,
        /// Why.
        source: rcgen::Error,
    },
    /// A name that must go into a certificate is neither a DNS name nor an address.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    Name(String),
}

/// Reads `dir`, makes or renews what has to be, and returns all of it.
pub fn ensure(dir: &Path, config: &Config, now: Timestamp) -> Result<Pki, Error> {
    files::make_private_dir(dir)?;
    issue::ensure(dir, config, now)
}

impl Pki {
    /// An authority's certificate and key.
    pub fn authority(&self, authority: Authority) -> &Pair {
        &self.authorities[&authority]
    }

    /// A certificate and its key.
    pub fn leaf(&self, leaf: Leaf) -> &Pair {
        &self.leaves[&leaf]
    }

    /// The cluster CA's certificate as PEM: what clients trust.
    pub fn ca_pem(&self) -> &str {
        &self.authority(Authority::Cluster).cert_pem
    }
}

/// A PEM text that does not hold what it should.
#[derive(Debug, thiserror::Error)]
#[error("PEM: {0}")]
pub struct PemError(rustls::pki_types::pem::Error);

impl Pair {
    /// The certificate as rustls takes it.
    pub fn certificate(&self) -> Result<CertificateDer<'static>, PemError> {
        CertificateDer::from_pem_slice(self.cert_pem.as_bytes()).map_err(PemError)
    }

    /// The key as rustls takes it.
    pub fn key(&self) -> Result<PrivateKeyDer<'static>, PemError> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(PemError)
    }
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair(private)")
    }
}

impl std::fmt::Debug for ServiceAccountKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServiceAccountKey(private)")
    }
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").field("dir", &self.dir).field("written", &self.written).finish_non_exhaustive()
    }
}
