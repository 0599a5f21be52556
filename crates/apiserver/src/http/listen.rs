//! The listening socket, TLS, and one task per connection: HTTP/2 or HTTP/1.1 by ALPN.
//!
//! - Own accept loop, so that limits and draining are explicit: many streams per HTTP/2 connection (client-go puts all
//!   its watches on one), pings that notice dead peers, a limit on how long headers may take.
//! - Upgrades (exec, port-forward) exist on HTTP/1.1 only; so both protocols are always offered.
//! - On stop: no new connections, HTTP/2 peers get GOAWAY, HTTP/1.1 peers `Connection: close`; what is running may
//!   finish within [`DRAIN`].

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::Body;
use super::cork::{Corked, Turns};
use super::incoming::RequestBody;
use super::server::{Peer, Server};
use super::tls::{self, Identity};

/// How long running requests may take once the server was told to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the headers of an HTTP/1.1 request may take, idle time included: longer than clients keep idle
/// connections (90 s in Go), so that it is they who close them.
const HEADERS: Duration = Duration::from_secs(120);
/// Streams on one HTTP/2 connection: a controller manager holds a watch per kind, and a load generator many requests.
const STREAMS: u32 = 2000;
/// What a peer may send ahead on one stream, and on one connection, in bytes.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// How much of an answer waits in memory for a slow peer, per stream, in bytes.
const SEND_BUFFER: usize = 256 * 1024;
/// How often a quiet HTTP/2 peer is asked whether it lives, and how long it may take to answer.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);

/// How long a connection is quiet before the kernel asks whether the peer lives, and between two questions; and how many
/// stay without an answer.
const PROBE: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port is taken.
    #[error(
        "port {port} on {ip} is in use by another program; stop that one (`ss -ltnp 'sport = :{port}'` shows it) or \
         choose another port with --https-port"
    )]
    Occupied {
        /// Address asked for.
        ip: std::net::IpAddr,
        /// Port asked for.
        port: u16,
    },
    /// The address does not exist here, or the port needs privileges.
    #[error("cannot listen on {address}: {source}; check --bind-address and --https-port")]
    Bind {
        /// Address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificate or key cannot be used.
    #[error("the server's certificate and key cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

/// Takes the port. Port 0 takes any free one.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => Error::Occupied { ip: address.ip(), port: address.port() },
        _ => Error::Bind { address, source },
    })
}

/// Where and as whom to serve.
pub struct Config {
    /// A socket from [`bind`].
    pub listener: TcpListener,
    /// The server's certificate and key, and which client CAs it names to clients.
    pub identity: Identity,
}

/// Serves until `stop`, then drains. Errors only before the first connection.
pub async fn serve(config: Config, server: Arc<Server>, stop: CancellationToken) -> Result<(), Error> {
    let acceptor = TlsAcceptor::from(Arc::new(tls::config(config.identity)?));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = config.listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, from)) => {
                let connection = connection(socket, from, acceptor.clone(), server.clone(), stop.clone());
                connections.spawn(connection);
            }
            Err(error) => accept_failed(&error).await,
        }
    }
    drop(config.listener);
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!(left = connections.len(), "connections still busy after the drain time are cut off");
    }
    Ok(())
}

/// Too many open files, or a peer that was gone at once: give running requests a moment to release what is short.
async fn accept_failed(error: &std::io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

async fn connection(
    socket: TcpStream,
    from: SocketAddr,
    acceptor: TlsAcceptor,
    server: Arc<Server>,
    stop: CancellationToken,
) {
    let local = socket.local_addr().is_ok_and(|address| address.ip() == from.ip()) || from.ip().is_loopback();
    prepare(&socket);
    let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(socket));
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%from, %error, "TLS handshake failed"),
        Err(_) => return tracing::debug!(%from, "TLS handshake took too long"),
    };
    let peer = Arc::new(Peer::new(from, local, tls::peer_certificates(&stream)));
    let ended = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => serve_h2(stream, server, peer, stop).await,
        _ => serve_h1(stream, server, peer, stop).await,
    };
    if let Err(error) = ended {
        tracing::debug!(%from, %error, "connection ended");
    }
}

/// Small answers go out at once, and a peer that vanished without a word is noticed: a stream may have nothing to say to
/// it for ever. Where the system refuses, it works as well, but less so.
pub fn prepare(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(socket, true);
    let _ = sockopt::set_tcp_keepidle(socket, PROBE);
    let _ = sockopt::set_tcp_keepintvl(socket, PROBE);
    let _ = sockopt::set_tcp_keepcnt(socket, PROBES);
}

async fn serve_h2(
    stream: TlsStream<TcpStream>,
    server: Arc<Server>,
    peer: Arc<Peer>,
    stop: CancellationToken,
) -> Result<(), hyper::Error> {
    let service = service_fn(move |request| handle(server.clone(), peer.clone(), request));
    let turns = Turns::default();
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(64 * 1024)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .serve_connection(TokioIo::new(Corked::new(stream, turns.clone())), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = turns.of(connection.as_mut()) => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            turns.of(connection).await
        }
    }
}

async fn serve_h1(
    stream: TlsStream<TcpStream>,
    server: Arc<Server>,
    peer: Arc<Peer>,
    stop: CancellationToken,
) -> Result<(), hyper::Error> {
    let service = service_fn(move |request| handle(server.clone(), peer.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

async fn handle(
    server: Arc<Server>,
    peer: Arc<Peer>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    Ok(server.handle(&peer, request.map(RequestBody::Incoming)).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_occupied_port_is_named() {
        let taken = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind(address).await.unwrap_err().to_string();
        assert!(error.contains(&format!("port {} on 127.0.0.1 is in use", address.port())), "{error}");
    }
}
