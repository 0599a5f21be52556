//! Roles and who has them.

use crate::Value;

use super::here::Here;
use super::{At, Fields, items, select};
use crate::field::Errors;
use crate::selector::LabelSelector;
use crate::validate::names;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Rules of a Role.
pub fn role(at: &At<'_>, role: &Fields, errors: &mut Errors) {
    rules(at, role, true, errors);
}

/// Rules of a ClusterRole, its own or those of others.
pub fn cluster_role(at: &At<'_>, role: &Fields, errors: &mut Errors) {
    rules(at, role, false, errors);
    let here = &mut Here::new(at, role, errors);
    if !here.has("aggregationRule") {
        return;
    }
    let selectors = here.list("aggregationRule.clusterRoleSelectors");
    if selectors.is_empty() {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        here.required("aggregationRule.clusterRoleSelectors", why);
    }
    for (index, selector) in selectors.iter().enumerate() {
        let plain = selector.as_object().is_none_or(select::is_empty);
        if !plain && LabelSelector::from_value(selector).is_err() {
            let name = "aggregationRule.clusterRoleSelectors";
            here.invalid_item(name, index, selector.clone(), "invalid label selector");
        }
    }
}

fn rules(at: &At<'_>, role: &Fields, namespaced: bool, errors: &mut Errors) {
    let list = At::Child(at, "rules");
    for (index, rule) in items(role, "rules") {
        let at = At::Index(&list, index);
        self::rule(&mut Here::new(&at, rule, errors), namespaced);
    }
}

fn rule(rule: &mut Here<'_, '_>, namespaced: bool) {
    let filled = |here: &Here<'_, '_>, name| !here.list(name).is_empty();
    if !filled(rule, "verbs") {
        rule.required("verbs", "verbs must contain at least one value");
    }
    if filled(rule, "nonResourceURLs") {
        if namespaced {
            rule.invalid("nonResourceURLs", "namespaced rules cannot apply to non-resource URLs");
        }
        if ["apiGroups", "resources", "resourceNames"].iter().any(|name| filled(rule, name)) {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            rule.invalid("nonResourceURLs", why);
        }
        return;
    }
    if !filled(rule, "apiGroups") {
        rule.required("apiGroups", "resource rules must supply at least one api group");
    }
    if !filled(rule, "resources") {
        rule.required("resources", "resource rules must supply at least one resource");
    }
}

/// What a RoleBinding refers to, and whom.
pub fn role_binding(at: &At<'_>, binding: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, binding, errors);
    role_ref(here, &["Role", "ClusterRole"]);
    subjects(here, true);
}

/// What a ClusterRoleBinding refers to, and whom.
pub fn cluster_role_binding(at: &At<'_>, binding: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, binding, errors);
    role_ref(here, &["ClusterRole"]);
    subjects(here, false);
}

fn role_ref(here: &mut Here<'_, '_>, kinds: &[&str]) {
    if here.text("roleRef.apiGroup") != GROUP {
        here.unsupported("roleRef.apiGroup", &[GROUP]);
    }
    if !kinds.contains(&here.text("roleRef.kind")) {
        here.unsupported("roleRef.kind", kinds);
    }
    if here.text("roleRef.name").is_empty() {
        here.required("roleRef.name", "");
    }
    here.form("roleRef.name", names::path_segment);
}

fn subjects(here: &mut Here<'_, '_>, namespaced: bool) {
    let list = At::Child(here.at, "subjects");
    for (index, subject) in items(here.fields, "subjects") {
        let at = At::Index(&list, index);
        self::subject(&mut Here::new(&at, subject, here.errors), namespaced);
    }
}

fn subject(subject: &mut Here<'_, '_>, namespaced: bool) {
    if subject.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
        subject.required("name", "");
    }
    match subject.text("kind") {
        "ServiceAccount" => {
            subject.form("name", names::dns1123_subdomain);
            if !subject.text("apiGroup").is_empty() {
                subject.unsupported("apiGroup", &[""]);
            }
            // A RoleBinding has a namespace of its own, which could be meant.
            if !namespaced && subject.text("namespace").is_empty() {
                subject.required("namespace", "");
            }
        }
        "User" | "Group" if subject.text("apiGroup") != GROUP => subject.unsupported("apiGroup", &[GROUP]),
        "User" | "Group" => {}
        _ => subject.unsupported("kind", &["ServiceAccount", "User", "Group"]),
    }
}
