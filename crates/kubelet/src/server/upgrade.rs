//! Passes an upgraded connection on to the address that the runtime serves it at, byte by byte.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Body;
use super::routes::text;

const CONNECT: Duration = Duration::from_secs(10);

/// Repeats the request at `url`; once both sides have agreed, copies between them until both have ended.
pub(super) async fn pass(mut request: Request<Incoming>, url: &str) -> Response<Body> {
    if !request.headers().contains_key(UPGRADE) {
        return text(400, "Upgrade request required");
    }
    let mut answer = match ask(&request, url).await {
        Ok(answer) => answer,
        Err(error) => return text(502, format!("cannot reach the runtime's streaming server: {error}")),
    };
    if answer.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        let (parts, body) = answer.into_parts();
        let bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        return text(parts.status.as_u16(), String::from_utf8_lossy(&bytes).into_owned());
    }
    let (theirs, ours) = (hyper::upgrade::on(&mut answer), hyper::upgrade::on(&mut request));
    tokio::spawn(async move {
        let (Ok(theirs), Ok(ours)) = tokio::join!(theirs, ours) else { return };
        let (mut theirs, mut ours) = (TokioIo::new(theirs), TokioIo::new(ours));
        // Either side may end its half first; an error ends both.
        let _ = tokio::io::copy_bidirectional(&mut theirs, &mut ours).await;
    });
    let mut response = Response::new(super::routes::empty());
    *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = answer.headers().clone();
    response
}

async fn ask(request: &Request<Incoming>, url: &str) -> Result<Response<Incoming>, String> {
    let uri: http::Uri = url.parse().map_err(|_| format!("{url:?} is not a URL"))?;
    let authority = uri.authority().ok_or("the URL has no host")?.to_string();
    let tcp = tokio::time::timeout(CONNECT, TcpStream::connect(&authority)).await;
    let tcp = tcp.map_err(|_| "timeout".to_owned())?.map_err(|error| error.to_string())?;
    let _ = tcp.set_nodelay(true);
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut asked = Request::new(Empty::<Bytes>::new());
    *asked.method_mut() = request.method().clone();
    *asked.uri_mut() = path.parse().map_err(|_| "the URL has no path".to_owned())?;
    *asked.headers_mut() = headers(request.headers(), &authority);
    sender.send_request(asked).await.map_err(|error| error.to_string())
}

/// The headers that negotiate the stream; credentials stay here.
fn headers(given: &HeaderMap, authority: &str) -> HeaderMap {
    let wanted = |name: &str| {
        name.starts_with("sec-websocket-")
            || [CONNECTION.as_str(), UPGRADE.as_str(), "x-stream-protocol-version", "origin"].contains(&name)
    };
    let mut headers = HeaderMap::new();
    for (name, value) in given.iter().filter(|(name, _)| wanted(name.as_str())) {
        headers.append(name, value.clone());
    }
    if let Ok(host) = authority.parse() {
        headers.insert(HOST, host);
    }
    headers
}
