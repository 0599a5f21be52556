//! Pods leave a node whose taints they do not bear, each when its time is over. A cluster of its own with simulated nodes:
//! what is done to them is nobody else's, and other cases ask their cluster for its only node.

use anyhow::{Result, ensure};

use super::{Run, Table};
use crate::harness::{Cluster, Running, eventually, tiphys};

pub const CASES: Table = &[(
    &[
        "[sig-node] NoExecuteTaintManager Multiple Pods [Serial] evicts pods with minTolerationSeconds [Disruptive]",
        "[sig-node] NoExecuteTaintManager Single Pod [Serial] removing taint cancels eviction [Disruptive]",
    ],
    Run::Own(evicted),
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

fn evicted() -> Result<()> {
    let cluster = Cluster::new("tainted", 28)?;
    let _server = cluster.serve(&["--disable", "dns"])?;
    let ns = cluster.namespace("tainted")?;
    let mut simulate = tiphys();
    simulate.args(["simulate", "--nodes", "2", "--node-prefix", "tainted"]);
    let _nodes = Running(simulate.arg("--kubeconfig").arg(cluster.kubeconfig()).spawn()?);
    let nodes = ["node/tainted-0", "node/tainted-1"];
    eventually("the nodes are there", || ns.kubectl(&[&["get"], &nodes[..]].concat()))?;
    ns.wait("condition=Ready", &nodes)?;
    let taint = |node: &str, sign: &str| ns.kubectl(&["taint", "node", node, &format!("{KEY}{sign}")]);
    // The first bears it long enough to be spared; the last bears it a little longer than that.
    ns.apply(
        &[pod("spared", "tainted-1", 15), pod("soon", "tainted-0", 1), pod("late", "tainted-0", 16)].concat(),
    )?;
    ns.wait("condition=Ready", &["pod/spared", "pod/soon", "pod/late"])?;
    taint("tainted-1", "=yes:NoExecute")?;
    taint("tainted-1", ":NoExecute-")?;
    taint("tainted-0", "=yes:NoExecute")?;
    ns.wait("delete", &["pod/soon"])?;
    ns.wait("delete", &["pod/late"])?;
    let spared = ns.get(&["pod", "spared"])?;
    ensure!(spared["metadata"]["deletionTimestamp"].is_null(), "{spared}");
    Ok(())
}
