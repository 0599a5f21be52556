//! One member's address, and how a connection to it is made: TCP, and TLS as the certificates say.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::ConnectError;

/// How long a connection may take to make, TLS included.
const DIAL: Duration = Duration::from_secs(2);
/// How long a busy connection may be silent before it is asked whether it lives: etcd counts pings more often than every
/// five seconds, or on idle connections, as an attack.
const PING: Duration = Duration::from_secs(6);
/// How long it may take to answer that.
const PONG: Duration = Duration::from_secs(3);
/// What the peer may send ahead on one stream, and on one connection, in bytes: lists are large.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// The files of TLS, all PEM. They are read anew for every connection, so that renewed ones count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// The CAs that etcd's servers are trusted by; needed for `https`.
    pub ca: Option<PathBuf>,
    /// This client's certificate ...
    pub cert: Option<PathBuf>,
    /// ... and its key.
    pub key: Option<PathBuf>,
}

/// A stream of bytes to a member.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A member's URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    host: String,
    port: u16,
    secure: bool,
}

impl Address {
    /// From `http://host:port` or `https://host:port`.
    pub fn parse(url: &str) -> Result<Self, ConnectError> {
        let wrong = || ConnectError::Url(url.to_owned());
        let uri: http::Uri = url.trim_end_matches('/').parse().map_err(|_| wrong())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let host = uri.host().ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned();
        Ok(Self { host, port: uri.port_u16().unwrap_or(2379), secure })
    }

    /// A channel that dials on first use, and again whenever its connection broke.
    pub fn channel(&self, tls: &Tls) -> Result<Channel, ConnectError> {
        let wrong = |_| ConnectError::Url(format!("{}:{}", self.host, self.port));
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        // tonic is told `http` because TLS is made here.
        let endpoint = Endpoint::from_shared(format!("http://{host}:{}", self.port))
            .map_err(wrong)?
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let (address, tls) = (Arc::new(self.clone()), Arc::new(tls.clone()));
        Ok(endpoint.connect_with_connector_lazy(service_fn(move |_: http::Uri| {
            let (address, tls) = (address.clone(), tls.clone());
            async move { address.dial(&tls).await.map(TokioIo::new) }
        })))
    }

    async fn dial(&self, tls: &Tls) -> io::Result<Box<dyn Io>> {
        match tokio::time::timeout(DIAL, self.open(tls)).await {
            Ok(opened) => opened,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer to the attempt to connect")),
        }
    }

    async fn open(&self, tls: &Tls) -> io::Result<Box<dyn Io>> {
        let socket = TcpStream::connect((self.host.as_str(), self.port)).await?;
        socket.set_nodelay(true)?;
        if !self.secure {
            return Ok(Box::new(socket));
        }
        let config = config(tls).map_err(io::Error::other)?;
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        Ok(Box::new(TlsConnector::from(Arc::new(config)).connect(name, socket).await?))
    }

    /// Whether the files that a connection needs are there and fit to be used.
    pub fn check(&self, tls: &Tls) -> Result<(), ConnectError> {
        if self.secure { config(tls).map(drop) } else { Ok(()) }
    }
}

/// rustls' configuration, from the files as they are now.
fn config(tls: &Tls) -> Result<ClientConfig, ConnectError> {
    let ca = tls.ca.as_ref().ok_or(ConnectError::NoCa)?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|error| ConnectError::file(ca, &error))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectError::file(ca, &error))?
        .with_root_certificates(roots);
    let mut config = match (&tls.cert, &tls.key) {
        (Some(cert), Some(path)) => {
            let key = PrivateKeyDer::from_pem_file(path).map_err(|error| ConnectError::file(path, &error))?;
            let chain = certificates(cert)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| ConnectError::file(cert, &error))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let found = read().map_err(|error| ConnectError::file(path, &error))?;
    if found.is_empty() { Err(ConnectError::file(path, &"no certificate in it")) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let of = |url| Address::parse(url).map(|a| (a.host, a.port, a.secure)).ok();
        assert_eq!(of("http://127.0.0.1:2379"), Some(("127.0.0.1".into(), 2379, false)));
        assert_eq!(of("https://etcd-1.example/"), Some(("etcd-1.example".into(), 2379, true)));
        assert_eq!(of("https://[::1]:1"), Some(("::1".into(), 1, true)));
        assert_eq!(of("127.0.0.1:2379"), None);
        assert_eq!(of("unix:///x"), None);
    }

    #[test]
    fn a_missing_file_is_named() {
        let address = Address::parse("https://127.0.0.1").unwrap();
        assert!(matches!(address.check(&Tls::default()), Err(ConnectError::NoCa)));
        let tls = Tls { ca: Some("/nowhere/ca.crt".into()), ..Tls::default() };
        assert!(address.check(&tls).unwrap_err().to_string().contains("/nowhere/ca.crt"));
    }
}
