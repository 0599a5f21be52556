//! The registry: every verb on every kind, whoever asks.
//!
//! - Reads come from the watch cache as the objects' own bytes.
//! - Writes take one path: decode, prune, default, mutate, validate, bookkeeping of owners, compare-and-swap.
//! - Kinds are data: what is truly a kind's own is a small strategy.
//! - The caller has authenticated and authorized; nothing here looks at the transport.

mod request;

use std::sync::Arc;

use async_trait::async_trait;
pub use request::{
    Body, DeleteParams, Deleted, FieldValidation, List, ListParams, PatchType, Propagation, Request, WatchParams,
    WriteParams, Written,
};
use tiphys_api::{Object, Status, Value};

use crate::admission::Plugin;
use crate::cache::Delivery;

/// A resource or subresource whose POST computes an answer and stores nothing, as `tokenreviews` or
/// `serviceaccounts/token`.
#[async_trait]
pub trait Computed: Send + Sync {
    /// Fills in the posted tree (its `status`). `parent` is the stored object of a subresource.
    async fn create(&self, request: &Request<'_>, parent: Option<&Object>, body: &mut Value) -> Result<(), Status>;
}

/// What a registry is made of.
pub struct Config {
    /// Admission plugins in order.
    pub admission: Vec<Arc<dyn Plugin>>,
    /// Computed resources: group, `resource` or `resource/subresource`, and who computes.
    pub computed: Vec<(&'static str, &'static str, Arc<dyn Computed>)>,
}

/// All verbs on all kinds.
pub struct Registry {
    config: Config,
}

/// A running watch. Dropping it ends it.
pub struct Watch {}

impl Watch {
    /// The next deliveries in revision order, at least one; waits for them. `None` once the watch's time is over.
    /// An error is the last item: 410 when this watcher fell too far behind.
    pub async fn next(&mut self) -> Option<Result<Vec<Delivery>, Status>> {
        None
    }
}

impl Registry {
    /// Reads one object or its subresource.
    pub async fn get(&self, request: &Request<'_>, resource_version: &str) -> Result<Object, Status> {
        Err(Status::not_implemented("get"))
    }

    /// Reads a collection.
    pub async fn list(&self, request: &Request<'_>, params: &ListParams) -> Result<List, Status> {
        Err(Status::not_implemented("list"))
    }

    /// Follows a collection (or, with a name, one object).
    pub async fn watch(&self, request: &Request<'_>, params: &WatchParams) -> Result<Watch, Status> {
        Err(Status::not_implemented("watch"))
    }

    /// Creates an object, or posts to a subresource.
    pub async fn create(&self, request: &Request<'_>, body: Body, params: &WriteParams) -> Result<Written, Status> {
        Err(Status::not_implemented("create"))
    }

    /// Replaces an object or its subresource.
    pub async fn update(&self, request: &Request<'_>, body: Body, params: &WriteParams) -> Result<Written, Status> {
        Err(Status::not_implemented("update"))
    }

    /// Changes an object or its subresource.
    pub async fn patch(
        &self,
        request: &Request<'_>,
        form: PatchType,
        body: Body,
        params: &WriteParams,
    ) -> Result<Written, Status> {
        Err(Status::not_implemented("patch"))
    }

    /// Deletes an object.
    pub async fn delete(&self, request: &Request<'_>, params: &DeleteParams) -> Result<Deleted, Status> {
        Err(Status::not_implemented("delete"))
    }

    /// Deletes what a list selects; answers with the objects as they were.
    pub async fn delete_collection(
        &self,
        request: &Request<'_>,
        select: &ListParams,
        params: &DeleteParams,
    ) -> Result<List, Status> {
        Err(Status::not_implemented("deletecollection"))
    }
}
