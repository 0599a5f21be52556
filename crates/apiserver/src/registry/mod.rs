//! The registry: every verb on every kind, whoever asks.
//!
//! - Reads come from the watch cache as the objects' own bytes.
//! - Writes take one path: decode, prune, default, mutate, validate, bookkeeping of owners, compare-and-swap.
//! - Kinds are data: what is truly a kind's own is a small strategy.
//! - The caller has authenticated and authorized; nothing here looks at the transport.

mod action;
mod admit;
mod change;
pub mod commit;
mod convert;
mod create;
mod decode;
mod delete;
mod manage;
mod names;
mod page;
mod patch;
mod quota;
mod read;
mod request;
mod scale;
mod scope;
mod system;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod tree;
mod version;
mod watch;

use std::sync::Arc;

use async_trait::async_trait;
pub use convert::Converter;
pub use manage::check_manager;
pub use request::{
    Body, DeleteParams, Deleted, FieldValidation, List, ListParams, PatchType, Propagation, Request,
    WatchParams, WriteParams, Written,
};
use tiphys_api::schema::Resource;
use tiphys_api::{Object, Status, Value};
use tiphys_store::LeasePool;
pub use watch::Watch;

use crate::admission::Plugin;
use crate::cache::{Cache, Caches};
use crate::hook::Caller;
use crate::kinds::Kinds;

/// A resource or subresource whose POST computes an answer and stores nothing, as `tokenreviews` or
/// `serviceaccounts/token`.
#[async_trait]
pub trait Computed: Send + Sync {
    /// Fills in the posted tree (its `status`). `parent` is the stored object of a subresource.
    async fn create(
        &self,
        request: &Request<'_>,
        parent: Option<&Object>,
        body: &mut Value,
    ) -> Result<(), Status>;
}

/// What a registry is made of.
pub struct Config {
    /// The objects.
    pub caches: Arc<Caches>,
    /// What there is to ask for.
    pub kinds: Arc<Kinds>,
    /// Admission plugins in order.
    pub admission: Vec<Arc<dyn Plugin>>,
    /// Asks webhooks.
    pub hooks: Arc<dyn Caller>,
    /// Computed resources: group, `resource` or `resource/subresource`, and who computes.
    pub computed: Vec<(&'static str, &'static str, Arc<dyn Computed>)>,
}

/// Prunes an object that a webhook has changed and checks its types, as a request's body; the cause if it does not fit.
pub(crate) fn prune(resource: &Resource, object: &mut Value) -> Result<(), String> {
    decode::fit(resource, object, None, Vec::new(), FieldValidation::Ignore).map(drop)
}

/// Fills in an object's defaults, as for a request's body.
pub(crate) fn complete(resource: &Resource, object: &mut Value) {
    system::complete(object, None, resource, crate::strategy::of(resource));
}

/// All verbs on all kinds.
pub struct Registry {
    config: Config,
    converter: Converter,
    leases: LeasePool,
    turns: quota::Turns,
}

impl Registry {
    /// A registry over running caches.
    pub fn new(config: Config) -> Arc<Self> {
        let leases = LeasePool::new(config.caches.store().clone());
        let converter = Converter::new(config.hooks.clone());
        Arc::new(Self { config, converter, leases, turns: quota::Turns::default() })
    }

    /// The objects' caches.
    pub fn caches(&self) -> &Arc<Caches> {
        &self.config.caches
    }

    /// What there is to ask for.
    pub fn kinds(&self) -> &Arc<Kinds> {
        &self.config.kinds
    }

    /// The cache of a resource that stores objects.
    fn cache(&self, resource: &Resource) -> Result<Arc<Cache>, Status> {
        self.caches().of(&resource.gvr).ok_or_else(Status::method_not_allowed)
    }

    /// Who computes the answer of a POST to this resource or subresource, if it is computed.
    fn computed(&self, request: &Request<'_>) -> Option<&Arc<dyn Computed>> {
        let gvr = &request.resource.gvr;
        let named = |path: &str| match path.split_once('/') {
            Some((resource, sub)) => resource == gvr.resource && sub == request.subresource,
            None => path == gvr.resource && request.subresource.is_empty(),
        };
        self.config
            .computed
            .iter()
            .find(|(group, path, _)| *group == gvr.group && named(path))
            .map(|(.., by)| by)
    }
}
