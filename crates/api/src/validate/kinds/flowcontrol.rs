//! Priority and fairness: flow schemas and priority levels.

use crate::Value;

use super::here::Here;
use super::{At, Fields};
use crate::field::Errors;
use crate::validate::names;

const PRECEDENCE_MAX: i64 = 10_000;
const QUEUES_MAX: i64 = 10_000_000;
const HASH_BITS: i64 = 60;
const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

/// Where a schema stands among others, and which level it leads to.
pub fn schema(at: &At<'_>, schema: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, schema, errors);
    let name = "spec.matchingPrecedence";
    let precedence = here.number(name).unwrap_or_default();
    if precedence <= 0 {
        here.invalid_as(name, precedence, "must be a positive value");
    }
    if precedence > PRECEDENCE_MAX {
        here.invalid(name, &format!("must not be greater than {PRECEDENCE_MAX}"));
    }
    if precedence == 1 && here.text("metadata.name") != "exempt" {
        here.invalid(name, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
    let method = here.get("spec.distinguisherMethod.type").and_then(Value::as_str);
    if method.is_some_and(|method| !matches!(method, "ByNamespace" | "ByUser")) {
        here.unsupported("spec.distinguisherMethod.type", &["ByNamespace", "ByUser"]);
    }
    if here.text("spec.priorityLevelConfiguration.name").is_empty() {
        here.required("spec.priorityLevelConfiguration.name", "must reference a priority level");
    }
    here.form("spec.priorityLevelConfiguration.name", names::dns1123_subdomain);
}

/// Whom and what a rule is about.
pub fn rule(at: &At<'_>, rule: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, rule, errors);
    if here.list("subjects").is_empty() {
        here.required("subjects", "subjects must contain at least one value");
    }
    if here.list("resourceRules").is_empty() && here.list("nonResourceRules").is_empty() {
        here.required("", "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
}

/// A subject of its kind, and of no other.
pub fn subject(at: &At<'_>, subject: &Fields, errors: &mut Errors) {
    const KINDS: [(&str, &str); 3] =
        [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let here = &mut Here::new(at, subject, errors);
    let kind = here.text("kind");
    if !KINDS.iter().any(|(known, _)| *known == kind) {
        here.unsupported("kind", &["Group", "ServiceAccount", "User"]);
        return;
    }
    for (own, field) in KINDS {
        match (own == kind, here.has(field)) {
            (true, false) => {
                here.required(field, &format!("{field} is required when subject kind is '{own}'"))
            }
            (false, true) => {
                here.forbidden(field, &format!("{field} is forbidden when subject kind is not '{own}'"));
            }
            _ => {}
        }
    }
    if here.has("serviceAccount") && kind == "ServiceAccount" {
        if here.text("serviceAccount.namespace").is_empty() {
            here.required("serviceAccount.namespace", "must specify namespace for service account");
        }
        here.form("serviceAccount.namespace", names::dns1123_label);
        if here.text("serviceAccount.name") != "*" {
            here.form("serviceAccount.name", names::dns1123_subdomain);
        }
    }
}

fn has_wildcard(list: &[Value]) -> bool {
    list.iter().any(|item| item == "*")
}

/// A list is not empty, and `*` stands alone. Whether it names single things.
fn names_some(here: &mut Here<'_, '_>, name: &str, missing: &str, others: &str) -> bool {
    let list = here.list(name);
    if list.is_empty() {
        here.required(name, missing);
        return false;
    }
    if list.len() > 1 && has_wildcard(list) {
        here.invalid(name, &format!("if '*' is present, must not specify other {others}"));
    }
    !has_wildcard(list)
}

fn verbs(here: &mut Here<'_, '_>) {
    let single = names_some(here, "verbs", "verbs must contain at least one value", "verbs");
    if single && here.texts("verbs").any(|(_, verb)| !VERBS.contains(&verb)) {
        here.unsupported("verbs", VERBS);
    }
}

/// A rule about resources.
pub fn resource_rule(at: &At<'_>, rule: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, rule, errors);
    verbs(here);
    names_some(here, "apiGroups", "resource rules must supply at least one api group", "api groups");
    names_some(here, "resources", "resource rules must supply at least one resource", "resources");
    if here.list("namespaces").is_empty() && here.flag("clusterScope") {
        return;
    }
    let missing = "resource rules that are not cluster scoped must supply at least one namespace";
    if names_some(here, "namespaces", missing, "namespaces") {
        for (index, namespace) in here.texts("namespaces") {
            for why in names::dns1123_label(namespace) {
                let why = format!("each member of this list must be '*' or a DNS-1123 label; {why}");
                here.invalid_item("namespaces", index, namespace, &why);
            }
        }
    }
}

/// A rule about paths.
pub fn path_rule(at: &At<'_>, rule: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, rule, errors);
    verbs(here);
    let missing = "nonResourceURLs must contain at least one value";
    if names_some(here, "nonResourceURLs", missing, "non-resource URLs") {
        for (index, path) in here.texts("nonResourceURLs") {
            if let Some(why) = wrong_path(path) {
                here.invalid_item("nonResourceURLs", index, path, why);
            }
        }
    }
}

fn wrong_path(path: &str) -> Option<&'static str> {
    let stars = path.matches('*').count();
    match path {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !path.starts_with('/') => Some("must start with slash"),
        _ if path.contains(' ') => Some("must not contain white-space"),
        _ if path.contains("//") => Some("must not contain double slash"),
        _ if stars > 1 || (stars == 1 && !path.ends_with("/*")) => {
            Some("wildcard can only do suffix matching")
        }
        _ => None,
    }
}

/// A level is limited or exempt, the latter by its name.
pub fn level(at: &At<'_>, level: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, level, errors);
    let kind = here.text("spec.type");
    if (here.text("metadata.name") == "exempt") != (kind == "Exempt") {
        here.invalid("spec.type", "type must be 'Exempt' if and only if name is 'exempt'");
    }
    match kind {
        "Exempt" if here.has("spec.limited") => {
            here.forbidden("spec.limited", "must be nil if the type is not Limited");
        }
        "Exempt" => {}
        "Limited" => {
            if here.has("spec.exempt") {
                here.forbidden("spec.exempt", "must be nil if the type is Limited");
            }
            if !here.has("spec.limited") {
                here.required("spec.limited", "must not be empty when type is Limited");
            }
        }
        _ => here.unsupported("spec.type", &["Exempt", "Limited"]),
    }
}

fn not_negative(here: &mut Here<'_, '_>, name: &str) {
    if here.number(name).is_some_and(|number| number < 0) {
        here.invalid(name, "must be a non-negative integer");
    }
}

/// Shares of a level without limits.
pub fn shares(at: &At<'_>, exempt: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, exempt, errors);
    not_negative(here, "nominalConcurrencyShares");
    not_negative(here, "borrowingLimitPercent");
    if here.number("lendablePercent").is_some_and(|share| !(0..=100).contains(&share)) {
        here.invalid("lendablePercent", "must be between 0 and 100, inclusive");
    }
}

/// What becomes of requests over the limit.
pub fn response(at: &At<'_>, response: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, response, errors);
    match (here.text("type"), here.has("queuing")) {
        ("Reject", true) => {
            here.forbidden("queuing", "must be nil if limited.limitResponse.type is not Limited");
        }
        ("Queue", false) => {
            here.required("queuing", "must not be empty if limited.limitResponse.type is Limited");
        }
        ("Reject" | "Queue", _) => {}
        _ => here.unsupported("type", &["Queue", "Reject"]),
    }
}

/// Queues, and how requests are dealt to them.
pub fn queuing(at: &At<'_>, queuing: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, queuing, errors);
    let (queues, hand) =
        (here.number("queues").unwrap_or_default(), here.number("handSize").unwrap_or_default());
    if here.number("queueLengthLimit").unwrap_or_default() <= 0 {
        here.invalid("queueLengthLimit", "must be positive");
    }
    if queues <= 0 {
        here.invalid("queues", "must be positive");
    } else if queues > QUEUES_MAX {
        here.invalid("queues", &format!("must not be greater than {QUEUES_MAX}"));
    }
    if hand <= 0 {
        here.invalid("handSize", "must be positive");
    } else if hand > queues {
        here.invalid("handSize", &format!("should not be greater than queues ({queues})"));
    } else if entropy_bits(queues, hand) > HASH_BITS {
        let why = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        here.invalid("handSize", &why);
    }
}

/// Bits of a hash that choose a hand out of a deck. A hand over 60 cards needs more in any case.
fn entropy_bits(deck: i64, hand: i64) -> i64 {
    if hand > HASH_BITS && deck > HASH_BITS + 1 {
        return HASH_BITS + 1;
    }
    (0..hand).map(|card| ((deck - card) as f64).log2()).sum::<f64>().ceil() as i64
}
