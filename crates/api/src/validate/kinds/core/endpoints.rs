//! Endpoints: addresses and ports that a Service leads to.

use super::{At, Fields, items, judge, list, services, text};
use crate::field::{Error, Errors};
use crate::validate::{forms, names};

/// A subset has addresses, and its ports have names when there are several.
pub(super) fn subset(at: &At<'_>, subset: &Fields, errors: &mut Errors) {
    if list(subset, "addresses").is_empty() && list(subset, "notReadyAddresses").is_empty() {
        let why = "must specify `addresses` or `notReadyAddresses`";
        errors.push(Error::required(&at.path(), why));
    }
    let several = list(subset, "ports").len() > 1;
    for (index, port) in items(subset, "ports") {
        let path = |name: &str| at.path().child("ports").index(index).child(name);
        if several && text(port, "name").is_empty() {
            errors.push(Error::required(&path("name"), ""));
        }
        if !port.contains_key("port") {
            errors.push(Error::invalid(&path("port"), 0, "must be between 1 and 65535, inclusive"));
        }
    }
}

/// An address that others can reach.
pub(super) fn address(at: &At<'_>, address: &Fields, errors: &mut Errors) {
    let ip = text(address, "ip");
    let path = || at.path().child("ip");
    let found = forms::ip(ip);
    if found.is_empty() {
        judge(services::public_ip(ip), ip, errors, path);
    } else {
        judge(found, ip, errors, path);
        errors.push(Error::invalid(&path(), ip, "must be a valid IP address"));
    }
    if let Some(node) = address.get("nodeName").and_then(crate::Value::as_str) {
        judge(names::dns1123_subdomain(node), node, errors, || at.path().child("nodeName"));
    }
}
