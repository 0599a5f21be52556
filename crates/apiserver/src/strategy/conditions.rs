//! Conditions and addresses that others write into a status.

use std::net::IpAddr;

use jiff::Timestamp;
use tiphys_api::Value;
use tiphys_api::field::{Error, Errors, Path};
use tiphys_api::validate::{self, Seen};

use tiphys_cel::Type;

use super::{Rules, status};
use crate::admission::{expression, policy};
use crate::aggregate::available;
use crate::auth::User;
use crate::registry::tree;

const COUNTED: Rules = Rules { generation: true, ..Rules::DEFAULT };
const CONDITIONAL: Rules = Rules { unconditional_update: false, ..Rules::DEFAULT };

pub(super) const BUDGETS: Rules =
    Rules { unconditional_update: false, validate_update: disruption_budget, ..COUNTED };
pub(super) const POLICIES: Rules =
    Rules { unconditional_update: false, validate: expressions, validate_update: policy, ..COUNTED };
pub(super) const FLOW_CONTROL: Rules = Rules { validate_update: flow_control, ..COUNTED };
pub(super) const API_SERVICES: Rules =
    Rules { on_create: local_api_service, validate_update: api_service, ..CONDITIONAL };
pub(super) const INGRESSES: Rules =
    Rules { validate_create: class_annotation, validate_update: ingress, ..COUNTED };

const REASON_MAX: usize = 1024;
const MESSAGE_MAX: usize = 32 * 1024;
const STATUSES: &[&str] = &["False", "True", "Unknown"];

/// Expressions of webhooks and policies compile, and come to what is wanted of them.
fn expressions(configuration: &Value, errors: &mut Errors) {
    let spec = Path::new("spec");
    for wrong in policy::judge(tree::text(configuration, &["kind"]), tree::at(configuration, &["spec"])) {
        errors.push(Error::invalid(&spec.child(&wrong.at), wrong.text, &wrong.why));
    }
    for (index, webhook) in tree::items(configuration, &["webhooks"]).iter().enumerate() {
        conditions_of(webhook, &Path::new("webhooks").index(index), errors);
    }
}

fn conditions_of(webhook: &Value, at: &Path, errors: &mut Errors) {
    let (at, env) = (at.child("matchConditions"), expression::env(&expression::OF_WEBHOOKS));
    for (index, condition) in tree::items(webhook, &["matchConditions"]).iter().enumerate() {
        let text = tree::text(condition, &["expression"]).trim();
        if let (false, Err(why)) = (text.is_empty(), expression::compile(text, &env, Some(&Type::Bool))) {
            errors.push(Error::invalid(&at.index(index).child("expression"), text, &why));
        }
    }
}

fn path() -> Path {
    Path::new("status").child("conditions")
}

fn conditions(object: &Value) -> &[Value] {
    tree::items(object, &["status", "conditions"])
}

/// The conditions of a written status, unless they are what they were.
fn written<'n>(new: &'n Value, old: &Value, subresource: &str) -> &'n [Value] {
    let wanted = conditions(new);
    if subresource != "status" || wanted == conditions(old) { &[] } else { wanted }
}

fn disruption_budget(new: &Value, old: &Value, subresource: &str, errors: &mut Errors) {
    status::disruption_budget(new, old, subresource, errors);
    standard(written(new, old, subresource), errors);
}

fn policy(new: &Value, old: &Value, subresource: &str, errors: &mut Errors) {
    standard(written(new, old, subresource), errors);
}

/// `metav1.Condition`s: complete, and one of each type.
fn standard(conditions: &[Value], errors: &mut Errors) {
    let mut seen = Seen::new();
    for (index, condition) in conditions.iter().enumerate() {
        let text = |name| tree::text(condition, &[name]);
        let at = |name| path().index(index).child(name);
        let kind = text("type");
        if !seen.add(kind) {
            errors.push(Error::duplicate(&path().index(index), kind));
        }
        if kind.is_empty() {
            errors.push(Error::required(&at("type"), "is required"));
        } else {
            errors.extend(
                validate::qualified_name(kind).iter().map(|why| Error::invalid(&at("type"), kind, why)),
            );
        }
        match text("status") {
            "" => errors.push(Error::required(&at("status"), "")),
            status if !STATUSES.contains(&status) => {
                errors.push(Error::not_supported(&at("status"), status, STATUSES));
            }
            _ => {}
        }
        if let Some(generation) = condition["observedGeneration"].as_i64().filter(|n| *n < 0) {
            let why = "must be greater than or equal to zero";
            errors.push(Error::invalid(&at("observedGeneration"), generation, why));
        }
        if text("lastTransitionTime").is_empty() {
            errors.push(Error::required(&at("lastTransitionTime"), ""));
        }
        reason(text("reason"), &at("reason"), errors);
        if text("message").len() > MESSAGE_MAX {
            errors.push(Error::too_long(&at("message"), MESSAGE_MAX));
        }
    }
}

fn reason(text: &str, path: &Path, errors: &mut Errors) {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b',' | b':');
    let last = text.bytes().next_back().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    let right = text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(inner) && last;
    if text.is_empty() {
        errors.push(Error::required(path, ""));
    } else if !right {
        let why = "a condition reason must start with alphabetic character, optionally followed by a string of \
                   alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. \
                   'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for \
                   validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";
        errors.push(Error::invalid(path, text, why));
    }
    if text.len() > REASON_MAX {
        errors.push(Error::too_long(path, REASON_MAX));
    }
}

fn flow_control(new: &Value, old: &Value, subresource: &str, errors: &mut Errors) {
    let mut seen = Seen::new();
    for (index, condition) in written(new, old, subresource).iter().enumerate() {
        let kind = tree::text(condition, &["type"]);
        let at = || path().index(index).child("type");
        if !seen.add(kind) {
            errors.push(Error::duplicate(&at(), kind));
        }
        if kind.is_empty() {
            errors.push(Error::required(&at(), "must not be empty"));
        }
    }
}

fn api_service(new: &Value, old: &Value, subresource: &str, errors: &mut Errors) {
    for (index, condition) in written(new, old, subresource).iter().enumerate() {
        let status = tree::text(condition, &["status"]);
        if !STATUSES.contains(&status) {
            let at = path().index(index).child("status");
            errors.push(Error::not_supported(&at, status, &["True", "False", "Unknown"]));
        }
    }
}

/// What is served by this process itself is available from the start.
fn local_api_service(service: &mut Value, _: &User) {
    if tree::at(service, &["spec", "service"]).is_null() {
        let local = available::condition(&available::Finding::local(), &tree::time(Timestamp::now()));
        tree::set(service, &["status", "conditions"], Value::Array(vec![local]));
    }
}

/// What the old annotation says of the class does not contradict the field, when both are written at first.
fn class_annotation(ingress: &Value, errors: &mut Errors) {
    const ANNOTATION: &str = "kubernetes.io/ingress.class";
    let class = tree::at(ingress, &["spec", "ingressClassName"]);
    let annotation = tree::at(ingress, &["metadata", "annotations", ANNOTATION]);
    if !class.is_null() && !annotation.is_null() && class != annotation {
        let why = "must match `ingressClassName` when both are specified";
        errors.push(Error::invalid(&Path::new("annotations").child(ANNOTATION), annotation.clone(), why));
    }
}

/// Where an Ingress is reached.
fn ingress(new: &Value, _: &Value, subresource: &str, errors: &mut Errors) {
    if subresource != "status" {
        return;
    }
    let points = tree::items(new, &["status", "loadBalancer", "ingress"]);
    for (index, point) in points.iter().enumerate() {
        let at = |name| Path::new("status").child("loadBalancer").child("ingress").index(index).child(name);
        let (ip, host) = (tree::text(point, &["ip"]), tree::text(point, &["hostname"]));
        if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(Error::invalid(&at("ip"), ip, why));
        }
        if host.is_empty() {
            continue;
        }
        for why in validate::dns1123_subdomain(host) {
            errors.push(Error::invalid(&at("hostname"), host, &why));
        }
        if host.parse::<IpAddr>().is_ok() {
            let why = "must be a DNS name, not an IP address";
            errors.push(Error::invalid(&at("hostname"), host, why));
        }
    }
}
