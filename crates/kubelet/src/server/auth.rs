//! Who asks, as far as the client's certificate tells.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Config;

/// A client: the subject of its certificate, empty without one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Who {
    pub(super) user: String,
    pub(super) groups: Vec<String>,
}

/// The TLS set-up: a client may come without a certificate, but not with one of a stranger.
pub(super) fn tls(config: &Config) -> Result<ServerConfig, String> {
    let certificates = |pem: &str| -> Result<Vec<CertificateDer<'static>>, String> {
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|e| e.to_string())
    };
    let mut roots = RootCertStore::empty();
    for root in certificates(&config.client_ca)? {
        roots.add(root).map_err(|e| e.to_string())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| e.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(config.key.as_bytes()).map_err(|e| e.to_string())?;
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| e.to_string())?.with_client_cert_verifier(verifier);
    builder.with_single_cert(certificates(&config.certificate)?, key).map_err(|e| e.to_string())
}

/// Reads the client's certificate, which the handshake has verified.
pub(super) fn who(stream: &TlsStream<TcpStream>) -> Who {
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    certificates.first().and_then(|certificate| subject(certificate)).unwrap_or_default()
}

fn subject(der: &[u8]) -> Option<Who> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let user = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok().map(str::to_owned));
    Some(Who { user, groups: groups.collect() })
}
