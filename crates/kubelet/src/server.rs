//! The kubelet's HTTPS server: logs, exec, attach, port-forward, run, pods, health, metrics.
//!
//! - Who asks and whether they may is decided before anything is looked at ([`access`]).
//! - Streams are passed raw to the address that the runtime gives for them ([`upgrade`]): whatever protocol client and
//!   runtime speak, the kubelet does not interpret it.

pub(crate) mod access;
mod auth;
mod figures;
mod find;
pub(crate) mod healthz;
mod routes;
mod upgrade;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use auth::Who;

/// How long a client may take to greet.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client may take to say what it wants.
const HEAD: Duration = Duration::from_secs(30);
/// Before the next attempt to accept a connection after a failed one.
const BREATH: Duration = Duration::from_millis(50);

/// How the server is set up. Keys and certificates are PEM.
#[derive(Clone)]
pub struct Config {
    /// Address to listen on.
    pub address: IpAddr,
    /// Port to listen on, as 10250.
    pub port: u16,
    /// The server's certificate and those that signed it.
    pub certificate: String,
    /// The server's private key.
    pub key: String,
    /// Certificates of the authority whose clients are believed.
    pub client_ca: String,
}

/// Why the server cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not to be had.
    #[error("cannot listen on {address}: {source}; is another kubelet running?")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A certificate or key is of no use.
    #[error("the kubelet's serving certificates cannot be used: {0}")]
    Tls(String),
}

/// The server, listening.
pub(crate) struct Listener {
    tcp: TcpListener,
    tls: TlsAcceptor,
}

pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// Listens, and reads the certificates.
pub(crate) async fn bind(config: &Config) -> Result<Listener, Error> {
    let tls = auth::tls(config).map_err(Error::Tls)?;
    let address = SocketAddr::new(config.address, config.port);
    let tcp = TcpListener::bind(address).await.map_err(|source| Error::Bind { address, source })?;
    Ok(Listener { tcp, tls: TlsAcceptor::from(Arc::<ServerConfig>::new(tls)) })
}

/// Serves until the stop.
pub(crate) async fn serve(listener: Listener, ctx: Arc<Context>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.tcp.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let Ok((tcp, _)) = accepted else {
            // Out of file descriptors: those in use end first.
            tokio::time::sleep(BREATH).await;
            continue;
        };
        let (tls, ctx, stop) = (listener.tls.clone(), ctx.clone(), stop.clone());
        tokio::spawn(async move { stop.run_until_cancelled(Box::pin(connection(tcp, tls, ctx))).await });
    }
}

async fn connection(tcp: TcpStream, tls: TlsAcceptor, ctx: Arc<Context>) {
    let _ = tcp.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(tcp)).await else { return };
    let who = Arc::new(auth::who(&stream));
    let service = service_fn(move |request: Request<Incoming>| {
        let (ctx, who) = (ctx.clone(), who.clone());
        async move { Ok::<_, Infallible>(answer(&ctx, &who, request).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let served = http.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.with_upgrades().await {
        tracing::debug!(%error, "a connection to the kubelet ended badly");
    }
}

async fn answer(ctx: &Arc<Context>, who: &Who, request: Request<Incoming>) -> Response<Body> {
    match access::check(ctx, who, &request).await {
        Ok(()) => Box::pin(routes::route(ctx, request)).await,
        Err((code, message)) => routes::text(code, message),
    }
}
