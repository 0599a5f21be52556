//! A small HTTP server: whoever asks is told something, by the path. Nothing else is read of a request.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections to one port at a time; load balancers need a few.
const CONNECTIONS: usize = 64;
/// How long a connection may say nothing.
const SILENCE: Duration = Duration::from_secs(10);

/// What is told.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Serves until dropped; what is answered at a path is found at the moment of the question.
pub(crate) async fn serve(listener: TcpListener, answer: impl Fn(&str) -> Answer + Send + Sync + 'static) {
    let (room, answer) = (Arc::new(Semaphore::new(CONNECTIONS)), Arc::new(answer));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // No file is left to open, most likely; the next try shall not spin.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answer = answer(request.uri().path());
                async { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(SILENCE)
                .serve_connection(TokioIo::new(stream), service);
            // A client that goes away in the middle is nobody's trouble.
            let _ = connection.await;
            drop(permit);
        });
    }
}

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, body: String) -> Answer {
    with_type(status, "application/json", body)
}

/// An answer in plain words.
pub(crate) fn text(status: StatusCode, body: String) -> Answer {
    with_type(status, "text/plain; version=0.0.4; charset=utf-8", body)
}

fn with_type(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
