//! The socket, TLS with client certificates, and HTTP/2 connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tiphys_store::Store;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::tls::{self, Identity};
use crate::{Api, route};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Streams on one connection: an API server holds a watch per kind.
const STREAMS: u32 = 2000;
/// What a peer may send ahead on one stream, and on one connection, in bytes.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// How often a quiet peer is asked whether it lives, and how long it may take to answer.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);
/// Pause after a connection could not be accepted: there may be too many open files.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Where and for whom to answer.
pub struct Config {
    /// What is served.
    pub store: Arc<dyn Store>,
    /// The socket.
    pub listener: TcpListener,
    /// Who this is, and whose clients may come in.
    pub identity: Identity,
    /// Name of this member, for `etcdctl member list`.
    pub name: String,
    /// A directory for files of some moments, as large as the store: snapshots are put together there.
    pub scratch: PathBuf,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket is none.
    #[error("the etcd API cannot listen: {0}")]
    Socket(#[from] std::io::Error),
    /// A certificate or key is not usable.
    #[error("the certificates of the etcd API cannot be used: {0}")]
    Tls(#[from] tls::Error),
}

/// Serves until `stop`. Connections end with it: etcd's clients connect again by themselves.
pub async fn serve(config: Config, stop: CancellationToken) -> Result<(), Error> {
    let address = config.listener.local_addr()?;
    let api = Api {
        store: config.store,
        name: config.name,
        url: format!("https://{address}"),
        scratch: config.scratch,
    };
    let api = Arc::new(api);
    let acceptor = TlsAcceptor::from(Arc::new(tls::config(&config.identity)?));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            accepted = config.listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, from)) => {
                let serving = connection(socket, from, acceptor.clone(), api.clone());
                let stop = stop.clone();
                tokio::spawn(async move { stop.run_until_cancelled(serving).await });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the etcd API could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn connection(socket: TcpStream, from: SocketAddr, acceptor: TlsAcceptor, api: Arc<Api>) {
    // Small answers go out at once.
    let _ = socket.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%from, %error, "TLS handshake with an etcd client failed"),
        Err(_) => return tracing::debug!(%from, "TLS handshake with an etcd client took too long"),
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let admitted = tls::is_master(chain);
    if !admitted {
        tracing::warn!(%from, "an etcd client was refused: its certificate does not say O=system:masters");
    }
    let service = service_fn(move |request| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(route::answer(api, admitted, request).await) }
    });
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%from, %error, "an etcd client's connection ended");
    }
}
