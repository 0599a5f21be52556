//! The scheduler's picture of the cluster, changed by events one at a time: nodes, and the pods that take of them.
//!
//! A decision is counted in at once ([`Cache::assume`]), before the API server confirms it, so that the next decision sees
//! it; the confirming event then changes nothing, and a failed binding is counted out again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::node::{Facts, Node};
use crate::pod::Pod;

/// Nodes by name, and bound pods by uid.
#[derive(Debug, Default)]
pub struct Cache {
    nodes: BTreeMap<Box<str>, Node>,
    pods: HashMap<Box<str>, Pod>,
}

impl Cache {
    /// A node came or changed.
    pub fn set_node(&mut self, facts: Facts) {
        let name = facts.name.clone();
        match self.nodes.get_mut(&name) {
            Some(node) => node.facts = Arc::new(facts),
            None => {
                let mut node = Node { facts: Arc::new(facts), ..Node::default() };
                // Pods may be known before their node is.
                self.pods.values().filter(|pod| pod.node == name).for_each(|pod| node.add(pod));
                self.nodes.insert(name, node);
            }
        }
    }

    /// A node went.
    pub fn remove_node(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    /// A pod is bound or changed: counts exactly what it takes now.
    pub fn set_pod(&mut self, pod: Pod) {
        self.remove_pod(&pod.uid);
        if pod.ended || pod.node.is_empty() {
            return;
        }
        if let Some(node) = self.nodes.get_mut(&pod.node) {
            node.add(&pod);
        }
        self.pods.insert(pod.uid.clone(), pod);
    }

    /// A pod went, or its binding failed.
    pub fn remove_pod(&mut self, uid: &str) {
        let Some(pod) = self.pods.remove(uid) else { return };
        if let Some(node) = self.nodes.get_mut(&pod.node) {
            node.remove(&pod);
        }
    }

    /// Counts a pod in on the node that was chosen for it.
    pub fn assume(&mut self, pod: &Pod, node: &str) {
        self.set_pod(Pod { node: node.into(), wishes: None, ..pod.clone() });
    }

    /// All nodes in order of their names.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Node> {
        self.nodes.values()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pod::tests::pod;

    fn bound(name: &str, cpu: u32, node: &str) -> Pod {
        let spec = tiphys_api::json!({
            "nodeName": node,
            "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu.to_string()}}, "ports": [{"hostPort": cpu}]}],
        });
        pod(name, &spec)
    }

    proptest! {
        /// Whatever the order of events, a node's sums are those of the pods that are there now.
        #[test]
        fn sums_follow_the_pods(events in proptest::collection::vec((0..6u8, 1..5u32, 0..3u8), 0..60)) {
            let mut cache = Cache::default();
            let mut model: HashMap<String, Pod> = HashMap::new();
            for (who, cpu, what) in events {
                let (name, node) = (format!("p{who}"), format!("n{}", cpu % 2));
                match what {
                    0 => {
                        cache.remove_pod(&name);
                        model.remove(&name);
                    }
                    1 => cache.set_node(Facts { name: node.into(), ..Facts::default() }),
                    _ => {
                        cache.set_pod(bound(&name, cpu, &node));
                        model.insert(name.clone(), bound(&name, cpu, &node));
                    }
                }
            }
            for node in cache.nodes() {
                let there: Vec<&Pod> = model.values().filter(|p| p.node == node.facts.name).collect();
                prop_assert_eq!(node.taken.get("cpu"), there.iter().map(|p| p.requests.get("cpu")).sum::<i64>());
                prop_assert_eq!(node.taken.get("pods"), there.len() as i64);
                prop_assert_eq!(node.ports.len(), there.len());
            }
        }
    }
}
