//! Containers: what each must have, and what only some of them may.

use crate::Value;

use super::{
    At, Fields, Seen, flag, handler, is_sidecar, items, list, number, object, resources, text, under,
};
use super::{is_of_pod, volumes};
use crate::field::{Error, Errors};

/// Most rules of one container about when to restart.
const RESTART_RULES_MAX: usize = 20;
/// Most exit codes of one such rule.
const EXIT_CODES_MAX: usize = 255;

/// Every container runs an image, and what it mounts does not collide.
pub(super) fn container(at: &At<'_>, container: &Fields, errors: &mut Errors) {
    if text(container, "image").is_empty() {
        errors.push(Error::required(&at.path().child("image"), ""));
    }
    volumes::mounts(at, container, errors);
    volumes::devices(at, container, errors);
    restart(at, container, errors);
}

/// Fields that a container cannot have once its pod runs.
const NOT_EPHEMERAL: [&str; 9] = [
    "lifecycle",
    "livenessProbe",
    "ports",
    "readinessProbe",
    "resizePolicy",
    "resources",
    "restartPolicy",
    "restartPolicyRules",
    "startupProbe",
];

/// A container for looking into a pod has no part in what the pod does.
pub(super) fn ephemeral(at: &At<'_>, fields: &Fields, errors: &mut Errors) {
    const WHY: &str = "cannot be set for an Ephemeral Container";
    container(at, fields, errors);
    for name in NOT_EPHEMERAL {
        let set = match fields.get(name) {
            None => false,
            Some(Value::Object(inner)) if name == "resources" => !inner.is_empty(),
            Some(_) => true,
        };
        if set {
            errors.push(Error::forbidden(&at.path().child(name), WHY));
        }
    }
    for (index, mount) in items(fields, "volumeMounts") {
        for name in ["subPath", "subPathExpr"] {
            if !text(mount, name).is_empty() {
                let path = at.path().child("volumeMounts").index(index).child(name);
                errors.push(Error::forbidden(&path, WHY));
            }
        }
    }
}

fn restart(at: &At<'_>, container: &Fields, errors: &mut Errors) {
    let rules = list(container, "restartPolicyRules");
    if rules.is_empty() {
        return;
    }
    if text(container, "restartPolicy").is_empty() {
        let why = "must specify restartPolicy when restart rules are used";
        errors.push(Error::required(&at.path().child("restartPolicy"), why));
    }
    if rules.len() > RESTART_RULES_MAX {
        let path = at.path().child("restartPolicyRules");
        errors.push(Error::too_many(&path, rules.len(), RESTART_RULES_MAX));
    }
}

/// A rule about restarts names exit codes.
pub(super) fn restart_rule(at: &At<'_>, rule: &Fields, errors: &mut Errors) {
    let Some(codes) = object(rule, "exitCodes") else {
        errors.push(Error::required(&at.path().child("exitCodes"), "must be specified"));
        return;
    };
    let values = list(codes, "values").len();
    if values > EXIT_CODES_MAX {
        errors.push(Error::too_many(&under(at, "exitCodes.values"), values, EXIT_CODES_MAX));
    }
}

/// A port has a number.
pub(super) fn port(at: &At<'_>, port: &Fields, errors: &mut Errors) {
    match number(port, "containerPort").unwrap_or(0) {
        0 => errors.push(Error::required(&at.path().child("containerPort"), "")),
        1..=65535 => {}
        other => {
            let why = "must be between 1 and 65535, inclusive";
            errors.push(Error::invalid(&at.path().child("containerPort"), other, why));
        }
    }
}

/// A container that starts when the others have: probes and hooks are right for its pod.
pub(super) fn regular(at: &At<'_>, spec: &Fields, container: &Fields, errors: &mut Errors) {
    in_spec(at, spec, container, errors);
    handler::of_container(at, spec, container, errors);
}

/// One that starts before: it ends, or it is a sidecar.
pub(super) fn init(at: &At<'_>, spec: &Fields, container: &Fields, errors: &mut Errors) {
    in_spec(at, spec, container, errors);
    if is_sidecar(container) {
        handler::of_container(at, spec, container, errors);
        return;
    }
    for name in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if container.contains_key(name) {
            let why = "may not be set for init containers without restartPolicy=Always";
            errors.push(Error::forbidden(&at.path().child(name), why));
        }
    }
}

/// What any container owes its pod.
pub(super) fn in_spec(at: &At<'_>, spec: &Fields, container: &Fields, errors: &mut Errors) {
    resources::claims(at, spec, container, errors);
    let unmasked = object(container, "securityContext").is_some_and(|sc| text(sc, "procMount") == "Unmasked");
    if unmasked && spec.get("hostUsers") != Some(&Value::Bool(false)) {
        let path = under(at, "securityContext.procMount");
        errors.push(Error::invalid(&path, "Unmasked", "`hostUsers` must be false to use `Unmasked`"));
    }
    if text(spec, "restartPolicy") != "Never" {
        return;
    }
    for (_, policy) in items(container, "resizePolicy") {
        let wanted = text(policy, "restartPolicy");
        if wanted != "NotRequired" {
            let why = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.push(Error::invalid(&at.path().child("resizePolicy"), wanted, why));
        }
    }
}

/// Ports of the host go to one container each, and on the host's network they are the containers' own.
pub(super) fn host_ports(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let mut taken = Seen::new();
    let on_host = flag(spec, "hostNetwork");
    for list in ["containers", "initContainers"] {
        for (index, container) in items(spec, list) {
            if list == "initContainers" {
                // They run one after another.
                taken = Seen::new();
            }
            for (place, port) in items(container, "ports") {
                let path =
                    || at.path().child(list).index(index).child("ports").index(place).child("hostPort");
                let outside = number(port, "hostPort").unwrap_or(0);
                let (protocol, ip) = (text(port, "protocol"), text(port, "hostIP"));
                if outside != 0 && !taken.add((protocol, ip, outside)) {
                    errors.push(Error::duplicate(&path(), format!("{protocol}/{ip}/{outside}")));
                }
                let inside = number(port, "containerPort").unwrap_or(0);
                let given = is_of_pod(at) || outside != 0;
                if list == "containers" && on_host && given && inside != outside {
                    let why = "must match `containerPort` when `hostNetwork` is true";
                    errors.push(Error::invalid(&path(), outside, why));
                }
            }
        }
    }
}
