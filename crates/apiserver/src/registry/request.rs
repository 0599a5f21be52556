//! What the registry is asked and what it answers: plain data, as the router or the in-process client fills it.
//!
//! Texts that clients send (selectors, revisions, tokens) arrive unparsed: the registry words their errors.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tiphys_api::Object;
use tiphys_api::schema::Resource;

use crate::auth::User;
use crate::cache::Objects;

/// What is asked of, and by whom. The caller has authorized it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The resource in the version that the request names.
    pub resource: &'a Arc<Resource>,
    /// Namespace; empty for cluster-scoped resources and for collections over all namespaces.
    pub namespace: &'a str,
    /// Name; empty for collections and for creation.
    pub name: &'a str,
    /// Such as `status`; empty for the object itself.
    pub subresource: &'a str,
    /// Who asks.
    pub user: &'a User,
}

/// The body of a write in the form it arrived. To clone it is to count one more reader.
#[derive(Clone, Debug)]
pub enum Body {
    /// JSON text.
    Json(Bytes),
    /// YAML text of one document.
    Yaml(Bytes),
    /// Kubernetes' protobuf, in its envelope.
    Protobuf(Bytes),
    /// CBOR, with or without its tag.
    Cbor(Bytes),
}

/// `fieldValidation`: what happens to unknown and duplicate fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped silently.
    Ignore,
    /// They are dropped with a warning.
    #[default]
    Warn,
    /// They fail the request.
    Strict,
}

/// The form of a patch, by its media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// `application/json-patch+json`
    Json,
    /// `application/merge-patch+json`
    Merge,
    /// `application/strategic-merge-patch+json`
    Strategic,
    /// `application/apply-patch+yaml` and `+cbor`
    Apply,
}

/// Query of create, update and patch.
#[derive(Clone, Debug, Default)]
pub struct WriteParams {
    /// `fieldManager`, exactly as given; empty when absent.
    pub field_manager: String,
    /// `User-Agent`; its part before the first `/` is the manager when none is given.
    pub user_agent: String,
    /// `force` of an apply.
    pub force: bool,
    /// `dryRun=All`.
    pub dry_run: bool,
    /// `fieldValidation`.
    pub field_validation: FieldValidation,
    /// The answer will be asked for in protobuf, which is made of what is at hand then.
    pub protobuf: bool,
}

/// Query of list; also selects what `deletecollection` deletes.
#[derive(Clone, Debug, Default)]
pub struct ListParams {
    /// `labelSelector`
    pub labels: String,
    /// `fieldSelector`
    pub fields: String,
    /// `limit`; 0 for all.
    pub limit: u64,
    /// `continue`
    pub continue_token: String,
    /// `resourceVersion`
    pub resource_version: String,
    /// `resourceVersionMatch`
    pub resource_version_match: String,
}

/// Query of watch.
#[derive(Clone, Debug, Default)]
pub struct WatchParams {
    /// `labelSelector`
    pub labels: String,
    /// `fieldSelector`
    pub fields: String,
    /// `resourceVersion`
    pub resource_version: String,
    /// `resourceVersionMatch`
    pub resource_version_match: String,
    /// `allowWatchBookmarks`
    pub bookmarks: bool,
    /// `sendInitialEvents`
    pub send_initial_events: Option<bool>,
    /// How long the watch lasts; `None` for no limit.
    pub timeout: Option<Duration>,
}

/// `propagationPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Dependents stay and lose their owner reference.
    Orphan,
    /// The garbage collector deletes dependents later.
    Background,
    /// The object goes once its blocking dependents are gone.
    Foreground,
}

/// `metav1.DeleteOptions`, merged from query and body.
#[derive(Clone, Debug, Default)]
pub struct DeleteParams {
    /// `gracePeriodSeconds`
    pub grace_period_seconds: Option<i64>,
    /// `propagationPolicy`, or what the deprecated `orphanDependents` says.
    pub propagation: Option<Propagation>,
    /// `preconditions.uid`
    pub uid: Option<String>,
    /// `preconditions.resourceVersion`
    pub resource_version: Option<String>,
    /// `dryRun=All`
    pub dry_run: bool,
}

/// A collection, or a page of it, at one revision.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// The objects in key order: the cache's own, complete bytes.
    pub items: Objects,
    /// `metadata.resourceVersion`
    pub resource_version: u64,
    /// `metadata.continue`; empty at the end.
    pub continue_token: String,
    /// `metadata.remainingItemCount`; known only for pages without selectors.
    pub remaining: Option<u64>,
}

/// The outcome of a write.
#[derive(Clone, Debug)]
pub struct Written {
    /// The object as it is now (or would be, on a dry run), in the version asked for. For a subresource, its own
    /// kind's answer, as a `Scale` or a `Status`.
    pub object: Object,
    /// Whether this made the object: 201 instead of 200.
    pub created: bool,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

/// The outcome of a deletion.
#[derive(Clone, Debug)]
pub enum Deleted {
    /// It lives on until its grace period or finalizers end (HTTP 200 with the object).
    Terminating(Object),
    /// It is gone; its last version. HTTP answers [`tiphys_api::Status::deleted`] for most kinds.
    Gone(Object),
}
