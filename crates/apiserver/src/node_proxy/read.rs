//! Reading a page from a kubelet whole, for this server's own use.

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::{BodyExt, Limited};
use tiphys_api::Object;

use super::connect::ConnectError;
use super::{NodeProxy, locate, pass};
use crate::http::incoming::RequestBody;

/// The largest page taken, in bytes: the metrics of many thousand containers.
const LARGEST: usize = 16 << 20;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The node does not say where its kubelet listens.
    #[error("the node has no kubelet that can be asked")]
    NoKubelet,
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The kubelet refuses.
    #[error("the kubelet answers {0}")]
    Refused(http::StatusCode),
    /// The page breaks off or is too large.
    #[error("{0}")]
    Body(String),
}

impl NodeProxy {
    /// Reads a path of a node's kubelet.
    pub async fn read(&self, node: &Object, path: &str) -> Result<Bytes, ReadError> {
        let node: locate::Node = node.decode().map_err(|error| ReadError::Body(error.to_string()))?;
        if !node.tells_its_port() {
            return Err(ReadError::NoKubelet);
        }
        let (host, port) = locate::kubelet_address(&node).ok_or(ReadError::NoKubelet)?;
        let passage = pass::Passage { kubelet: true, tls: true, host, port, path: path.to_owned() };
        let request = pass::request(&passage, Method::GET, HeaderMap::new(), RequestBody::empty());
        let request = request.map_err(|status| ReadError::Body(status.message))?;
        let response = self.connector.send(&passage, request).await?;
        if !response.status().is_success() {
            return Err(ReadError::Refused(response.status()));
        }
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        Ok(body.map_err(|error| ReadError::Body(error.to_string()))?.to_bytes())
    }
}
