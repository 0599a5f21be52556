//! kube-proxy: Services reach pods by packet rules that the kernel applies; no packet passes through this process.
//!
//! - Follows Services, EndpointSlices and its own Node by informers. A change marks a Service; one task reads those marked,
//!   and only them, and makes the rules follow. Changes that come while it works are one change for the next round.
//! - [`model`] reads objects, [`rules`] renders a port, [`tables`] finds what changed, [`kernel`] writes it, in one
//!   `iptables-restore` for each family.
//! - Chains are this instance's own ([`rules::Names`]). What a killed process left is found at the start and mended; what
//!   somebody else took away is found by looking now and then, as nothing tells of it.

mod conntrack;
mod endpoints;
mod health;
mod http;
pub mod kernel;
pub mod model;
pub mod rules;
pub mod saved;
mod status;
pub mod tables;
mod watch;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tiphys_client::{Client, Informers};
use tiphys_network::LOOK;
use tiphys_network::command::{self, Family};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use kernel::Kernel;
use model::Picture;
use rules::Names;
use status::Status;
use tables::Tables;
use watch::Watch;

/// Pause after rules could not be written, before the next try; each failure doubles it.
const RETRY: Duration = Duration::from_secs(1);
/// The longest such pause.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What the proxy is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Tells this cluster's chains from others'; the bridge's name.
    pub instance: String,
    /// Name of this node.
    pub node_name: String,
    /// Ranges of all pods, at most one of a family, divided by commas.
    pub cluster_cidr: String,
    /// Cluster addresses that this node answers itself, as cluster DNS.
    pub answered_here: BTreeSet<Ipv4Addr>,
    /// Where it tells whether it keeps up, if anywhere.
    pub healthz: Option<SocketAddr>,
    /// Where it tells its figures, if anywhere.
    pub metrics: Option<SocketAddr>,
}

/// Lets packets to 127.0.0.0/8 be translated to elsewhere.
const LOOPBACK: &str = "net/ipv4/conf/all/route_localnet";

/// Why the proxy cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A switch of the kernel that Services need.
    #[error(transparent)]
    Network(#[from] tiphys_network::Error),
}

/// Runs until `stop` is cancelled. Rules stay when it ends: Services go on answering.
pub async fn run(config: Config, client: Arc<dyn Client>, stop: CancellationToken) -> Result<(), Error> {
    let status = Arc::new(Status::new());
    let told = status::tell(status.clone(), config.healthz, config.metrics);
    let _told = AbortOnDropHandle::new(tokio::spawn(told));
    let watch = Watch::start(&Informers::new(client), &config.node_name, status.clone());
    match stop.run_until_cancelled(watch.synced()).await {
        Some(()) => follow(Proxy::new(config, status), &watch, stop).await,
        None => Ok(()),
    }
}

/// Makes the rules follow what is watched.
async fn follow(mut proxy: Proxy, watch: &Watch, stop: CancellationToken) -> Result<(), Error> {
    let mut look = tokio::time::interval_at(Instant::now() + LOOK, LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pause = RETRY;
    loop {
        let written = proxy.sync(watch).await;
        if written {
            // Node ports answer on the loopback address, too, now that `Tables::loopback` guards it.
            tiphys_network::set_sysctl(LOOPBACK, "1", true)?;
            pause = RETRY;
        }
        tokio::select! {
            () = watch.changed() => {}
            _ = look.tick() => proxy.look().await,
            () = tokio::time::sleep(pause), if !written => pause = RETRY_MAX.min(pause * 2),
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Takes every rule of an instance away; what is not there is no error.
pub async fn cleanup(instance: &str) -> Result<(), command::Error> {
    let names = Names::new(instance);
    // Before the rule goes that guards the loopback addresses. Another cluster here sets it again with its next rules.
    if let Err(error) = tiphys_network::set_sysctl(LOOPBACK, "0", false) {
        tracing::warn!(%error, "the loopback addresses may still be routed");
    }
    kernel::remove(Family::V4, &names).await?;
    // A kernel without IPv6 has none of its rules.
    if let Err(error) = kernel::remove(Family::V6, &names).await {
        tracing::debug!(%error, "no IPv6 rules");
    }
    Ok(())
}

/// The rules of both families, and what follows from them.
struct Proxy {
    config: Config,
    families: [Kernel; 2],
    health: health::Server,
    status: Arc<Status>,
}

impl Proxy {
    fn new(config: Config, status: Arc<Status>) -> Self {
        let names = Names::new(&config.instance);
        let family = |family| {
            let pods =
                config.cluster_cidr.split(',').find(|range| range.contains(':') == (family == Family::V6));
            let tables = Tables::new(family, names.clone(), pods.map(str::to_owned));
            Kernel::new(tables, names.clone(), status.clone())
        };
        let families = [family(Family::V4), family(Family::V6)];
        Self { families, config, health: health::Server::default(), status }
    }

    /// Brings the rules to what the watch has seen; whether all could be written.
    async fn sync(&mut self, watch: &Watch) -> bool {
        let keys = watch.take();
        if !keys.is_empty() {
            self.status.queued();
        }
        for key in keys {
            let Picture { ports, health } = watch.read(&key);
            let answered =
                |ip: IpAddr| matches!(ip, IpAddr::V4(ip) if self.config.answered_here.contains(&ip));
            let ports = ports.into_iter().filter(|port| !answered(port.cluster_ip));
            let (four, six) = ports.partition(|port| port.cluster_ip.is_ipv4());
            for (kernel, ports) in self.families.iter_mut().zip([four, six]) {
                kernel.set(&key, ports);
            }
            self.health.set(&key, health).await;
        }
        let mut written = true;
        for kernel in &mut self.families {
            if let Err(error) = kernel.write().await {
                tracing::error!(%error, family = ?kernel.family(), "trying again");
                written = false;
            }
        }
        if written {
            self.status.updated();
        }
        written
    }

    /// Looks whether the rules are still there.
    async fn look(&mut self) {
        for kernel in &mut self.families {
            if let Err(error) = kernel.look().await {
                tracing::warn!(%error, "cannot tell whether the Services' rules are there; looking again later");
            }
        }
    }
}

#[cfg(test)]
mod tests;
