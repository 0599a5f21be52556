//! `healthCheckNodePort`: tells a load balancer whether this node has endpoints of a Service, as JSON with status 200 or 503.
//!
//! A listener per port, opened and closed as Services come and go. What it answers is read at the moment of the question.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use parking_lot::RwLock;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::http::{Answer, json, serve};
use crate::model::Health;
use crate::tables::Key;

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
                    let (answers, port) = (self.answers.clone(), health.port);
                    let task = tokio::spawn(serve(listener, move |_| answer(answers.read().get(&port))));
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

fn answer(known: Option<&(Key, usize)>) -> Answer {
    let (key, local) = known.map_or(("/", 0), |(key, local)| (key.as_ref(), *local));
    let (namespace, name) = key.split_once('/').unwrap_or_default();
    let body = format!(
        "{{\"service\":{{\"namespace\":\"{namespace}\",\"name\":\"{name}\"}},\"localEndpoints\":{local},\"serviceProxyHealthy\":true}}"
    );
    let status = if local == 0 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let mut answer = json(status, body);
    answer.headers_mut().insert("x-load-balancing-endpoint-weight", HeaderValue::from(local));
    answer
}
