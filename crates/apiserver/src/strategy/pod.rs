//! Pods: what the server sets, how long they may take to end, and what may change while they live.

use tiphys_api::field::{Error, Errors, Path};
use tiphys_api::quantity::Quantity;
use tiphys_api::{Value, field};

use super::Rules;
use crate::auth::User;
use crate::registry::tree;

pub(super) const PODS: Rules =
    Rules { generation: true, grace: Some(grace), on_create, on_update, validate_update, ..Rules::DEFAULT };

fn on_create(pod: &mut Value, _: &User) {
    let class = qos_class(pod);
    tree::set(pod, &["status"], serde_json::json!({ "phase": "Pending", "qosClass": class }));
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
    let lists = ["containers", "initContainers"].into_iter();
    let containers: Vec<&Value> = lists.flat_map(|list| tree::items(pod, &["spec", list])).collect();
    let amount = |container: &Value, kind: &str, name: &str| {
        let text = tree::text(container, &["resources", kind, name]);
        text.parse::<Quantity>().ok().filter(|q| !q.is_zero())
    };
    let names = ["cpu", "memory"];
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

const UNCHANGEABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
    tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

fn validate_update(pod: &Value, old: &Value, subresource: &str, errors: &mut Errors) {
    let spec = Path::new("spec");
    match subresource {
        "" => validate_spec(pod, old, &spec, errors),
        "ephemeralcontainers" => validate_ephemeral(pod, old, &spec, errors),
        _ => {}
    }
}

fn validate_spec(pod: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    for list in ["containers", "initContainers"] {
        let count = |pod| tree::items(pod, &["spec", list]).len();
        if count(pod) != count(old) {
            errors.push(Error::forbidden(&path.child(list), "pod updates may not add or remove containers"));
            return;
        }
    }
    validate_deadline(pod, old, path, errors);
    validate_tolerations(pod, old, path, errors);
    validate_gates(pod, old, path, errors);
    if errors.is_empty() && !same_but_for_changeable(pod, old) {
        errors.push(Error::forbidden(path, UNCHANGEABLE));
    }
}

fn validate_deadline(pod: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let deadline = |pod| tree::at(pod, &["spec", "activeDeadlineSeconds"]).as_i64();
    let path = path.child("activeDeadlineSeconds");
    match (deadline(pod), deadline(old)) {
        (Some(new), Some(before)) if new > before => {
            errors.push(Error::invalid(&path, new, "must be less than or equal to previous value"));
        }
        (None, Some(_)) => {
            errors.push(Error::invalid(
                &path,
                Value::Null,
                "must not update from a positive integer to nil value",
            ));
        }
        _ => {}
    }
}

fn validate_tolerations(pod: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        tree::set(&mut toleration, &["tolerationSeconds"], Value::Null);
        toleration
    };
    let new: Vec<Value> = tree::items(pod, &["spec", "tolerations"]).iter().map(without_seconds).collect();
    let kept = tree::items(old, &["spec", "tolerations"]).iter().all(|t| new.contains(&without_seconds(t)));
    if !kept {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(Error::forbidden(&path.child("tolerations"), why));
    }
}

fn validate_gates(pod: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let before = tree::items(old, &["spec", "schedulingGates"]);
    for gate in tree::items(pod, &["spec", "schedulingGates"]).iter().filter(|g| !before.contains(g)) {
        let name = tree::text(gate, &["name"]);
        let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
        errors.push(Error::forbidden(&path.child("schedulingGates"), &why));
    }
}

/// Whether the specs agree once what may change is taken from the old one.
fn same_but_for_changeable(pod: &Value, old: &Value) -> bool {
    let mut spec = tree::at(pod, &["spec"]).clone();
    let before = tree::at(old, &["spec"]);
    let gated = !tree::items(before, &["schedulingGates"]).is_empty();
    let gated_only: &[&str] = if gated { &["nodeSelector", "affinity"] } else { &[] };
    for name in ["activeDeadlineSeconds", "tolerations", "schedulingGates"].iter().chain(gated_only) {
        tree::set(&mut spec, &[name], tree::at(before, &[name]).clone());
    }
    if tree::at(before, &["terminationGracePeriodSeconds"]).as_i64().is_some_and(|s| s < 0) {
        tree::set(
            &mut spec,
            &["terminationGracePeriodSeconds"],
            before["terminationGracePeriodSeconds"].clone(),
        );
    }
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for (container, before) in containers.zip(tree::items(before, &[list])) {
            tree::set(container, &["image"], tree::at(before, &["image"]).clone());
        }
    }
    spec == *before
}

fn validate_ephemeral(pod: &Value, old: &Value, path: &Path, errors: &mut field::Errors) {
    let new = tree::items(pod, &["spec", "ephemeralContainers"]);
    let path = path.child("ephemeralContainers");
    for before in tree::items(old, &["spec", "ephemeralContainers"]) {
        let name = tree::text(before, &["name"]);
        match new.iter().find(|c| tree::text(c, &["name"]) == name) {
            None => {
                let why = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.push(Error::forbidden(&path, &why));
            }
            Some(after) if after != before => {
                let why = format!("existing ephemeral containers {name:?} may not be changed\n");
                errors.push(Error::forbidden(&path, &why));
            }
            Some(_) => {}
        }
    }
}
