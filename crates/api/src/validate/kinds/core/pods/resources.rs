//! What containers and pods ask for and may have.

use std::collections::HashMap;

use crate::Value;

use super::super::amounts::{self, Use};
use super::judge;
use super::{At, ByText, Fields, Seen, items, list, object, text};
use crate::field::{Error, Errors};
use crate::quantity::Quantity;
use crate::validate::names;

/// Names, amounts and their relation, for a container or for a pod as a whole.
pub(super) fn requirements(at: &At<'_>, resources: &Fields, errors: &mut Errors) {
    let of_container = matches!(at, At::Child(At::Index(..), _));
    let usage = if of_container { Use::Container } else { Use::Pod };
    let (mut huge, mut usual) = (false, false);
    for list in ["limits", "requests"] {
        let Some(amounts) = object(resources, list) else { continue };
        let place = at.child(list);
        amounts::all(&place, amounts, usage, errors);
        for (name, amount) in amounts {
            usual |= matches!(name.as_str(), "cpu" | "memory");
            if amounts::is_huge_pages(name) {
                huge = true;
                whole_pages(&At::Key(&place, name), name, amount, errors);
            }
        }
    }
    limited(at, resources, errors);
    if huge && !usual {
        errors.push(Error::forbidden(&at.path(), "HugePages require cpu or memory"));
    }
}

fn whole_pages(at: &At<'_>, name: &str, amount: &Value, errors: &mut Errors) {
    let size = name.strip_prefix("hugepages-").and_then(|size| size.parse::<Quantity>().ok());
    let whole = match (size.map(|size| size.value()), amounts::parse(amount)) {
        (Some(size), Some(amount)) if size > 0 => amount.value() % size == 0,
        _ => false,
    };
    if !whole {
        let text = amount.as_str().unwrap_or_default();
        let why = format!("{text} is not positive integer multiple of {name}");
        errors.push(Error::invalid(&at.path(), text, &why));
    }
}

/// Nothing asks for more than it may have.
fn limited(at: &At<'_>, resources: &Fields, errors: &mut Errors) {
    let Some(requests) = object(resources, "requests") else { return };
    let limits = object(resources, "limits");
    for (name, request) in requests {
        match limits.and_then(|limits| limits.get(name)) {
            Some(limit) => within(at, name, (request, limit), errors),
            None if !amounts::may_exceed(name) => {
                let why = "Limit must be set for non overcommitable resources";
                errors.push(Error::required(&at.path().child("limits"), why));
            }
            None => {}
        }
    }
}

fn within(at: &At<'_>, name: &str, (request, limit): (&Value, &Value), errors: &mut Errors) {
    // Mostly they are the same text, which spares parsing it.
    if request == limit {
        return;
    }
    let (Some(asked), Some(most)) = (amounts::parse(request), amounts::parse(limit)) else { return };
    let bound = if asked != most && !amounts::may_exceed(name) {
        "equal to"
    } else if asked > most {
        "less than or equal to"
    } else {
        return;
    };
    let why = format!("must be {bound} {name} limit of {most}");
    errors.push(Error::invalid(&at.path().child("requests"), request.clone(), &why));
}

/// What a pod costs besides its containers.
pub(super) fn overhead(at: &At<'_>, overhead: &Value, errors: &mut Errors) {
    if let Value::Object(amounts) = overhead {
        amounts::all(&at.child("limits"), amounts, Use::Container, errors);
    }
}

/// What the pod as a whole asks for covers its containers.
pub(super) fn of_pod(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let Some(resources) = object(spec, "resources") else { return };
    let place = at.child("resources");
    if resources.contains_key("claims") {
        let why = "claims cannot be set for Resources at pod-level";
        errors.push(Error::forbidden(&place.path().child("claims"), why));
    }
    let limits = object(resources, "limits");
    for (index, container) in items(spec, "containers") {
        let own = object(container, "resources").and_then(|resources| object(resources, "limits"));
        for (name, limit) in own.into_iter().flatten() {
            let whole = limits.and_then(|limits| limits.get(name)).and_then(amounts::parse);
            if let (Some(limit), Some(whole)) = (amounts::parse(limit), whole)
                && limit > whole
            {
                let path = place.path().child("containers").index(index).key(name).child("limits");
                let why = format!("must be less than or equal to pod limits of {whole}");
                errors.push(Error::invalid(&path, limit.to_string(), &why));
            }
        }
    }
    if let Some(requests) = object(resources, "requests") {
        covers(&place, spec, requests, errors);
    }
}

/// The containers together ask for no more than the pod does.
fn covers(at: &At<'_>, spec: &Fields, requests: &Fields, errors: &mut Errors) {
    let mut sums: HashMap<&str, Quantity> = HashMap::new();
    for (_, container) in items(spec, "containers") {
        let asked = object(container, "resources").and_then(|resources| object(resources, "requests"));
        for (name, amount) in asked.into_iter().flatten().filter(|(name, _)| requests.contains_key(name)) {
            let sum = sums.entry(name).or_default();
            *sum = *sum + amounts::parse(amount).unwrap_or_default();
        }
    }
    for (name, whole) in requests {
        let sum = sums.get(name.as_str()).copied().unwrap_or_default();
        if amounts::parse(whole).is_some_and(|whole| sum > whole) {
            let path = at.path().child("requests").key(name);
            let why = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.push(Error::invalid(&path, whole.clone(), &why));
        }
    }
}

/// A claim of the pod is one that exists or one that is made from a template.
pub(super) fn pod_claim(at: &At<'_>, claim: &Fields, errors: &mut Errors) {
    let (by_name, by_template) =
        (claim.contains_key("resourceClaimName"), claim.contains_key("resourceClaimTemplateName"));
    let why = match (by_name, by_template) {
        (true, true) => "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
        (false, false) => "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
        _ => return,
    };
    errors.push(Error::invalid(&at.path(), Value::Object(claim.clone()), why));
}

/// What a container claims is among the pod's claims, each once.
pub(super) fn claims(at: &At<'_>, spec: &Fields, container: &Fields, errors: &mut Errors) {
    let Some(resources) = object(container, "resources") else { return };
    let asked = list(resources, "claims");
    if asked.is_empty() {
        return;
    }
    let mut seen = Seen::new();
    let known = ByText::new(list(spec, "resourceClaims"), "name");
    for (index, claim) in items(resources, "claims") {
        let path = || at.path().child("resources").child("claims").index(index);
        let (name, request) = (text(claim, "name"), text(claim, "request"));
        if name.is_empty() {
            errors.push(Error::required(&path(), ""));
            continue;
        }
        judge(label(request), request, errors, || path().child("request"));
        let whole = seen.has((name, ""));
        if whole || !seen.add((name, request)) {
            let key = if whole || request.is_empty() { name.to_owned() } else { format!("{name}/{request}") };
            errors.push(Error::duplicate(&path(), key));
        }
        if !known.has(name) && !errors.is_full() {
            let mut error = Error::not_found(&path(), name);
            error.body.push_str(&format!(": {}", known_claims(spec)));
            errors.push(error);
        }
    }
}

fn label(text: &str) -> Vec<String> {
    if text.is_empty() { Vec::new() } else { names::dns1123_label(text) }
}

fn known_claims(spec: &Fields) -> String {
    let mut known: Vec<&str> = items(spec, "resourceClaims").map(|(_, claim)| text(claim, "name")).collect();
    known.sort_unstable();
    match known.as_slice() {
        [] => "must be one of the names in pod.spec.resourceClaims which is empty".into(),
        known => format!("must be one of the names in pod.spec.resourceClaims: {}", known.join(", ")),
    }
}
