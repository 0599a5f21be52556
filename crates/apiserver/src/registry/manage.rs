//! `managedFields`: who is the manager of a write, and the books kept for it.

use jiff::Timestamp;
use tiphys_api::apply::{self, Write};
use tiphys_api::{Gvk, Status, Value, field};

use super::request::{PatchType, Request, WriteParams};

const MANAGER_MAX: usize = 128;

/// Keeps the books for a create (`live` is `None`), update or patch that is no apply.
pub(super) fn record(request: &Request<'_>, params: &WriteParams, live: Option<&Value>, new: &mut Value) {
    let manager = manager(params);
    apply::record_update(&write(request, &manager), live, new);
}

/// Merges an applied configuration.
pub(super) fn merge(
    request: &Request<'_>,
    params: &WriteParams,
    live: Option<&Value>,
    config: &Value,
) -> Result<Value, Status> {
    let manager = manager(params);
    apply::apply(&write(request, &manager), live, config, params.force).map_err(|e| e.status())
}

fn write<'w>(request: &'w Request<'_>, manager: &'w str) -> Write<'w> {
    let (resource, subresource) = (request.resource.as_ref(), request.subresource);
    Write { resource, subresource, manager, now: Timestamp::now() }
}

/// The manager's name: the one given, or the beginning of the user agent.
fn manager(params: &WriteParams) -> String {
    let name = match params.field_manager.as_str() {
        "" => params.user_agent.split('/').next().unwrap_or_default(),
        given => given,
    };
    let name: String = name.chars().filter(|c| !c.is_control()).take(MANAGER_MAX).collect();
    if name.is_empty() { "unknown".into() } else { name }
}

/// Checks the options that are about managers; `options` is their kind, as errors name it.
pub(super) fn check(
    options: &'static str,
    params: &WriteParams,
    form: Option<PatchType>,
) -> Result<(), Status> {
    let mut errors = field::Errors::new();
    let path = field::Path::new("fieldManager");
    if form == Some(PatchType::Apply) && params.field_manager.is_empty() {
        errors.push(field::Error::required(&path, "is required for apply patch"));
    }
    if form.is_some_and(|form| form != PatchType::Apply) && params.force {
        let why = "may not be specified for non-apply patch";
        errors.push(field::Error::forbidden(&field::Path::new("force"), why));
    }
    if params.field_manager.len() > MANAGER_MAX {
        errors.push(field::Error::too_long(&path, MANAGER_MAX));
    }
    if params.field_manager.chars().any(char::is_control) {
        errors.push(field::Error::invalid(
            &path,
            params.field_manager.as_str(),
            "should only contain printable characters",
        ));
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid(&Gvk::new("meta.k8s.io", "v1", options), "", &errors)),
    }
}
