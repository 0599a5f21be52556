//! As cheap a client as possible: requests and answers are bytes, watches are lines; nothing is parsed that need not be.
//!
//! It shares the machine with the server, so whatever it does is taken from what it measures. One [`Wire`] is one
//! HTTP/2 connection.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tiphys_client::kubeconfig::{Kubeconfig, Overrides};
use tiphys_client::remote::{Config, Identity, RemoteClient, Transport};
use tokio::time::timeout;

use crate::cluster::{HTTPS_PORT, PATIENCE};

const JSON: &str = "application/json";

/// A request that is ready to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Its path, with the query.
    pub path: String,
    /// Media type of the body.
    pub form: &'static str,
    /// Media type of the answer.
    pub accept: &'static str,
    /// Its body, if any.
    pub body: Bytes,
}

impl Request {
    /// A request with JSON, or with nothing.
    pub fn new(method: Method, path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { method, path: path.into(), form: JSON, accept: JSON, body: body.into() }
    }

    /// The same with a body of another form, as those of patches.
    #[must_use]
    pub fn form(mut self, form: &'static str) -> Self {
        self.form = form;
        self
    }

    /// The same with an answer of another form.
    #[must_use]
    pub fn accept(mut self, form: &'static str) -> Self {
        self.accept = form;
        self
    }
}

/// A connection to an API server.
#[derive(Clone)]
pub struct Wire(Arc<RemoteClient>);

impl Wire {
    /// As the kubeconfig says.
    pub fn new(kubeconfig: &Path) -> Result<Self> {
        let config = Kubeconfig::load(Some(kubeconfig))?.config(&Overrides::default())?;
        Ok(Self(Arc::new(RemoteClient::new(&config)?)))
    }

    /// As nobody, and trusting anyone: for health alone, before there is a kubeconfig.
    pub fn anonymous() -> Result<Self> {
        let server = format!("https://127.0.0.1:{HTTPS_PORT}");
        let mut config = Config::new(&server, Vec::new(), Identity::Anonymous)?;
        config.insecure = true;
        Ok(Self(Arc::new(RemoteClient::new(&config)?)))
    }

    /// Sends a request and reads the whole answer. An answer other than 2xx is an error.
    pub async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes> {
        self.perform(Request::new(method, path, body)).await
    }

    /// The same, of a request made before.
    pub async fn perform(&self, request: Request) -> Result<Bytes> {
        let all = async {
            let answer = self.open(&request).await?;
            let code = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            if !code.is_success() {
                let text = String::from_utf8_lossy(&body);
                bail!("{} {}: {code}: {text}", request.method, request.path);
            }
            Ok(body)
        };
        let answer = timeout(PATIENCE, all).await;
        answer.with_context(|| format!("{} {}: no answer", request.method, request.path))?
    }

    /// Sends a request and waits for the first of its body, no longer.
    pub async fn first_byte(&self, request: &Request) -> Result<Duration> {
        let start = Instant::now();
        let mut body = timeout(PATIENCE, self.open(request)).await??.into_body();
        timeout(PATIENCE, body.frame()).await?.context("an empty answer")??;
        Ok(start.elapsed())
    }

    /// Sends a request and forgets its answer as it comes. How many bytes it had.
    pub async fn skim(&self, request: &Request) -> Result<usize> {
        let mut body = timeout(PATIENCE, self.open(request)).await??.into_body();
        let mut bytes = 0;
        while let Some(frame) = timeout(PATIENCE, body.frame()).await? {
            bytes += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(bytes)
    }

    /// Creates an object in a collection.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Result<Bytes> {
        self.send(Method::POST, path, body.into()).await
    }

    /// Opens a watch; returns once the server has answered.
    pub async fn watch(&self, path: &str) -> Result<Lines> {
        let answer = timeout(PATIENCE, self.open(&Request::new(Method::GET, path, Bytes::new()))).await??;
        if !answer.status().is_success() {
            bail!("GET {path}: {}", answer.status());
        }
        Ok(Lines { body: answer.into_body(), buffer: BytesMut::new(), searched: 0 })
    }

    async fn open(&self, request: &Request) -> Result<http::Response<Incoming>> {
        let headers = [(ACCEPT, request.accept), (CONTENT_TYPE, request.form)];
        let headers = if request.body.is_empty() { &headers[..1] } else { &headers[..] };
        let sent = self.0.send(request.method.clone(), &request.path, headers, request.body.clone()).await;
        sent.map_err(|status| anyhow::anyhow!("{}: {}", request.path, status.message))
    }
}

/// The events of a watch, a line each.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    buffer: BytesMut,
    searched: usize,
}

impl Lines {
    /// The next line, without its end. One that tells of a failure is one.
    pub async fn next(&mut self) -> Result<Bytes> {
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(end) = fresh.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + end + 1);
                self.searched = 0;
                if line.starts_with(br#"{"type":"ERROR""#) {
                    bail!("the watch failed: {}", String::from_utf8_lossy(&line));
                }
                return Ok(line.freeze());
            }
            self.searched = self.buffer.len();
            let frame = timeout(PATIENCE, self.body.frame()).await.context("no event comes")?;
            let frame = frame.context("the server ended the watch")??;
            if let Some(data) = frame.data_ref() {
                self.buffer.extend_from_slice(data);
            }
        }
    }

    /// The next event, parsed: its type and its object.
    pub async fn event(&mut self) -> Result<(String, Value)> {
        let mut event: Value = serde_json::from_slice(&self.next().await?)?;
        let kind = event["type"].as_str().unwrap_or_default().to_owned();
        Ok((kind, event["object"].take()))
    }

    /// Reads on until an event is what is waited for.
    pub async fn until(&mut self, mut done: impl FnMut(&str, &Value) -> bool) -> Result<Value> {
        loop {
            let (kind, object) = self.event().await?;
            if done(&kind, &object) {
                return Ok(object);
            }
        }
    }
}
