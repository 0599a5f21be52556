//! Scopes: which objects a quota is about at all.

use crate::Value;

use super::tree::{at, items, text};

/// What scopes ask of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Traits {
    /// No scope holds it.
    #[default]
    None,
    Pod {
        terminating: bool,
        best_effort: bool,
        priority_class: String,
        /// Its (anti-)affinity looks into other namespaces.
        crosses: bool,
    },
    Claim {
        attributes_classes: Vec<String>,
    },
}

pub(super) fn of_pod(pod: &Value) -> Traits {
    Traits::Pod {
        terminating: at(pod, &["spec", "activeDeadlineSeconds"]).as_i64().is_some_and(|s| s >= 0),
        best_effort: text(pod, &["status", "qosClass"]) == "BestEffort",
        priority_class: text(pod, &["spec", "priorityClassName"]).to_owned(),
        crosses: crosses(pod),
    }
}

pub(super) fn of_claim(claim: &Value) -> Traits {
    let paths: [&[&str]; 3] = [
        &["spec", "volumeAttributesClassName"],
        &["status", "currentVolumeAttributesClassName"],
        &["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"],
    ];
    let mut names: Vec<String> = paths.iter().map(|path| text(claim, path).to_owned()).collect();
    names.retain(|name| !name.is_empty());
    names.dedup();
    Traits::Claim { attributes_classes: names }
}

fn crosses(pod: &Value) -> bool {
    let looks_out = |term: &Value| {
        !items(term, &["namespaces"]).is_empty() || !at(term, &["namespaceSelector"]).is_null()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let affinity = at(pod, &["spec", "affinity", kind]);
        let required = items(affinity, &["requiredDuringSchedulingIgnoredDuringExecution"]);
        let preferred = items(affinity, &["preferredDuringSchedulingIgnoredDuringExecution"]);
        required.iter().any(looks_out)
            || preferred.iter().any(|weighted| looks_out(at(weighted, &["podAffinityTerm"])))
    })
}

/// Whether all scopes of a quota's spec hold an object.
pub(super) fn all_hold(spec: &Value, traits: &Traits) -> bool {
    let plain = items(spec, &["scopes"]).iter().filter_map(Value::as_str);
    let mut plain = plain.map(|scope| holds(scope, "Exists", &[], traits));
    let selected = items(spec, &["scopeSelector", "matchExpressions"]);
    let mut selected = selected.iter().map(|wanted| {
        let values: Vec<&str> = items(wanted, &["values"]).iter().filter_map(Value::as_str).collect();
        holds(text(wanted, &["scopeName"]), text(wanted, &["operator"]), &values, traits)
    });
    plain.all(|holds| holds) && selected.all(|holds| holds)
}

fn holds(scope: &str, operator: &str, values: &[&str], traits: &Traits) -> bool {
    match (scope, traits) {
        ("Terminating", Traits::Pod { terminating, .. }) => *terminating,
        ("NotTerminating", Traits::Pod { terminating, .. }) => !terminating,
        ("BestEffort", Traits::Pod { best_effort, .. }) => *best_effort,
        ("NotBestEffort", Traits::Pod { best_effort, .. }) => !best_effort,
        ("CrossNamespacePodAffinity", Traits::Pod { crosses, .. }) => *crosses,
        ("PriorityClass", Traits::Pod { priority_class, .. }) => {
            named(operator, values, std::slice::from_ref(priority_class))
        }
        ("VolumeAttributesClass", Traits::Claim { attributes_classes }) => {
            named(operator, values, attributes_classes)
        }
        _ => false,
    }
}

/// A selector over the names that an object has; the empty name is none.
fn named(operator: &str, values: &[&str], names: &[String]) -> bool {
    let has = names.iter().any(|name| !name.is_empty());
    let among = names.iter().any(|name| values.contains(&name.as_str()));
    match operator {
        "In" => among,
        "NotIn" => !among,
        "DoesNotExist" => !has,
        _ => has,
    }
}
