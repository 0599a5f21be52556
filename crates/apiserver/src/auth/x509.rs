//! Client certificates: the subject's CN names the user, its Os the groups.
//!
//! - TLS only proves that the peer holds the key ([`tls_verifier`]). Whether the chain leads to the client CA is asked
//!   here, so that an unknown or expired certificate is answered with a 401 Status, as Kubernetes does, and so that the
//!   front proxy's certificate (another CA) never counts as a client's.
//! - The chain is verified and parsed once per connection; a request then costs a clone and a look at the clock.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use tiphys_api::Status;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::User;

/// The certificates a TLS peer showed, end entity first; empty when it showed none. One per connection.
#[derive(Debug, Default)]
pub struct PeerCertificates {
    chain: Vec<CertificateDer<'static>>,
    verified: OnceLock<Option<Identity>>,
}

/// What a verified certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    user: User,
    not_after: i64,
}

/// Verifies chains against the client CA.
pub struct ClientCa {
    verifier: Arc<dyn ClientCertVerifier>,
}

/// Why a CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The CA's certificate is no valid trust anchor.
    #[error("client CA: {0}")]
    Anchor(#[source] rustls::Error),
    /// The verifier refuses the set of CAs.
    #[error("client CA: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

impl PeerCertificates {
    /// The chain as rustls' `peer_certificates()` gives it.
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        Self { chain, verified: OnceLock::new() }
    }

    /// The chain, end entity first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }
}

impl ClientCa {
    /// Trusts certificates that any of these CAs signed.
    pub fn new(cas: &[CertificateDer<'static>]) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for ca in cas {
            roots.add(ca.clone()).map_err(Error::Anchor)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
        Ok(Self { verifier })
    }

    /// The user behind a connection; `None` without a certificate, 401 with one that is not good (any more).
    pub fn authenticate(&self, peer: &PeerCertificates, now: UnixTime) -> Result<Option<User>, Status> {
        let Some((leaf, intermediates)) = peer.chain.split_first() else { return Ok(None) };
        let verify = || self.verify(leaf, intermediates, now);
        match peer.verified.get_or_init(verify) {
            Some(identity) if identity.not_after >= now.as_secs().try_into().unwrap_or(i64::MAX) => {
                Ok(Some(identity.user.clone()))
            }
            _ => Err(Status::unauthorized()),
        }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Option<Identity> {
        match self.verifier.verify_client_cert(leaf, intermediates, now) {
            Ok(_) => identity(leaf),
            Err(error) => {
                tracing::debug!(%error, "client certificate refused");
                None
            }
        }
    }
}

/// Reads user and groups; `None` when the certificate does not parse or names nobody.
fn identity(leaf: &[u8]) -> Option<Identity> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect();
    let digest: String = Sha256::digest(leaf).iter().map(|byte| format!("{byte:02x}")).collect();
    let credential = vec![format!("X509SHA256={digest}")];
    let extra = vec![("authentication.kubernetes.io/credential-id".to_owned(), credential)];
    let not_after = certificate.validity().not_after.timestamp();
    (!name.is_empty()).then(|| Identity { user: User { name, groups, extra, ..User::default() }, not_after })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// For the TLS server: asks for a client certificate, takes none or any, and checks that the peer holds its key. Who it
/// is, and whether it counts, is decided per request by [`ClientCa`].
pub fn tls_verifier(hints: Vec<DistinguishedName>) -> Arc<dyn ClientCertVerifier> {
    Arc::new(AnyCertificate { provider: provider(), hints })
}

#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
    hints: Vec<DistinguishedName>,
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        // Nothing is trusted by this: see the module's first point.
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
