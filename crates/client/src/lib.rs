//! How every component sees the cluster: one small [`Client`] trait, and what is built on it.
//!
//! - Two transports implement the trait: the API server's in-process one, which hands over its cache's own
//!   [`Object`]s, and [`remote`], which speaks HTTPS. A component cannot tell them apart.
//! - [`Informers`] keep one shared, event-driven cache per resource. Nothing polls, nothing lists twice.
//! - [`WorkQueue`] de-duplicates keys between events and reconcilers.
//! - [`leader`] lets one of several processes work.
//! - [`typed`] decodes bytes into `k8s-openapi` structs where many fields are needed, in one place, so that each type
//!   is compiled for one deserialiser once.

pub mod account;
mod any_server;
pub mod fake;
mod informer;
mod known_server;
pub mod kubeconfig;
pub mod leader;
pub mod metrics;
pub mod placement;
mod queue;
mod recorder;
pub mod remote;
mod services;
pub mod typed;

pub use any_server::AnyServer;
pub use informer::{Handler, Informer, Informers};
pub use queue::{Key, WorkQueue, render_metrics, run_workers};
pub use recorder::Recorder;
pub use services::{ServiceKey, Services};
pub use typed::Api;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tiphys_api::{Gvr, Meta, Object, Status};

/// Where an object or subresource is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The resource.
    pub gvr: Gvr,
    /// Namespace; empty for cluster-scoped resources.
    pub namespace: String,
    /// Name; empty when creating with `generateName` or addressing a collection.
    pub name: String,
    /// Such as `status`; empty for the object itself.
    pub subresource: &'static str,
}

/// What a list or watch selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// Label selector in its text form; empty selects all.
    pub labels: String,
    /// Field selector in its text form; empty selects all.
    pub fields: String,
    /// Items of one page; 0 for all.
    pub limit: u32,
    /// Token of the next page; empty for the first.
    pub continue_token: String,
    /// Empty for the newest state, `0` for any, else a revision.
    pub resource_version: String,
}

/// What a watch delivers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchOptions {
    /// Label selector in its text form; empty selects all.
    pub labels: String,
    /// Field selector in its text form; empty selects all.
    pub fields: String,
    /// Events after this revision; empty for present state then changes.
    pub resource_version: String,
    /// Whether bookmarks are wanted.
    pub bookmarks: bool,
}

/// Options of create, update and patch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Name under which `managedFields` are kept; empty lets the server derive it.
    pub field_manager: String,
    /// Whether apply takes over conflicting fields.
    pub force: bool,
    /// Whether to stop before the commit.
    pub dry_run: bool,
}

/// Options of delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Overrides the object's own grace period.
    pub grace_period_seconds: Option<i64>,
    /// `Background`, `Foreground` or `Orphan`; `None` for the resource's default.
    pub propagation: Option<&'static str>,
    /// Delete only this identity.
    pub uid: Option<String>,
    /// Delete only this version.
    pub resource_version: Option<u64>,
    /// Whether to stop before the commit.
    pub dry_run: bool,
}

impl DeleteOptions {
    /// Deletes an object as long as it is this very one.
    pub fn of(meta: &Meta) -> Self {
        Self { uid: Some(meta.uid.to_string()), ..Self::default() }
    }

    /// The same without a grace period.
    #[must_use]
    pub fn at_once(self) -> Self {
        Self { grace_period_seconds: Some(0), ..self }
    }
}

/// The form of a patch's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7396.
    Merge,
    /// Kubernetes' strategic merge patch.
    Strategic,
    /// Server-side apply.
    Apply,
}

/// A page of objects at one revision.
#[derive(Clone, Debug, Default)]
pub struct ObjectList {
    /// The objects, in key order.
    pub items: Vec<Object>,
    /// Revision of the list.
    pub resource_version: u64,
    /// Token of the next page; empty at the end.
    pub continue_token: String,
}

/// One event of a watch.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// The object is new to the watcher.
    Added(Object),
    /// The object changed.
    Modified(Object),
    /// The object is gone, or out of the selection; its last version, with the revision of the deletion.
    Deleted(Object),
    /// All up to this revision was delivered.
    Bookmark(u64),
}

/// Events in revision order. An error ends it; [`Status`] 410 means: list again.
pub type WatchStream = BoxStream<'static, Result<WatchEvent, Status>>;

/// The API, as one identity may use it. Refusals are the API's own [`Status`].
#[async_trait]
pub trait Client: Send + Sync + 'static {
    /// Reads one object (or its subresource, as `scale`).
    async fn get(&self, target: &Target) -> Result<Object, Status>;
    /// Reads a collection; an empty namespace means all namespaces.
    async fn list(&self, gvr: &Gvr, namespace: &str, options: &ListOptions) -> Result<ObjectList, Status>;
    /// Follows a collection; an empty namespace means all namespaces.
    async fn watch(&self, gvr: &Gvr, namespace: &str, options: &WatchOptions) -> Result<WatchStream, Status>;
    /// Creates an object, or posts to a subresource as `binding` or `eviction`. The body is JSON.
    async fn create(&self, target: &Target, body: Bytes, options: &WriteOptions) -> Result<Object, Status>;
    /// Replaces an object or its subresource. The body is JSON.
    async fn update(&self, target: &Target, body: Bytes, options: &WriteOptions) -> Result<Object, Status>;
    /// Changes an object or its subresource. The body is JSON.
    async fn patch(
        &self,
        target: &Target,
        kind: PatchKind,
        body: Bytes,
        options: &WriteOptions,
    ) -> Result<Object, Status>;
    /// Asks for deletion. Returns the object as it stands when it lives on (grace period, finalizers), else `None`.
    async fn delete(&self, target: &Target, options: &DeleteOptions) -> Result<Option<Object>, Status>;
    /// A plain GET of a path that is not an object, as discovery documents. Returns the JSON body.
    async fn get_path(&self, path: &str) -> Result<Bytes, Status>;
}

impl Target {
    /// An object. Cluster-scoped resources have an empty namespace.
    pub fn new(gvr: &Gvr, namespace: &str, name: &str) -> Self {
        Self { gvr: gvr.clone(), namespace: namespace.into(), name: name.into(), subresource: "" }
    }

    /// The same object's subresource.
    #[must_use]
    #[allow(clippy::should_implement_trait, reason = "nobody subtracts from a target")]
    pub fn sub(mut self, subresource: &'static str) -> Self {
        self.subresource = subresource;
        self
    }

    /// The request path.
    pub fn path(&self) -> String {
        let mut path = self.gvr.base_path();
        if !self.namespace.is_empty() {
            path.push_str("/namespaces/");
            path.push_str(&self.namespace);
        }
        for part in [self.gvr.resource.as_ref(), &self.name, self.subresource] {
            if !part.is_empty() {
                path.push('/');
                path.push_str(part);
            }
        }
        path
    }
}
