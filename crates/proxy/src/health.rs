//! `healthCheckNodePort`: tells a load balancer whether this node has endpoints of a Service, as JSON with status 200 or 503.
//!
//! A listener per port, opened and closed as Services come and go. What it answers is read at the moment of the question.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::RwLock;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use crate::model::Health;
use crate::tables::Key;

/// Connections to one port at a time; load balancers need a few.
const CONNECTIONS: usize = 64;
/// How long a connection may say nothing.
const SILENCE: Duration = Duration::from_secs(10);

type Answers = Arc<RwLock<BTreeMap<u16, (Key, usize)>>>;

/// All ports on which health is told.
#[derive(Default)]
pub(crate) struct Server {
    services: HashMap<Key, Health>,
    answers: Answers,
    listeners: HashMap<u16, AbortOnDropHandle<()>>,
}

impl Server {
    /// Makes one Service's health known, or unknown.
    pub(crate) async fn set(&mut self, key: &str, health: Option<Health>) {
        let old = self.services.remove(key);
        let own = |port: &u16| self.answers.read().get(port).is_some_and(|(owner, _)| **owner == *key);
        let left = old.map(|old| old.port).filter(|port| health.as_ref().is_none_or(|h| h.port != *port));
        // Another Service may have been given the port in the meantime.
        if let Some(port) = left.filter(own) {
            self.listeners.remove(&port);
            self.answers.write().remove(&port);
        }
        let Some(health) = health else { return };
        self.answers.write().insert(health.port, (key.into(), health.local_endpoints));
        if !self.listeners.contains_key(&health.port) {
            match listen(health.port).await {
                Ok(listener) => {
                    let task = tokio::spawn(serve(listener, health.port, self.answers.clone()));
                    self.listeners.insert(health.port, AbortOnDropHandle::new(task));
                }
                Err(error) => {
                    tracing::warn!(%error, port = health.port, service = key, "cannot tell the Service's health");
                }
            }
        }
        self.services.insert(key.into(), health);
    }
}

/// On all addresses of both families, or of IPv4 where there is no other.
async fn listen(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await,
    }
}

async fn serve(listener: TcpListener, port: u16, answers: Answers) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // No file is left to open, most likely; the next try shall not spin.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let answers = answers.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                drop(request);
                let answer = answer(answers.read().get(&port));
                async { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(SILENCE)
                .serve_connection(TokioIo::new(stream), service);
            // A load balancer that goes away in the middle is nobody's trouble.
            let _ = connection.await;
            drop(permit);
        });
    }
}

fn answer(known: Option<&(Key, usize)>) -> Response<Full<Bytes>> {
    let (key, local) = known.map_or(("/", 0), |(key, local)| (key.as_ref(), *local));
    let (namespace, name) = key.split_once('/').unwrap_or_default();
    let body = format!(
        "{{\"service\":{{\"namespace\":\"{namespace}\",\"name\":\"{name}\"}},\"localEndpoints\":{local},\"serviceProxyHealthy\":true}}"
    );
    let mut response = Response::new(Full::from(body));
    if local == 0 {
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    }
    let headers = response.headers_mut();
    headers.insert("content-type", http::HeaderValue::from_static("application/json"));
    headers.insert("x-content-type-options", http::HeaderValue::from_static("nosniff"));
    headers.insert("x-load-balancing-endpoint-weight", http::HeaderValue::from(local));
    response
}
