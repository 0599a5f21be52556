//! NodeUnschedulable: a cordoned node takes only pods that tolerate it.

use k8s_openapi::api::core::v1::Taint;

use super::{Filter, toleration};

/// The taint that a cordoned node stands for.
const KEY: &str = "node.kubernetes.io/unschedulable";

/// The filter.
pub const FILTER: Filter = Filter {
    name: "NodeUnschedulable",
    reasons: |pod, node| {
        let taint = Taint { key: KEY.into(), effect: "NoSchedule".into(), ..Taint::default() };
        match !node.facts.unschedulable || toleration::tolerates(pod, &taint) {
            true => vec![],
            false => vec!["node(s) were unschedulable".into()],
        }
    },
};
