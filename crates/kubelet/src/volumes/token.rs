//! Tokens of service accounts for pods: asked for once, kept until they age, bound to the pod.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use parking_lot::Mutex;
use serde_json::json;
use tiphys_client::typed::Kind;
use tiphys_client::{Client, Target, WriteOptions};

use crate::pod;

const DEFAULT_SECONDS: i64 = 3600;
/// No token is shown for longer than this, however long it is valid.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(24);

/// A token and when to ask for the next.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) refresh: Timestamp,
}

/// The pod's uid, the audience, and the asked lifetime.
type Id = (String, String, i64);

/// The tokens in use.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<Id, Token>>);

impl Tokens {
    /// A token that is fresh enough: the one in use, or a new one.
    pub(crate) async fn get(
        &self,
        client: &Arc<dyn Client>,
        pod: &Pod,
        source: &ServiceAccountTokenProjection,
    ) -> Result<Token, String> {
        let seconds = source.expiration_seconds.unwrap_or(DEFAULT_SECONDS);
        let audience = source.audience.clone().unwrap_or_default();
        let id = (pod::uid(pod).to_owned(), audience.clone(), seconds);
        let now = Timestamp::now();
        if let Some(token) = self.0.lock().get(&id).filter(|token| token.refresh > now) {
            return Ok(token.clone());
        }
        let token = request(client, pod, &audience, seconds, now).await?;
        self.0.lock().insert(id, token.clone());
        Ok(token)
    }

    /// Forgets the tokens of a pod that is gone.
    pub(crate) fn forget(&self, uid: &str) {
        self.0.lock().retain(|(owner, _, _), _| owner != uid);
    }
}

async fn request(
    client: &Arc<dyn Client>,
    pod: &Pod,
    audience: &str,
    seconds: i64,
    now: Timestamp,
) -> Result<Token, String> {
    let account = pod::spec(pod).service_account_name.as_deref().filter(|name| !name.is_empty());
    let account = account.unwrap_or("default");
    let audiences: Vec<&str> = if audience.is_empty() { Vec::new() } else { vec![audience] };
    let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": pod::name(pod), "uid": pod::uid(pod)});
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": audiences, "boundObjectRef": bound, "expirationSeconds": seconds},
    });
    let target = Target::new(&ServiceAccount::GVR, pod::namespace(pod), account).sub("token");
    let failed = |why: String| format!("failed to fetch token: {why}");
    let answer = client.create(&target, body.to_string().into(), &WriteOptions::default()).await;
    let answer = answer.map_err(|status| failed(status.message))?;
    let answer: TokenRequest = serde_json::from_slice(answer.json()).map_err(|e| failed(e.to_string()))?;
    let status = answer.status.ok_or_else(|| failed("the answer has no token".into()))?;
    let asked = SignedDuration::from_secs(seconds);
    let lifetime = status.expiration_timestamp.map_or(asked, |time| time.0.duration_since(now));
    let refresh = now.saturating_add((lifetime * 8 / 10).min(MAX_AGE)).unwrap_or(now);
    let text = status.token.ok_or_else(|| failed("the answer has no token".into()))?;
    Ok(Token { text, refresh })
}
