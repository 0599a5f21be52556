//! Whether the kubelet is healthy, told to whoever asks on this machine: plain HTTP, for supervisors.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, Request};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{BREATH, HEAD, routes};
use crate::configuration::Settings;

/// How long a connection may stay open.
const LIFE: Duration = Duration::from_secs(60);

/// Listens and serves until it is dropped. A port that another program has is no reason not to run pods.
pub(crate) async fn serve(settings: &Settings) {
    if settings.healthz_port == 0 {
        return;
    }
    let address = SocketAddr::new(settings.healthz_bind_address, settings.healthz_port);
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => return tracing::info!(%address, %error, "the kubelet's health is not served"),
    };
    let mut connections = JoinSet::new();
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            tokio::time::sleep(BREATH).await;
            continue;
        };
        let answer = service_fn(|request: Request<Incoming>| async move {
            let path = request.uri().path().trim_matches('/');
            let get = matches!(*request.method(), Method::GET | Method::HEAD);
            Ok::<_, Infallible>(match path {
                "healthz" | "healthz/ping" | "healthz/log" | "healthz/syncloop" if get => {
                    routes::text(200, "ok")
                }
                _ => routes::text(404, "404 page not found\n"),
            })
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD);
        let served = http.serve_connection(TokioIo::new(tcp), answer);
        connections.spawn(async move { drop(tokio::time::timeout(LIFE, served).await) });
        while connections.try_join_next().is_some() {}
    }
}
