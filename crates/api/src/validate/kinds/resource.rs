//! Devices: what claims ask for, what classes offer, what drivers publish. Expressions are not judged here.

use crate::Value;

use super::here::Here;
use super::{At, Fields, items};
use crate::field::{Error, Errors};
use crate::validate::names;

const REQUESTS_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;
const SELECTORS_MAX: usize = 32;
const EXPRESSION_MAX: usize = 10 * 1024;
const DRIVER_MAX: usize = 63;
const POOL_MAX: usize = 253;
const DEVICES_MAX: usize = 128;
const DOMAIN_MAX: usize = 63;
const ID_MAX: usize = 32;

/// Requests have names, which constraints and configuration refer to.
pub fn claim(at: &At<'_>, devices: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, devices, errors);
    let few = ["requests", "constraints", "config"].map(|list| here.most(list, REQUESTS_MAX));
    if few.contains(&false) {
        return;
    }
    here.unique_names("requests", "");
    for list in ["constraints", "config"] {
        let place = At::Child(at, list);
        for (index, item) in items(devices, list) {
            let at = At::Index(&place, index);
            references(&mut Here::new(&at, item, here.errors), devices);
        }
    }
}

fn references(here: &mut Here<'_, '_>, devices: &Fields) {
    if !here.most("requests", REQUESTS_MAX) {
        return;
    }
    here.unique("requests");
    for (index, name) in here.texts("requests") {
        for why in name.split('/').take(2).flat_map(names::dns1123_label) {
            here.invalid_item("requests", index, name, &why);
        }
        if !is_request(devices, name) {
            let why = "must be the name of a request in the claim or the name of a request and a subrequest separated \
                       by '/'";
            here.invalid_item("requests", index, name, why);
        }
    }
}

fn is_request(devices: &Fields, name: &str) -> bool {
    let (request, sub) = name.split_once('/').map_or((name, None), |(name, sub)| (name, Some(sub)));
    let named = |item: &Value, name: &str| item.get("name").is_some_and(|own| own == name);
    let requests = devices.get("requests").and_then(Value::as_array).into_iter().flatten();
    let mut found = requests.filter(|item| named(item, request));
    match sub {
        None => found.next().is_some(),
        Some(sub) => found.any(|item| {
            let subs = item.get("firstAvailable").and_then(Value::as_array);
            subs.into_iter().flatten().any(|item| named(item, sub))
        }),
    }
}

/// A request asks for one thing exactly, or for the first of several.
pub fn request(at: &At<'_>, request: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, request, errors);
    here.form("name", names::dns1123_label);
    match (here.has("exactly"), !here.list("firstAvailable").is_empty()) {
        (false, false) => here.required("", "exactly one of `exactly` or `firstAvailable` is required"),
        (true, true) => {
            let why = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            here.invalid_as("", Value::Null, why);
        }
        _ => {}
    }
    if here.most("firstAvailable", ALTERNATIVES_MAX) {
        here.unique_names("firstAvailable", "");
    }
}

/// How many devices of which class.
pub fn exact_request(at: &At<'_>, request: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, request, errors);
    here.form("name", names::dns1123_label);
    here.form("deviceClassName", names::dns1123_subdomain);
    here.most("selectors", SELECTORS_MAX);
    let count = here.number("count").unwrap_or_default();
    match here.text("allocationMode") {
        "All" if count != 0 => {
            here.invalid("count", "must not be specified when allocationMode is 'All'");
        }
        "ExactCount" if count <= 0 => here.invalid_as("count", count, "must be greater than zero"),
        "All" | "ExactCount" => {}
        _ => here.unsupported("allocationMode", &["All", "ExactCount"]),
    }
}

/// A selector is an expression.
pub fn selector(at: &At<'_>, selector: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, selector, errors);
    if !here.has("cel") {
        here.required("cel", "");
    } else if here.text("cel.expression").len() > EXPRESSION_MAX {
        here.errors.push(Error::too_long(&here.path("cel.expression"), EXPRESSION_MAX));
    }
}

/// A constraint is about an attribute.
pub fn constraint(at: &At<'_>, constraint: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, constraint, errors);
    match (here.has("matchAttribute"), here.has("distinctAttribute")) {
        (false, false) => here.required("matchAttribute", ""),
        (true, _) => attribute(here, "matchAttribute"),
        (false, true) => attribute(here, "distinctAttribute"),
    }
}

/// A domain and an identifier, as `gpu.example.com/model`.
fn attribute(here: &mut Here<'_, '_>, name: &str) {
    let text = here.text(name);
    match text.split_once('/') {
        None if text.is_empty() => here.required(name, "name required"),
        None => here.invalid(name, "must include a domain"),
        Some(("", _)) => here.required(name, "the domain must not be empty"),
        Some((_, "")) => here.required(name, "the name must not be empty"),
        Some((domain, id)) => {
            if domain.len() > DOMAIN_MAX {
                here.errors.push(Error::too_long(&here.path(name), DOMAIN_MAX));
            }
            here.wrong(name, domain, names::dns1123_subdomain(domain));
            identifier(here, name, id);
        }
    }
}

fn identifier(here: &mut Here<'_, '_>, name: &str, id: &str) {
    if id.len() > ID_MAX {
        here.errors.push(Error::too_long(&here.path(name), ID_MAX));
    }
    let right = !id.starts_with(|c: char| c.is_ascii_digit())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !right {
        let why = "a valid C identifier must start with alphabetic character or '_', followed by a string of \
                   alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for \
                   validation is '[A-Za-z_][A-Za-z0-9_]*')";
        here.invalid_as(name, id, why);
    }
}

fn driver_name(here: &mut Here<'_, '_>, name: &str) {
    let text = here.text(name);
    if text.len() > DRIVER_MAX {
        here.errors.push(Error::too_long(&here.path(name), DRIVER_MAX));
    }
    here.form(name, names::dns1123_subdomain);
}

/// Configuration that only a driver understands.
pub fn opaque(at: &At<'_>, configuration: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, configuration, errors);
    driver_name(here, "driver");
    match here.get("parameters") {
        None | Some(Value::Null) => here.required("parameters", ""),
        Some(Value::Object(_)) => {}
        Some(_) => here.invalid("parameters", "parameters must be a valid JSON object"),
    }
}

/// Configuration has the one form there is.
pub fn configuration(at: &At<'_>, configuration: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, configuration, errors);
    if !here.has("opaque") {
        here.required("opaque", "");
    }
}

/// What a class selects.
pub fn class(at: &At<'_>, class: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, class, errors);
    here.most("selectors", SELECTORS_MAX);
    here.most("config", REQUESTS_MAX);
}

/// Devices of a pool, on one node, on some, or on all.
pub fn slice(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, spec, errors);
    driver_name(here, "driver");
    let ways = ["nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection"];
    let given =
        ways.iter().filter(|way| here.flag(way) || !here.text(way).is_empty() || here.object(way).is_some());
    match given.count() {
        0 => {
            let why =
                "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
            here.required("", why);
        }
        1 => {}
        _ => {
            let why = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but \
                       multiple fields are set";
            here.invalid_as("", Value::Null, why);
        }
    }
    here.form("nodeName", names::dns1123_subdomain);
    if !here.most("devices", DEVICES_MAX) {
        return;
    }
    here.unique_names("devices", "");
    let devices = At::Child(at, "devices");
    for (index, device) in items(spec, "devices") {
        let at = At::Index(&devices, index);
        Here::new(&at, device, here.errors).form("name", names::dns1123_label);
    }
}

/// A pool's name is a path of names; its slices are counted.
pub fn pool(at: &At<'_>, pool: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, pool, errors);
    let name = here.text("name");
    if name.len() > POOL_MAX {
        here.errors.push(Error::too_long(&here.path("name"), POOL_MAX));
    }
    for part in name.split('/').filter(|_| !name.is_empty()) {
        here.wrong("name", part, names::dns1123_subdomain(part));
    }
    if here.number("resourceSliceCount").unwrap_or_default() <= 0 {
        let count = here.number("resourceSliceCount").unwrap_or_default();
        here.invalid_as("resourceSliceCount", count, "must be greater than zero");
    }
    here.not_negative("generation");
}
