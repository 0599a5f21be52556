//! One request from its head to its answer: who asks, may they, what is it, how did it go.
//!
//! Order, as in kube-apiserver: read the request line, authenticate, impersonate, limit, authorize, dispatch. Nothing
//! but this dispatches, so no path goes around authorization. A handler that panics is a 500, not a lost connection.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use http::header::{ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, request};
use http_body::Body as _;
use tiphys_api::Status;

use super::answer::{self, Answer};
use super::body::Body;
use super::incoming::RequestBody;
use super::negotiate::{self, Encoding, MediaType, Shapes};
use super::path::RequestInfo;
use super::query::Query;
use super::server::{Peer, Server};
use super::{compress, paths, resource, websocket};
use crate::aggregate::{self, extension::Extension};
use crate::auth::{self, Attributes, Decision, User};
use crate::metrics::{Dimensions, InFlight};
use crate::node_proxy::{self, Lasting};
use crate::warning;

/// How long an answer may take, unless the request says less with `?timeout=` or streams.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Requests served at once, by kind; more are asked to come back. Each holds at most a body and a chunk.
const READS: i64 = 800;
const WRITES: i64 = 400;

/// One request, read and authenticated.
pub struct Call {
    /// The method.
    pub method: Method,
    /// What it asks for.
    pub info: RequestInfo,
    /// Its parameters.
    pub query: Query,
    /// The query as it came, for passing on.
    pub raw_query: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Who asks.
    pub user: User,
    /// Its body.
    pub body: RequestBody,
    /// The connection, for requests that take it over.
    pub upgrade: Option<hyper::upgrade::OnUpgrade>,
}

impl Server {
    /// Answers one request. Failures are answers too.
    pub async fn handle(self: &Arc<Self>, peer: &Peer, request: Request<RequestBody>) -> Answer {
        let began = Instant::now();
        let (mut head, body) = request.into_parts();
        let query = Query::parse(head.uri.query().unwrap_or_default());
        let (taste, gzip) = (Taste::of(&head.headers, &query), wants_gzip(&head, peer));
        let audit_id = audit_id(&mut head.headers);
        let is_head = head.method == Method::HEAD;
        let info = RequestInfo::parse(&head.method, head.uri.path(), &query);
        let (mut dimensions, mut warnings) = (Dimensions::default(), Vec::new());
        let outcome = match info {
            Err(error) => Err(Status::bad_request(error.to_string())),
            Ok(info) => {
                dimensions = self.dimensions(&info, &query, &head.headers);
                let served = self.serve(peer, head, body, info, query, &dimensions);
                // The future owns or only reads what it touches; a panic leaves nothing of ours half-changed.
                let served = warning::collect(AssertUnwindSafe(Box::pin(served)).catch_unwind()).await;
                warnings = served.1;
                served.0.unwrap_or_else(|_| Err(panicked()))
            }
        };
        let mut answer = outcome.unwrap_or_else(|status| answer::status(&status, taste.encoding()));
        answer::warn(&mut answer, &warnings);
        let (code, size) = (answer.status().as_u16(), answer.body().size_hint().exact());
        self.metrics.requests.answered(&dimensions, code, began.elapsed(), size);
        if let Body::Pieces(pieces) = answer.body_mut() {
            pieces.at_end(self.metrics.requests.sizes(&dimensions));
        }
        if gzip {
            answer = compress::gzip(answer);
        }
        finish(answer, &audit_id, is_head)
    }

    async fn serve(
        self: &Arc<Self>,
        peer: &Peer,
        mut head: request::Parts,
        body: RequestBody,
        info: RequestInfo,
        query: Query,
        dimensions: &Dimensions,
    ) -> Result<Answer, Status> {
        let user = self.who(peer, &head.headers).await?;
        let long = info.is_long_running(&query);
        let mutating = !matches!(info.verb, "get" | "list" | "watch" | "head");
        let _flying = if long { None } else { Some(self.admit(mutating, &user, dimensions)?) };
        self.authorize(&info, &user, info.verb).await?;
        if info.verb == "get" && node_proxy::enters(&info) {
            // A WebSocket begins with a GET, but who may only read may not run programs.
            self.authorize(&info, &user, "create").await?;
        }
        let raw_query = head.uri.query().unwrap_or_default().to_owned();
        let extension = self.aggregator.of(&info);
        // Another server upgrades its connections itself.
        let socket = if extension.is_none() { websocket::Wanted::of(&info, &mut head) } else { None };
        let upgrade = head.extensions.remove::<hyper::upgrade::OnUpgrade>();
        let (method, headers) = (head.method, head.headers);
        let limit = if long { None } else { Some(time_limit(&query)?) };
        let call = Call { method, info, query, raw_query, headers, user, body, upgrade };
        // On the heap, where it stays: it is large, and would be copied into the time limit and from there into this.
        let answer = Box::pin(self.dispatch(call, dimensions, extension));
        let answer = match limit {
            None => answer.await?,
            Some(limit) => tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| Err(late(limit)))?,
        };
        Ok(match socket {
            None => answer,
            Some(socket) => socket.switch(answer),
        })
    }

    async fn dispatch(
        self: &Arc<Self>,
        call: Call,
        dimensions: &Dimensions,
        extension: Option<Arc<Extension>>,
    ) -> Result<Answer, Status> {
        if let Some(extension) = extension {
            let lasting = Lasting::new(self.metrics.requests.long_running(dimensions), self.stop.clone());
            aggregate::pass(&extension, call, lasting).await
        } else if call.info.is_resource {
            resource::answer(self, call, dimensions).await
        } else {
            paths::answer(self, &call).await
        }
    }

    /// Authenticates, then puts on who the request claims to be.
    async fn who(&self, peer: &Peer, headers: &HeaderMap) -> Result<User, Status> {
        let user = self.authenticator.authenticate(&peer.certificates, headers).await;
        let user = user.and_then(|user| user.ok_or_else(Status::unauthorized));
        self.metrics.authentication.count(user.is_ok());
        let user = user?;
        let other = auth::impersonate::impersonate(self.authorizer.as_ref(), &user, headers).await?;
        Ok(other.unwrap_or(user))
    }

    /// Turns away what is too much at once; never administrators, who may have come to see why.
    fn admit(&self, mutating: bool, user: &User, dimensions: &Dimensions) -> Result<InFlight, Status> {
        let (flying, now) = self.metrics.in_flight(mutating);
        let limit = if mutating { WRITES } else { READS };
        if now <= limit || user.groups.iter().any(|group| group == "system:masters") {
            return Ok(flying);
        }
        self.metrics.requests.terminated(dimensions, 429);
        Err(Status::too_many_requests("Too many requests, please try again later.", 1))
    }

    async fn authorize(&self, info: &RequestInfo, user: &User, verb: &str) -> Result<(), Status> {
        let attributes = attributes(info, user, verb);
        let decision = self.authorizer.authorize(&attributes).await;
        self.metrics.authorization.count(matches!(decision, Decision::Allow));
        match decision {
            Decision::Allow => Ok(()),
            Decision::NoOpinion(why) => Err(auth::forbidden(&attributes, &why)),
        }
    }

    /// What the request is counted under.
    fn dimensions(&self, info: &RequestInfo, query: &Query, headers: &HeaderMap) -> Dimensions {
        let dry_run = query.text("dryRun") == "All";
        let verb = counted_verb(info, headers);
        let known =
            info.is_resource.then(|| self.resource(&info.group, &info.version, &info.resource)).flatten();
        let Some(resource) = known else {
            let path = paths::known(&info.path).unwrap_or_default();
            return Dimensions { verb, dry_run, path, ..Dimensions::default() };
        };
        let subresource = resource.subresources.iter().position(|sub| *sub.name == info.subresource);
        let scope = info.scope();
        Dimensions { verb, dry_run, resource: Some(resource), subresource, path: "", scope }
    }
}

fn counted_verb(info: &RequestInfo, headers: &HeaderMap) -> &'static str {
    if matches!(info.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy") {
        return "CONNECT";
    }
    match info.verb {
        "get" | "head" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" if negotiate::essence(headers).starts_with("application/apply-patch+") => "APPLY",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "other",
    }
}

/// What of the request decides the form of a refusal, kept until there is one.
struct Taste {
    accept: Option<HeaderValue>,
    agent: Option<HeaderValue>,
    pretty: Option<String>,
}

impl Taste {
    fn of(headers: &HeaderMap, query: &Query) -> Self {
        let (accept, agent) = (headers.get(ACCEPT).cloned(), headers.get(USER_AGENT).cloned());
        Self { accept, agent, pretty: query.get("pretty").map(str::to_owned) }
    }

    fn encoding(self) -> Encoding {
        let mut headers = HeaderMap::new();
        self.accept.into_iter().for_each(|value| drop(headers.insert(ACCEPT, value)));
        self.agent.into_iter().for_each(|value| drop(headers.insert(USER_AGENT, value)));
        let query = self.pretty.map(|pretty| Query::parse(&format!("pretty={pretty}"))).unwrap_or_default();
        let media = MediaType::negotiate(&headers, &query, Shapes::Own);
        media.map(|media| media.encoding).unwrap_or_default()
    }
}

/// What an authorizer is asked about a request.
pub fn attributes<'a>(info: &'a RequestInfo, user: &'a User, verb: &'a str) -> Attributes<'a> {
    Attributes {
        user,
        verb,
        group: &info.group,
        version: &info.version,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        path: &info.path,
    }
}

fn wants_gzip(head: &request::Parts, peer: &Peer) -> bool {
    !peer.local && head.headers.contains_key(ACCEPT_ENCODING) && negotiate::accepts_gzip(&head.headers)
}

/// The client's own audit id or a new one.
fn audit_id(headers: &mut HeaderMap) -> HeaderValue {
    let given = headers.get("audit-id").filter(|id| (1..=64).contains(&id.len())).cloned();
    given.unwrap_or_else(|| {
        let id = uuid::Uuid::new_v4().to_string();
        HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("0"))
    })
}

fn finish(mut answer: Answer, audit_id: &HeaderValue, is_head: bool) -> Answer {
    let headers = answer.headers_mut();
    headers.insert(HeaderName::from_static("audit-id"), audit_id.clone());
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    }
    if is_head {
        *answer.body_mut() = Body::empty();
    }
    answer
}

/// `?timeout=` in Go's form, at most the server's own limit.
fn time_limit(query: &Query) -> Result<Duration, Status> {
    match query.text("timeout") {
        "" => Ok(TIMEOUT),
        text => seconds(text)
            .map(|asked| if asked.is_zero() { TIMEOUT } else { asked.min(TIMEOUT) })
            .ok_or_else(|| {
                Status::bad_request(format!(
                    "invalid timeout specified in the request URL - time: invalid duration {text:?}"
                ))
            }),
    }
}

/// A duration as `34s`, `1m30s`, `500ms`: what client-go sends.
fn seconds(text: &str) -> Option<Duration> {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at(letters);
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ if number == "0" && unit.is_empty() => 0.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * scale;
        rest = next;
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(total).ok()).flatten()
}

fn late(limit: Duration) -> Status {
    Status::timeout(format!("request did not complete within the allotted timeout of {}s", limit.as_secs()))
}

fn panicked() -> Status {
    Status::internal("the request caused a panic in the server; its log says where")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_go_durations() {
        for (text, millis) in
            [("34s", Some(34_000)), ("1m30s", Some(90_000)), ("500ms", Some(500)), ("0", Some(0))]
        {
            assert_eq!(seconds(text).map(|d| d.as_millis()), millis, "{text}");
        }
        for text in ["", "5", "s", "1x", "-1s", "1..2s"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
