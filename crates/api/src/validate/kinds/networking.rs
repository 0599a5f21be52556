//! Ingresses.

use serde_json::Value;

use super::{At, Fields, text};
use crate::field::{Error, Errors};

/// An Ingress leads somewhere.
pub fn ingress(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let rules = spec.get("rules").and_then(Value::as_array).is_some_and(|rules| !rules.is_empty());
    if !rules && !spec.contains_key("defaultBackend") {
        let why = "either `defaultBackend` or `rules` must be specified";
        errors.push(Error::invalid(&at.path(), Value::Object(spec.clone()), why));
    }
}

/// Paths start at the root.
pub fn ingress_path(at: &At<'_>, path: &Fields, errors: &mut Errors) {
    let text_of = text(path, "path");
    let absolute = text_of.starts_with('/');
    let free = text(path, "pathType") == "ImplementationSpecific" && text_of.is_empty();
    if !absolute && !free {
        errors.push(Error::invalid(&at.path().child("path"), text_of, "must be an absolute path"));
    }
}
