//! `matchLabelKeys` and `mismatchLabelKeys`: what a new pod's own labels say becomes part of the selectors beside them,
//! so that whoever reads the selector (the scheduler) knows nothing of keys.

use tiphys_api::{Map, Value, json};

use crate::registry::tree;

/// Adds a requirement per key that the pod has a label for. Without a selector there is nothing to refine.
pub(super) fn complete(pod: &mut Value) {
    let affinity = ["podAffinity", "podAntiAffinity"];
    let has = |path: &[&str]| !tree::at(pod, path).is_null();
    let any = has(&["spec", "topologySpreadConstraints"])
        || affinity.iter().any(|kind| has(&["spec", "affinity", kind]));
    let labels = tree::at(pod, &["metadata", "labels"]).as_object().filter(|_| any).cloned();
    let (Some(labels), Some(spec)) = (labels, pod.get_mut("spec")) else { return };
    for constraint in items(spec.get_mut("topologySpreadConstraints")) {
        refine(constraint, &labels);
    }
    for kind in affinity {
        let Some(terms) = spec.pointer_mut(&format!("/affinity/{kind}")) else { continue };
        for term in items(terms.get_mut("requiredDuringSchedulingIgnoredDuringExecution")) {
            refine(term, &labels);
        }
        for weighted in items(terms.get_mut("preferredDuringSchedulingIgnoredDuringExecution")) {
            if let Some(term) = weighted.get_mut("podAffinityTerm") {
                refine(term, &labels);
            }
        }
    }
}

fn items(list: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    list.and_then(Value::as_array_mut).into_iter().flatten()
}

fn refine(term: &mut Value, labels: &Map) {
    if tree::at(term, &["labelSelector"]).is_null() {
        return;
    }
    let mut added = Vec::new();
    for (keys, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in tree::items(term, &[keys]).iter().filter_map(Value::as_str) {
            if let Some(value) = labels.get(key) {
                added.push(json!({ "key": key, "operator": operator, "values": [value] }));
            }
        }
    }
    if !added.is_empty() {
        let selector = tree::child(term, "labelSelector");
        let expressions = selector.entry("matchExpressions").or_insert_with(|| Value::Array(Vec::new()));
        expressions.as_array_mut().into_iter().for_each(|all| all.append(&mut added));
    }
}
