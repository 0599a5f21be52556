//! A control plane with simulated nodes: for cases that need pods, but nothing that runs in them.
//!
//! It takes a moment to start, and pods come up at once and cost next to nothing, so dozens of cases can share it.

use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;

use crate::harness::{Cluster, Running, eventually, tiphys};

/// How many nodes there are, each with the label `tiphys.io/simulated=true`.
pub const NODES: usize = 3;
/// No other cluster has it.
const SLOT: u16 = 19;

/// The cluster. Dropping it ends it.
#[derive(Debug)]
pub struct Simulated {
    _nodes: Running,
    _server: Running,
    /// Its API.
    pub cluster: Cluster,
}

/// The one that cases share, or why it did not start.
static SHARED: Mutex<Option<Result<Arc<Simulated>, String>>> = Mutex::new(None);

/// The shared cluster; the first who asks starts it.
pub fn shared() -> Result<Arc<Simulated>> {
    let mut shared = SHARED.lock();
    let started =
        shared.get_or_insert_with(|| Simulated::start().map(Arc::new).map_err(|error| format!("{error:#}")));
    started.clone().map_err(|error| anyhow::anyhow!("the simulated cluster did not start: {error}"))
}

/// Ends the shared cluster; `failed`: after its last messages.
pub fn end(failed: bool) {
    let Some(Ok(simulated)) = SHARED.lock().take() else { return };
    if failed {
        eprintln!("e2e: the simulated cluster's last messages:\n{}", simulated.cluster.log_tail());
    }
}

impl Simulated {
    fn start() -> Result<Self> {
        let cluster = Cluster::new("simulated", SLOT)?;
        let server = cluster.serve(&["--disable", "dns"])?;
        let mut simulate = tiphys();
        simulate.args(["simulate", "--nodes", &NODES.to_string(), "--pods", "500", "--run-time", "0"]);
        simulate.arg("--kubeconfig").arg(cluster.kubeconfig());
        let log = std::fs::File::create(cluster.scratch("nodes.log"))?;
        let nodes = simulate.stdout(Stdio::null()).stderr(log).spawn().context("tiphys simulate")?;
        let nodes = Running(nodes);
        eventually("all nodes are Ready", || {
            let ready = r#"jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#;
            let ready = cluster.kubectl(&["get", "nodes", "-o", ready])?;
            ensure!(ready.matches("True").count() == NODES, "{ready}");
            Ok(())
        })?;
        Ok(Self { _nodes: nodes, _server: server, cluster })
    }
}
