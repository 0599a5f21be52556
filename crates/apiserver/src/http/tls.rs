//! TLS of the server: aws-lc-rs, TLS 1.2 and 1.3, optional client certificates, ALPN for HTTP/2 and HTTP/1.1.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{DistinguishedName, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::auth::{PeerCertificates, x509};

/// Who the server is.
pub struct Identity {
    /// The server's certificate and its intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the first certificate.
    pub key: PrivateKeyDer<'static>,
    /// Names of the CAs whose client certificates are asked for; browsers and some clients choose by them.
    pub client_cas: Vec<DistinguishedName>,
}

/// rustls' configuration.
pub fn config(identity: Identity) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(x509::tls_verifier(identity.client_cas))
        .with_single_cert(identity.chain, identity.key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The names that [`Identity::client_cas`] wants, from the CAs' certificates; what does not parse is left out.
pub fn subjects(cas: &[CertificateDer<'static>]) -> Vec<DistinguishedName> {
    let anchors = cas.iter().filter_map(|ca| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca.clone()).ok().map(|()| roots)
    });
    anchors.flat_map(|roots| roots.subjects()).collect()
}

/// What the peer showed.
pub fn peer_certificates(stream: &TlsStream<TcpStream>) -> PeerCertificates {
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    PeerCertificates::new(shown.iter().map(|certificate| certificate.clone().into_owned()).collect())
}
