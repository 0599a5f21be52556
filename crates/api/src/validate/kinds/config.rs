//! Roles and their bindings.

use serde_json::Value;

use super::{At, Fields, items, text};
use crate::field::{Error, Errors};

/// Rules of a Role.
pub fn role(at: &At<'_>, role: &Fields, errors: &mut Errors) {
    rules(at, role, true, errors);
}

/// Rules of a ClusterRole.
pub fn cluster_role(at: &At<'_>, role: &Fields, errors: &mut Errors) {
    rules(at, role, false, errors);
}

fn rules(at: &At<'_>, role: &Fields, namespaced: bool, errors: &mut Errors) {
    for (index, rule) in items(role, "rules") {
        let path = || at.path().child("rules").index(index);
        let filled =
            |name: &str| rule.get(name).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
        if !filled("verbs") {
            errors.push(Error::required(&path().child("verbs"), "verbs must contain at least one value"));
        }
        if filled("nonResourceURLs") {
            if namespaced {
                let why = "namespaced rules cannot apply to non-resource URLs";
                errors.push(Error::invalid(
                    &path().child("nonResourceURLs"),
                    rule["nonResourceURLs"].clone(),
                    why,
                ));
            }
            if filled("apiGroups") || filled("resources") || filled("resourceNames") {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(Error::invalid(
                    &path().child("nonResourceURLs"),
                    rule["nonResourceURLs"].clone(),
                    why,
                ));
            }
            continue;
        }
        if !filled("apiGroups") {
            let why = "resource rules must supply at least one api group";
            errors.push(Error::required(&path().child("apiGroups"), why));
        }
        if !filled("resources") {
            let why = "resource rules must supply at least one resource";
            errors.push(Error::required(&path().child("resources"), why));
        }
    }
}

/// What a binding may refer to.
pub fn role_ref(at: &At<'_>, role: &Fields, errors: &mut Errors) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    if text(role, "apiGroup") != GROUP {
        errors.push(Error::not_supported(&at.path().child("apiGroup"), text(role, "apiGroup"), &[GROUP]));
    }
    let kind = text(role, "kind");
    if !kind.is_empty() && !matches!(kind, "Role" | "ClusterRole") {
        errors.push(Error::not_supported(&at.path().child("kind"), kind, &["ClusterRole", "Role"]));
    }
}

/// A service account lives in a namespace; only a RoleBinding has one of its own that could be meant.
pub fn cluster_role_binding(at: &At<'_>, binding: &Fields, errors: &mut Errors) {
    for (index, subject) in items(binding, "subjects") {
        if text(subject, "kind") == "ServiceAccount" && text(subject, "namespace").is_empty() {
            let place = at.path().child("subjects").index(index);
            errors.push(Error::required(&place.child("namespace"), ""));
        }
    }
}
