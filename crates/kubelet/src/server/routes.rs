//! What each path of the server does.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use jiff::{SignedDuration, Timestamp};
use tiphys_runtime::ExecRequest;

use super::find::{self, Refusal};
use super::{Body, figures, upgrade};
use crate::context::Context;
use crate::logs;

pub(super) type Answer = Result<Response<Body>, Refusal>;

pub(super) fn empty() -> Body {
    Empty::new().boxed()
}

/// A text, with its code.
pub(super) fn text(code: u16, message: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(message.into())).boxed());
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    response
}

pub(super) fn json(body: &serde_json::Value) -> Response<Body> {
    let mut response = text(200, body.to_string());
    let kind = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

pub(super) async fn route(ctx: &Arc<Context>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().trim_matches('/').to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    let answer = match allow(ctx, parts.first().copied().unwrap_or_default(), request.method()) {
        Ok(()) => to(ctx, &parts, request).await,
        Err(refusal) => Err(refusal),
    };
    answer.unwrap_or_else(|(code, message)| text(code, message))
}

/// What a node is looked into with; may be turned off.
const DEBUGGING: &[&str] = &["containerLogs", "exec", "attach", "portForward", "run", "runningpods"];

/// Whether the first part of the path is served, and by this method.
fn allow(ctx: &Context, first: &str, method: &Method) -> Result<(), Refusal> {
    if DEBUGGING.contains(&first) && !ctx.config.settings.enable_debugging_handlers {
        return Err((405, "Debug endpoints are disabled.\n".into()));
    }
    let allowed = match first {
        "exec" | "attach" | "portForward" => method == Method::GET || method == Method::POST,
        "run" => method == Method::POST,
        _ => method == Method::GET,
    };
    if allowed { Ok(()) } else { Err((405, "405: Method Not Allowed".into())) }
}

async fn to(ctx: &Arc<Context>, parts: &[&str], request: Request<Incoming>) -> Answer {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    match *parts {
        ["healthz"] | ["healthz", "ping" | "syncloop"] => Ok(text(200, "ok")),
        ["containerLogs", namespace, pod, container] => {
            container_logs(ctx, namespace, pod, container, &query).await
        }
        ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container] => {
            exec(ctx, namespace, pod, container, &query, request).await
        }
        ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container] => {
            attach(ctx, namespace, pod, container, &query, request).await
        }
        ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
            port_forward(ctx, namespace, pod, &query, request).await
        }
        ["run", namespace, pod, container] | ["run", namespace, pod, _, container] => {
            run(ctx, namespace, pod, container, &query).await
        }
        _ => figures::answer(ctx, parts).await,
    }
}

/// A query string's pairs, decoded.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Self {
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key), decoded(value))
        };
        Self(text.split('&').filter(|text| !text.is_empty()).map(pair).collect())
    }

    fn all(&self, key: &str) -> Vec<String> {
        self.0.iter().filter(|(name, _)| name == key).map(|(_, value)| value.clone()).collect()
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// `1` or `true`, under either of two names (the kubelet's own and the API's).
    fn is(&self, key: &str, or: &str) -> bool {
        [key, or].into_iter().any(|key| matches!(self.get(key), Some("1" | "true")))
    }

    fn number(&self, key: &str) -> Result<Option<i64>, Refusal> {
        let Some(text) = self.get(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| (400, format!("invalid {key}: {text:?}")))
    }
}

fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
                let value = digit().zip(digit()).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
                out.push(value.unwrap_or(b'%'));
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn log_options(query: &Query) -> Result<logs::Options, Refusal> {
    let since = match (query.number("sinceSeconds")?, query.get("sinceTime")) {
        (Some(seconds), _) => Timestamp::now().saturating_sub(SignedDuration::from_secs(seconds)).ok(),
        (None, Some(time)) => Some(time.parse().map_err(|_| (400, format!("invalid sinceTime: {time:?}")))?),
        (None, None) => None,
    };
    let size = |number: Option<i64>| number.and_then(|number| usize::try_from(number).ok());
    Ok(logs::Options {
        follow: query.is("follow", "follow"),
        tail_lines: size(query.number("tailLines")?),
        since,
        timestamps: query.is("timestamps", "timestamps"),
        limit_bytes: size(query.number("limitBytes")?),
        only: match query.get("stream") {
            Some("Stdout") => Some(logs::Stream::Stdout),
            Some("Stderr") => Some(logs::Stream::Stderr),
            _ => None,
        },
    })
}

async fn container_logs(ctx: &Context, namespace: &str, pod: &str, name: &str, query: &Query) -> Answer {
    let options = log_options(query)?;
    let container = find::logged(ctx, namespace, pod, name, query.is("previous", "previous")).await?;
    let path = container.log_path.clone().into();
    let pieces = logs::stream(ctx.runtime.clone(), ctx.watches.clone(), container.id, path, options).await;
    let pieces = pieces
        .map_err(|error| (500, format!("failed to open log file {:?}: {error}", container.log_path)))?;
    let next = |mut pieces: tokio::sync::mpsc::Receiver<Bytes>| async move {
        pieces.recv().await.map(|piece| (Ok::<_, std::convert::Infallible>(Frame::data(piece)), pieces))
    };
    let mut response = text(200, "");
    *response.body_mut() = BodyExt::boxed(StreamBody::new(futures::stream::unfold(pieces, next)));
    Ok(response)
}

async fn exec(
    ctx: &Context,
    namespace: &str,
    pod: &str,
    name: &str,
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    let container = find::running(ctx, namespace, pod, name).await?;
    let asked = ExecRequest { command: query.all("command"), ..streams(container, query) };
    let url = ctx.runtime.exec_url(&asked).await.map_err(|error| (500, error.to_string()))?;
    Ok(upgrade::pass(request, &url).await)
}

async fn attach(
    ctx: &Context,
    namespace: &str,
    pod: &str,
    name: &str,
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    let container = find::running(ctx, namespace, pod, name).await?;
    let url = ctx.runtime.attach_url(&streams(container, query)).await;
    Ok(upgrade::pass(request, &url.map_err(|error| (500, error.to_string()))?).await)
}

fn streams(container: String, query: &Query) -> ExecRequest {
    let tty = query.is("tty", "tty");
    ExecRequest {
        container,
        command: Vec::new(),
        tty,
        stdin: query.is("input", "stdin"),
        stdout: query.is("output", "stdout"),
        // A terminal has one output.
        stderr: query.is("error", "stderr") && !tty,
    }
}

async fn port_forward(
    ctx: &Context,
    namespace: &str,
    pod: &str,
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    let sandbox = find::sandbox(ctx, namespace, pod).await?;
    let texts = query.all("port").into_iter().chain(query.all("ports"));
    let ports: Vec<u16> =
        texts.flat_map(|t| t.split(',').filter_map(|p| p.parse().ok()).collect::<Vec<_>>()).collect();
    let url = ctx.runtime.port_forward_url(&sandbox, &ports).await;
    Ok(upgrade::pass(request, &url.map_err(|error| (500, error.to_string()))?).await)
}

async fn run(ctx: &Context, namespace: &str, pod: &str, name: &str, query: &Query) -> Answer {
    let container = find::running(ctx, namespace, pod, name).await?;
    let command: Vec<String> = query.get("cmd").unwrap_or_default().split(' ').map(str::to_owned).collect();
    let output = ctx.runtime.exec_sync(&container, &command, std::time::Duration::ZERO).await;
    let output = output.map_err(|error| (500, error.to_string()))?;
    let said = [output.stdout, output.stderr].concat();
    let code = if output.exit_code == 0 { 200 } else { 500 };
    Ok(text(code, String::from_utf8_lossy(&said)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("command=a+b&command=%2Fbin%2Fsh&output=1&tty=true&tailLines=x");
        assert_eq!(query.all("command"), ["a b", "/bin/sh"]);
        assert!(query.is("output", "stdout") && query.is("tty", "tty") && !query.is("input", "stdin"));
        assert!(query.number("tailLines").is_err());
        assert_eq!(query.number("limitBytes"), Ok(None));
    }
}
