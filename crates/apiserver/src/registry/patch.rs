//! patch: JSON, merge and strategic patches on the same path as updates, and server-side apply.

use tiphys_api::{Status, Value, patch};

use super::change::Change;
use super::request::{Body, PatchType, Request, WriteParams, Written};
use super::{Registry, decode, pending};
use crate::strategy;

impl Registry {
    /// Changes an object or its subresource.
    pub async fn patch(
        &self,
        request: &Request<'_>,
        form: PatchType,
        body: Body,
        params: &WriteParams,
    ) -> Result<Written, Status> {
        if self.is_view(request) {
            return self.patch_view(request, form, body, params).await;
        }
        if form == PatchType::Apply {
            return Err(Status::not_implemented("server-side apply"));
        }
        let cache = self.cache(request.resource)?;
        let (body, _) = patch_body(form, body)?;
        let warnings = parking_lot::Mutex::new(Vec::new());
        let make = |current: Option<&Value>| {
            let mut tree = current.cloned().unwrap_or(Value::Null);
            apply_patch(request, form, &mut tree, &body)?;
            *warnings.lock() = decode::check(request.resource, &mut tree, Vec::new(), params.field_validation)?;
            pending::default(request.resource, &mut tree);
            Ok(tree)
        };
        let rules = strategy::of(&request.resource.gvr);
        let change = Change { request, params, cache: &cache, rules, creates: false, managed: false, make: &make };
        let mut written = self.change(change, Vec::new()).await?;
        written.warnings = warnings.into_inner();
        Ok(written)
    }
}

/// A JSON patch is a list, the others are objects.
pub(super) fn patch_body(form: PatchType, body: Body) -> Result<(Value, Vec<String>), Status> {
    match (form, body) {
        (PatchType::Json, Body::Json(text)) => {
            let patch = serde_json::from_slice(&text).map_err(|e| Status::bad_request(e.to_string()))?;
            Ok((patch, Vec::new()))
        }
        (_, body) => decode::parse(body),
    }
}

/// Applies one of the three plain forms.
pub(super) fn apply_patch(
    request: &Request<'_>,
    form: PatchType,
    tree: &mut Value,
    body: &Value,
) -> Result<(), Status> {
    let resource = request.resource;
    let outcome = match form {
        PatchType::Json => patch::json(tree, body),
        PatchType::Merge => patch::merge(tree, body),
        PatchType::Strategic => patch::strategic(&resource.schema, resource.object, tree, body),
        PatchType::Apply => return Err(Status::internal("apply is no plain patch")),
    };
    outcome.map_err(|e| e.status())
}
