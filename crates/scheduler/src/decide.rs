//! The decision: which node takes a pod, or in Kubernetes' words why none does. A pure function of a snapshot.

use std::collections::BTreeMap;

use crate::node::Node;
use crate::plugins::{FILTERS, Reason, SCORES, Scale, Score};
use crate::pod::Pod;

/// Why no node takes a pod: how many nodes gave each reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    nodes: usize,
    reasons: BTreeMap<Reason, usize>,
}

/// The best node for a pod. Among equals, `tie` (any number) picks.
pub fn decide<'a>(pod: &Pod, nodes: impl Iterator<Item = &'a Node>, tie: usize) -> Result<&'a Node, Refusal> {
    let mut refusal = Refusal::default();
    let mut fitting = Vec::new();
    for node in nodes {
        refusal.nodes += 1;
        match FILTERS.iter().map(|filter| (filter.reasons)(pod, node)).find(|reasons| !reasons.is_empty()) {
            None => fitting.push(node),
            Some(reasons) => reasons.into_iter().for_each(|r| *refusal.reasons.entry(r).or_default() += 1),
        }
    }
    match fitting.as_slice() {
        [] => Err(refusal),
        [only] => Ok(only),
        _ => Ok(best(pod, &fitting, tie)),
    }
}

fn best<'a>(pod: &Pod, nodes: &[&'a Node], tie: usize) -> &'a Node {
    let mut totals = vec![0; nodes.len()];
    for score in SCORES {
        let points = scaled(score, nodes.iter().map(|node| (score.points)(pod, node)).collect());
        totals.iter_mut().zip(points).for_each(|(total, points)| *total += points * score.weight);
    }
    let top = totals.iter().max().copied().unwrap_or_default();
    let equals: Vec<&'a Node> =
        nodes.iter().zip(&totals).filter(|(_, total)| **total == top).map(|(node, _)| *node).collect();
    equals[tie % equals.len()]
}

fn scaled(score: &Score, mut points: Vec<i64>) -> Vec<i64> {
    let largest = points.iter().max().copied().unwrap_or_default();
    let share = |p: i64| if largest == 0 { 0 } else { p * 100 / largest };
    match score.scale {
        Scale::Kept => {}
        Scale::Largest => points.iter_mut().for_each(|p| *p = share(*p)),
        Scale::Reversed => points.iter_mut().for_each(|p| *p = 100 - share(*p)),
    }
    points
}

impl std::fmt::Display for Refusal {
    /// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let mut reasons: Vec<String> =
            self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        // kube-scheduler sorts the finished words, not the counts.
        reasons.sort();
        write!(f, "0/{} nodes are available: {}.", self.nodes, reasons.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::Taint;
    use tiphys_api::json;

    use super::*;
    use crate::node::Facts;
    use crate::pod::Resources;
    use crate::pod::tests::pod;

    fn node(name: &str, cpu: i64) -> Node {
        let mut allocatable = Resources::default();
        allocatable.change("cpu", |_| cpu * 1000);
        allocatable.change("memory", |_| 1 << 40);
        allocatable.change("pods", |_| 110);
        Node {
            facts: Arc::new(Facts { name: name.into(), allocatable, ..Facts::default() }),
            ..Node::default()
        }
    }

    fn asks(cpu: &str) -> Pod {
        pod("p", &json!({ "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}] }))
    }

    #[test]
    fn the_emptier_node_wins() {
        let mut busy = node("busy", 4);
        busy.add(&asks("3"));
        let nodes = [busy, node("free", 4)];
        for tie in 0..4 {
            assert_eq!(decide(&asks("1"), nodes.iter(), tie).unwrap().facts.name.as_ref(), "free");
        }
    }

    #[test]
    fn refusals_are_worded_as_kubernetes_words_them() {
        let mut cordoned = node("a", 4);
        Arc::make_mut(&mut cordoned.facts).unschedulable = true;
        let mut tainted = node("b", 4);
        let taint =
            Taint { key: "k".into(), value: Some("v".into()), effect: "NoSchedule".into(), time_added: None };
        Arc::make_mut(&mut tainted.facts).taints = vec![taint];
        let nodes = [cordoned, tainted, node("c", 1)];
        let refusal = decide(&asks("2"), nodes.iter(), 0).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {k: v}, 1 node(s) were \
             unschedulable."
        );
        let none = decide(&asks("1"), std::iter::empty(), 0).unwrap_err();
        assert_eq!(none.to_string(), "no nodes available to schedule pods");
    }
}
