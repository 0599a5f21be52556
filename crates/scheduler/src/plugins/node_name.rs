//! NodeName: a pod that names its node goes nowhere else.

use super::Filter;

/// The filter.
pub const FILTER: Filter = Filter {
    name: "NodeName",
    reasons: |pod, node| match pod.node.is_empty() || pod.node == node.facts.name {
        true => vec![],
        false => vec!["node(s) didn't match the requested node name".into()],
    },
};
