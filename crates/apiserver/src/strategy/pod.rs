//! Pods: what the server sets, how long they may take to end, and what may change while they live.

mod resize;
mod selectors;
mod status;
mod update;

use tiphys_api::Value;
use tiphys_api::field::{Error, Errors, Path};
use tiphys_api::quantity::Quantity;

use super::Rules;
use crate::auth::User;
use crate::registry::tree;

pub(super) const PODS: Rules = Rules {
    generation: true,
    grace: Some(grace),
    on_create,
    on_update,
    validate_create,
    validate_update,
    ..Rules::DEFAULT
};

fn on_create(pod: &mut Value, _: &User) {
    selectors::complete(pod);
    let class = qos_class(pod);
    tree::set(pod, &["status"], tiphys_api::json!({ "phase": "Pending", "qosClass": class }));
}

fn on_update(pod: &mut Value, old: &Value, subresource: &str) {
    let before = tree::at(old, &["status", "qosClass"]);
    if subresource == "status" && !before.is_null() {
        tree::set(pod, &["status", "qosClass"], before.clone());
    }
}

/// What is asked for, or what the pod allows itself; none for a pod that does not run anywhere.
fn grace(pod: &Value, asked: Option<i64>) -> i64 {
    let idle = tree::text(pod, &["spec", "nodeName"]).is_empty()
        || matches!(tree::text(pod, &["status", "phase"]), "Succeeded" | "Failed");
    if idle {
        return 0;
    }
    match asked.or_else(|| tree::at(pod, &["spec", "terminationGracePeriodSeconds"]).as_i64()) {
        Some(seconds) if seconds < 0 => 1,
        seconds => seconds.unwrap_or(30),
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`, by what the containers ask for and may have.
pub(crate) fn qos_class(pod: &Value) -> &'static str {
    let names = ["cpu", "memory"];
    let spec = tree::at(pod, &["spec"]);
    let own = |kind: &str| names.iter().any(|n| !tree::text(spec, &["resources", kind, n]).is_empty());
    let lists = ["containers", "initContainers"].into_iter();
    let containers: Vec<&Value> = match own("requests") || own("limits") {
        // What a pod asks for itself stands for what its containers ask for.
        true => vec![spec],
        false => lists.flat_map(|list| tree::items(pod, &["spec", list])).collect(),
    };
    let amount = |container: &Value, kind: &str, name: &str| {
        let text = tree::text(container, &["resources", kind, name]);
        text.parse::<Quantity>().ok().filter(|q| !q.is_zero())
    };
    let any = |c: &&Value| {
        names.iter().any(|n| amount(c, "requests", n).is_some() || amount(c, "limits", n).is_some())
    };
    let full = |c: &&Value| {
        names.iter().all(|n| {
            let limit = amount(c, "limits", n);
            limit.is_some() && amount(c, "requests", n).is_none_or(|r| Some(r) == limit)
        })
    };
    match (containers.iter().any(any), containers.iter().all(full)) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// What a pod may not have from the start.
fn validate_create(pod: &Value, errors: &mut Errors) {
    let spec = Path::new("spec");
    if !tree::items(pod, &["spec", "ephemeralContainers"]).is_empty() {
        errors.push(Error::forbidden(&spec.child("ephemeralContainers"), "cannot be set on create"));
    }
    let gated = !tree::items(pod, &["spec", "schedulingGates"]).is_empty();
    if gated && !tree::text(pod, &["spec", "nodeName"]).is_empty() {
        let why = "cannot be set until all schedulingGates have been cleared";
        errors.push(Error::forbidden(&spec.child("nodeName"), why));
    }
}

fn validate_update(pod: &Value, old: &Value, subresource: &str, errors: &mut Errors) {
    match subresource {
        "" => update::spec(pod, old, errors),
        "ephemeralcontainers" => update::ephemeral(pod, old, errors),
        "resize" => resize::validate(pod, old, errors),
        "status" => status::validate(pod, old, errors),
        _ => return,
    }
    if subresource != "resize" {
        update::annotations(pod, old, errors);
    }
}
