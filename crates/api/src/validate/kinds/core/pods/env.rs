//! Variables of containers and where their values come from.

use super::judge;
use super::{At, Fields, object, sources, text};
use crate::field::{Error, Errors};
use crate::validate::{config_key, names};

/// A variable has a value or one source of it.
pub(super) fn variable(at: &At<'_>, variable: &Fields, errors: &mut Errors) {
    let Some(source) = object(variable, "valueFrom") else { return };
    let from = at.child("valueFrom");
    if let Some(field) = object(source, "fieldRef") {
        sources::pod_field(&from.child("fieldRef"), field, &sources::ENV_FIELDS, errors);
    }
    if let Some(amount) = object(source, "resourceFieldRef") {
        sources::container_amount(&from.child("resourceFieldRef"), amount, false, errors);
    }
    let why = if source.is_empty() {
        "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
    } else if !text(variable, "value").is_empty() {
        "may not be specified when `value` is not empty"
    } else if source.len() > 1 {
        "may not have more than one field specified at a time"
    } else {
        return;
    };
    errors.push(Error::invalid(&from.path(), "", why));
}

/// A set of variables comes from one place.
pub(super) fn from_source(at: &At<'_>, source: &Fields, errors: &mut Errors) {
    let given = ["configMapRef", "secretRef"].iter().filter(|name| source.contains_key(name)).count();
    let why = match given {
        0 => "must specify one of: `configMapRef` or `secretRef`",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(Error::invalid(&at.list().path(), "", why));
}

/// The ConfigMap or Secret is named.
pub(super) fn named_source(at: &At<'_>, source: &Fields, errors: &mut Errors) {
    match text(source, "name") {
        "" => errors.push(Error::required(&at.path().child("name"), "")),
        name => judge(names::dns1123_subdomain(name), name, errors, || at.path().child("name")),
    }
}

/// The key of a ConfigMap or Secret is one that such can have.
pub(super) fn key_selector(at: &At<'_>, selector: &Fields, errors: &mut Errors) {
    let (name, key) = (text(selector, "name"), text(selector, "key"));
    judge(names::dns1123_subdomain(name), name, errors, || at.path().child("name"));
    if !key.is_empty() {
        judge(config_key(key), key, errors, || at.path().child("key"));
    }
}
