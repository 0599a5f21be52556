//! Which webhooks are asked about a request: pure functions of both.

use std::sync::Arc;

use tiphys_api::schema::Resource;
use tiphys_api::selector::LabelSelector;
use tiphys_api::{Gvr, Value};

use super::super::{Operation, Review};
use super::config::{Rule, Webhook};

const NAMESPACES: Gvr = Gvr::new("", "v1", "namespaces");
const CONFIGURATIONS: &str = "admissionregistration.k8s.io";

/// Whether a request is about what decides on requests: that is never under its own control.
pub(super) fn is_exempt(review: &Review<'_>) -> bool {
    let kinds = [
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
    ];
    review.gvk.group == CONFIGURATIONS && kinds.contains(&review.gvk.kind.as_ref())
}

/// The namespace that a request is in: of a namespace itself, that namespace.
pub(super) fn namespace<'r>(review: &Review<'r>) -> &'r str {
    match is_namespace(review.gvr) {
        true => review.name,
        false => review.namespace,
    }
}

fn is_namespace(gvr: &Gvr) -> bool {
    *gvr == NAMESPACES
}

/// The resource that a webhook is told about: the request's own where a rule names it, otherwise one that serves the same
/// objects and is named by a rule.
pub(super) fn told<'r>(
    webhook: &Webhook,
    review: &Review<'r>,
    equivalents: impl FnOnce() -> Vec<Arc<Resource>>,
) -> Option<Arc<Resource>> {
    let matches = |rule: &Rule, gvr: &Gvr| rule_matches(rule, review, gvr);
    if webhook.rules.iter().any(|rule| matches(rule, review.gvr)) {
        return Some(review.resource.clone());
    }
    if !webhook.equivalent {
        return None;
    }
    let others: Vec<_> = equivalents().into_iter().filter(|other| other.gvr != *review.gvr).collect();
    let mut named = webhook.rules.iter().filter_map(|rule| others.iter().find(|o| matches(rule, &o.gvr)));
    named.next().cloned()
}

fn rule_matches(rule: &Rule, review: &Review<'_>, gvr: &Gvr) -> bool {
    in_scope(rule, review, gvr)
        && contains(&rule.operations, review.operation.as_str())
        && contains(&rule.api_groups, &gvr.group)
        && contains(&rule.api_versions, &gvr.version)
        && rule.resources.iter().any(|path| names(path, &gvr.resource, review.subresource))
}

fn in_scope(rule: &Rule, review: &Review<'_>, gvr: &Gvr) -> bool {
    let in_namespace = !is_namespace(gvr) && !review.namespace.is_empty();
    match rule.scope.as_deref() {
        None | Some("*") => true,
        Some("Namespaced") => in_namespace,
        Some("Cluster") => !in_namespace,
        Some(_) => false,
    }
}

fn contains(list: &[Box<str>], wanted: &str) -> bool {
    list.iter().any(|item| matches!(item.as_ref(), "*") || item.as_ref() == wanted)
}

/// Whether a path of a rule, as `pods`, `pods/*` or `*/scale`, names a (sub)resource.
fn names(path: &str, resource: &str, subresource: &str) -> bool {
    let (of, sub) = path.split_once('/').unwrap_or((path, ""));
    (of == "*" || of == resource) && (sub == "*" || sub == subresource)
}

/// Whether an object's labels, as they are or as they were, are selected. Options of streams have none.
pub(super) fn object_matches(selector: &LabelSelector, review: &Review<'_>) -> bool {
    if selector.is_everything() {
        return true;
    }
    let labelled = !matches!(review.operation, Operation::Delete | Operation::Connect);
    labelled && selector.matches_with(|key| label(review.object, key))
        || review.old.is_some_and(|old| selector.matches(&old.meta().labels))
}

/// A label of an object.
pub(super) fn label<'o>(object: &'o Value, key: &str) -> Option<&'o str> {
    object.get("metadata")?.get("labels")?.get(key)?.as_str()
}

/// Whether the labels of the request's namespace are those of the object in it: one that is being made or changed.
pub(super) fn is_own_namespace(review: &Review<'_>) -> bool {
    let writes = matches!(review.operation, Operation::Create | Operation::Update);
    is_namespace(review.gvr) && review.subresource.is_empty() && writes
}
