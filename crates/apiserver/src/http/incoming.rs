//! Request bodies: bounded, and the same type whether they come from a connection or from a test.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use tiphys_api::Status;

use super::body::BodyError;

/// The largest request body, in bytes: as kube-apiserver's limit.
pub const LIMIT: usize = 3 * 1024 * 1024;

/// The body of a request.
pub enum RequestBody {
    /// From a connection.
    Incoming(Incoming),
    /// From memory.
    Full(Bytes),
}

impl RequestBody {
    /// No body.
    pub fn empty() -> Self {
        Self::Full(Bytes::new())
    }

    /// Reads the whole body; 413 when it is over [`LIMIT`].
    pub async fn collect(self, headers: &HeaderMap) -> Result<Bytes, Status> {
        let announced =
            headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > LIMIT) {
            return Err(too_large());
        }
        match self {
            Self::Full(bytes) if bytes.len() > LIMIT => Err(too_large()),
            Self::Full(bytes) => Ok(bytes),
            Self::Incoming(body) => Limited::new(body, LIMIT)
                .collect()
                .await
                .map(|all| all.to_bytes())
                .map_err(|error| broken(&error)),
        }
    }
}

fn too_large() -> Status {
    Status::too_large(format!("Request entity too large: limit is {LIMIT}"))
}

fn broken(error: &BodyError) -> Status {
    match error.downcast_ref::<LengthLimitError>() {
        Some(_) => too_large(),
        None => Status::bad_request(format!("the request body could not be read: {error}")),
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.get_mut() {
            Self::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Incoming(body) => body.is_end_stream(),
            Self::Full(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Incoming(body) => body.size_hint(),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}
