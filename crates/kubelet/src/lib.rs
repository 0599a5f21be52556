//! The kubelet: makes the pods bound to this node run, and tells the API how they are.
//!
//! - One actor per pod ([`actor`]), fed by the API's watch and the runtime's events. It plans ([`plan`]) and derives the
//!   status ([`status`]) by pure functions of what it knows; [`ops`] does all I/O. Nothing ticks.
//! - Everything about a running pod can be read back from the runtime: a killed and restarted kubelet takes over what
//!   runs, starts nothing twice and restarts nothing.
//! - [`node`] registers the node and keeps its status and lease; [`server`] serves logs, exec, attach, port-forward.
//! - Stopping the kubelet leaves containers running.

mod actor;
mod admit;
mod allocation;
mod backoff;
pub mod cgroups;
pub mod configuration;
mod container;
mod context;
mod dns;
mod downward;
mod env;
mod eviction;
mod expand;
mod gc;
mod hooks;
mod http_get;
mod images;
mod inotify;
mod logs;
mod manager;
pub mod mounts;
mod node;
mod ops;
mod plan;
mod pod;
mod probe;
mod push;
mod resources;
mod sandbox;
mod security;
pub mod server;
mod shutdown;
mod sources;
mod state;
mod static_pods;
mod stats;
mod status;
#[cfg(test)]
mod tests;
mod volumes;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service, Taint};
use tiphys_client::typed::Kind;
use tiphys_client::{Client, Informers, Recorder};
use tiphys_runtime::Runtime;
use tokio_util::sync::CancellationToken;

use context::Context;
use manager::Manager;

pub use shutdown::Shutdown;

/// How this kubelet is set up.
#[derive(Clone)]
pub struct Config {
    /// Name of the node's object.
    pub node_name: String,
    /// The node's address.
    pub node_ip: IpAddr,
    /// Where pods' directories, volumes and other state live.
    pub root_dir: PathBuf,
    /// Where containers' logs live, as `/var/log/pods`.
    pub log_dir: PathBuf,
    /// Directory of static pods' manifests, if any.
    pub static_pod_dir: Option<PathBuf>,
    /// The resolver configuration pods inherit, as `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Addresses of the cluster's DNS.
    pub cluster_dns: Vec<String>,
    /// The cluster's domain, as `cluster.local`.
    pub cluster_domain: String,
    /// Control group above all pods, as `/kubepods`.
    pub cgroup_root: String,
    /// What a `KubeletConfiguration` sets.
    pub settings: configuration::Settings,
    /// Images whose names begin so are never removed: nobody could pull them again.
    pub kept_images: Vec<String>,
    /// Version told in the node's status, as `v1.36.0`.
    pub version: String,
    /// Labels beside the usual ones.
    pub labels: BTreeMap<String, String>,
    /// Taints the node registers with.
    pub taints: Vec<Taint>,
    /// The HTTPS server; `None` for none.
    pub server: Option<server::Config>,
    /// How it is asked to end its pods before the machine goes down.
    pub shutdown: Shutdown,
    /// The container runtime.
    pub runtime: Arc<dyn Runtime>,
}

/// Why the kubelet cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory or file of its own cannot be used.
    #[error("cannot use {path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The node's properties cannot be read.
    #[error("cannot read what this machine has: {0}")]
    Machine(std::io::Error),
    /// The HTTPS server cannot be set up.
    #[error(transparent)]
    Server(#[from] server::Error),
}

/// Runs the kubelet until the stop. Containers keep running.
pub async fn run(config: Config, client: Arc<dyn Client>, stop: CancellationToken) -> Result<(), Error> {
    let _over = config.shutdown.over();
    for dir in [config.root_dir.join("pods"), config.log_dir.clone()] {
        tokio::fs::create_dir_all(&dir).await.map_err(|source| Error::Io { path: dir, source })?;
    }
    let listener = match &config.server {
        Some(server) => Some(server::bind(server).await?),
        None => None,
    };
    let machine = node::machine::read(&config.root_dir).map_err(Error::Machine)?;
    let informers = Informers::new(client.clone());
    let ctx = Arc::new(context(config, client, &informers, machine).await);
    let manager = Manager::new(ctx.clone(), stop.clone());
    let served = async {
        match listener {
            Some(listener) => server::serve(listener, ctx.clone(), stop.clone()).await,
            None => stop.cancelled().await,
        }
    };
    let shutdown = ctx.config.shutdown.clone();
    let health = server::healthz::serve(&ctx.config.settings);
    let work = async {
        let ending = shutdown::attend(&manager, &shutdown);
        tokio::join!(node::run(manager.clone()), pods(&manager, &informers), served, health, ending)
    };
    stop.run_until_cancelled(Box::pin(work)).await;
    manager.ended().await;
    Ok(())
}

async fn context(
    config: Config,
    client: Arc<dyn Client>,
    informers: &Informers,
    machine: node::machine::Machine,
) -> Context {
    let resolv = tokio::fs::read_to_string(&config.resolv_conf).await.unwrap_or_default();
    let names = dns::Names {
        cluster_dns: config.cluster_dns.clone(),
        domain: config.cluster_domain.clone(),
        host: dns::parse_resolv_conf(&resolv),
        node: config.node_name.clone(),
    };
    let runtime = config.runtime.clone();
    let name = runtime.version().await.map(|version| version.name).unwrap_or_else(|_| "containerd".into());
    let allocatable = node::allocatable(&config, &machine);
    let ledger = allocation::Ledger::new(&allocatable, config.settings.max_pods);
    let layout = Arc::new(cgroups::Layout::here());
    let (driver, pids) = (config.settings.cgroup_driver, config.settings.pod_pids_limit);
    Context {
        recorder: Recorder::new(client.clone(), "kubelet", &config.node_name),
        sources: sources::Sources::new(client.clone()),
        services: informers.of(&Service::GVR),
        tokens: volumes::token::Tokens::default(),
        names,
        node: status::Node { ip: config.node_ip, runtime: name },
        ledger: parking_lot::Mutex::new(ledger),
        room: tokio::sync::watch::channel(0).0,
        now: Default::default(),
        hurry: Default::default(),
        admitting: tokio::sync::watch::channel(false).0,
        own: informers.scoped(&Node::GVR, "", &format!("metadata.name={}", config.node_name)),
        allocatable,
        memory: machine.memory,
        unified: layout.unified,
        weights: cgroups::weights::Weights::new(layout.clone(), driver, &config.cgroup_root, pids),
        cgroups: layout,
        stats: stats::Stats::default(),
        watches: Arc::default(),
        access: server::access::Access::default(),
        machine,
        shown_images: Default::default(),
        removals: tokio::sync::Semaphore::new(1),
        owners: Default::default(),
        config,
        client,
        runtime,
    }
}

/// Runs the pods: first what the runtime has is read, then the API's pods take it over, the rest is ended.
async fn pods(manager: &Arc<Manager>, informers: &Informers) {
    let ctx = manager.context();
    let events = manager.read_runtime().await;
    let statics = static_pods::start(manager).await;
    let follow = async {
        ctx.services.synced().await;
        ctx.own.synced().await;
        let fields = format!("spec.nodeName={}", ctx.config.node_name);
        let pods = informers.scoped(&Pod::GVR, "", &fields);
        manager.follow(&pods);
        pods.synced().await;
        ctx.admitting.send_replace(true);
        manager.end_orphans().await;
        // Held for the life of the kubelet.
        std::future::pending::<()>().await;
        drop(pods);
    };
    tokio::join!(manager.route(events), static_pods::follow(manager.clone(), statics), follow);
}
