//! The in-process transport: a component of the same process calls the registry without HTTP, socket or TLS.
//!
//! - Objects handed over are the cache's own; nothing is encoded or copied.
//! - Every call passes the authorizer, with the component's own identity, as a request over HTTPS does.

mod params;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use http::Method;
use tiphys_api::schema::Resource;
use tiphys_api::selector::FieldSelector;
use tiphys_api::{Gvr, Object, Status};
use tiphys_client::{
    Client, DeleteOptions, ListOptions, ObjectList, PatchKind, Target, WatchEvent, WatchOptions, WatchStream,
    WriteOptions,
};

use crate::aggregate::AsUser;
use crate::auth::{self, Attributes, Authorizer, Decision, User};
use crate::cache::{Delivery, EventKind};
use crate::http::handle::attributes;
use crate::http::path::RequestInfo;
use crate::http::query::Query;
use crate::registry::{Body, Deleted, Registry, Request, Watch};

/// One identity's access to the registry of the same process.
#[derive(Clone)]
pub struct LocalClient {
    registry: Arc<Registry>,
    authorizer: Arc<dyn Authorizer>,
    user: Arc<User>,
    agent: Arc<str>,
    documents: Option<Arc<dyn Documents>>,
}

/// What lies beyond the registry: paths that are no objects, as discovery documents, for [`Client::get_path`]; and what
/// other servers answer.
#[async_trait]
pub trait Documents: Send + Sync {
    /// The JSON body of a path; the user has been authorized.
    async fn document(&self, path: &str, user: &User) -> Result<Bytes, Status>;
    /// Who answers requests for a resource, if it is not this server.
    fn elsewhere(&self, gvr: &Gvr, user: &User) -> Option<AsUser>;
}

impl LocalClient {
    /// `agent` names the component, as `kube-scheduler`: it stands for the `User-Agent` and so keeps managed fields.
    pub fn new(registry: Arc<Registry>, authorizer: Arc<dyn Authorizer>, user: User, agent: &str) -> Self {
        Self { registry, authorizer, user: Arc::new(user), agent: agent.into(), documents: None }
    }

    /// With a source of documents.
    #[must_use]
    pub fn with_documents(self, documents: Arc<dyn Documents>) -> Self {
        Self { documents: Some(documents), ..self }
    }

    fn elsewhere(&self, gvr: &Gvr) -> Option<AsUser> {
        self.documents.as_ref()?.elsewhere(gvr, &self.user)
    }

    fn resource(&self, gvr: &Gvr) -> Result<Arc<Resource>, Status> {
        self.registry.kinds().any(gvr).ok_or_else(Status::no_such_path)
    }

    /// Asks the authorizer about one call.
    async fn allow(&self, verb: &str, gvr: &Gvr, at: (&str, &str, &str)) -> Result<(), Status> {
        let (namespace, name, subresource) = at;
        let attributes = Attributes {
            user: &self.user,
            verb,
            group: &gvr.group,
            version: &gvr.version,
            resource: &gvr.resource,
            subresource,
            namespace,
            name,
            path: "",
        };
        self.decide(&attributes).await
    }

    async fn decide(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        match self.authorizer.authorize(attributes).await {
            Decision::Allow => Ok(()),
            Decision::NoOpinion(why) => Err(auth::forbidden(attributes, &why)),
        }
    }

    async fn allow_target(&self, verb: &str, target: &Target) -> Result<(), Status> {
        self.allow(verb, &target.gvr, (&target.namespace, &target.name, target.subresource)).await
    }

    fn request<'r>(&'r self, resource: &'r Arc<Resource>, target: &'r Target) -> Request<'r> {
        Request {
            resource,
            namespace: &target.namespace,
            name: &target.name,
            subresource: target.subresource,
            user: &self.user,
        }
    }

    fn collection<'r>(&'r self, resource: &'r Arc<Resource>, namespace: &'r str) -> Request<'r> {
        Request { resource, namespace, name: "", subresource: "", user: &self.user }
    }
}

/// The one name that a field selector leaves, if it does: a list or watch of it is authorized as one of that object, so
/// that a node may follow the secrets of its own pods and no others.
fn selected_name(fields: &str) -> String {
    // What does not parse is refused, in its own words, by the registry.
    let selector = FieldSelector::parse(fields).ok();
    selector.and_then(|s| s.exact("metadata.name").map(str::to_owned)).unwrap_or_default()
}

#[async_trait]
impl Client for LocalClient {
    async fn get(&self, target: &Target) -> Result<Object, Status> {
        self.allow_target("get", target).await?;
        if let Some(other) = self.elsewhere(&target.gvr) {
            return other.get(target).await;
        }
        let resource = self.resource(&target.gvr)?;
        self.registry.get(&self.request(&resource, target), "").await
    }

    async fn list(&self, gvr: &Gvr, namespace: &str, options: &ListOptions) -> Result<ObjectList, Status> {
        self.allow("list", gvr, (namespace, &selected_name(&options.fields), "")).await?;
        if let Some(other) = self.elsewhere(gvr) {
            return other.list(gvr, namespace, options).await;
        }
        let resource = self.resource(gvr)?;
        let list = self.registry.list(&self.collection(&resource, namespace), &params::list(options)).await?;
        Ok(ObjectList {
            items: list.items.to_vec(),
            resource_version: list.resource_version,
            continue_token: list.continue_token,
        })
    }

    async fn watch(&self, gvr: &Gvr, namespace: &str, options: &WatchOptions) -> Result<WatchStream, Status> {
        self.allow("watch", gvr, (namespace, &selected_name(&options.fields), "")).await?;
        if let Some(other) = self.elsewhere(gvr) {
            return other.watch(gvr, namespace, options).await;
        }
        let resource = self.resource(gvr)?;
        let watch =
            self.registry.watch(&self.collection(&resource, namespace), &params::watch(options)).await?;
        Ok(events(watch))
    }

    async fn create(&self, target: &Target, body: Bytes, options: &WriteOptions) -> Result<Object, Status> {
        self.allow_target("create", target).await?;
        if let Some(other) = self.elsewhere(&target.gvr) {
            return other.create(target, body, options).await;
        }
        let resource = self.resource(&target.gvr)?;
        let request = self.request(&resource, target);
        let written =
            self.registry.create(&request, Body::Json(body), &params::write(options, &self.agent)).await?;
        Ok(written.object)
    }

    async fn update(&self, target: &Target, body: Bytes, options: &WriteOptions) -> Result<Object, Status> {
        self.allow_target("update", target).await?;
        if let Some(other) = self.elsewhere(&target.gvr) {
            return other.update(target, body, options).await;
        }
        let resource = self.resource(&target.gvr)?;
        let request = self.request(&resource, target);
        let written =
            self.registry.update(&request, Body::Json(body), &params::write(options, &self.agent)).await?;
        Ok(written.object)
    }

    async fn patch(
        &self,
        target: &Target,
        kind: PatchKind,
        body: Bytes,
        options: &WriteOptions,
    ) -> Result<Object, Status> {
        self.allow_target("patch", target).await?;
        if let Some(other) = self.elsewhere(&target.gvr) {
            return other.patch(target, kind, body, options).await;
        }
        let resource = self.resource(&target.gvr)?;
        let request = self.request(&resource, target);
        let (form, params) = (params::form(kind), params::write(options, &self.agent));
        Ok(self.registry.patch(&request, form, Body::Json(body), &params).await?.object)
    }

    async fn delete(&self, target: &Target, options: &DeleteOptions) -> Result<Option<Object>, Status> {
        self.allow_target("delete", target).await?;
        if let Some(other) = self.elsewhere(&target.gvr) {
            return other.delete(target, options).await;
        }
        let resource = self.resource(&target.gvr)?;
        match self.registry.delete(&self.request(&resource, target), &params::delete(options)).await? {
            Deleted::Terminating(object) => Ok(Some(object)),
            Deleted::Gone(_) => Ok(None),
        }
    }

    async fn get_path(&self, path: &str) -> Result<Bytes, Status> {
        let (plain, query) = path.split_once('?').unwrap_or((path, ""));
        let info = RequestInfo::parse(&Method::GET, plain, &Query::parse(query))
            .map_err(|error| Status::bad_request(error.to_string()))?;
        self.decide(&attributes(&info, &self.user, info.verb)).await?;
        match &self.documents {
            Some(documents) => documents.document(path, &self.user).await,
            None => Err(Status::no_such_path()),
        }
    }
}

/// A watch as the stream that clients read; it ends after an error.
fn events(watch: Watch) -> WatchStream {
    let batches = stream::unfold(Some(watch), |watch| async move {
        let mut watch = watch?;
        match watch.next().await? {
            Ok(batch) => Some((batch.into_iter().map(|d| Ok(event(d))).collect::<Vec<_>>(), Some(watch))),
            Err(status) => Some((vec![Err(status)], None)),
        }
    });
    batches.flat_map(stream::iter).boxed()
}

fn event(delivery: Delivery) -> WatchEvent {
    let of = |kind, object| match kind {
        EventKind::Added => WatchEvent::Added(object),
        EventKind::Modified => WatchEvent::Modified(object),
        EventKind::Deleted => WatchEvent::Deleted(object),
    };
    match delivery {
        Delivery::Event { kind, event } => of(kind, event.shown(kind).clone()),
        Delivery::Object { kind, object } => of(kind, object),
        Delivery::Bookmark { revision, .. } => WatchEvent::Bookmark(revision),
    }
}
