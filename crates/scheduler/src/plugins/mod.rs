//! What decides between nodes: one file a plugin, named as Kubernetes names it.
//!
//! A [`Filter`] says whether a node can take a pod, and if not, why, in the words that events show. A [`Score`] says how
//! good a node is, 0 to 100. Both are pure. A plugin is added by a file here and a line in [`FILTERS`] or [`SCORES`].

mod balanced_allocation;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_unschedulable;
mod resources_fit;
mod taint_toleration;
mod toleration;
mod volume_binding;

use std::borrow::Cow;

use crate::node::Node;
use crate::pod::Pod;

pub(crate) use node_affinity::matches_any;

/// Why a node cannot take a pod.
pub type Reason = Cow<'static, str>;

/// Says whether a node can take a pod; every reason that it gives is counted in the event.
pub struct Filter {
    /// Kubernetes' name of the plugin.
    pub name: &'static str,
    /// Empty when the node can.
    pub reasons: fn(&Pod, &Node) -> Vec<Reason>,
}

/// Says how good a node is for a pod.
pub struct Score {
    /// Kubernetes' name of the plugin.
    pub name: &'static str,
    /// How much it counts beside the others.
    pub weight: i64,
    /// Raw points; higher is better unless `reversed`.
    pub points: fn(&Pod, &Node) -> i64,
    /// How raw points become 0 to 100 over the nodes in question.
    pub scale: Scale,
}

/// How raw points are brought to the common scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Are 0 to 100 already.
    Kept,
    /// The largest becomes 100.
    Largest,
    /// The largest becomes 0: points are what speaks against a node.
    Reversed,
}

/// Filters in order; the first that refuses a node ends its trial.
pub const FILTERS: &[Filter] = &[
    node_unschedulable::FILTER,
    node_name::FILTER,
    taint_toleration::FILTER,
    node_affinity::FILTER,
    node_ports::FILTER,
    resources_fit::FILTER,
    volume_binding::FILTER,
];

/// Scores, with Kubernetes' default weights.
pub const SCORES: &[Score] =
    &[taint_toleration::SCORE, node_affinity::SCORE, resources_fit::SCORE, balanced_allocation::SCORE];
