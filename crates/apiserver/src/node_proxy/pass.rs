//! Passing one request on and its answer back: whole bodies, streams, and upgraded connections.

use futures::StreamExt;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, LOCATION, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tiphys_api::Status;
use tokio_util::sync::CancellationToken;

use super::connect::{ConnectError, Connector};
use super::socket::{self, Form};
use crate::http::answer::Answer;
use crate::http::body::Body;
use crate::http::handle::Call;
use crate::http::incoming::RequestBody;
use crate::metrics::InFlight;

/// How much of a kubelet's error text is shown, in bytes.
pub const ERROR_TEXT: usize = 64 * 1024;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Whether this is a node's kubelet, to which the server shows its certificate.
    pub kubelet: bool,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Address or name.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query, encoded.
    pub path: String,
}

impl Passage {
    /// `host:port`, with brackets around an IPv6 address.
    pub fn authority(&self) -> String {
        authority(&self.host, self.port)
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// What goes with a stream as long as it runs: it is counted, and ends when the server does.
pub struct Lasting {
    counted: InFlight,
    stop: CancellationToken,
}

impl Lasting {
    /// Counted by `counted`, ended by `stop`.
    pub fn new(counted: InFlight, stop: CancellationToken) -> Self {
        Self { counted, stop }
    }

    /// Lets a stream run; how it broke off interests only who looks for it.
    pub async fn run(self, stream: impl Future<Output = std::io::Result<()>>) {
        let outcome = tokio::select! {
            () = self.stop.cancelled() => Ok(()),
            outcome = stream => outcome,
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "an upgraded stream broke off");
        }
        drop(self.counted);
    }
}

/// Reads a log: the kubelet's text as it comes, its refusals as Statuses.
pub async fn log(
    connector: &Connector,
    passage: &Passage,
    call: Call,
    lasting: Lasting,
) -> Result<Answer, Status> {
    let request = request(passage, Method::GET, HeaderMap::new(), RequestBody::empty())?;
    let scheme = if passage.tls { "https" } else { "http" };
    let url = || format!("{scheme}://{}{}", passage.authority(), passage.path);
    let response = connector.send(passage, request).await;
    let response = response.map_err(|error| Status::internal(format!("Get {:?}: {error}", url())))?;
    if !response.status().is_success() {
        return Err(refusal(response, &call.info.name).await);
    }
    let mut answer = Response::new(held(response.into_body(), lasting));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(answer)
}

/// What a refusal says, as far as it is shown.
pub async fn error_text(response: Response<Incoming>) -> String {
    match Limited::new(response.into_body(), ERROR_TEXT).collect().await {
        Ok(all) => String::from_utf8_lossy(&all.to_bytes()).trim_end().to_owned(),
        Err(error) => error.to_string(),
    }
}

/// A kubelet's error as kube-apiserver tells it.
async fn refusal(response: Response<Incoming>, name: &str) -> Status {
    let code = response.status();
    let text = error_text(response).await;
    match code {
        StatusCode::INTERNAL_SERVER_ERROR => Status::internal(text),
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        StatusCode::NOT_FOUND => Status::failure(
            404,
            "NotFound",
            format!("the server could not find the requested resource (pods {name}): {text}"),
        ),
        other => Status::failure(other.as_u16(), "Unknown", text),
    }
}

/// Passes a request through; an upgrade becomes a raw copy in both directions.
pub async fn through(
    connector: &Connector,
    passage: Passage,
    mut call: Call,
    lasting: Lasting,
) -> Result<Answer, Status> {
    let wants = call.headers.contains_key(UPGRADE);
    let upgrade = call.upgrade.take().filter(|_| wants);
    if upgrade.is_none() && matches!(call.info.subresource.as_str(), "exec" | "attach" | "portforward") {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let upgrade = match (upgrade, Form::of(&call.info.subresource, &call.headers)) {
        (Some(client), Some(form)) => {
            return socket::answer(connector, &passage, call, client, form, lasting).await;
        }
        (upgrade, _) => upgrade,
    };
    let prefix = proxy_prefix(&call);
    let headers = forwarded(&call.headers, upgrade.is_some());
    let request = request(&passage, call.method, headers, call.body)?;
    let mut response =
        connector.send(&passage, request).await.map_err(|error| unreachable(&error, upgrade.is_some()))?;
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(client)) = (response.status(), upgrade) {
        let node = hyper::upgrade::on(&mut response);
        tokio::spawn(lasting.run(upgraded(client, node)));
        return Ok(Response::from_parts(response.into_parts().0, Body::empty()));
    }
    let place = response.headers().get(LOCATION);
    let place = place.and_then(|place| moved(place.to_str().ok()?, &passage, &prefix));
    if let Some(place) = place.and_then(|place| HeaderValue::from_str(&place).ok()) {
        response.headers_mut().insert(LOCATION, place);
    }
    Ok(passed_back(response, lasting))
}

/// The path before what is proxied, which redirects must keep.
fn proxy_prefix(call: &Call) -> String {
    let rest = call.info.rest.as_deref().unwrap_or_default();
    call.info.path.strip_suffix(rest).unwrap_or(&call.info.path).trim_end_matches('/').to_owned()
}

/// Why the other side was not reached.
pub fn unreachable(error: &ConnectError, upgrading: bool) -> Status {
    if upgrading {
        Status::failure(500, "InternalError", format!("error dialing backend: {error}"))
    } else {
        Status::unavailable(format!("error trying to reach service: {error}"))
    }
}

/// A request along a passage.
pub fn request(
    passage: &Passage,
    method: Method,
    headers: HeaderMap,
    body: RequestBody,
) -> Result<Request<RequestBody>, Status> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() =
        passage.path.parse().map_err(|_| Status::bad_request("the proxied path is no valid path"))?;
    *request.headers_mut() = headers;
    let host = HeaderValue::from_str(&passage.authority()).map_err(Status::internal)?;
    request.headers_mut().insert(HOST, host);
    Ok(request)
}

/// The client's headers without its credentials and without what concerns only its own connection.
pub fn forwarded(headers: &HeaderMap, upgrading: bool) -> HeaderMap {
    let mut out = HeaderMap::new();
    for (name, value) in headers {
        let secret = *name == AUTHORIZATION
            || *name == PROXY_AUTHORIZATION
            || name.as_str().starts_with("impersonate-");
        let connection = *name == CONNECTION || *name == UPGRADE;
        if !secret && *name != HOST && !hop(name) && (upgrading || !connection) {
            out.append(name.clone(), value.clone());
        }
    }
    strip_token_protocol(&mut out);
    out
}

fn hop(name: &HeaderName) -> bool {
    matches!(*name, TE | TRAILER | TRANSFER_ENCODING | PROXY_AUTHENTICATE)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// Browsers carry a bearer token as a WebSocket subprotocol: a credential, too.
fn strip_token_protocol(headers: &mut HeaderMap) {
    const PROTOCOL: &str = "sec-websocket-protocol";
    let Some(value) = headers.get(PROTOCOL).and_then(|value| value.to_str().ok()) else { return };
    let kept: Vec<&str> = value
        .split(',')
        .map(str::trim)
        .filter(|protocol| !protocol.starts_with("base64url.bearer.authorization.k8s.io."))
        .collect();
    let kept = kept.join(", ");
    match HeaderValue::from_str(&kept) {
        Ok(value) if !kept.is_empty() => drop(headers.insert(PROTOCOL, value)),
        _ => drop(headers.remove(PROTOCOL)),
    }
}

/// An answer without what concerns only the connection that it came over.
pub fn passed_back(response: Response<Incoming>, lasting: Lasting) -> Answer {
    let (mut head, body) = response.into_parts();
    let hops: Vec<HeaderName> =
        head.headers.keys().filter(|name| hop(name) || **name == CONNECTION).cloned().collect();
    for name in hops {
        head.headers.remove(name);
    }
    // The answer goes on over another version of HTTP, perhaps.
    head.version = http::Version::default();
    Response::from_parts(head, held(body, lasting))
}

/// A redirect within the endpoint, as seen through the proxy.
fn moved(place: &str, passage: &Passage, prefix: &str) -> Option<String> {
    let scheme = if passage.tls { "https" } else { "http" };
    let path = match place.strip_prefix(&format!("{scheme}://{}", passage.authority())) {
        Some(path) => path,
        None => place,
    };
    path.starts_with('/').then(|| format!("{prefix}{path}"))
}

/// A body that is counted until it ends, which it does at the latest with the server.
fn held(body: Incoming, lasting: Lasting) -> Body {
    let Lasting { counted, stop } = lasting;
    let held = body.map_frame(move |frame| {
        let _ = &counted;
        frame
    });
    let data = http_body_util::BodyDataStream::new(held).take_until(Box::pin(stop.cancelled_owned()));
    Body::Stream(data.map(|chunk| chunk.map_err(Into::into)).boxed())
}

/// Copies between two upgraded connections until both have ended.
pub async fn upgraded(client: OnUpgrade, node: OnUpgrade) -> std::io::Result<()> {
    let (client, node) = tokio::try_join!(client, node).map_err(std::io::Error::other)?;
    let (mut client, mut node) = (TokioIo::new(client), TokioIo::new(node));
    // Each end of input shuts down only the other side's output.
    tokio::io::copy_bidirectional(&mut client, &mut node).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage() -> Passage {
        Passage { kubelet: false, tls: false, host: "10.0.0.1".into(), port: 80, path: "/".into() }
    }

    #[test]
    fn credentials_stay_here() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("impersonate-user", "u"),
            ("connection", "Upgrade"),
            ("upgrade", "SPDY/3.1"),
            ("x-other", "1"),
            ("sec-websocket-protocol", "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.abc"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let sent = forwarded(&headers, true);
        assert_eq!(sent.len(), 4, "{sent:?}");
        assert_eq!(sent["sec-websocket-protocol"], "v5.channel.k8s.io");
        assert!(!forwarded(&headers, false).contains_key(UPGRADE));
    }

    #[test]
    fn redirects_stay_behind_the_proxy() {
        let prefix = "/api/v1/namespaces/n/services/s/proxy";
        let moved = |place| moved(place, &passage(), prefix);
        assert_eq!(moved("/login"), Some(format!("{prefix}/login")));
        assert_eq!(moved("http://10.0.0.1:80/a"), Some(format!("{prefix}/a")));
        assert_eq!(moved("http://elsewhere/"), None);
    }
}
