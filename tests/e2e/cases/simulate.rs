//! Simulated nodes: a Deployment spreads over nodes that are not there.

use anyhow::{Context, Result, ensure};

use super::{Run, Running, Table};
use crate::harness::{Namespace, eventually, tiphys};

pub const CASES: Table = &[("simulated-nodes-run-pods", Run::Shared(simulated))];

const SELECTOR: &str = "tiphys.io/simulated=true";

fn simulated(ns: &Namespace<'_>) -> Result<()> {
    let mut simulate = tiphys();
    simulate.args(["simulate", "--nodes", "3", "--zones", "3", "--taint", "simulated:NoSchedule"]);
    simulate.arg("--kubeconfig").arg(ns.cluster.kubeconfig());
    let simulator = Running(simulate.spawn()?);
    let nodes = eventually("all nodes are there", || {
        let nodes = ns.kubectl(&["get", "nodes", "-l", SELECTOR, "-o", "name"])?;
        ensure!(nodes.lines().count() == 3, "{nodes}");
        Ok(nodes)
    })?;
    for node in nodes.lines() {
        ns.wait("condition=Ready", &[node])?;
    }
    ns.apply(DEPLOYMENT)?;
    ns.rolled_out("deployment/many")?;
    let pods = ns.get(&["pods"])?;
    let pods = pods["items"].as_array().context("no pods")?;
    let mut hosts: Vec<&str> = pods.iter().filter_map(|pod| pod["spec"]["nodeName"].as_str()).collect();
    let mut addresses: Vec<&str> = pods.iter().filter_map(|pod| pod["status"]["podIP"].as_str()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    addresses.sort_unstable();
    addresses.dedup();
    ensure!(hosts == ["sim-0", "sim-1", "sim-2"] && addresses.len() == 30, "{hosts:?} {addresses:?}");
    ns.kubectl(&["delete", "deployment", "many", "--cascade=foreground"])?;
    drop(simulator);
    ns.kubectl(&["delete", "nodes", "-l", SELECTOR]).map(drop)
}

const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  replicas: 30
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec:
      nodeSelector: {tiphys.io/simulated: "true"}
      tolerations: [{key: simulated, operator: Exists}]
      containers: [{name: c, image: registry.example/none:1}]
"#;
