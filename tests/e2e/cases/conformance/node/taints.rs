//! Pods leave a node whose taints they do not bear, each when its time is over. The nodes are simulated ones of its own: what
//! is done to them is nobody else's.

use anyhow::{Result, ensure};

use super::{Run, Table};
use crate::harness::{Namespace, Running, eventually, tiphys};

pub const CASES: Table = &[(
    &[
        "[sig-node] NoExecuteTaintManager Multiple Pods [Serial] evicts pods with minTolerationSeconds [Disruptive]",
        "[sig-node] NoExecuteTaintManager Single Pod [Serial] removing taint cancels eviction [Disruptive]",
    ],
    Run::Shared(evicted),
)];

const KEY: &str = "e2e.tiphys.io/evict";

/// A pod on a node, which bears with the taint for so many seconds.
fn pod(name: &str, node: &str, seconds: u32) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  nodeName: {node}\n  tolerations:\n  \
         - {{key: {KEY}, operator: Exists, effect: NoExecute, tolerationSeconds: {seconds}}}\n  containers: \
         [{{name: c, image: registry.example/none:1}}]\n---\n"
    )
}

fn evicted(ns: &Namespace<'_>) -> Result<()> {
    let mut simulate = tiphys();
    simulate.args([
        "simulate",
        "--nodes",
        "2",
        "--node-prefix",
        "tainted",
        "--taint",
        "simulated:NoSchedule",
    ]);
    simulate.arg("--kubeconfig").arg(ns.cluster.kubeconfig());
    let simulator = Running(simulate.spawn()?);
    let nodes = ["node/tainted-0", "node/tainted-1"];
    eventually("the nodes are there", || ns.kubectl(&[&["get"], &nodes[..]].concat()))?;
    ns.wait("condition=Ready", &nodes)?;
    let taint = |node: &str, sign: &str| ns.kubectl(&["taint", "node", node, &format!("{KEY}{sign}")]);
    // The first bears it long enough to be spared; the last bears it a little longer than that.
    ns.apply(
        &[pod("spared", "tainted-1", 7), pod("soon", "tainted-0", 1), pod("late", "tainted-0", 8)].concat(),
    )?;
    ns.wait("condition=Ready", &["pod/spared", "pod/soon", "pod/late"])?;
    taint("tainted-1", "=yes:NoExecute")?;
    taint("tainted-1", ":NoExecute-")?;
    taint("tainted-0", "=yes:NoExecute")?;
    ns.wait("delete", &["pod/soon"])?;
    ns.wait("delete", &["pod/late"])?;
    let spared = ns.get(&["pod", "spared"])?;
    ensure!(spared["metadata"]["deletionTimestamp"].is_null(), "{spared}");
    ns.kubectl(&["delete", "pod", "spared"])?;
    drop(simulator);
    ns.kubectl(&[&["delete"], &nodes[..]].concat()).map(drop)
}
