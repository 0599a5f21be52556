//! Paths that are no resources: discovery, OpenAPI, version, health, metrics, OpenID.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, StatusCode};
use tiphys_api::{Gvr, Status, Value, json};
use tiphys_client::Client;

use super::answer::{self, Answer};
use super::handle::Call;
use super::negotiate::{MediaType, Shapes};
use super::path::RequestInfo;
use super::query::Query;
use super::server::Server;
use crate::aggregate::AsUser;
use crate::auth::User;
use crate::local::Documents;
use crate::{metrics, node_metrics, version};

/// Served paths by what they start with, as metrics call them. Longer ones first.
const KNOWN: &[&str] = &[
    "/openapi/v2",
    "/openapi/v3",
    "/openid/v1/jwks",
    "/.well-known/openid-configuration",
    "/healthz",
    "/livez",
    "/readyz",
    "/metrics",
    "/version",
    "/apis",
    "/api",
];

/// The name under which metrics count a path; `None` for paths that are not served.
pub fn known(path: &str) -> Option<&'static str> {
    let rest = |known: &&&str| {
        path.strip_prefix(**known).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    KNOWN.iter().find(rest).copied().or((path == "/").then_some("/"))
}

/// Answers one request.
pub async fn answer(server: &Arc<Server>, call: &Call) -> Result<Answer, Status> {
    let path = match call.info.path.trim_end_matches('/') {
        "" => "/",
        path => path,
    };
    let found = server.path(path, call).await?;
    let reads = matches!(call.method, Method::GET | Method::HEAD);
    match found {
        Some(answer) if reads => Ok(answer),
        Some(_) => Err(Status::method_not_allowed()),
        None => Err(Status::no_such_path()),
    }
}

impl Server {
    async fn path(&self, path: &str, call: &Call) -> Result<Option<Answer>, Status> {
        if let Some(answer) = self.health.answer(path, &call.query).await {
            return Ok(Some(answer));
        }
        if let Some(document) = self.served.iter().find(|document| document.path == path) {
            return Ok(Some(answer::with_body(StatusCode::OK, document.content_type, document.body.clone())));
        }
        match path {
            "/" => tree(&json!({"paths": self.index()}), call).map(Some),
            "/version" => tree(&version::info(&self.git_version), call).map(Some),
            "/metrics" => Ok(Some(answer::with_body(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                self.figures().await.into_bytes(),
            ))),
            path => self.documents.answer(path, call),
        }
    }

    /// All metrics as text.
    async fn figures(&self) -> String {
        let mut out = self.metrics.render();
        let caches = self.registry.caches();
        let counts = caches.counts();
        metrics::render_objects(&mut out, counts.iter().map(|(gvr, count)| (gvr, *count)));
        match caches.store().status().await {
            Ok(status) => metrics::render_size(&mut out, &status),
            Err(error) => tracing::debug!(%error, "the store's size is not known"),
        }
        out
    }

    /// The JSON of a path that is a document, for components of this process.
    fn json(&self, path: &str) -> Result<Bytes, Status> {
        match path.split('?').next().unwrap_or_default().trim_end_matches('/') {
            "/version" => Ok(version::info(&self.git_version).to_string().into()),
            path => self.documents.json(path)?.ok_or_else(Status::no_such_path),
        }
    }

    /// The JSON of a list of what is measured, for components of this process.
    async fn measured(&self, info: &RequestInfo, query: &Query) -> Result<Bytes, Status> {
        let resource = self.resource(&info.group, &info.version, &info.resource);
        let resource = resource.filter(|_| node_metrics::serves(info) && info.verb == "list");
        let resource = resource.ok_or_else(Status::no_such_path)?;
        let selection = node_metrics::selection(
            &resource,
            info,
            query.text("labelSelector"),
            query.text("fieldSelector"),
        )?;
        let items = self.node_metrics.list(info, &selection).await?;
        let items: Vec<Value> = items.iter().filter_map(|object| object.value().ok()).collect();
        let list = json!({"kind": &*resource.list_kind, "apiVersion": resource.gvr.api_version(), "metadata": {}, "items": items});
        Ok(list.to_string().into())
    }

    /// What `/` lists.
    fn index(&self) -> Vec<String> {
        let mut paths: Vec<String> = KNOWN.iter().map(|path| (*path).to_owned()).collect();
        paths.extend(self.documents.group_version_paths());
        paths.sort();
        paths.dedup();
        paths
    }
}

#[async_trait]
impl Documents for Server {
    fn elsewhere(&self, gvr: &Gvr, user: &User) -> Option<AsUser> {
        self.aggregator.client(gvr, user)
    }

    async fn document(&self, path: &str, user: &User) -> Result<Bytes, Status> {
        let (plain, query) = path.split_once('?').unwrap_or((path, ""));
        let query = Query::parse(query);
        let info = RequestInfo::parse(&Method::GET, plain, &query)
            .map_err(|error| Status::bad_request(error.to_string()))?;
        if let Some(extension) = self.aggregator.of(&info) {
            return AsUser { extension, user: user.clone() }.get_path(path).await;
        }
        if info.is_resource { self.measured(&info, &query).await } else { self.json(path) }
    }
}

fn tree(value: &Value, call: &Call) -> Result<Answer, Status> {
    answer::tree(value, MediaType::negotiate(&call.headers, &call.query, Shapes::Own)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_know_only_served_paths() {
        for (path, expected) in [
            ("/healthz/ping", Some("/healthz")),
            ("/apis/apps/v1", Some("/apis")),
            ("/api", Some("/api")),
            ("/apix", None),
            ("/", Some("/")),
            ("/favicon.ico", None),
        ] {
            assert_eq!(known(path), expected, "{path}");
        }
    }
}
