//! One GET for probes and hooks: an own connection, no redirect is followed, certificates are not checked (the probe
//! asks whether the container answers, not who it is), as the kubelet does it.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tiphys_client::AnyServer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What to get.
pub(crate) struct Request {
    pub(crate) tls: bool,
    pub(crate) address: SocketAddr,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
}

/// How much of an answer is read to let the server end it well; a probe needs none of it.
const BODY_MAX: usize = 10 * 1024;

/// Returns the status code.
pub(crate) async fn get(request: &Request, limit: Duration) -> Result<u16, String> {
    let scheme = if request.tls { "https" } else { "http" };
    let path =
        if request.path.starts_with('/') { request.path.clone() } else { format!("/{}", request.path) };
    let url = format!("{scheme}://{}{path}", request.address);
    let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    match tokio::time::timeout(limit, attempt(request, &path)).await {
        Ok(result) => result.map_err(|error| format!("Get {url:?}: {error}")),
        Err(_) => Err(format!("Get {url:?}: {late}")),
    }
}

async fn attempt(request: &Request, path: &str) -> Result<u16, String> {
    let tcp = TcpStream::connect(request.address).await;
    let tcp = tcp.map_err(|error| format!("dial tcp {}: {}", request.address, plain(&error)))?;
    if !request.tls {
        return exchange(tcp, request, path).await;
    }
    let name = ServerName::from(request.address.ip());
    let tls = TlsConnector::from(UNCHECKED.clone()).connect(name, tcp).await;
    exchange(tls.map_err(|error| error.to_string())?, request, path).await
}

async fn exchange<S>(stream: S, request: &Request, path: &str) -> Result<u16, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let asked = ask(request, path)?;
    let exchange = async {
        let mut answer = sender.send_request(asked).await.map_err(|e| e.to_string())?;
        let status = answer.status().as_u16();
        let mut read = 0;
        while let Some(Ok(frame)) = answer.body_mut().frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > BODY_MAX {
                break;
            }
        }
        Ok(status)
    };
    // The connection ends with this call: whichever is done first drops the other.
    let driven = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = exchange => answer,
        () = driven => Err("EOF".into()),
    }
}

fn ask(request: &Request, path: &str) -> Result<http::Request<Empty<Bytes>>, String> {
    let mut builder = http::Request::get(path);
    let given = |name: &str| request.headers.iter().any(|(header, _)| header.eq_ignore_ascii_case(name));
    if !given("host") {
        builder = builder.header("Host", request.address.to_string());
    }
    if !given("user-agent") {
        builder = builder.header("User-Agent", concat!("kube-probe/", "1.36"));
    }
    if !given("accept") {
        builder = builder.header("Accept", "*/*");
    }
    builder = builder.header("Connection", "close");
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    builder.body(Empty::new()).map_err(|e| e.to_string())
}

/// An I/O error as Go words it.
pub(crate) fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".into(),
        std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".into(),
        std::io::ErrorKind::TimedOut => "i/o timeout".into(),
        _ => error.to_string(),
    }
}

static UNCHECKED: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.expect("the provider supports the default versions of TLS");
    let verifier = Arc::new(AnyServer::new(provider));
    Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
});
