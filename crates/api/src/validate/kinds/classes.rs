//! Small kinds that others refer to: classes of storage, priority and runtimes, drivers, leases, budgets.

use crate::{Text, Value};

use super::here::Here;
use super::{At, Fields, Seen, items};
use crate::field::{Error, Errors};
use crate::quantity::Quantity;
use crate::validate::names;

const PARAMETERS_MAX: usize = 512;
const PARAMETERS_MAX_BYTES: usize = 256 * 1024;
const NODE_ID_MAX: usize = 256;
const PERIOD_MIN_SECONDS: i64 = 10;
const TOKEN_MIN_SECONDS: i64 = 600;
const TOKEN_MAX_SECONDS: i64 = 1 << 32;
const USER_PRIORITY_MAX: i64 = 1_000_000_000;
/// The classes that Kubernetes' own pods have, and their values.
const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

fn lower_qualified(text: &str) -> Vec<String> {
    names::qualified_name(&text.to_lowercase())
}

fn parameters(here: &mut Here<'_, '_>, demanded: bool) {
    let path = here.path("parameters");
    let Some(parameters) = here.object("parameters").filter(|all| !all.is_empty()) else {
        if demanded {
            here.required("parameters", "must contain at least one key/value pair");
        }
        return;
    };
    if parameters.len() > PARAMETERS_MAX {
        here.errors.push(Error::too_long(&path, PARAMETERS_MAX));
        return;
    }
    if parameters.contains_key("") {
        here.invalid_as("parameters", "", "field can not be empty.");
    }
    let size = |(key, value): (&Text, &Value)| key.len() + value.as_str().map_or(0, str::len);
    if parameters.iter().map(size).sum::<usize>() > PARAMETERS_MAX_BYTES {
        here.errors.push(Error::too_long(&path, PARAMETERS_MAX_BYTES));
    }
}

/// Who provisions, and with what.
pub fn storage(at: &At<'_>, class: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, class, errors);
    here.form("provisioner", lower_qualified);
    parameters(here, false);
    let mut seen = Seen::new();
    for (index, topology) in here.list("allowedTopologies").iter().enumerate() {
        if !seen.add(topology) {
            here.duplicate("allowedTopologies", index, "matchLabelExpressions", "");
        }
    }
}

/// Who changes a volume, and how.
pub fn volume_attributes(at: &At<'_>, class: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, class, errors);
    here.form("driverName", lower_qualified);
    parameters(here, true);
}

/// Exactly one thing is attached.
pub fn attachment(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, spec, errors);
    here.form("attacher", names::dns1123_subdomain);
    here.form("nodeName", names::dns1123_subdomain);
    let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (here.has("source.inlineVolumeSpec"), here.has("source.persistentVolumeName")) {
        (false, false) => here.required("source", why),
        (true, true) => here.forbidden("source", why),
        (false, true) if here.text("source.persistentVolumeName").is_empty() => {
            here.required("source.persistentVolumeName", "must specify non empty persistentVolumeName");
        }
        _ => here.form("source.persistentVolumeName", names::dns1123_subdomain),
    }
}

/// What a driver asks for.
pub fn driver(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, spec, errors);
    if here.number("nodeAllocatableUpdatePeriodSeconds").is_some_and(|period| period < PERIOD_MIN_SECONDS) {
        let why = "must be greater than or equal to 10 seconds";
        here.invalid("nodeAllocatableUpdatePeriodSeconds", why);
    }
    let tokens = At::Child(at, "tokenRequests");
    let mut audiences = Seen::new();
    for (index, token) in items(spec, "tokenRequests") {
        let at = At::Index(&tokens, index);
        let token = &mut Here::new(&at, token, here.errors);
        let audience = token.text("audience");
        if !audiences.add(audience) {
            token.errors.push(Error::duplicate(&token.path("audience"), audience));
            continue;
        }
        match token.number("expirationSeconds") {
            Some(seconds) if seconds < TOKEN_MIN_SECONDS => {
                token.invalid("expirationSeconds", "may not specify a duration less than 10 minutes");
            }
            Some(seconds) if seconds > TOKEN_MAX_SECONDS => {
                token.invalid("expirationSeconds", "may not specify a duration larger than 2^32 seconds");
            }
            _ => {}
        }
    }
}

/// What a driver says of a node.
pub fn node_driver(at: &At<'_>, driver: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, driver, errors);
    here.form("name", names::dns1123_subdomain);
    if here.text("nodeID").len() > NODE_ID_MAX {
        here.invalid("nodeID", &format!("must be {NODE_ID_MAX} characters or less"));
    }
    here.not_negative("allocatable.count");
    let mut keys = Seen::new();
    for (_, key) in here.texts("topologyKeys") {
        if !keys.add(key) {
            here.errors.push(Error::duplicate(&here.path(""), key));
        }
        here.wrong("", key, names::qualified_name(key));
    }
}

/// How much storage there is for a class.
pub fn capacity(at: &At<'_>, capacity: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, capacity, errors);
    here.form("storageClassName", names::dns1123_subdomain);
    if here.quantity("capacity").is_some_and(|amount| amount.sign() < 0) {
        here.invalid("capacity", "must be greater than or equal to 0");
    }
}

/// Users stay below the system's own classes.
pub fn priority(at: &At<'_>, class: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, class, errors);
    let (name, value) = (here.text("metadata.name"), here.number("value").unwrap_or_default());
    if !name.starts_with("system-") {
        if value > USER_PRIORITY_MAX {
            let why = format!("maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}");
            here.forbidden("value", &why);
        }
        return;
    }
    let why = match SYSTEM_CLASSES.iter().find(|(known, _)| *known == name) {
        None => format!("{name} is not a known system priority class"),
        Some((_, right)) if *right != value => format!("value of {name} PriorityClass must be {right}"),
        Some(_) if here.flag("globalDefault") => {
            format!("globalDefault of {name} PriorityClass must be false")
        }
        Some(_) => return,
    };
    let why =
        format!("priority class names with 'system-' prefix are reserved for system use only. error: {why}");
    here.forbidden("metadata.name", &why);
}

/// How pods of a class are run, and where.
pub fn runtime(at: &At<'_>, class: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, class, errors);
    let handler = here.text("handler");
    here.wrong("handler", handler, names::dns1123_label(handler));
    for (name, amount) in here.object("overhead.podFixed").into_iter().flatten() {
        let parsed = amount.as_str().and_then(|text| text.parse::<Quantity>().ok());
        if parsed.is_some_and(|amount| amount.sign() < 0) {
            let path = here.path("overhead.limits").key(name);
            let why = "must be greater than or equal to 0";
            here.errors.push(Error::invalid(&path, amount.clone(), why));
        }
    }
    here.unique("scheduling.tolerations");
}

/// A holder that is preferred is chosen by a strategy.
pub fn lease(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, spec, errors);
    if !here.text("preferredHolder").is_empty() && here.text("strategy").is_empty() {
        here.forbidden("preferredHolder", "may only be specified when strategy is defined");
    }
}

/// A budget counts what is up or what is down, not both.
pub fn disruption_budget(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, spec, errors);
    if here.has("minAvailable") && here.has("maxUnavailable") {
        let value = Value::Object(here.fields.clone());
        here.invalid_as("", value, "minAvailable and maxUnavailable cannot be both set");
    }
}
