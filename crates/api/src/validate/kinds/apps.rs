//! Controllers whose pods run for ever: Deployments, ReplicaSets, StatefulSets, DaemonSets, and their revisions.

use crate::Value;

use super::here::Here;
use super::{At, Fields, items, object, pods, select, text};
use crate::field::Errors;

/// Selector and template. `owner` is who cannot have a deadline for its pods.
fn lasting(here: &mut Here<'_, '_>, kind: &str, owner: &str, unreadable: Option<&str>) {
    if here.object("selector").is_some_and(select::is_empty) {
        here.invalid("selector", &format!("empty selector is invalid for {kind}"));
    } else {
        select::template(here, unreadable);
    }
    if here.get("template.spec.restartPolicy").is_some_and(|policy| policy != "Always") {
        here.unsupported("template.spec.restartPolicy", &["Always"]);
    }
    if here.has("template.spec.activeDeadlineSeconds") {
        let why = format!("activeDeadlineSeconds in {owner} is not Supported");
        here.forbidden("template.spec.activeDeadlineSeconds", &why);
    }
}

/// What the template's containers mount is there, `added` by the controller included.
fn template_mounts(here: &mut Here<'_, '_>, added: &[&str]) {
    if let Some(pod) = here.object("template.spec") {
        let template = At::Child(here.at, "template");
        pods::mounts_exist(&At::Child(&template, "spec"), pod, added, here.errors);
    }
}

/// Whether a count or share is nothing at all.
fn is_zero(value: Option<&Value>) -> bool {
    value
        .is_none_or(|value| *value == 0 || value.as_str().is_some_and(|share| share.trim_matches('0') == "%"))
}

/// Strategy and deadlines of a Deployment.
pub fn deployment(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, spec, errors);
    lasting(here, "deployment", "ReplicaSet", Some("invalid label selector"));
    template_mounts(here, &[]);
    match here.text("strategy.type") {
        "Recreate" if here.has("strategy.rollingUpdate") => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            here.forbidden("strategy.rollingUpdate", why);
        }
        "Recreate" => {}
        "RollingUpdate" => {
            let zero = |name| is_zero(here.get(name));
            if zero("strategy.rollingUpdate.maxUnavailable") && zero("strategy.rollingUpdate.maxSurge") {
                let why = "may not be 0 when `maxSurge` is 0";
                here.invalid("strategy.rollingUpdate.maxUnavailable", why);
            }
        }
        _ => here.unsupported("strategy", &["Recreate", "RollingUpdate"]),
    }
    let ready = here.number("minReadySeconds").unwrap_or_default();
    if here.number("progressDeadlineSeconds").is_some_and(|deadline| deadline <= ready) {
        here.invalid("progressDeadlineSeconds", "must be greater than minReadySeconds");
    }
}

/// Selector and template of a ReplicaSet.
pub fn replica_set(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, spec, errors);
    // The kind in this message is Kubernetes' own mistake, which clients know.
    lasting(here, "deployment", "ReplicaSet", Some("invalid label selector"));
    template_mounts(here, &[]);
}

/// Selector, template and update strategy of a StatefulSet.
pub fn stateful_set(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let claims: Vec<&str> = items(spec, "volumeClaimTemplates")
        .filter_map(|(_, claim)| object(claim, "metadata"))
        .map(|metadata| text(metadata, "name"))
        .collect();
    let here = &mut Here::new(at, spec, errors);
    lasting(here, "statefulset", "StatefulSet", Some(""));
    template_mounts(here, &claims);
    if !matches!(here.text("podManagementPolicy"), "OrderedReady" | "Parallel") {
        here.invalid("podManagementPolicy", "must be 'OrderedReady' or 'Parallel'");
    }
    match here.text("updateStrategy.type") {
        "OnDelete" if here.has("updateStrategy.rollingUpdate") => {
            here.invalid("updateStrategy.rollingUpdate", "only allowed for updateStrategy 'RollingUpdate'");
        }
        "RollingUpdate" => {
            let unavailable = here.get("updateStrategy.rollingUpdate.maxUnavailable");
            if unavailable.is_some() && is_zero(unavailable) {
                here.invalid("updateStrategy.rollingUpdate.maxUnavailable", "cannot be 0");
            }
        }
        "OnDelete" => {}
        "" => here.required("updateStrategy", ""),
        _ => here.invalid("updateStrategy", "must be 'RollingUpdate' or 'OnDelete'"),
    }
}

/// Selector, template and update strategy of a DaemonSet.
pub fn daemon_set(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, spec, errors);
    lasting(here, "daemonset", "DaemonSet", None);
    template_mounts(here, &[]);
    match here.text("updateStrategy.type") {
        "OnDelete" => {}
        "RollingUpdate" if here.has("updateStrategy.rollingUpdate") => {
            let zero = |name| is_zero(here.get(name));
            let unavailable = !zero("updateStrategy.rollingUpdate.maxUnavailable");
            match (unavailable, !zero("updateStrategy.rollingUpdate.maxSurge")) {
                (true, true) => {
                    let why = "may not be set when maxUnavailable is non-zero";
                    here.invalid("updateStrategy.rollingUpdate.maxSurge", why);
                }
                (false, false) => {
                    let why = "cannot be 0 when maxSurge is 0";
                    here.required("updateStrategy.rollingUpdate.maxUnavailable", why);
                }
                _ => {}
            }
        }
        "RollingUpdate" => here.required("updateStrategy.rollingUpdate", ""),
        _ => here.unsupported("updateStrategy", &["RollingUpdate", "OnDelete"]),
    }
}

/// A revision holds something, and is counted from zero.
pub fn controller_revision(at: &At<'_>, revision: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, revision, errors);
    if !here.has("data") {
        here.required("data", "data is mandatory");
    }
    here.not_negative("revision");
}
