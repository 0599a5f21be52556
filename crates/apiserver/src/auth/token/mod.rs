//! Tokens of service accounts: JWTs signed with ES256, bound to the account and, if asked, to a pod, secret or node.
//!
//! - A token is good while its signature, issuer, audience and times are, and while the objects it is bound to live:
//!   these are looked up at every use, so that deleting the pod ends its token.
//! - The signature of a token is checked once; a bounded memory of its digest spares the arithmetic afterwards.

mod claims;
pub mod kept;
mod keys;
mod request;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tiphys_api::{Gvr, Value};
use tokio::sync::mpsc;

use self::claims::Claims;
pub use self::keys::{KeyError, Keys};
pub use self::request::Request;
pub use self::verify::{Refused, Verified};
use super::Lister;

pub(crate) const SERVICE_ACCOUNTS: Gvr = Gvr::new("", "v1", "serviceaccounts");
const PODS: Gvr = Gvr::new("", "v1", "pods");
const SECRETS: Gvr = Gvr::new("", "v1", "secrets");
const NODES: Gvr = Gvr::new("", "v1", "nodes");

/// Signs and verifies service account tokens.
pub struct ServiceAccountTokens {
    keys: Keys,
    issuer: String,
    lister: Arc<dyn Lister>,
    /// Claims of tokens whose signatures were good, by digest of the token.
    seen: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
    uses: OnceLock<mpsc::Sender<kept::Use>>,
}

impl ServiceAccountTokens {
    /// `issuer` is the URL that names this cluster, as `https://kubernetes.default.svc.cluster.local`; it is also the
    /// audience of the API server itself.
    pub fn new(keys: Keys, issuer: impl Into<String>, lister: Arc<dyn Lister>) -> Self {
        Self { keys, issuer: issuer.into(), lister, seen: Mutex::default(), uses: OnceLock::new() }
    }

    /// The document `/.well-known/openid-configuration`. `jwks_uri` is where [`Self::jwks`] is served.
    pub fn openid_configuration(&self, jwks_uri: &str) -> Value {
        tiphys_api::json!({
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// The document `/openid/v1/jwks`.
    pub fn jwks(&self) -> Value {
        tiphys_api::json!({ "keys": [self.keys.jwk()] })
    }

    /// The API server's own audience.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }
}

/// The issuer of a cluster that was not given another.
pub fn default_issuer(cluster_domain: &str) -> String {
    format!("https://kubernetes.default.svc.{}", cluster_domain.trim_end_matches('.'))
}
