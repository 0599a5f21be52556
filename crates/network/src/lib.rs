//! The pod network of one node: a bridge, an address range, and the few packet rules that let pods out and in.
//!
//! - Addresses and interfaces are the work of the standard CNI plugins (`bridge`, `host-local`, `loopback`), called by
//!   the container runtime; this crate writes their configuration ([`cni`]).
//! - The rules ([`rules`]) stand in chains that carry the bridge's name, so that two clusters live side by side and a
//!   removal is exact. They accept forwarding for pods even where Docker has set FORWARD to DROP, and masquerade what
//!   leaves the cluster. One rule for the node instead of the bridge plugin's chain per pod: a pod starts without
//!   any call of iptables.
//! - All is idempotent: [`Network::prepare`] at each start, [`Network::remove`] at reset. Rules that somebody else takes
//!   away, as a restarted firewall does, come back ([`Network::keep`]).

pub mod address;
pub mod cni;
pub mod command;
pub mod conntrack;
pub mod rules;

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often it is looked whether rules are still there: nothing tells when somebody takes them away.
pub const LOOK: Duration = Duration::from_secs(30);

/// What can go wrong while the host's network is set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the configuration or of the kernel could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A command of the host failed.
    #[error(transparent)]
    Command(#[from] command::Error),
    /// The node's own address was not given and cannot be found.
    #[error("cannot tell this node's address: {0}; give one with --node-ip")]
    NodeAddress(io::Error),
    /// A range is not `address/bits`.
    #[error("{0:?} is not an IPv4 range such as 10.42.0.0/16")]
    Range(String),
}

/// The pod network of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Name of the bridge, as `tiphys0`; at most 15 characters. Chains and files carry it.
    pub bridge: String,
    /// Range of this node's pods, as `10.42.0.0/24`.
    pub pod_cidr: String,
    /// Range of all pods of the cluster, as `10.42.0.0/16`.
    pub cluster_cidr: String,
    /// Where the runtime looks for CNI configuration.
    pub conf_dir: PathBuf,
    /// Where `host-local` keeps which address is whose.
    pub state_dir: PathBuf,
    /// Service addresses that this node answers itself, as cluster DNS; they are put on the loopback interface.
    pub own_addresses: Vec<Ipv4Addr>,
}

/// Kernel switches that pods need, each with its value.
const SYSCTLS: &[(&str, &str, bool)] = &[
    ("net/ipv4/ip_forward", "1", true),
    // Lets rules see traffic between pods of one bridge; without it a Service's answer would go past its NAT.
    ("net/bridge/bridge-nf-call-iptables", "1", false),
];

impl Network {
    /// Writes the CNI configuration, sets the kernel's switches and the rules.
    pub async fn prepare(&self) -> Result<(), Error> {
        for dir in [&self.conf_dir, &self.state_dir] {
            std::fs::create_dir_all(dir).map_err(|source| Error::Write { path: dir.clone(), source })?;
        }
        write(&self.conf_dir.join("10-tiphys.conflist"), &cni::conflist(self))?;
        for (key, value, needed) in SYSCTLS {
            set_sysctl(key, value, *needed)?;
        }
        self.put_rules().await?;
        for address in &self.own_addresses {
            command::ensure_address(*address, "lo").await?;
        }
        Ok(())
    }

    async fn put_rules(&self) -> Result<(), command::Error> {
        command::restore(command::Family::V4, &rules::install(self)).await?;
        for jump in rules::jumps(self) {
            jump.ensure().await?;
        }
        Ok(())
    }

    /// Puts the rules back whenever they are found gone, until dropped.
    pub async fn keep(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "cannot tell whether the pods' packet rules are there; looking again later");
            }
        }
    }

    async fn look(&self) -> Result<(), command::Error> {
        if command::holds(command::Family::V4, &rules::wanted(self)).await? {
            return Ok(());
        }
        tracing::warn!("the pods' packet rules were taken away; putting them back");
        self.put_rules().await
    }

    /// Takes rules, addresses and bridge away again; what is not there is no error.
    pub async fn remove(&self) -> Result<(), Error> {
        for jump in rules::jumps(self) {
            jump.remove().await?;
        }
        for (table, chain) in rules::chains(self) {
            command::remove_chain(table, &chain).await?;
        }
        for address in &self.own_addresses {
            command::remove_address(*address, "lo").await?;
        }
        command::delete_link(&self.bridge).await?;
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Sets a switch of the kernel unless it is set. One that is not needed may be missing from the kernel.
pub fn set_sysctl(key: &str, value: &str, needed: bool) -> Result<(), Error> {
    let path = Path::new("/proc/sys").join(key);
    match std::fs::read_to_string(&path) {
        Ok(now) if now.trim() == value => Ok(()),
        Err(_) if !needed => {
            tracing::warn!(
                key,
                "this kernel has no such switch; Services may not answer pods of the same node"
            );
            Ok(())
        }
        _ => write(&path, value),
    }
}
