//! Simulated nodes: Node objects that heartbeat, and pods that "run" on them without a container or a machine.
//!
//! - Works against any Kubernetes API server, with what every cluster component has: a [`Client`].
//! - A pod's life follows a kubelet's: Pending, Running and Ready after a delay; a Job's pod ends after another; a deleted
//!   one goes after a third. Each delay is a span, and annotations of a pod override them ([`pod`]).
//! - Nothing is kept that the API does not hold: a second simulator with the same names takes over where one ended.
//! - A node whose Node object is deleted is a machine that was taken away: it does not come back before a restart.

mod address;
mod delay;
mod node;
mod pod;
mod pods;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures::{StreamExt, stream};
use tiphys_api::Status;
use tiphys_client::typed::Kind;
use tiphys_client::{Client, Informers};
use tokio_util::sync::CancellationToken;

pub use delay::{Delay, ParseDelayError};
pub use node::{ParseTaintError, Taint};

/// Registrations under way at once.
const AT_ONCE: usize = 32;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many nodes.
    pub nodes: u32,
    /// Their names are this, a dash and a number from 0.
    pub prefix: String,
    /// Labels of every node, beside the usual ones.
    pub labels: Vec<(String, String)>,
    /// Taints of every node.
    pub taints: Vec<Taint>,
    /// The nodes are spread over so many zones, `zone-0` and on; 0 for none.
    pub zones: u32,
    /// Each node's CPUs, as a quantity.
    pub cpu: String,
    /// Each node's memory, as a quantity.
    pub memory: String,
    /// Most pods of each node.
    pub pods: u32,
    /// What the nodes say that their kubelet is, as `v1.36.0`.
    pub version: String,
    /// From a pod's binding to its being Running and Ready.
    pub start_delay: Delay,
    /// From a Job's pod being Running to its success.
    pub run_time: Delay,
    /// From a pod's deletion to its end; at most its grace period.
    pub stop_delay: Delay,
}

/// Registers the nodes and keeps them and their pods until `stop` is cancelled. `ready` is called once all nodes are
/// Ready. Returns early only when nodes cannot be registered.
pub async fn run(
    config: Config,
    client: Arc<dyn Client>,
    ready: impl FnOnce(),
    stop: CancellationToken,
) -> Result<(), Status> {
    let config = Arc::new(config);
    let names: Arc<[Box<str>]> = (0..config.nodes).map(|i| format!("{}-{i}", config.prefix).into()).collect();
    let registered = stream::iter(0..names.len())
        .map(|i| node::register(&client, &config, &names, i))
        .buffer_unordered(AT_ONCE);
    let outcomes: Vec<Result<(), Status>> = tokio::select! {
        outcomes = registered.collect() => outcomes,
        () = stop.cancelled() => return Ok(()),
    };
    outcomes.into_iter().collect::<Result<(), Status>>()?;
    ready();
    let informers = Informers::new(client.clone());
    let nodes = informers.of(&k8s_openapi::api::core::v1::Node::GVR);
    let beating = node::beat(&client, &config, &names, &nodes);
    let running = pods::run(&client, &config, &names, &informers);
    tokio::select! {
        () = beating => {}
        () = running => {}
        () = stop.cancelled() => {}
    }
    Ok(())
}
