//! Who asks, and whether they may: as Kubernetes' kubelet decides it, with the API's help.
//!
//! - A client certificate says who; else a bearer token, which the API is asked about; else nobody, where that is allowed.
//! - Each path is a subresource of this node (`nodes/metrics`, `nodes/log`, `nodes/proxy` for all others; some may be asked
//!   for under a narrower name of their own). The API is asked whether the client may have one of them.
//! - Answers are kept for a while: a client that reads metrics every few seconds does not cost a review each time.

use std::collections::HashMap;
use std::hash::Hash;

use http::header::AUTHORIZATION;
use http::{Method, Request};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tiphys_api::{Gvr, Status};
use tiphys_client::{Client, Target, WriteOptions};

use super::auth::Who;
use super::find::Refusal;
use crate::configuration::{Mode, Settings};
use crate::context::Context;

const TOKENS: Gvr = Gvr::new("authentication.k8s.io", "v1", "tokenreviews");
const ACCESS: Gvr = Gvr::new("authorization.k8s.io", "v1", "subjectaccessreviews");
const ANONYMOUS: &str = "system:anonymous";
/// Members may do everything, in every cluster, whatever the API says.
const MASTERS: &str = "system:masters";
/// Answers kept of each kind.
const KEPT: usize = 1024;

/// Answers of the API that still hold.
#[derive(Default)]
pub(crate) struct Access {
    tokens: Kept<String, Option<Who>>,
    reviews: Kept<(Who, &'static str, &'static str), bool>,
}

/// Values that hold until a time.
struct Kept<K, V>(Mutex<HashMap<K, (Timestamp, V)>>);

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Kept<K, V> {
    fn get(&self, key: &K, now: Timestamp) -> Option<V> {
        self.0.lock().get(key).filter(|(until, _)| *until > now).map(|(_, value)| value.clone())
    }

    fn put(&self, key: K, value: V, until: Timestamp, now: Timestamp) {
        let mut all = self.0.lock();
        if all.len() >= KEPT {
            all.retain(|_, (until, _)| *until > now);
        }
        if all.len() < KEPT {
            all.insert(key, (until, value));
        }
    }
}

/// The subresources of the node that a path may be asked for as, the narrowest first.
fn subresources(path: &str) -> &'static [&'static str] {
    const TABLE: &[(&str, &[&str])] = &[
        ("/pods", &["pods", "proxy"]),
        ("/runningpods", &["pods", "proxy"]),
        ("/healthz", &["healthz", "proxy"]),
        ("/configz", &["configz", "proxy"]),
        ("/stats", &["stats"]),
        ("/metrics", &["metrics"]),
        ("/logs", &["log"]),
    ];
    let below =
        |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    TABLE.iter().find(|(prefix, _)| below(prefix)).map_or(&["proxy"], |(_, names)| names)
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// Decides about a request: code and text of the refusal, if it is refused.
pub(super) async fn check<B>(ctx: &Context, certified: &Who, request: &Request<B>) -> Result<(), Refusal> {
    let settings = &ctx.config.settings;
    let who = authenticate(ctx, settings, certified, request).await?;
    if settings.authorization.mode == Mode::AlwaysAllow || who.groups.iter().any(|group| group == MASTERS) {
        return Ok(());
    }
    let (verb, names) = (verb(request.method()), subresources(request.uri().path()));
    for subresource in names {
        if allowed(ctx, settings, &who, verb, subresource).await? {
            return Ok(());
        }
    }
    let (user, names) = (&who.user, names.join(" "));
    Err((403, format!("Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)=[{names}])\n")))
}

async fn authenticate<B>(
    ctx: &Context,
    settings: &Settings,
    certified: &Who,
    request: &Request<B>,
) -> Result<Who, Refusal> {
    if !certified.user.is_empty() {
        return Ok(certified.clone());
    }
    let refused = || (401, "Unauthorized".to_owned());
    let Some(token) = bearer(request) else {
        let nobody = Who { user: ANONYMOUS.into(), groups: vec!["system:unauthenticated".into()] };
        return if settings.authentication.anonymous.enabled { Ok(nobody) } else { Err(refused()) };
    };
    let webhook = &settings.authentication.webhook;
    if !webhook.enabled {
        return Err(refused());
    }
    let now = Timestamp::now();
    let known = ctx.access.tokens.get(&token.to_owned(), now);
    let who = match known {
        Some(known) => known,
        None => {
            let who =
                review_token(ctx.client.as_ref(), token).await.map_err(|status| unavailable(&status))?;
            ctx.access.tokens.put(token.to_owned(), who.clone(), after(now, webhook.cache_ttl), now);
            who
        }
    };
    who.ok_or_else(refused)
}

fn bearer<B>(request: &Request<B>) -> Option<&str> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

async fn allowed(
    ctx: &Context,
    settings: &Settings,
    who: &Who,
    verb: &'static str,
    subresource: &'static str,
) -> Result<bool, Refusal> {
    let (key, now) = ((who.clone(), verb, subresource), Timestamp::now());
    if let Some(known) = ctx.access.reviews.get(&key, now) {
        return Ok(known);
    }
    let node = &ctx.config.node_name;
    let yes = review_access(ctx.client.as_ref(), who, node, verb, subresource)
        .await
        .map_err(|status| unavailable(&status))?;
    let ttl = &settings.authorization.webhook;
    let until = after(now, if yes { ttl.authorized } else { ttl.unauthorized });
    ctx.access.reviews.put(key, yes, until, now);
    Ok(yes)
}

fn after(now: Timestamp, pause: SignedDuration) -> Timestamp {
    now.saturating_add(pause).unwrap_or(Timestamp::MAX)
}

/// The API does not answer: nobody is let in on a guess.
fn unavailable(status: &Status) -> Refusal {
    (500, format!("Authorization error: {}", status.message))
}

async fn review<T: serde::de::DeserializeOwned>(
    client: &dyn Client,
    gvr: &Gvr,
    body: &Value,
) -> Result<T, Status> {
    let target = Target::new(gvr, "", "");
    let answer = client.create(&target, body.to_string().into(), &WriteOptions::default()).await?;
    answer.decode().map_err(Status::internal)
}

async fn review_token(client: &dyn Client, token: &str) -> Result<Option<Who>, Status> {
    #[derive(Deserialize)]
    struct Review {
        #[serde(default)]
        status: Answer,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Answer {
        authenticated: bool,
        user: User,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct User {
        username: String,
        groups: Vec<String>,
    }
    let body = json!({"apiVersion": TOKENS.api_version(), "kind": "TokenReview", "spec": {"token": token}});
    let Review { status } = review(client, &TOKENS, &body).await?;
    let User { username, groups } = status.user;
    Ok((status.authenticated && !username.is_empty()).then_some(Who { user: username, groups }))
}

async fn review_access(
    client: &dyn Client,
    who: &Who,
    node: &str,
    verb: &str,
    subresource: &str,
) -> Result<bool, Status> {
    #[derive(Deserialize)]
    struct Review {
        #[serde(default)]
        status: Answer,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Answer {
        allowed: bool,
    }
    let attributes = json!({
        "verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource, "name": node,
    });
    let spec = json!({"user": who.user, "groups": who.groups, "resourceAttributes": attributes});
    let body = json!({"apiVersion": ACCESS.api_version(), "kind": "SubjectAccessReview", "spec": spec});
    let Review { status } = review(client, &ACCESS, &body).await?;
    Ok(status.allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_subresources_of_the_node() {
        for (path, names) in [
            ("/pods", &["pods", "proxy"][..]),
            ("/pods/", &["pods", "proxy"]),
            ("/podsx", &["proxy"]),
            ("/runningpods/", &["pods", "proxy"]),
            ("/healthz", &["healthz", "proxy"]),
            ("/configz", &["configz", "proxy"]),
            ("/metrics/cadvisor", &["metrics"]),
            ("/stats/summary", &["stats"]),
            ("/logs/messages", &["log"]),
            ("/containerLogs/n/p/c", &["proxy"]),
            ("/exec/n/p/c", &["proxy"]),
        ] {
            assert_eq!(subresources(path), names, "{path}");
        }
    }

    #[test]
    fn answers_hold_for_a_while_and_are_bounded() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let kept = Kept::<usize, bool>::default();
        kept.put(1, true, at(10), at(0));
        assert_eq!((kept.get(&1, at(9)), kept.get(&1, at(10))), (Some(true), None));
        (0..2 * KEPT).for_each(|key| kept.put(key, false, at(20), at(0)));
        assert_eq!(kept.0.lock().len(), KEPT);
        kept.put(9_999, true, at(30), at(25));
        assert_eq!(kept.0.lock().len(), 1);
    }

    #[test]
    fn bearer_tokens_are_found() {
        let of = |value: &str| {
            let request = Request::builder().header(AUTHORIZATION, value).body(()).unwrap();
            bearer(&request).map(str::to_owned)
        };
        assert_eq!(
            (of("Bearer abc"), of("bearer  x "), of("Basic abc")),
            (Some("abc".into()), Some("x".into()), None)
        );
    }
}
