//! TLS to a server that somebody known vouches for, as Go's clients understand it.
//!
//! The server's certificate leads to one of the roots, or is itself one of them: `openssl req -x509` makes certificates
//! that are CAs, and people give one to a webhook and put the very same into its `caBundle`. The usual checker takes no
//! CA for a server; Go, which Kubernetes is written in, does when it is among the roots.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Accepts certificates that lead to a root, and the roots.
#[derive(Debug)]
pub struct KnownServer {
    chains: Arc<WebPkiServerVerifier>,
    roots: Vec<CertificateDer<'static>>,
}

impl KnownServer {
    /// Trusts these roots; an error when one cannot be a root, or there is none.
    pub fn new(roots: Vec<CertificateDer<'static>>, provider: Arc<CryptoProvider>) -> Result<Self, Error> {
        let mut store = RootCertStore::empty();
        for root in &roots {
            store.add(root.clone())?;
        }
        let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build();
        Ok(Self { chains: chains.map_err(|error| Error::General(error.to_string()))?, roots })
    }
}

impl ServerCertVerifier for KnownServer {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.chains.verify_server_cert(shown, intermediates, name, ocsp, now).or_else(|error| {
            match self.roots.contains(shown) {
                true => verify_root(shown, name, now),
                false => Err(error),
            }
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// What is left to check of a server that shows a root: its name, its time, and whether it may be a server.
fn verify_root(
    shown: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, Error> {
    verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
    let (_, certificate) = X509Certificate::from_der(shown).map_err(|_| CertificateError::BadEncoding)?;
    let (validity, now) = (certificate.validity(), i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    let usage = certificate.extended_key_usage().map_err(|_| CertificateError::BadEncoding)?;
    match usage.is_none_or(|usage| usage.value.any || usage.value.server_auth) {
        true => Ok(ServerCertVerified::assertion()),
        false => Err(CertificateError::InvalidPurpose.into()),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair};

    use super::*;

    fn ca(purpose: Option<ExtendedKeyUsagePurpose>) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["hook.ns.svc".into()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.extended_key_usages = purpose.into_iter().collect();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn verify(
        root: &CertificateDer<'static>,
        shown: &CertificateDer<'_>,
        name: &str,
        year: u64,
    ) -> Result<(), Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = KnownServer::new(vec![root.clone()], provider).unwrap();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs((year - 1970) * 31_557_600));
        let name = ServerName::try_from(name).unwrap();
        server.verify_server_cert(shown, &[], &name, &[], now).map(drop)
    }

    #[test]
    fn a_root_may_be_the_server_itself() {
        let own = ca(None);
        assert_eq!(verify(&own, &own, "hook.ns.svc", 2030), Ok(()));
        assert!(verify(&own, &ca(None), "hook.ns.svc", 2030).is_err());
        let name = verify(&own, &own, "other.ns.svc", 2030).unwrap_err();
        assert!(
            matches!(name, Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })),
            "{name}"
        );
        assert_eq!(verify(&own, &own, "hook.ns.svc", 9000), Err(CertificateError::Expired.into()));
        assert_eq!(verify(&own, &own, "hook.ns.svc", 1971), Err(CertificateError::NotValidYet.into()));
        let server = ca(Some(ExtendedKeyUsagePurpose::ServerAuth));
        assert_eq!(verify(&server, &server, "hook.ns.svc", 2030), Ok(()));
        let client = ca(Some(ExtendedKeyUsagePurpose::ClientAuth));
        assert_eq!(
            verify(&client, &client, "hook.ns.svc", 2030),
            Err(CertificateError::InvalidPurpose.into())
        );
    }
}
