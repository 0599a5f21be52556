//! NodePorts: two pods cannot have one port of a node.

use super::Filter;

/// The filter.
pub const FILTER: Filter = Filter {
    name: "NodePorts",
    reasons: |pod, node| match pod
        .ports
        .iter()
        .any(|port| node.ports.iter().any(|taken| port.conflicts(taken)))
    {
        false => vec![],
        true => vec!["node(s) didn't have free ports for the requested pod ports".into()],
    },
};
