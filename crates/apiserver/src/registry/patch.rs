//! patch: JSON, merge and strategic patches on the same path as updates, and server-side apply.

use parking_lot::Mutex;
use tiphys_api::apply::folded;
use tiphys_api::{Gvk, Status, Value, field, patch};

use super::change::Change;
use super::request::{Body, PatchType, Request, WriteParams, Written};
use super::{Registry, convert, decode, manage, system};
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
        manage::check("PatchOptions", params, Some(form))?;
        match (request.subresource, form) {
            ("scale", _) => self.patch_scale(request, form, body, params).await,
            (_, PatchType::Apply) => self.apply(request, body, params).await,
            _ => self.patch_plain(request, form, body, params).await,
        }
    }

    async fn patch_plain(
        &self,
        request: &Request<'_>,
        form: PatchType,
        body: Body,
        params: &WriteParams,
    ) -> Result<Written, Status> {
        let cache = self.cache(request.resource)?;
        let (body, duplicates) = patch_body(form, body)?;
        let rules = strategy::of(request.resource);
        let warnings = Mutex::new(Vec::new());
        let make = |current: Option<&Value>| {
            let mut tree = current.cloned().unwrap_or(Value::Null);
            apply_patch(request, form, &mut tree, &body)?;
            // What another version was converted from need not be in this one's canonical form.
            let old = current.filter(|_| convert::is_same(request.resource, &cache.resource));
            let validation = params.field_validation;
            let found = decode::fit(request.resource, &mut tree, old, duplicates.clone(), validation);
            *warnings.lock() = found.map_err(|cause| misfit(request, form, current, &body, &cause))?;
            system::complete(&mut tree, old, request.resource, rules);
            Ok(tree)
        };
        let change = Change {
            request,
            params,
            cache: &cache,
            rules,
            creates: false,
            managed: false,
            admitted: false,
            make: &make,
        };
        let mut written = self.change(change, Vec::new()).await?;
        written.warnings.extend(warnings.into_inner());
        Ok(written)
    }

    /// Server-side apply: the body is a configuration, which its manager means to hold.
    async fn apply(
        &self,
        request: &Request<'_>,
        body: Body,
        params: &WriteParams,
    ) -> Result<Written, Status> {
        let cache = self.cache(request.resource)?;
        let config = decode::applied(request, body, params.field_validation)?;
        let rules = strategy::of(request.resource);
        let make = |live: Option<&Value>| {
            let mut tree = manage::merge(request, params, live, &config)?;
            let old = live.filter(|_| convert::is_same(request.resource, &cache.resource));
            system::complete(&mut tree, old, request.resource, rules);
            Ok(tree)
        };
        let creates = request.subresource.is_empty();
        let change = Change {
            request,
            params,
            cache: &cache,
            rules,
            creates,
            managed: true,
            admitted: false,
            make: &make,
        };
        self.change(change, Vec::new()).await
    }
}

/// 422 for a patch that makes something else than its kind of it; says what it made, or for a strategic patch what it is.
fn misfit(
    request: &Request<'_>,
    form: PatchType,
    current: Option<&Value>,
    body: &Value,
    cause: &str,
) -> Status {
    let shown = match form {
        PatchType::Strategic => go_text(body),
        _ => {
            let mut tree = current.cloned().unwrap_or(Value::Null);
            match apply_patch(request, form, &mut tree, body) {
                Ok(()) => plain_text(&tree),
                Err(status) => return status,
            }
        }
    };
    let error = field::Error::invalid(&field::Path::new("patch"), shown, cause);
    Status::invalid(&Gvk::new("", "", ""), "", &[error])
}

/// A folded tree as the JSON that clients see.
fn plain_text(tree: &Value) -> String {
    let json = folded::write(tree).ok().and_then(|json| String::from_utf8(json).ok());
    json.unwrap_or_else(|| tree.to_string())
}

/// A tree as Go prints it: `map[a:[1 2] b:<nil>]`.
fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone().into(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let pairs = fields.iter().map(|(name, value)| format!("{name}:{}", go_text(value)));
            format!("map[{}]", pairs.collect::<Vec<_>>().join(" "))
        }
        plain => plain.to_string(),
    }
}

/// A JSON patch is a list, the others are objects.
pub(super) fn patch_body(form: PatchType, body: Body) -> Result<(Value, Vec<String>), Status> {
    match (form, body) {
        (PatchType::Json, Body::Json(text)) => {
            let patch = Value::from_json(&text).map_err(|e| Status::bad_request(e.to_string()))?;
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
