//! TaintToleration: a tainted node takes only pods that tolerate its taints, and prefers those that tolerate its wishes.

use k8s_openapi::api::core::v1::Taint;

use super::{Filter, Scale, Score, toleration};
use crate::node::Node;
use crate::pod::Pod;

/// The filter.
pub const FILTER: Filter = Filter {
    name: "TaintToleration",
    reasons: |pod, node| match untolerated(pod, node, &["NoSchedule", "NoExecute"]).next() {
        None => vec![],
        Some(taint) => vec![reason(taint).into()],
    },
};

/// The score: how many `PreferNoSchedule` taints speak against the node.
pub const SCORE: Score = Score {
    name: "TaintToleration",
    weight: 3,
    points: |pod, node| untolerated(pod, node, &["PreferNoSchedule"]).count() as i64,
    scale: Scale::Reversed,
};

fn untolerated<'a>(pod: &'a Pod, node: &'a Node, effects: &'a [&str]) -> impl Iterator<Item = &'a Taint> {
    let taints = node.facts.taints.iter().filter(|taint| effects.contains(&taint.effect.as_str()));
    taints.filter(|taint| !toleration::tolerates(pod, taint))
}

fn reason(taint: &Taint) -> String {
    format!("node(s) had untolerated taint {{{}: {}}}", taint.key, taint.value.as_deref().unwrap_or_default())
}
