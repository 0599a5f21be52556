//! Who asks: the client certificate, else the bearer token, else nobody in particular.
//!
//! Wrong credentials are a 401, never an anonymous request. A certificate that counts wins over a token.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use tiphys_api::Status;

use super::groups::{AUTHENTICATED, UNAUTHENTICATED};
use super::token::ServiceAccountTokens;
use super::x509::ClientCa;
use super::{Authenticator, PeerCertificates, User};

/// How a browser, which cannot set headers on a WebSocket, hands over its token.
const WEBSOCKET_TOKEN: &str = "base64url.bearer.authorization.k8s.io.";

/// All ways to say who asks.
pub struct Authentication {
    /// Whose client certificates count.
    pub client_ca: ClientCa,
    /// Tokens of service accounts.
    pub tokens: Arc<ServiceAccountTokens>,
    /// Whether requests without credentials go on as `system:anonymous`.
    pub anonymous: bool,
}

impl Authentication {
    /// The user behind a request at a time; see [`Authenticator::authenticate`].
    pub fn authenticate_at(
        &self,
        peer: &PeerCertificates,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Option<User>, Status> {
        let certificate = self.client_ca.authenticate(peer, unix(now));
        if let Ok(Some(user)) = certificate {
            return Ok(Some(known(user)));
        }
        if let Some(token) = bearer(headers) {
            let verified = self.tokens.verify(&token, &[], now);
            return verified.map(|token| Some(known(token.user))).map_err(|error| {
                tracing::debug!(%error, "bearer token refused");
                Status::unauthorized()
            });
        }
        certificate?;
        Ok(self.anonymous.then(User::anonymous))
    }
}

#[async_trait]
impl Authenticator for Authentication {
    async fn authenticate(
        &self,
        peer: &PeerCertificates,
        headers: &HeaderMap,
    ) -> Result<Option<User>, Status> {
        self.authenticate_at(peer, headers, Timestamp::now())
    }
}

fn unix(now: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().try_into().unwrap_or(0)))
}

/// Everyone whose credentials count is authenticated.
fn known(mut user: User) -> User {
    if !user.is_in(AUTHENTICATED) && !user.is_in(UNAUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    user
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let plain = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, token) = value.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    plain.filter(|token| !token.is_empty()).or_else(|| websocket_token(headers))
}

fn websocket_token(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let encoded = values.flat_map(|v| v.split(',')).find_map(|v| v.trim().strip_prefix(WEBSOCKET_TOKEN))?;
    String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_in_two_headers() {
        let mut headers = HeaderMap::new();
        headers.insert(
            SEC_WEBSOCKET_PROTOCOL,
            format!("v5.channel.k8s.io, {WEBSOCKET_TOKEN}YS1i").parse().unwrap(),
        );
        assert_eq!(bearer(&headers).as_deref(), Some("a-b"));
        headers.insert(AUTHORIZATION, "bearer  xyz ".parse().unwrap());
        assert_eq!(bearer(&headers).as_deref(), Some("xyz"));
        headers.insert(AUTHORIZATION, "Basic eA==".parse().unwrap());
        headers.remove(SEC_WEBSOCKET_PROTOCOL);
        assert_eq!(bearer(&headers), None);
    }
}
