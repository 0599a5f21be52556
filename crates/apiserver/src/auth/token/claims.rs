//! What a token says, in Kubernetes' own names.

use serde::{Deserialize, Serialize};

/// The claims of a token. Times are seconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) aud: Vec<String>,
    pub(super) exp: i64,
    pub(super) iat: i64,
    pub(super) iss: String,
    pub(super) jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(super) bound: Bound,
    pub(super) nbf: i64,
    pub(super) sub: String,
}

/// What a token is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bound {
    pub(super) namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<Ref>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pod: Option<Ref>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<Ref>,
    pub(super) serviceaccount: Ref,
    /// After this a client should have fetched a new one; the token itself lives longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) warnafter: Option<i64>,
}

/// One object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ref {
    pub(super) name: String,
    #[serde(default)]
    pub(super) uid: String,
}
