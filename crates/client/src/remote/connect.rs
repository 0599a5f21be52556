//! Connections to an API server: TCP, TLS when the URL says so, and what ALPN agreed on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::config::{Config, ConfigError};

const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// Opens connections to one server.
#[derive(Clone)]
pub(super) struct Dialer {
    authority: Arc<str>,
    /// TLS for requests, TLS for upgrades (HTTP/1.1 only), and the name to expect.
    tls: Option<(TlsConnector, TlsConnector, ServerName<'static>)>,
}

/// A byte stream to the server, for protocols of their own after an upgrade.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// A connection as hyper's pool wants it.
pub struct Link {
    stream: TokioIo<Box<dyn ByteStream>>,
    http2: bool,
}

impl Link {
    /// Over a stream, for HTTP/1.1.
    pub fn http1(stream: Box<dyn ByteStream>) -> Self {
        Self { stream: TokioIo::new(stream), http2: false }
    }
}

impl Dialer {
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        let tls = match config.server.scheme_str() {
            Some("https") => {
                let mut upgrades = config.tls()?;
                upgrades.alpn_protocols = vec![HTTP1.to_vec()];
                let mut requests = upgrades.clone();
                requests.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
                let name = config.expected_name()?;
                Some((Arc::new(requests).into(), Arc::new(upgrades).into(), name))
            }
            _ => None,
        };
        Ok(Self { authority: config.authority().into(), tls })
    }

    /// A connection for requests: HTTP/2 if the server has it.
    pub(super) async fn link(&self) -> io::Result<Link> {
        let tcp = self.tcp().await?;
        let Some((connector, _, name)) = &self.tls else {
            return Ok(Link::http1(Box::new(tcp)));
        };
        let stream = connector.connect(name.clone(), tcp).await?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
        Ok(Link { stream: TokioIo::new(Box::new(stream)), http2 })
    }

    /// A connection for one HTTP/1.1 upgrade.
    pub(super) async fn upgradable(&self) -> io::Result<Box<dyn ByteStream>> {
        let tcp = self.tcp().await?;
        match &self.tls {
            None => Ok(Box::new(tcp)),
            Some((_, connector, name)) => Ok(Box::new(connector.connect(name.clone(), tcp).await?)),
        }
    }

    async fn tcp(&self) -> io::Result<TcpStream> {
        let tcp = TcpStream::connect(self.authority.as_ref()).await?;
        tcp.set_nodelay(true)?;
        Ok(tcp)
    }
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        match self.http2 {
            true => Connected::new().negotiated_h2(),
            false => Connected::new(),
        }
    }
}

impl hyper::rt::Read for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl hyper::rt::Write for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
