//! Names of resources and how much of each there may be.
//!
//! The sets of known names are those of Kubernetes' own resources; a name with a domain is someone else's.

use crate::Value;

use super::judge;
use super::{At, Fields};
use crate::field::{Error, Errors};
use crate::quantity::Quantity;
use crate::validate::names;

/// Counted in whole numbers, and only known to quotas.
const COUNTED: [&str; 9] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

/// What a name must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Any resource.
    Any,
    /// One that a container can ask for.
    Container,
    /// One that a pod as a whole can ask for.
    Pod,
    /// One that a quota can limit.
    Quota,
}

fn is_basic(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage")
}

/// Memory in large pages of one size.
pub(super) fn is_huge_pages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Whether a quota knows the name by itself.
pub(super) fn is_quota_name(name: &str) -> bool {
    let part = name.strip_prefix("requests.").or_else(|| name.strip_prefix("limits."));
    is_basic(part.unwrap_or(name))
        || name == "requests.storage"
        || is_huge_pages(name.strip_prefix("requests.").unwrap_or(name))
        || COUNTED.contains(&name)
}

/// Kubernetes' own, not an extension's.
pub(super) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether a container may be limited to more than it asks for.
pub(super) fn may_exceed(name: &str) -> bool {
    is_native(name) && !is_huge_pages(name)
}

fn is_extended(name: &str) -> bool {
    // With the prefix that quotas put before it, its domain must still be one.
    let fits = |domain: &str| "requests.".len() + domain.len() <= 253;
    !is_native(name)
        && !name.starts_with("requests.")
        && name.split_once('/').is_some_and(|(domain, _)| fits(domain))
}

/// Judges a resource's name.
pub(super) fn name(at: &At<'_>, name: &str, usage: Use, errors: &mut Errors) {
    if usage != Use::Quota && is_basic(name) && (usage != Use::Pod || name != "ephemeral-storage") {
        return;
    }
    let found = names::qualified_name(name);
    if !found.is_empty() {
        return judge(found, name, errors, || at.path());
    }
    let known = name.contains('/') || is_quota_name(name) || name == "storage";
    if !known {
        let why = "must be a standard resource type or fully qualified";
        errors.push(Error::invalid(&at.path(), name, why));
    }
    let why = match usage {
        Use::Any => return,
        Use::Container if !name.contains('/') && !is_basic(name) && !is_huge_pages(name) => {
            "must be a standard resource for containers"
        }
        Use::Container if !is_native(name) && !is_extended(name) => {
            "doesn't follow extended resource name standard"
        }
        Use::Quota if !name.contains('/') && !is_quota_name(name) => "must be a standard resource for quota",
        Use::Pod if known && !is_huge_pages(name) => {
            errors.push(Error::not_supported(&at.path(), name, &["cpu", "memory"]));
            return;
        }
        _ => return,
    };
    errors.push(Error::invalid(&at.path(), name, why));
}

/// A quantity in its text form.
pub(super) fn parse(value: &Value) -> Option<Quantity> {
    value.as_str()?.parse().ok()
}

/// Judges how much of a resource there is: not less than nothing, and whole where it is counted.
pub(super) fn value(at: &At<'_>, name: &str, value: &Value, errors: &mut Errors) {
    let text = value.as_str().unwrap_or_default();
    if text.starts_with('-') {
        errors.push(Error::invalid(&at.path(), text, "must be greater than or equal to 0"));
    }
    let counted = COUNTED.contains(&name) || (name.contains('/') && is_extended(name));
    if counted && parse(value).is_some_and(|amount| amount.milli_value() % 1000 != 0) {
        errors.push(Error::invalid(&at.path(), text, "must be an integer"));
    }
}

/// Judges names and values of a list of resources.
pub(super) fn all(at: &At<'_>, amounts: &Fields, usage: Use, errors: &mut Errors) {
    for (key, amount) in amounts {
        let place = At::Key(at, key);
        name(&place, key, usage, errors);
        value(&place, key, amount, errors);
    }
}
