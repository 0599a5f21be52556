//! NodeResourcesFit: a node takes a pod while it has what the pod asks for, and the emptier one is preferred.

use super::{Filter, Reason, Scale, Score};
use crate::node::Node;
use crate::pod::Pod;

/// The filter.
pub const FILTER: Filter = Filter { name: "NodeResourcesFit", reasons };

/// The score (LeastAllocated): the share of CPU and memory that stays free.
pub const SCORE: Score =
    Score { name: "NodeResourcesFit", weight: 1, points: least_allocated, scale: Scale::Kept };

/// What a pod without requests is counted as when nodes are compared (kube-scheduler's constants).
const DEFAULTS: [(&str, i64); 2] = [("cpu", 100), ("memory", 200 * 1024 * 1024)];

fn reasons(pod: &Pod, node: &Node) -> Vec<Reason> {
    let lacks = |(name, asked): (&str, i64)| {
        let free = node.facts.allocatable.get(name).saturating_sub(node.taken.get(name));
        (asked > 0 && asked > free).then(|| match name {
            "pods" => "Too many pods".into(),
            name => format!("Insufficient {name}").into(),
        })
    };
    pod.requests.iter().filter_map(lacks).collect()
}

fn least_allocated(pod: &Pod, node: &Node) -> i64 {
    let shares = shares(pod, node);
    shares.iter().map(|share| ((1.0 - share) * 100.0) as i64).sum::<i64>() / shares.len() as i64
}

/// For CPU and memory, the part of the node that would be taken, 0 to 1.
pub(super) fn shares(pod: &Pod, node: &Node) -> [f64; 2] {
    DEFAULTS.map(|(name, default)| {
        let asked = match pod.requests.get(name) {
            0 => default,
            asked => asked,
        };
        let offered = node.facts.allocatable.get(name);
        if offered == 0 {
            1.0
        } else {
            ((node.taken.get(name) + asked) as f64 / offered as f64).clamp(0.0, 1.0)
        }
    })
}
