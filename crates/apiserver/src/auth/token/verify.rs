//! Whether a token is good now, and for whom.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tiphys_api::{Gvr, Object};

use super::claims::{Claims, Ref};
use super::{NODES, PODS, SECRETS, SERVICE_ACCOUNTS, ServiceAccountTokens};
use crate::auth::User;
use crate::auth::groups::service_account_user;

/// How far clocks may differ, and how long a deleted object's token still serves, in seconds.
const LEEWAY: i64 = 60;
/// Tokens whose signature is remembered.
const SEEN_MAX: usize = 4096;
/// Longer tokens are none of ours.
const TOKEN_MAX: usize = 16 * 1024;

/// A good token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The service account.
    pub user: User,
    /// The audiences asked for that the token is meant for.
    pub audiences: Vec<String>,
}

/// Why a token does not count.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Not signed by this cluster, or not a token at all.
    #[error("invalid bearer token: {0}")]
    Signature(#[from] jsonwebtoken::errors::Error),
    /// Out of its time.
    #[error("service account token has expired or is not valid yet")]
    Time,
    /// Meant for others.
    #[error("token audiences {token:?} is invalid for the target audiences {asked:?}")]
    Audience {
        /// Whom it is meant for.
        token: Vec<String>,
        /// Who looks at it.
        asked: Vec<String>,
    },
    /// Too long, or its parts contradict each other.
    #[error("invalid bearer token")]
    Malformed,
    /// Its Secret says that it does not count any more.
    #[error(
        "the token in secret {secret} has been marked invalid. Use tokens from the TokenRequest API or manually created \
         secret-based tokens, or remove the 'kubernetes.io/legacy-token-invalid-since' label from the secret to \
         temporarily allow use of this token"
    )]
    Marked {
        /// Namespace and name of the Secret.
        secret: String,
    },
    /// Something it is bound to is gone or another one.
    #[error("service account token is bound to {0}, which is gone or another one")]
    Gone(String),
}

#[derive(Deserialize)]
struct PodSpec {
    #[serde(default)]
    spec: Placement,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Placement {
    node_name: String,
}

impl ServiceAccountTokens {
    /// Judges a token at a time. No `audiences` means the API server's own.
    pub fn verify(&self, token: &str, audiences: &[String], now: Timestamp) -> Result<Verified, Refused> {
        let claims = self.claims(token)?;
        let (at, now) = (now, now.as_second());
        if now > claims.exp.saturating_add(LEEWAY) || now < claims.nbf.saturating_sub(LEEWAY) {
            return Err(Refused::Time);
        }
        let own = [self.issuer.clone()];
        let asked = if audiences.is_empty() { own.as_slice() } else { audiences };
        let common: Vec<String> = asked.iter().filter(|one| claims.aud.contains(one)).cloned().collect();
        if common.is_empty() {
            return Err(Refused::Audience { token: claims.aud.clone(), asked: asked.to_vec() });
        }
        self.check_bound(&claims, at)?;
        Ok(Verified { user: user(&claims), audiences: common })
    }

    fn claims(&self, token: &str) -> Result<Arc<Claims>, Refused> {
        if token.len() > TOKEN_MAX {
            return Err(Refused::Malformed);
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(claims) = self.seen.lock().get(&digest) {
            return Ok(claims.clone());
        }
        let claims = Arc::new(self.keys.open(token, &self.issuer)?);
        let account = &claims.bound.serviceaccount.name;
        if claims.sub != service_account_user(&claims.bound.namespace, account) {
            return Err(Refused::Malformed);
        }
        let mut seen = self.seen.lock();
        if seen.len() >= SEEN_MAX {
            // Only arithmetic is lost.
            seen.clear();
        }
        seen.insert(digest, claims.clone());
        Ok(claims)
    }

    fn check_bound(&self, claims: &Claims, at: Timestamp) -> Result<(), Refused> {
        let (bound, now) = (&claims.bound, at.as_second());
        self.living(&SERVICE_ACCOUNTS, &bound.namespace, &bound.serviceaccount, now)?;
        if let Some(secret) = &bound.secret {
            let secret = self.living(&SECRETS, &bound.namespace, secret, now)?;
            self.check_kept(&secret, at)?;
        }
        match (&bound.pod, &bound.node) {
            (Some(pod), node) => {
                let object = self.living(&PODS, &bound.namespace, pod, now)?;
                let there =
                    |node: &Ref| object.decode::<PodSpec>().is_ok_and(|p| p.spec.node_name == node.name);
                if !node.as_ref().is_none_or(there) {
                    return Err(gone(&NODES, &pod.name));
                }
            }
            (None, Some(node)) => {
                self.living(&NODES, "", node, now)?;
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn living(&self, gvr: &Gvr, namespace: &str, wanted: &Ref, now: i64) -> Result<Object, Refused> {
        let object = self.lister.get(gvr, namespace, &wanted.name).filter(|object| {
            let meta = object.meta();
            let deleted = meta.deleted.is_some_and(|at| at.as_second() + LEEWAY < now);
            meta.uid.as_ref() == wanted.uid && !deleted
        });
        object.ok_or_else(|| gone(gvr, &wanted.name))
    }
}

fn gone(gvr: &Gvr, name: &str) -> Refused {
    Refused::Gone(format!("{} {name:?}", gvr.resource))
}

fn user(claims: &Claims) -> User {
    let bound = &claims.bound;
    let account = &bound.serviceaccount;
    let mut user = User::service_account(&bound.namespace, &account.name, &account.uid);
    let mut fact = |key: &str, value: &str| {
        user.extra.push((format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]));
    };
    fact("credential-id", &format!("JTI={}", claims.jti));
    if let Some(node) = &bound.node {
        fact("node-name", &node.name);
        fact("node-uid", &node.uid);
    }
    if let Some(pod) = &bound.pod {
        fact("pod-name", &pod.name);
        fact("pod-uid", &pod.uid);
    }
    user
}
