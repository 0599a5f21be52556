//! Probes and lifecycle hooks.

use super::judge;
use super::{At, Fields, number, object, text};
use crate::field::{Error, Errors};

/// The ways to ask or act, in the order that Kubernetes judges them.
const WAYS: [&str; 5] = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];

/// A probe asks in exactly one way.
pub(super) fn probe(at: &At<'_>, probe: &Fields, errors: &mut Errors) {
    one_way(at, probe, errors);
    let grace = number(probe, "terminationGracePeriodSeconds");
    if let Some(grace) = grace.filter(|grace| *grace <= 0) {
        let path = at.path().child("terminationGracePeriodSeconds");
        errors.push(Error::invalid(&path, grace, "must be greater than 0"));
    }
}

/// A hook acts in exactly one way.
pub(super) fn lifecycle_handler(at: &At<'_>, hook: &Fields, errors: &mut Errors) {
    one_way(at, hook, errors);
}

fn one_way(at: &At<'_>, handler: &Fields, errors: &mut Errors) {
    let mut ways = WAYS.into_iter().filter(|way| handler.contains_key(way));
    let Some(way) = ways.next() else {
        errors.push(Error::required(&at.path(), "must specify a handler type"));
        return;
    };
    for other in ways {
        let path = at.path().child(other);
        errors.push(Error::forbidden(&path, "may not specify more than 1 handler type"));
    }
    if matches!(way, "httpGet" | "tcpSocket")
        && object(handler, way).is_some_and(|action| !action.contains_key("port"))
    {
        let why = "must be between 1 and 65535, inclusive";
        errors.push(Error::invalid(&at.path().child(way).child("port"), 0, why));
    }
    let command = object(handler, way).and_then(|action| action.get("command"));
    if way == "exec" && command.is_none() {
        errors.push(Error::required(&at.path().child("exec").child("command"), ""));
    }
}

/// A header has a name that HTTP knows.
pub(super) fn header(at: &At<'_>, header: &Fields, errors: &mut Errors) {
    const FORM: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', \
        regex used for validation is '[-A-Za-z0-9]+')";
    let name = text(header, "name");
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        judge(vec![FORM.to_owned()], name, errors, || at.list().path());
    }
}

/// What probes and hooks owe the container's and the pod's times.
pub(super) fn of_container(at: &At<'_>, spec: &Fields, container: &Fields, errors: &mut Errors) {
    for name in ["livenessProbe", "startupProbe"] {
        let threshold = object(container, name).and_then(|probe| number(probe, "successThreshold"));
        if let Some(threshold) = threshold.filter(|threshold| *threshold != 1) {
            let path = at.path().child(name).child("successThreshold");
            errors.push(Error::invalid(&path, threshold, "must be 1"));
        }
    }
    let readiness = object(container, "readinessProbe");
    if let Some(grace) = readiness.and_then(|probe| number(probe, "terminationGracePeriodSeconds")) {
        let path = at.path().child("readinessProbe").child("terminationGracePeriodSeconds");
        errors.push(Error::invalid(&path, grace, "must not be set for readinessProbes"));
    }
    if let Some(lifecycle) = object(container, "lifecycle") {
        naps(&at.child("lifecycle"), spec, lifecycle, errors);
    }
}

fn naps(at: &At<'_>, spec: &Fields, lifecycle: &Fields, errors: &mut Errors) {
    let Some(grace) = number(spec, "terminationGracePeriodSeconds") else { return };
    for hook in ["postStart", "preStop"] {
        let nap = object(lifecycle, hook).and_then(|hook| object(hook, "sleep"));
        let Some(seconds) = nap.map(|nap| number(nap, "seconds").unwrap_or(0)) else { continue };
        if !(0..=grace).contains(&seconds) {
            let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
            errors.push(Error::invalid(&at.path().child(hook).child("sleep"), seconds, &why));
        }
    }
}
