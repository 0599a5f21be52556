//! Whether a pod may be on a node, as far as the node's name, labels and taints decide. Pure.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration};

/// A node as these rules see it.
pub trait Place {
    /// Its name.
    fn name(&self) -> &str;
    /// The value of one of its labels.
    fn label(&self, key: &str) -> Option<&str>;
}

impl Place for tiphys_api::Meta {
    fn name(&self) -> &str {
        &self.name
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key)
    }
}

/// Whether a pod's node selector and required node affinity fit a node.
pub fn fits(spec: &PodSpec, node: &impl Place) -> bool {
    let labelled = |(key, value): (&String, &String)| node.label(key) == Some(value.as_str());
    let required = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        required.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    spec.node_selector.iter().flatten().all(labelled)
        && required.is_none_or(|selector| selector.node_selector_terms.iter().any(|term| matches(term, node)))
}

/// An empty term matches nothing.
fn matches(term: &NodeSelectorTerm, node: &impl Place) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let name = |field: &NodeSelectorRequirement| (field.key == "metadata.name").then_some(node.name());
    !(labels.is_empty() && fields.is_empty())
        && labels.iter().all(|requirement| holds(requirement, node.label(&requirement.key)))
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

/// Whether a toleration covers a taint. An empty key with `Exists` covers all.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |text: &Option<String>| !text.as_deref().unwrap_or_default().is_empty();
    let differs = |text: &Option<String>, from: &str| given(text) && text.as_deref() != Some(from);
    if differs(&toleration.effect, &taint.effect) || differs(&toleration.key, &taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "Exists" => true,
        "" | "Equal" => {
            let value = |text: &Option<String>| text.clone().unwrap_or_default();
            given(&toleration.key) && value(&toleration.value) == value(&taint.value)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use tiphys_api::{Meta, Value, json};

    use super::*;

    #[test]
    fn terms_are_alternatives_and_their_parts_are_not() {
        let node = Meta::parse(br#"{"metadata":{"name":"n1","labels":{"disk":"ssd","cores":"8"}}}"#).unwrap();
        let fits_terms = |terms: Value| {
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

    #[test]
    fn an_empty_key_with_exists_covers_all() {
        let taint =
            Taint { key: "k".into(), value: Some("v".into()), effect: "NoSchedule".into(), time_added: None };
        let covers = |operator: &str, key: &str, value: &str, effect: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let (operator, key, value, effect) = (some(operator), some(key), some(value), some(effect));
            tolerates(&Toleration { operator, key, value, effect, toleration_seconds: None }, &taint)
        };
        assert!(covers("Exists", "", "", "") && covers("Equal", "k", "v", "NoSchedule"));
        assert!(
            !covers("", "k", "w", "") && !covers("Exists", "k", "", "NoExecute") && !covers("", "", "v", "")
        );
    }
}
