//! `tiphys simulate`: the flags as the simulator takes them, and the process around it.

use anyhow::{Context, Result};
use tiphys_simulate::Config;
use tokio_util::sync::CancellationToken;

use super::{Ending, node};
use crate::cli::Simulate;
use crate::logging;
use crate::progress::Progress;

/// Keeps simulated nodes until a signal.
pub async fn simulate(flags: &Simulate) -> Result<()> {
    let mut ending = Ending::listen(false)?;
    let mut progress = Progress::new();
    logging::start(&flags.logging)?;
    let config = config(flags)?;
    let client = node::remote(&flags.kubeconfig).await?;
    let ready = || {
        progress.done(&format!("{} simulated nodes Ready", flags.nodes));
        progress.ready();
    };
    let running = tiphys_simulate::run(config, client, ready, CancellationToken::new());
    tokio::select! {
        ended = running => ended.context("the nodes cannot be registered"),
        () = ending.any() => Ok(()),
    }
}

fn config(flags: &Simulate) -> Result<Config> {
    let label = |text: &String| {
        let pair = text.split_once('=').with_context(|| format!("--node-label {text}: not KEY=VALUE"))?;
        anyhow::Ok((pair.0.to_owned(), pair.1.to_owned()))
    };
    // As the API has it: without what stands behind.
    let version = crate::VERSION.split_once("Kubernetes ").map_or("", |(_, version)| version);
    Ok(Config {
        nodes: flags.nodes,
        prefix: flags.node_prefix.clone(),
        labels: flags.node_label.iter().map(label).collect::<Result<_>>()?,
        taints: flags.taint.clone(),
        zones: flags.zones,
        cpu: flags.cpu.clone(),
        memory: flags.memory.clone(),
        pods: flags.pods,
        version: version.trim_end_matches(')').to_owned(),
        start_delay: flags.start_delay,
        run_time: flags.run_time,
        stop_delay: flags.stop_delay,
    })
}
