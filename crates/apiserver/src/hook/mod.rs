//! Calls to webhooks: admission's and those that convert custom resources.
//!
//! - One POST of JSON over HTTPS. Whoever calls knows what is asked and what the answer means ([`Caller`] is all it sees).
//! - A webhook's Service leads straight to a ready endpoint, as `services/proxy` does: nothing needs packet rules here. Its
//!   certificate must be for `<service>.<namespace>.svc` and signed by the configuration's CA.
//! - Connections are kept ([`pool`]), answers bounded, every call has a time limit.
//! - Errors are worded as Go's client words them: people search for these texts.

mod pool;
pub(crate) mod refusal;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use serde::Deserialize;

use crate::auth::Lister;
use pool::Pool;

/// The largest answer, in bytes: as a request to this server may have.
const ANSWER_MAX: usize = crate::http::incoming::LIMIT;
const AGENT: HeaderValue = HeaderValue::from_static("kube-apiserver-webhook");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// `WebhookClientConfig`, of admission and of conversion: where a webhook is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConfig {
    /// The whole URL.
    pub url: Option<Box<str>>,
    /// Or a Service.
    pub service: Option<ServiceReference>,
    /// PEM of the CAs that may sign the webhook's certificate, in base64; empty for the system's.
    pub ca_bundle: Option<Box<str>>,
}

/// A Service, and what to ask there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct ServiceReference {
    /// Where it is.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// What follows the host; may be absent.
    pub path: Option<Box<str>>,
    /// The Service's port; 443 by default.
    pub port: Option<u16>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// The configuration leads nowhere.
    #[error("{0}")]
    Config(String),
    /// The webhook could not be reached, or broke off.
    #[error("Post {url:?}: {cause}")]
    Unreachable {
        /// The whole URL.
        url: String,
        /// What went wrong.
        cause: String,
    },
    /// It said no: an HTTP status that is not of success.
    #[error("{message}")]
    Refused {
        /// That status.
        code: u16,
        /// Its own `Status`' message, or what its code means.
        message: String,
    },
}

impl HookError {
    /// The HTTP status that metrics count it under.
    pub fn code(&self) -> u16 {
        match self {
            Self::Config(_) => 500,
            Self::Unreachable { .. } => 503,
            Self::Refused { code, .. } => *code,
        }
    }
}

/// Calls webhooks.
#[async_trait]
pub trait Caller: Send + Sync {
    /// Posts `body` (JSON) and returns the answer's body, within `timeout`.
    async fn call(&self, to: &ClientConfig, body: Bytes, timeout: Duration) -> Result<Bytes, HookError>;
}

impl ClientConfig {
    /// Scheme, host and port, and the rest of the URL.
    fn parts(&self) -> Result<(String, &str), HookError> {
        match (&self.url, &self.service) {
            (Some(url), None) => split(url),
            (None, Some(ServiceReference { namespace, name, path, port })) => {
                let base = format!("https://{name}.{namespace}.svc:{}", port.unwrap_or(443));
                Ok((base, path.as_deref().unwrap_or_default()))
            }
            _ => Err(HookError::Config(
                "exactly one of url or service is required in a webhook's clientConfig".to_owned(),
            )),
        }
    }
}

fn split(url: &str) -> Result<(String, &str), HookError> {
    let wrong = || HookError::Config(format!("{url:?} is no https:// URL"));
    let rest = url.strip_prefix("https://").ok_or_else(wrong)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    Ok((format!("https://{authority}"), path))
}

/// Calls webhooks over the network.
pub struct Hooks {
    pool: Pool,
}

impl Hooks {
    /// Finds Services' endpoints in `lister`.
    pub fn new(lister: Arc<dyn Lister>) -> Self {
        Self { pool: Pool::new(lister) }
    }

    async fn ask(&self, to: &ClientConfig, body: Bytes, url: &str, base: &str) -> Result<Bytes, HookError> {
        let unreachable = |cause: String| HookError::Unreachable { url: url.to_owned(), cause };
        let uri: Uri = url.parse().map_err(|_| HookError::Config(format!("{url:?} is no URL")))?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        request.headers_mut().extend([(CONTENT_TYPE, JSON), (ACCEPT, JSON), (USER_AGENT, AGENT)]);
        let client = self.pool.client(to, base)?;
        let response = client.request(request).await.map_err(|error| unreachable(refusal::cause(&error)))?;
        let code = response.status();
        let body = read(response).await.map_err(unreachable)?;
        match code.is_success() {
            true => Ok(body),
            false => Err(refusal::refused(code, &body)),
        }
    }
}

#[async_trait]
impl Caller for Hooks {
    async fn call(&self, to: &ClientConfig, body: Bytes, timeout: Duration) -> Result<Bytes, HookError> {
        let (base, path) = to.parts()?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        let url = format!("{base}{slash}{path}?timeout={}s", timeout.as_secs());
        let asked = tokio::time::timeout(timeout, self.ask(to, body, &url, &base)).await;
        asked.unwrap_or_else(|_| {
            Err(HookError::Unreachable { url, cause: "context deadline exceeded".to_owned() })
        })
    }
}

async fn read(response: Response<Incoming>) -> Result<Bytes, String> {
    if response.body().size_hint().lower() > ANSWER_MAX as u64 {
        return Err(refusal::too_large());
    }
    let all = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
    all.map(|all| all.to_bytes()).map_err(|error| refusal::cause(error.as_ref()))
}
