//! Passing a request on to an extension server, and its answer back: whole bodies, watches, upgraded connections.
//!
//! The client was authenticated and authorized here; the server is told who it is ([`super::identity`]), and may refuse.

use bytes::Bytes;
use http::header::{HeaderName, LOCATION, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tiphys_api::{Status, status};
use tiphys_client::remote::Transport;

use super::extension::Extension;
use crate::auth::User;
use crate::http::answer::{self, Answer};
use crate::http::body::Body;
use crate::http::handle::Call;
use crate::http::incoming::RequestBody;
use crate::http::path::RequestInfo;
use crate::node_proxy::{Lasting, forwarded, passed_back, path_escape, upgraded};

/// 503 as clients of kube-apiserver see it, whatever the cause; `why` is told beside it.
pub fn unavailable(method: &Method, info: &RequestInfo, why: &str) -> Status {
    let mut message = "the server is currently unable to handle the request".to_owned();
    let mut details = status::Details {
        causes: vec![status::Cause {
            message: why.to_owned(),
            reason: "UnexpectedServerResponse".into(),
            ..status::Cause::default()
        }],
        ..status::Details::default()
    };
    if info.is_resource {
        let resource = format!("{}.{}", info.resource, info.group);
        let named = [resource.trim_end_matches('.'), &info.name].join(" ");
        message.push_str(&format!(" ({} {})", method.as_str().to_lowercase(), named.trim_end()));
        (details.group, details.kind) = (info.group.clone(), info.resource.clone());
        details.name.clone_from(&info.name);
    }
    let mut refusal = Status::failure(503, "ServiceUnavailable", message);
    refusal.details = Some(details);
    refusal
}

/// Answers a request. `lasting` goes with the answer's body.
pub async fn pass(extension: &Extension, mut call: Call, lasting: Lasting) -> Result<Answer, Status> {
    if !extension.is_available() {
        return Err(unavailable(&call.method, &call.info, "service unavailable"));
    }
    let wants = call.headers.contains_key(UPGRADE);
    let upgrade = call.upgrade.take().filter(|_| wants);
    let mut path = path_escape(&call.info.path);
    if !call.raw_query.is_empty() {
        path.push('?');
        path.push_str(&call.raw_query);
    }
    let mut request = Request::new(call.body);
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = path.parse().map_err(|_| Status::bad_request("the path is no valid path"))?;
    *request.headers_mut() = forwarded(&call.headers, upgrade.is_some());
    let response = extension.send(&call.user, request).await;
    let mut response = response.map_err(|error| unavailable(&call.method, &call.info, &error))?;
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(client)) = (response.status(), upgrade) {
        let server = hyper::upgrade::on(&mut response);
        tokio::spawn(lasting.run(upgraded(client, server)));
        return Ok(Response::from_parts(response.into_parts().0, Body::empty()));
    }
    if response.status().is_redirection() && response.headers().contains_key(LOCATION) {
        // The client would follow it with the credentials that it has for this server.
        let why = "the backend attempted to redirect this request, which is not permitted";
        return Ok(answer::text(StatusCode::BAD_GATEWAY, why));
    }
    Ok(passed_back(response, lasting))
}

/// An extension server as one user of this process may use it.
pub struct AsUser {
    /// Which.
    pub extension: std::sync::Arc<Extension>,
    /// Who.
    pub user: User,
}

#[async_trait::async_trait]
impl Transport for AsUser {
    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, &str)],
        body: Bytes,
    ) -> Result<Response<Incoming>, Status> {
        let refuse = |why: &str| unavailable(&method, &RequestInfo::default(), why);
        if !self.extension.is_available() {
            return Err(refuse("service unavailable"));
        }
        let mut request = Request::builder().method(method.clone()).uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request.body(RequestBody::Full(body));
        let request = request.map_err(|error| Status::bad_request(error.to_string()))?;
        self.extension.send(&self.user, request).await.map_err(|error| refuse(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::query::Query;

    #[test]
    fn who_is_unavailable_is_named() {
        let text = |url: &str| {
            let info = RequestInfo::parse(&Method::GET, url, &Query::default()).unwrap();
            unavailable(&Method::GET, &info, "service unavailable").message
        };
        let base = "the server is currently unable to handle the request";
        assert_eq!(text("/apis/g.example.com/v1"), base);
        assert_eq!(text("/apis/g.example.com/v1/things"), format!("{base} (get things.g.example.com)"));
        assert_eq!(
            text("/apis/g.example.com/v1/namespaces/n/things/x"),
            format!("{base} (get things.g.example.com x)")
        );
    }
}
