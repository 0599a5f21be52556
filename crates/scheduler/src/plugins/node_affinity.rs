//! NodeAffinity: `spec.nodeSelector` and `spec.affinity.nodeAffinity`, required and preferred.

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};

use super::{Filter, Scale, Score};
use crate::node::{Facts, Node};
use crate::pod::Pod;

/// The filter.
pub const FILTER: Filter = Filter {
    name: "NodeAffinity",
    reasons: |pod, node| match fits(pod, &node.facts) {
        true => vec![],
        false => vec!["node(s) didn't match Pod's node affinity/selector".into()],
    },
};

/// The score: the weights of the preferences that the node meets.
pub const SCORE: Score = Score { name: "NodeAffinity", weight: 2, points: preferred, scale: Scale::Largest };

fn fits(pod: &Pod, node: &Facts) -> bool {
    let Some(wishes) = &pod.wishes else { return true };
    let selected = wishes.selector.iter().all(|(key, value)| node.labels.get(key) == Some(value));
    let required =
        wishes.affinity.as_ref().and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|required| matches_any(required, node))
}

/// Whether one of the terms matches a node.
pub(crate) fn matches_any(selector: &NodeSelector, node: &Facts) -> bool {
    selector.node_selector_terms.iter().any(|term| matches(term, node))
}

fn preferred(pod: &Pod, node: &Node) -> i64 {
    let affinity = pod.wishes.as_ref().and_then(|w| w.affinity.as_ref());
    let terms = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let met = terms.into_iter().flatten().filter(|term| matches(&term.preference, &node.facts));
    met.map(|term| i64::from(term.weight)).sum()
}

/// A term without any requirement matches nothing.
fn matches(term: &NodeSelectorTerm, node: &Facts) -> bool {
    let (labels, fields) = (term.match_expressions.as_deref(), term.match_fields.as_deref());
    let (labels, fields) = (labels.unwrap_or_default(), fields.unwrap_or_default());
    let field = |key: &str| (key == "metadata.name").then_some(node.name.as_ref());
    !(labels.is_empty() && fields.is_empty())
        && labels.iter().all(|r| holds(r, node.labels.get(&r.key)))
        && fields.iter().all(|r| holds(r, field(&r.key)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|v| values.iter().any(|w| w == v));
    let number = |text: &str| text.parse::<i64>().ok();
    let compare = |holds: fn(i64, i64) -> bool| {
        let pair = value.and_then(number).zip(values.first().and_then(|v| number(v)));
        pair.is_some_and(|(left, right)| holds(left, right))
    };
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|left, right| left > right),
        "Lt" => compare(|left, right| left < right),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_mean_what_the_documentation_says() {
        let requirement = |operator: &str, values: &[&str]| NodeSelectorRequirement {
            key: "k".into(),
            operator: operator.into(),
            values: Some(values.iter().map(ToString::to_string).collect()),
        };
        let table: [(&str, &[&str], Option<&str>, bool); 9] = [
            ("In", &["a", "b"], Some("b"), true),
            ("In", &["a"], None, false),
            ("NotIn", &["a"], None, true),
            ("NotIn", &["a"], Some("a"), false),
            ("Exists", &[], Some(""), true),
            ("DoesNotExist", &[], None, true),
            ("Gt", &["5"], Some("10"), true),
            ("Lt", &["5"], Some("10"), false),
            ("Gt", &["5"], Some("x"), false),
        ];
        for (operator, values, value, expected) in table {
            assert_eq!(
                holds(&requirement(operator, values), value),
                expected,
                "{operator} {values:?} {value:?}"
            );
        }
    }
}
