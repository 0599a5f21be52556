//! Who may come in: administrators, whose certificates the cluster's CA signed.
//!
//! That CA signs nodes and components as well, and none of them may see the whole store. So the certificate must also
//! name the group that may do everything in Kubernetes, `O=system:masters`, as `pki/admin.crt` does.

use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The group of those who may do everything.
const MASTERS: &str = "system:masters";

/// Who the server is, and who signs its clients; all as PEM.
#[derive(Clone)]
pub struct Identity {
    /// The server's certificate.
    pub cert_pem: String,
    /// Its key.
    pub key_pem: String,
    /// The CA of the clients.
    pub ca_pem: String,
}

/// A certificate or key is not usable.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A PEM text.
    #[error(transparent)]
    Pem(#[from] pem::Error),
    /// A certificate or key.
    #[error(transparent)]
    Certificate(#[from] rustls::Error),
    /// The CA.
    #[error(transparent)]
    Ca(#[from] VerifierBuilderError),
}

/// TLS that demands a certificate of the CA.
pub(crate) fn config(identity: &Identity) -> Result<ServerConfig, Error> {
    let certificates =
        |text: &str| CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    let mut roots = RootCertStore::empty();
    for ca in certificates(&identity.ca_pem)? {
        roots.add(ca)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(certificates(&identity.cert_pem)?, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Whether a chain, end entity first and verified by TLS, is an administrator's.
pub(crate) fn is_master(chain: &[CertificateDer<'_>]) -> bool {
    let Some(Ok((_, leaf))) = chain.first().map(|leaf| X509Certificate::from_der(leaf)) else { return false };
    leaf.subject().iter_organization().any(|group| group.as_str() == Ok(MASTERS))
}
