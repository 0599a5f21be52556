//! Whether a pod's node selector and required node affinity fit a node. Pure.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, PodSpec};
use tiphys_api::Meta;

/// Whether a pod of this spec may be on a node, as far as labels and the name decide.
pub(crate) fn fits(spec: &PodSpec, node: &Meta) -> bool {
    let labelled = |(key, value): (&String, &String)| node.labels.get(key) == Some(value.as_str());
    let required = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        required.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    spec.node_selector.iter().flatten().all(labelled)
        && required.is_none_or(|selector| selector.node_selector_terms.iter().any(|term| matches(term, node)))
}

/// An empty term matches nothing.
fn matches(term: &NodeSelectorTerm, node: &Meta) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let name = |field: &NodeSelectorRequirement| (field.key == "metadata.name").then_some(node.name.as_ref());
    !(labels.is_empty() && fields.is_empty())
        && labels.iter().all(|requirement| holds(requirement, node.labels.get(&requirement.key)))
        && fields.iter().all(|requirement| holds(requirement, name(requirement)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|v| v == value));
    let numbers = || {
        let bound: i64 = values.first()?.parse().ok()?;
        Some((value?.parse::<i64>().ok()?, bound))
    };
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(value, bound)| value > bound),
        "Lt" => numbers().is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiphys_api::json;

    #[test]
    fn terms_are_alternatives_and_their_parts_are_not() {
        let node = Meta::parse(br#"{"metadata":{"name":"n1","labels":{"disk":"ssd","cores":"8"}}}"#).unwrap();
        let fits_terms = |terms: tiphys_api::Value| {
            let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
            fits(&json!({"containers": [], "affinity": affinity}).to().unwrap(), &node)
        };
        let ssd = json!({"key": "disk", "operator": "In", "values": ["ssd"]});
        let big = json!({"key": "cores", "operator": "Gt", "values": ["16"]});
        assert!(!fits_terms(json!([{"matchExpressions": [ssd, big]}])));
        assert!(fits_terms(json!([{"matchExpressions": [big]}, {"matchExpressions": [ssd]}])));
        assert!(fits_terms(
            json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}])
        ));
        assert!(!fits_terms(json!([{}])));
    }
}
