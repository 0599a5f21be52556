//! The hello server's gRPC side: `grpc.health.v1.Health/Check`, which gRPC probes ask, written by hand over HTTP/2.
//!
//! gRPC frames a message with a flag and its length, and says how a call ended in trailers (gRPC over HTTP/2). The two
//! messages have one field each, so no protobuf library is needed. The services are made up, one per answer that a
//! probe must tell apart: `""` and `hello` serve, `closed` does not, any other is unknown.

use std::future::ready;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Request, Response};

const CHECK: &str = "/grpc.health.v1.Health/Check";
/// Numbers of `HealthCheckResponse.ServingStatus`.
const SERVING: u8 = 1;
const NOT_SERVING: u8 = 2;
/// gRPC's codes of how a call ended.
const INVALID_ARGUMENT: &str = "3";
const NOT_FOUND: &str = "5";
const UNIMPLEMENTED: &str = "12";
/// Bytes before a message: whether it is compressed, and its length.
const FRAME: usize = 5;
/// A request names one service.
const REQUEST_MAX: usize = 64 * 1024;

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// Answers one call.
pub(super) async fn answer(request: Request<Incoming>) -> Result<Response<Body>, hyper::http::Error> {
    if request.uri().path() != CHECK {
        return refuse(UNIMPLEMENTED, "unknown method");
    }
    let body = Limited::new(request.into_body(), REQUEST_MAX).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let Some(service) = body.get(FRAME..).and_then(service) else {
        return refuse(INVALID_ARGUMENT, "not a HealthCheckRequest");
    };
    println!("Check {service:?}");
    match service {
        "" | "hello" => say(SERVING),
        "closed" => say(NOT_SERVING),
        _ => refuse(NOT_FOUND, "unknown service"),
    }
}

/// `HealthCheckRequest.service`: field 1, a string. Nothing at all is the empty string.
fn service(message: &[u8]) -> Option<&str> {
    match message {
        [] => Some(""),
        [0x0a, length, text @ ..] if usize::from(*length) == text.len() && *length < 0x80 => {
            std::str::from_utf8(text).ok()
        }
        _ => None,
    }
}

/// `HealthCheckResponse.status`: field 1, a number.
fn say(status: u8) -> Result<Response<Body>, hyper::http::Error> {
    let message = Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 0x08, status]);
    let trailers = HeaderMap::from_iter([("grpc-status".parse()?, HeaderValue::from_static("0"))]);
    let body = Full::new(message).with_trailers(ready(Some(Ok(trailers))));
    Response::builder().header(CONTENT_TYPE, "application/grpc").body(body.boxed_unsync())
}

fn refuse(code: &'static str, message: &'static str) -> Result<Response<Body>, hyper::http::Error> {
    let head = Response::builder().header(CONTENT_TYPE, "application/grpc");
    head.header("grpc-status", code).header("grpc-message", message).body(Full::default().boxed_unsync())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_is_read_from_its_message() {
        assert_eq!(service(b""), Some(""));
        assert_eq!(service(b"\x0a\x05hello"), Some("hello"));
        assert_eq!(service(b"\x0a\x06hello"), None);
        assert_eq!(service(b"\x12\x01x"), None);
    }
}
