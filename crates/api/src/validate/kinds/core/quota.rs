//! Resource quotas and limit ranges.

use crate::Value;

use super::amounts::{self, Use};
use super::{At, Fields, Seen, as_value, items, judge, list, object, text, texts};
use crate::field::{Error, Errors};
use crate::quantity::Quantity;
use crate::validate::names;

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
const OPPOSITES: [(&str, &str); 2] = [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")];

/// A quota limits what can be counted, in scopes that have it.
pub(super) fn quota(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    if let Some(hard) = object(spec, "hard") {
        amounts::all(&at.child("hard"), hard, Use::Quota, errors);
    }
    let place = at.child("scopes");
    scopes(&place, spec, errors);
    conflicts(&place, spec, |scope| texts(spec, "scopes").any(|(_, other)| other == scope), errors);
    let Some(selector) = object(spec, "scopeSelector") else { return };
    let place = at.child("scopeSelector");
    let place = place.child("matchExpressions");
    for (_, wanted) in items(selector, "matchExpressions") {
        scope(&place, spec, selector, wanted, errors);
    }
    let named = |scope: &str| items(selector, "matchExpressions").any(|(_, w)| text(w, "scopeName") == scope);
    conflicts(&place, spec, named, errors);
}

/// Scopes are known, and know what they are for. Each error shows all scopes, so it is told once of them all.
fn scopes(place: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let mut refuse = |why| {
        let all = Value::from(list(spec, "scopes").to_vec());
        errors.push(Error::invalid(&place.path(), all, why));
    };
    if texts(spec, "scopes").any(|(_, scope)| !SCOPES.contains(&scope)) {
        refuse("unsupported scope");
    }
    let used = |scope: &&&str| texts(spec, "scopes").any(|(_, own)| own == **scope);
    if SCOPES.iter().filter(used).any(|scope| is_unfit(spec, scope)) {
        refuse("unsupported scope applied to resource");
    }
}

/// Whether the quota limits what a scope does not know.
fn is_unfit(spec: &Fields, scope: &str) -> bool {
    let mut names = object(spec, "hard").into_iter().flat_map(Fields::keys);
    names.any(|name| amounts::is_quota_name(name) && !fits(scope, name))
}

fn fits(scope: &str, name: &str) -> bool {
    let of_pods = |name: &str| {
        let part = name.strip_prefix("requests.").or_else(|| name.strip_prefix("limits.")).unwrap_or(name);
        matches!(part, "pods" | "cpu" | "memory" | "ephemeral-storage") || amounts::is_huge_pages(part)
    };
    match scope {
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => of_pods(name),
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => matches!(name, "requests.storage" | "persistentvolumeclaims"),
        _ => true,
    }
}

fn conflicts(at: &At<'_>, spec: &Fields, has: impl Fn(&str) -> bool, errors: &mut Errors) {
    for (one, other) in OPPOSITES {
        if has(one) && has(other) {
            let value = spec.get("scopes").cloned().unwrap_or_default();
            let path = at.list().parent().path();
            let path = if matches!(at, At::Child(At::Child(..), _)) { path.child("scopes") } else { path };
            errors.push(Error::invalid(&path, value, "conflicting scopes"));
        }
    }
}

fn scope(at: &At<'_>, spec: &Fields, selector: &Fields, wanted: &Fields, errors: &mut Errors) {
    let (name, operator) = (text(wanted, "scopeName"), text(wanted, "operator"));
    if !SCOPES.contains(&name) {
        errors.push(Error::invalid(&at.path().child("scopeName"), name, "unsupported scope"));
    }
    let why = "unsupported scope applied to resource";
    if !errors.iter().any(|e| e.body.ends_with(why)) && is_unfit(spec, name) {
        errors.push(Error::invalid(&at.path(), as_value(selector), why));
    }
    let open = matches!(name, "PriorityClass" | "VolumeAttributesClass");
    if SCOPES.contains(&name) && !open && operator != "Exists" {
        let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                   ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort \
                   or ResourceQuotaScopeCrossNamespacePodAffinity";
        errors.push(Error::invalid(&at.path().child("operator"), operator, why));
    }
    let values = list(wanted, "values");
    let path = || at.path().child("values");
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
            errors.push(Error::required(&path(), why));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            errors.push(Error::invalid(&path(), values.to_vec(), why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => {
            let path = at.path().child("operator");
            errors.push(Error::invalid(&path, other, "not a valid selector operator"));
        }
    }
}

/// What a quota counts and has counted.
pub(super) fn quota_object(at: &At<'_>, quota: &Fields, errors: &mut Errors) {
    let Some(status) = object(quota, "status") else { return };
    let at = at.child("status");
    for name in ["hard", "used"] {
        if let Some(amounts) = object(status, name) {
            amounts::all(&at.child(name), amounts, Use::Quota, errors);
        }
    }
}

/// Each type is limited once.
pub(super) fn limit_range(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let mut seen = Seen::new();
    for (index, limit) in items(spec, "limits") {
        let kind = text(limit, "type");
        let path = || at.path().child("limits").index(index).child("type");
        let found = names::qualified_name(kind);
        let known = kind.contains('/') || matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim");
        if found.is_empty() && !known {
            let why = "must be a standard limit type or fully qualified";
            errors.push(Error::invalid(&path(), kind, why));
        }
        judge(found, kind, errors, path);
        if !seen.add(kind) {
            errors.push(Error::duplicate(&path(), kind));
        }
    }
}

/// The bounds of one type, in the order that Kubernetes reads them.
const BOUNDS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

/// Bounds and defaults agree.
pub(super) fn limit(at: &At<'_>, limit: &Fields, errors: &mut Errors) {
    let kind = text(limit, "type");
    let usage = if matches!(kind, "Pod" | "Container") { Use::Container } else { Use::Any };
    let mut names: Vec<&str> = Vec::new();
    for bound in BOUNDS {
        let Some(amounts) = object(limit, bound) else { continue };
        if kind == "Pod" && bound.starts_with("default") {
            let why = "may not be specified when `type` is 'Pod'";
            errors.push(Error::forbidden(&at.path().child(bound), why));
            continue;
        }
        for name in amounts.keys() {
            amounts::name(&At::Key(&at.child(bound), name), name, usage, errors);
            names.push(name);
        }
    }
    let stored = |bound: &str| object(limit, bound).is_some_and(|amounts| amounts.contains_key("storage"));
    if kind == "PersistentVolumeClaim" && !stored("min") && !stored("max") {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(Error::required(&at.path().child("limits"), why));
    }
    names.sort_unstable();
    names.dedup();
    for name in names {
        agree(at, limit, name, errors);
    }
}

/// One resource's bounds: which is not above which, where it is said, which of the two is shown, and how.
const ORDER: [(&str, &str, &str, usize, &str); 6] = [
    ("min", "max", "min", 0, "min value {} is greater than max value {}"),
    ("min", "defaultRequest", "defaultRequest", 1, "min value {} is greater than default request value {}"),
    ("defaultRequest", "max", "defaultRequest", 0, "default request value {} is greater than max value {}"),
    (
        "defaultRequest",
        "default",
        "defaultRequest",
        0,
        "default request value {} is greater than default limit value {}",
    ),
    ("min", "default", "default", 0, "min value {} is greater than default value {}"),
    ("default", "max", "default", 1, "default value {} is greater than max value {}"),
];

fn agree(at: &At<'_>, limit: &Fields, name: &str, errors: &mut Errors) {
    let pod = text(limit, "type") == "Pod";
    let amount = |bound: &str| {
        let given = !(pod && bound.starts_with("default"));
        object(limit, bound).filter(|_| given)?.get(name).and_then(amounts::parse)
    };
    for (low, high, place, shown, why) in ORDER {
        if let (Some(low), Some(high)) = (amount(low), amount(high))
            && low > high
        {
            let value = if shown == 0 { low } else { high }.to_string();
            let why = why.replacen("{}", &low.to_string(), 1).replacen("{}", &high.to_string(), 1);
            errors.push(Error::invalid(&at.path().child(place).key(name), value, &why));
        }
    }
    if let Some(ratio) = amount("maxLimitRequestRatio") {
        ratio_fits(
            &At::Key(&at.child("maxLimitRequestRatio"), name),
            ratio,
            amount("min"),
            amount("max"),
            errors,
        );
    }
    if let (Some(most), Some(asked)) = (amount("default"), amount("defaultRequest"))
        && !amounts::may_exceed(name)
        && most != asked
    {
        let why = format!("default value {most} must equal to defaultRequest value {asked} in {name}");
        errors.push(Error::invalid(&at.path().child("defaultRequest").key(name), asked.to_string(), &why));
    }
}

fn ratio_fits(
    at: &At<'_>,
    ratio: Quantity,
    min: Option<Quantity>,
    max: Option<Quantity>,
    errors: &mut Errors,
) {
    if ratio.milli_value() < 1000 {
        let why = format!("ratio {ratio} is less than 1");
        errors.push(Error::invalid(&at.path(), ratio.to_string(), &why));
    }
    let (Some(min), Some(max)) = (min, max) else { return };
    let most = max.milli_value() as f64 / min.milli_value() as f64;
    if ratio.milli_value() as f64 / 1000.0 > most {
        let why = format!("ratio {ratio} is greater than max/min = {most:.6}");
        errors.push(Error::invalid(&at.path(), ratio.to_string(), &why));
    }
}
