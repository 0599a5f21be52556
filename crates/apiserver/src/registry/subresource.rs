//! Subresources: views of an object in another kind, and actions on it.

use std::sync::Arc;

use tiphys_api::{Object, Status};

use super::request::{Body, PatchType, Request, WriteParams, Written};
use super::{Computed, Registry, decode};

impl Registry {
    /// Whether the subresource shows the object in another kind, as `scale` does.
    pub(super) fn is_view(&self, request: &Request<'_>) -> bool {
        request.subresource == "scale"
    }

    pub(super) fn get_subresource(&self, request: &Request<'_>, _object: &Object) -> Result<Object, Status> {
        Err(Status::not_implemented(request.subresource))
    }

    pub(super) async fn update_view(
        &self,
        request: &Request<'_>,
        _body: Body,
        _params: &WriteParams,
    ) -> Result<Written, Status> {
        Err(Status::not_implemented(request.subresource))
    }

    pub(super) async fn patch_view(
        &self,
        request: &Request<'_>,
        _form: PatchType,
        _body: Body,
        _params: &WriteParams,
    ) -> Result<Written, Status> {
        Err(Status::not_implemented(request.subresource))
    }

    pub(super) async fn post_subresource(
        &self,
        request: &Request<'_>,
        _body: Body,
        _params: &WriteParams,
    ) -> Result<Written, Status> {
        Err(Status::not_implemented(request.subresource))
    }

    /// Answers a POST that stores nothing.
    pub(super) async fn compute(
        &self,
        by: &Arc<dyn Computed>,
        request: &Request<'_>,
        body: Body,
    ) -> Result<Written, Status> {
        let (gvk, parent) = match request.resource.subresource(request.subresource) {
            None => (&request.resource.gvk, None),
            Some(sub) => {
                let cache = self.cache(request.resource)?;
                self.caches().catch_up().await?;
                let parent = cache.get(request.namespace, request.name);
                let missing = || Status::not_found(&request.resource.gvr, request.name);
                (&sub.gvk, Some(parent.ok_or_else(missing)?))
            }
        };
        let mut tree = match request.subresource {
            "" => decode::object(request.resource, body, super::FieldValidation::Ignore)?.tree,
            _ => decode::loose(gvk, body)?,
        };
        by.create(request, parent.as_ref(), &mut tree).await?;
        let object = Object::from_value(&tree).map_err(Status::internal)?;
        Ok(Written { object, created: true, warnings: Vec::new() })
    }
}
