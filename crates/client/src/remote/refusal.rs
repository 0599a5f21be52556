//! Whether a server will ever take us: told once at a start, instead of tried again for ever.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::Full;
use tokio::time::timeout;

use super::RemoteClient;

/// A server that takes longer is as one that cannot be reached.
const WAIT: Duration = Duration::from_secs(10);

/// Why a server will not take us, however often it is asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// Its certificate is not of the CA we trust, or ours is not of the one it trusts.
    #[error("TLS refuses the connection ({0}); the CA or the client certificate is of another cluster")]
    Tls(rustls::Error),
    /// It is the right server, and does not know us.
    #[error("the server does not know the user (401 Unauthorized)")]
    Identity,
}

impl RemoteClient {
    /// Asks the server whether it takes us. One that cannot be reached may come up later: that is no refusal.
    pub async fn refusal(&self) -> Option<Refusal> {
        let request = self.request(Method::GET, &format!("{}/version", self.base)).await.ok()?;
        let request = request.body(Full::new(Bytes::new())).ok()?;
        match timeout(WAIT, self.pool.request(request)).await.ok()? {
            Ok(answer) => (answer.status() == StatusCode::UNAUTHORIZED).then_some(Refusal::Identity),
            Err(error) => tls_error(&error).filter(lasts).map(Refusal::Tls),
        }
    }
}

/// Whether a TLS error is about who trusts whom. A clock that is not set yet, or a peer that is not ready, may pass.
fn lasts(error: &rustls::Error) -> bool {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate, Error};
    match error {
        Error::InvalidCertificate(why) => matches!(
            why,
            Certificate::UnknownIssuer
                | Certificate::BadSignature
                | Certificate::NotValidForName
                | Certificate::NotValidForNameContext { .. }
        ),
        Error::AlertReceived(alert) => matches!(
            alert,
            Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown | Alert::CertificateRequired
        ),
        _ => false,
    }
}

/// The TLS error in a chain of causes, where there is one. An I/O error hides what it holds from the chain.
pub fn tls_error(error: &(dyn Error + 'static)) -> Option<rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(tls) = held.and_then(|held| held.downcast_ref::<rustls::Error>()) {
            return Some(tls.clone());
        }
        cause = error.source();
    }
    None
}
