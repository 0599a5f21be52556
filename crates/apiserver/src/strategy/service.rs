//! Services: addresses and families may come and go at the end of their lists, the first ones stay.

use tiphys_api::Value;
use tiphys_api::field::{Error, Errors, Path};

use super::Rules;
use crate::registry::tree;

pub(super) const SERVICES: Rules = Rules { create_on_update: true, validate_update, ..Rules::DEFAULT };

const FIXED: &str = "may not change once set";

fn spec<'s>(service: &'s Value, name: &str) -> &'s Value {
    tree::at(service, &["spec", name])
}

fn is(service: &Value, kind: &str) -> bool {
    spec(service, "type") == kind
}

fn path(name: &str) -> Path {
    Path::new("spec").child(name)
}

fn validate_update(new: &Value, old: &Value, _: &str, errors: &mut Errors) {
    if new.get("spec") == old.get("spec") {
        return;
    }
    let headless = |service| spec(service, "clusterIP") == "None";
    if !is(new, "ExternalName") && !is(old, "ExternalName") {
        if !(headless(new) && headless(old)) {
            list(new, old, &ADDRESSES, errors);
        }
        if !headless(new) && !headless(old) {
            list(new, old, &FAMILIES, errors);
        }
    }
    let class = |service| spec(service, "loadBalancerClass");
    if is(new, "LoadBalancer") && is(old, "LoadBalancer") && class(new) != class(old) {
        errors.push(Error::invalid(&path("loadBalancerClass"), class(new).clone(), FIXED));
    }
    let checked = |service| is(service, "LoadBalancer") && spec(service, "externalTrafficPolicy") == "Local";
    let port = |service| spec(service, "healthCheckNodePort");
    if checked(new) && checked(old) && port(new) != port(old) {
        errors.push(Error::forbidden(&path("healthCheckNodePort"), "field is immutable"));
    }
}

/// A list whose first item stays.
struct Lasting {
    name: &'static str,
    what: &'static str,
    /// Whether a changed item is named by its place; otherwise the first one is.
    by_place: bool,
}

const ADDRESSES: Lasting = Lasting { name: "clusterIPs", what: "clusterIP", by_place: true };
const FAMILIES: Lasting = Lasting { name: "ipFamilies", what: "ipFamily", by_place: false };

fn list(new: &Value, old: &Value, lasting: &Lasting, errors: &mut Errors) {
    let items = |service| tree::items(service, &["spec", lasting.name]);
    let (now, before) = (items(new), items(old));
    let mut refuse = |index: usize, why: &str| {
        errors.push(Error::invalid(&path(lasting.name).index(index), now.to_vec(), why));
    };
    if now.len() == before.len() {
        for (index, _) in now.iter().zip(before).enumerate().filter(|(_, (now, before))| now != before) {
            refuse(if lasting.by_place { index } else { 0 }, FIXED);
        }
        return;
    }
    match (now.first(), before.first()) {
        (None, _) => refuse(0, &format!("primary {} can not be unset", lasting.what)),
        (Some(now), Some(before)) if now != before => refuse(0, FIXED),
        _ => {}
    }
    let policy = spec(new, "ipFamilyPolicy");
    if now.len() == 1 && before.len() > 1 && policy != "SingleStack" {
        let why = format!("must be set to 'SingleStack' when releasing the secondary {}", lasting.what);
        errors.push(Error::invalid(&path("ipFamilyPolicy"), policy.clone(), &why));
    }
}
