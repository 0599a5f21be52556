//! Connections to kubelets and endpoints: TCP, TLS where asked, HTTP/1.1 (the only version with upgrades).
//!
//! One connection per stream: streams are long and few, and a raw upgraded connection cannot be pooled anyway.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tiphys_client::AnyServer;
use tiphys_client::remote::Link;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::pass::{Passage, authority};
use crate::http::incoming::RequestBody;
use crate::http::listen;

/// How long connecting may take, handshakes included.
const CONNECT: Duration = Duration::from_secs(10);

/// How the server shows itself to kubelets.
pub struct KubeletTls {
    /// Client certificate and intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// CAs of the kubelets' serving certificates. Empty: not verified, as kube-apiserver does without
    /// `--kubelet-certificate-authority`.
    pub cas: Vec<CertificateDer<'static>>,
}

/// The keys given cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the certificate, key or CA for connections to kubelets cannot be used: {0}")]
pub struct Error(#[from] rustls::Error);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers.
    #[error("dial tcp {address}: {source}")]
    Dial {
        /// Host and port.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It took too long.
    #[error("dial tcp {0}: i/o timeout")]
    Timeout(String),
    /// There is no endpoint to connect to.
    #[error("{0}")]
    Service(String),
    /// The host is no valid name for TLS.
    #[error("{0:?} is no valid host name")]
    Host(String),
    /// The HTTP exchange failed.
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// Makes connections.
pub struct Connector {
    kubelet: TlsConnector,
    /// For endpoints over https: pods have no certificates that anyone could verify.
    endpoint: TlsConnector,
}

impl Connector {
    /// Prepares TLS.
    pub fn new(tls: KubeletTls) -> Result<Self, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder =
            || ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let anyone = || Arc::new(AnyServer::new(provider.clone()));
        let kubelet = if tls.cas.is_empty() {
            builder()?.dangerous().with_custom_certificate_verifier(anyone())
        } else {
            let mut roots = RootCertStore::empty();
            for ca in tls.cas {
                roots.add(ca)?;
            }
            builder()?.with_root_certificates(roots)
        };
        let kubelet = kubelet.with_client_auth_cert(tls.chain, tls.key)?;
        let endpoint =
            builder()?.dangerous().with_custom_certificate_verifier(anyone()).with_no_client_auth();
        Ok(Self { kubelet: Arc::new(kubelet).into(), endpoint: Arc::new(endpoint).into() })
    }

    /// Sends a request along a passage; the answer may be an upgrade.
    pub async fn send(
        &self,
        passage: &Passage,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, ConnectError> {
        let address = passage.authority();
        let connected = tokio::time::timeout(CONNECT, self.connect(passage, &address)).await;
        let mut sender = connected.map_err(|_| ConnectError::Timeout(address))??;
        Ok(sender.send_request(request).await?)
    }

    async fn connect(
        &self,
        passage: &Passage,
        address: &str,
    ) -> Result<http1::SendRequest<RequestBody>, ConnectError> {
        let socket = dial(&passage.host, passage.port, address).await?;
        if !passage.tls {
            return handshake(socket).await;
        }
        let name = ServerName::try_from(passage.host.clone())
            .map_err(|_| ConnectError::Host(passage.host.clone()))?;
        let connector = if passage.kubelet { &self.kubelet } else { &self.endpoint };
        let refused = |source| ConnectError::Dial { address: address.to_owned(), source };
        handshake(connector.connect(name, socket).await.map_err(refused)?).await
    }
}

/// A TCP connection; `address` names it in an error.
pub async fn dial(host: &str, port: u16, address: &str) -> Result<TcpStream, ConnectError> {
    let refused = |source| ConnectError::Dial { address: address.to_owned(), source };
    let socket = TcpStream::connect((host, port)).await.map_err(refused)?;
    listen::prepare(&socket);
    Ok(socket)
}

/// A TLS connection to a server of this name, for requests that a pool sends.
pub async fn secure(
    tls: &TlsConnector,
    name: ServerName<'static>,
    host: &str,
    port: u16,
) -> Result<Link, ConnectError> {
    let address = authority(host, port);
    let socket = dial(host, port, &address).await?;
    let stream = tls.connect(name, socket).await;
    Ok(Link::http1(Box::new(stream.map_err(|source| ConnectError::Dial { address, source })?)))
}

async fn handshake<S>(stream: S) -> Result<http1::SendRequest<RequestBody>, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends by itself once the answer's body or the upgraded stream is dropped.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a node or endpoint ended");
        }
    });
    Ok(sender)
}
