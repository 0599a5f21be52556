//! The API of another process: HTTPS with HTTP/2 (or 1.1), client certificates or tokens.
//!
//! - One connection carries all requests and watches where the server has HTTP/2; dead ones are found by pings.
//! - Watches are decoded as they are read: a slow reader slows the server down, and memory stays bounded.
//! - A request is tried again only when the server asks for it (429 with a time); all else is the caller's business.
//!   A failure to reach the server at all is a [`Status`] 503 with the cause in its message.

mod config;
mod connect;
mod decode;
mod refusal;
mod request;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use bytes::Bytes;
use futures::StreamExt;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use tiphys_api::{Gvr, Object, Status};
use tokio::time::Instant;

use crate::{
    Client, DeleteOptions, ListOptions, ObjectList, PatchKind, Target, WatchOptions, WatchStream,
    WriteOptions,
};
pub(crate) use config::read;
pub use config::{Config, ConfigError, Identity};
use connect::Dialer;
pub use connect::{ByteStream, Link};
use decode::Frames;
pub use refusal::{Refusal, tls_error};
use request::Query;

const PING_EVERY: Duration = Duration::from_secs(30);
const PING_WAIT: Duration = Duration::from_secs(15);
/// How many bytes of one answer may lie unread, and of all: a watch whose reader is busy must not keep the answers to its
/// own requests from coming over the same connection.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;
/// Longest wait for the whole answer to anything but a watch.
const ANSWER_WAIT: Duration = Duration::from_secs(65);
const TRIES: u32 = 5;
/// A token file is read again when what we know is older.
const TOKEN_AGE: Duration = Duration::from_secs(60);
const JSON: &str = "application/json";

type Connector = tower::util::BoxCloneSyncService<http::Uri, Link, std::io::Error>;

/// The way to a server: whoever has one has a [`Client`].
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends a request with our identity. `path` starts with a slash and may hold a query. The answer may be an error of
    /// the server; `Err` means that there is no answer.
    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(http::HeaderName, &str)],
        body: Bytes,
    ) -> Result<Response<Incoming>, Status>;
}

/// A [`Client`] over the network.
pub struct RemoteClient {
    pool: Pool<Connector, Full<Bytes>>,
    dialer: Dialer,
    base: String,
    authorization: Authorization,
    user_agent: HeaderValue,
}

enum Authorization {
    None,
    Fixed(HeaderValue),
    File(PathBuf, Mutex<Option<(Instant, HeaderValue)>>),
}

impl RemoteClient {
    /// A client of the configured server. Connects when first used.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let dialer = Dialer::new(config)?;
        let inner = dialer.clone();
        let connector = Connector::new(tower::service_fn(move |_| {
            let dialer = inner.clone();
            async move { dialer.link().await }
        }));
        let pool = Pool::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_WAIT)
            .build(connector);
        let agent = HeaderValue::from_str(&config.user_agent);
        Ok(Self {
            pool,
            dialer,
            base: config.server.to_string().trim_end_matches('/').to_owned(),
            authorization: Authorization::new(&config.identity),
            user_agent: agent.unwrap_or(HeaderValue::from_static("tiphys")),
        })
    }

    /// A request builder with our identity, for [`Self::open`] and the like. The URL is complete.
    pub async fn request(&self, method: Method, url: &str) -> Result<http::request::Builder, Status> {
        let builder = Request::builder().method(method).uri(url).header(USER_AGENT, self.user_agent.clone());
        match self.authorization.header().await? {
            Some(header) => Ok(builder.header(AUTHORIZATION, header)),
            None => Ok(builder),
        }
    }

    /// Base URL of the server, without a slash at the end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A fresh connection (TLS included) for one HTTP/1.1 upgrade, as exec and port-forward need it.
    pub async fn open(&self) -> std::io::Result<Box<dyn ByteStream>> {
        self.dialer.upgradable().await
    }
}

#[async_trait]
impl Transport for RemoteClient {
    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(http::HeaderName, &str)],
        body: Bytes,
    ) -> Result<Response<Incoming>, Status> {
        let mut request = self.request(method.clone(), &format!("{}{path}", self.base)).await?;
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request.body(Full::new(body)).map_err(|e| Status::bad_request(e.to_string()))?;
        let url = request.uri().clone();
        self.pool.request(request).await.map_err(|e| unreachable(&method, &url, &e))
    }
}

/// Sends, tries again when told so, and reads the whole answer.
async fn call(
    transport: &impl Transport,
    method: Method,
    path: &str,
    kind: &str,
    body: Bytes,
) -> Result<Bytes, Status> {
    let mut tries = 0;
    loop {
        tries += 1;
        let once = call_once(transport, method.clone(), path, kind, body.clone());
        let outcome = tokio::time::timeout(ANSWER_WAIT, once).await;
        let status = match outcome.unwrap_or_else(|_| Err(Status::timeout("the server did not answer"))) {
            Ok(body) => return Ok(body),
            Err(status) => status,
        };
        let pause = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        if status.code != 429 || pause == 0 || tries == TRIES {
            return Err(status);
        }
        tokio::time::sleep(Duration::from_secs(pause.into())).await;
    }
}

async fn call_once(
    transport: &impl Transport,
    method: Method,
    path: &str,
    kind: &str,
    body: Bytes,
) -> Result<Bytes, Status> {
    let headers = [(ACCEPT, JSON), (CONTENT_TYPE, kind)];
    let headers = if body.is_empty() { &headers[..1] } else { &headers[..] };
    let answer = transport.send(method, path, headers, body).await?;
    let code = answer.status();
    let body = answer.into_body().collect().await.map_err(|e| cut_off(&e))?.to_bytes();
    match code.is_success() {
        true => Ok(body),
        false => Err(decode::failure(code.as_u16(), &body)),
    }
}

#[async_trait]
impl<W: Transport> Client for W {
    async fn get(&self, target: &Target) -> Result<Object, Status> {
        decode::object(call(self, Method::GET, &request::path(&target.path()), JSON, Bytes::new()).await?)
    }

    async fn list(&self, gvr: &Gvr, namespace: &str, options: &ListOptions) -> Result<ObjectList, Status> {
        let path = collection(gvr, namespace, &Query::list(options));
        decode::list(&call(self, Method::GET, &path, JSON, Bytes::new()).await?)
    }

    async fn watch(&self, gvr: &Gvr, namespace: &str, options: &WatchOptions) -> Result<WatchStream, Status> {
        let path = collection(gvr, namespace, &Query::watch(options));
        let answer = self.send(Method::GET, &path, &[(ACCEPT, JSON)], Bytes::new()).await?;
        let (code, body) = (answer.status(), answer.into_body());
        if !code.is_success() {
            let body = body.collect().await.map_err(|e| cut_off(&e))?.to_bytes();
            return Err(decode::failure(code.as_u16(), &body));
        }
        Ok(events(body))
    }

    async fn create(&self, target: &Target, body: Bytes, options: &WriteOptions) -> Result<Object, Status> {
        let mut target = target.clone();
        if target.subresource.is_empty() {
            // A creation goes to the collection; the name is in the body.
            target.name.clear();
        }
        let path = request::path(&target.path()) + Query::write(options).as_str();
        decode::object(call(self, Method::POST, &path, JSON, body).await?)
    }

    async fn update(&self, target: &Target, body: Bytes, options: &WriteOptions) -> Result<Object, Status> {
        let path = request::path(&target.path()) + Query::write(options).as_str();
        decode::object(call(self, Method::PUT, &path, JSON, body).await?)
    }

    async fn patch(
        &self,
        target: &Target,
        kind: PatchKind,
        body: Bytes,
        options: &WriteOptions,
    ) -> Result<Object, Status> {
        let path = request::path(&target.path()) + Query::write(options).as_str();
        decode::object(call(self, Method::PATCH, &path, request::content_type(kind), body).await?)
    }

    async fn delete(&self, target: &Target, options: &DeleteOptions) -> Result<Option<Object>, Status> {
        let body = request::delete_options(options).to_string().into();
        decode::deleted(call(self, Method::DELETE, &request::path(&target.path()), JSON, body).await?)
    }

    async fn get_path(&self, path: &str) -> Result<Bytes, Status> {
        call(self, Method::GET, path, JSON, Bytes::new()).await
    }
}

fn collection(gvr: &Gvr, namespace: &str, query: &Query) -> String {
    request::path(&Target::new(gvr, namespace, "").path()) + query.as_str()
}

/// The events in a watch's body. Reads on only when asked for more.
fn events(body: Incoming) -> WatchStream {
    let start = Some((body, Frames::default()));
    let stream = futures::stream::unfold(start, |state| async move {
        let (mut body, mut frames) = state?;
        loop {
            match frames.next() {
                Some(Ok(event)) => return Some((Ok(event), Some((body, frames)))),
                Some(Err(status)) => return Some((Err(status), None)),
                None => {}
            }
            let taken = match body.frame().await? {
                Ok(frame) => frame.data_ref().map_or(Ok(()), |data| frames.push(data)),
                Err(error) => Err(cut_off(&error)),
            };
            if let Err(status) = taken {
                return Some((Err(status), None));
            }
        }
    });
    stream.boxed()
}

impl Authorization {
    fn new(identity: &Identity) -> Self {
        match identity {
            Identity::Anonymous | Identity::Certificate { .. } => Self::None,
            Identity::Token(token) => bearer(token).map_or(Self::None, Self::Fixed),
            Identity::TokenFile(path) => Self::File(path.clone(), Mutex::new(None)),
            Identity::Basic(user, password) => {
                let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
                HeaderValue::from_str(&format!("Basic {pair}")).map_or(Self::None, Self::Fixed)
            }
        }
    }

    async fn header(&self) -> Result<Option<HeaderValue>, Status> {
        let (path, known) = match self {
            Self::None => return Ok(None),
            Self::Fixed(header) => return Ok(Some(header.clone())),
            Self::File(path, known) => (path, known),
        };
        if let Some((read, header)) = &*known.lock()
            && read.elapsed() < TOKEN_AGE
        {
            return Ok(Some(header.clone()));
        }
        let why = |e: &dyn std::fmt::Display| {
            Status::failure(401, "Unauthorized", format!("{}: {e}", path.display()))
        };
        let text = tokio::fs::read_to_string(path).await.map_err(|e| why(&e))?;
        let header = bearer(text.trim()).ok_or_else(|| why(&"not a token"))?;
        *known.lock() = Some((Instant::now(), header.clone()));
        Ok(Some(header))
    }
}

fn bearer(token: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

fn unreachable(method: &Method, url: &http::Uri, error: &dyn std::error::Error) -> Status {
    // hyper's own words say little; the cause (connection refused, unknown issuer) is the last of the chain.
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Status::unavailable(format!("{method} {url:?}: {cause}"))
}

fn cut_off(error: &hyper::Error) -> Status {
    Status::unavailable(format!("the connection broke in the middle of an answer: {error}"))
}
