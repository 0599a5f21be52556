//! Posts that act on an object instead of storing their body: binding, eviction, and what others compute.

mod binding;
mod eviction;

use std::sync::Arc;

use tiphys_api::{Object, Status, Value, defaults};

use super::change::{Change, Make};
use super::request::{Body, Request, WriteParams, Written};
use super::{Computed, FieldValidation, Registry, decode, tree};
use crate::strategy;

/// Whether a POST to this resource or subresource is an action.
pub(super) fn is_action(request: &Request<'_>) -> bool {
    let gvr = &request.resource.gvr;
    !request.subresource.is_empty() || (gvr.group.is_empty() && gvr.resource == "bindings")
}

impl Registry {
    /// Carries out an action; one that is not built yet says so.
    pub(super) async fn act(
        &self,
        request: &Request<'_>,
        body: Body,
        params: &WriteParams,
    ) -> Result<Written, Status> {
        match (request.resource.gvr.resource.as_ref(), request.subresource) {
            ("bindings", "") | ("pods", "binding") => self.bind(request, body, params).await,
            ("pods", "eviction") => self.evict(request, body, params).await,
            (resource, "") => Err(Status::not_implemented(resource)),
            (_, subresource) => Err(Status::not_implemented(subresource)),
        }
    }

    /// Answers a POST that stores nothing.
    pub(super) async fn compute(
        &self,
        by: &Arc<dyn Computed>,
        request: &Request<'_>,
        body: Body,
        params: &WriteParams,
    ) -> Result<Written, Status> {
        let (mut tree, parent) = match request.resource.subresource(request.subresource) {
            None => {
                let mut tree = decode::object(request.resource, body, FieldValidation::Ignore)?.tree;
                defaults::apply(request.resource, &mut tree);
                (tree, None)
            }
            Some(sub) => {
                let parent = self.current(request).await?;
                (decode::loose(&sub.gvk, body)?, Some(parent))
            }
        };
        let gvk = request.resource.subresource(request.subresource).map_or(&request.resource.gvk, |s| &s.gvk);
        self.admit_action(request, gvk, &mut tree, params).await?;
        by.create(request, parent.as_ref(), &mut tree).await?;
        // As Go writes it: always there, and nothing empty in it.
        tree::metadata(&mut tree).retain(|_, value| !value.is_null() && value != "");
        let object = Object::from_value(&tree).map_err(Status::internal)?;
        Ok(Written { object, created: true, warnings: Vec::new() })
    }

    /// Makes the change that an admitted action means for an object.
    async fn carry_out(
        &self,
        request: &Request<'_>,
        params: &WriteParams,
        make: Make<'_>,
    ) -> Result<Written, Status> {
        let cache = self.cache(request.resource)?;
        let rules = strategy::of(request.resource);
        let change = Change {
            request,
            params,
            cache: &cache,
            rules,
            creates: false,
            managed: false,
            admitted: true,
            make,
        };
        self.change(change, Vec::new()).await
    }

    /// The object that a request names, as of now.
    pub(super) async fn current(&self, request: &Request<'_>) -> Result<Object, Status> {
        let cache = self.cache(request.resource)?;
        self.caches().catch_up().await?;
        let missing = || Status::not_found(&request.resource.gvr, request.name);
        cache.get(request.namespace, request.name).ok_or_else(missing)
    }
}

/// The answer to an action that was carried out: a `Status`, 201.
fn success() -> Result<Written, Status> {
    let tree: Value = tiphys_api::json!({
        "apiVersion": "v1", "code": 201, "kind": "Status", "metadata": {}, "status": "Success",
    });
    let object = Object::from_value(&tree).map_err(Status::internal)?;
    Ok(Written { object, created: true, warnings: Vec::new() })
}
