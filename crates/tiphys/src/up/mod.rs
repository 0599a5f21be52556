//! The composition: which parts run in this process, in which order they start, and how they end.
//!
//! - The master (store, API server, scheduler, controllers) and the node's groundwork (network, containerd) start side by
//!   side; the kubelet follows when both are there.
//! - Everything ends through one token per layer: first pods if asked, as far as the kubelet ends them in order, then the
//!   components, then what pods are left, then the API server, then containerd. A part that fails ends the process with its error.

mod components;
mod ending;
mod example;
mod master;
mod node;
mod simulate;

use std::sync::Arc;

use anyhow::{Result, bail};
use futures::future::BoxFuture;
use tiphys_client::Client;
use tiphys_client::account::AccountClient;
use tiphys_client::leader::{self, Election, Timing, unique_identity};
use tokio_util::sync::CancellationToken;

use crate::cli::{Agent, Cluster, Component, Server, Up};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::{host, kubeconfig, lock, logging, reset};

use ending::Ending;

pub use ending::WITHIN;
pub use node::{CGROUP_ROOT, NodePart};
pub use simulate::simulate;

/// How much of the master runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Master {
    /// All of it.
    WithControllers,
    /// The API server and its store.
    ApiServerOnly,
}

/// A part of the master that runs alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The scheduler.
    Scheduler,
    /// The controller manager.
    ControllerManager,
}

impl Part {
    /// The Lease that lets one of several work.
    fn lease(self) -> &'static str {
        match self {
            Self::Scheduler => "kube-scheduler",
            Self::ControllerManager => "kube-controller-manager",
        }
    }
}

/// The tag of this cluster's proxy rules.
pub fn proxy_instance(settings: &Settings) -> String {
    settings.bridge.clone()
}

/// `tiphys up`: a whole cluster, until a signal.
pub async fn up(flags: &Up) -> Result<()> {
    let started = jiff::Timestamp::now();
    let mut ending = Ending::listen(flags.node.stop_pods)?;
    let mut progress = Progress::new();
    logging::start(&flags.logging)?;
    host::require_root("tiphys up")?;
    let settings = Settings::new(&flags.cluster, &flags.node)?;
    kubeconfig::check(&settings)?;
    host::require_programs(settings.runtime_endpoint.is_none())?;
    progress.say(&format!(
        "Tiphys {} on {}, data in {}",
        crate::VERSION,
        settings.node_name,
        settings.data_dir.display()
    ));
    let lock = lock::take(&settings.data_dir)?;
    host::check_format(&settings.data_dir)?;
    host::require_free_port((settings.bind_address, settings.https_port).into(), "--https-port")?;
    host::require_free_port((settings.node_ip, settings.kubelet_port).into(), "--kubelet-port")?;
    settings.save()?;
    progress.done("host checked");

    let stop = Stop::default();
    let runs = |part: &str| !flags.cluster.disable.iter().any(|disabled| disabled == part);
    let ground = node::Ground::prepare(&settings, runs("kubelet"));
    let master = start_master(&settings, &flags.cluster, &runs, &stop, &mut progress, &mut ending);
    // Not interrupted: what it starts must be known to be ended.
    let (master, ground) = tokio::join!(master, ground);
    let (master, ground) = (master?, ground?);
    let Some(mut master) = master else { return ground.end().await };
    progress.done("pod network and container runtime ready");
    master.start_components(&settings, &runs, &stop);
    kubeconfig::merge(&settings)?;
    let parts: Vec<NodePart> = NodePart::ALL.into_iter().filter(|part| runs(part.name())).collect();
    let identities = node::Identities::local(&master.api, &settings.node_name);
    let serving = Some(node::own_serving(&settings, &master.pki));
    node::start(&settings, &mut master.components, &identities, serving, &ground, &parts, &stop.components)?;
    let admin = master.admin();
    if runs("kubelet") {
        tokio::select! {
            ready = node::ready(&settings, admin.clone(), started) => ready?,
            () = ending.any() => return finish(settings, master, ground, stop, &ending, flags.node.stop_pods).await,
            failed = master.components.failed() => return Err(failed),
        }
        progress.done(&format!("node {} Ready", settings.node_name));
    }
    if let Some(manifest) = &flags.manifest.apply {
        tokio::select! {
            applied = example::apply(admin, manifest, &mut progress) => applied?,
            () = ending.any() => return finish(settings, master, ground, stop, &ending, flags.node.stop_pods).await,
        }
    }
    progress.ready();
    say_next(&progress, &settings);
    tokio::select! {
        () = ending.any() => {}
        failed = master.components.failed() => return Err(failed),
    }
    progress.stopping();
    let ended = finish(settings, master, ground, stop, &ending, flags.node.stop_pods).await;
    drop(lock);
    ended
}

fn say_next(progress: &Progress, settings: &Settings) {
    let kubeconfig = settings.kubeconfig.display();
    progress.say("");
    progress.say("Type next, in another terminal:");
    match &settings.merged_into {
        Some(_) => progress.say("  kubectl get pods -A"),
        None => progress.say(&format!("  export KUBECONFIG={kubeconfig}; kubectl get pods -A")),
    }
    progress.say("  kubectl create deployment hello --image=tiphys.local/hello:1 --replicas=3 --port=8080");
    progress
        .say("Ctrl-C stops the cluster; its pods keep running, and the next `tiphys up` takes them over.");
}

/// Starts the master; none if a signal came before it was there: its store may be far away, and not answer.
async fn start_master(
    settings: &Settings,
    cluster: &Cluster,
    runs: &dyn Fn(&str) -> bool,
    stop: &Stop,
    progress: &mut Progress,
    ending: &mut Ending,
) -> Result<Option<master::Running>> {
    let started = async {
        let master = master::start(settings, cluster, stop, progress).await?;
        if runs("dns") {
            // Nodes answer at this address; the Service keeps it from being given to another.
            tiphys_dns::ensure_service(&*master.admin(), settings.cluster_dns).await?;
        }
        Ok(Some(master))
    };
    tokio::select! {
        started = started => started,
        () = ending.any() => {
            stop.api.cancel();
            Ok(None)
        }
    }
}

/// Ends everything in order.
async fn finish(
    settings: Settings,
    mut master: master::Running,
    ground: node::Ground,
    stop: Stop,
    ending: &Ending,
    stop_pods: bool,
) -> Result<()> {
    let stop_pods = stop_pods || ending.with_pods;
    if stop_pods {
        ground.shut_down().await;
    }
    stop.components.cancel();
    master.components.ended().await;
    if stop_pods {
        let ended = reset::stop_pods(&settings).await?;
        tracing::info!(ended, "pods ended");
    }
    master.end(&stop).await?;
    ground.end().await
}

/// `tiphys server` and `tiphys apiserver`.
pub async fn server(flags: &Server, how: Master) -> Result<()> {
    let mut ending = Ending::listen(false)?;
    let mut progress = Progress::new();
    logging::start(&flags.logging)?;
    let settings = Settings::new(&flags.cluster, &node::no_node())?;
    kubeconfig::check(&settings)?;
    let _lock = lock::take(&settings.data_dir)?;
    host::check_format(&settings.data_dir)?;
    // Its pods may still run, and only what is saved of it lets a reset find them.
    if Settings::load(&settings.data_dir)?.is_some_and(|before| before.has_node()) {
        let dir = settings.data_dir.display();
        bail!("{dir} holds a node, too; start it with tiphys up, or end it with tiphys reset --yes first");
    }
    settings.save()?;
    let stop = Stop::default();
    let runs =
        |part: &str| how == Master::WithControllers && !flags.cluster.disable.iter().any(|d| d == part);
    let started = start_master(&settings, &flags.cluster, &runs, &stop, &mut progress, &mut ending).await?;
    let Some(mut master) = started else { return Ok(()) };
    master.start_components(&settings, &runs, &stop);
    progress.ready();
    tokio::select! {
        () = ending.any() => {}
        failed = master.components.failed() => return Err(failed),
    }
    progress.stopping();
    stop.components.cancel();
    master.components.ended().await;
    master.end(&stop).await
}

/// `tiphys scheduler` and `tiphys controller-manager`.
pub async fn component(flags: &Component, part: Part) -> Result<()> {
    let mut ending = Ending::listen(false)?;
    logging::start(&flags.logging)?;
    let client = node::remote(&flags.kubeconfig).await?;
    let stop = CancellationToken::new();
    let work: Box<dyn Fn(CancellationToken) -> BoxFuture<'static, Result<()>>> = match part {
        Part::Scheduler => Box::new(master::schedule(client.clone())),
        Part::ControllerManager => Box::new(master::control(controllers(flags, &client)?, client.clone())),
    };
    let mut running = std::pin::pin!(async {
        if !flags.leader_elect {
            return work(stop.clone()).await;
        }
        let identity = unique_identity(&host::node_name());
        let election = Election { name: part.lease(), identity, timing: Timing::SHARED };
        leader::lead(client, election, stop.clone(), &work).await.unwrap_or(Ok(()))
    });
    tokio::select! {
        ended = &mut running => return ended,
        () = ending.any() => stop.cancel(),
    }
    // In order, so that the next in line need not wait; but not for ever.
    tokio::time::timeout(components::END_WITHIN, running).await.unwrap_or(Ok(()))
}

/// Controllers that act as their own service accounts, each with no more rights than its role gives.
fn controllers(flags: &Component, base: &Arc<dyn Client>) -> Result<tiphys_controllers::Config> {
    let (remote, base) = (node::remote_config(&flags.kubeconfig)?, base.clone());
    // What this process trusts is what pods shall trust.
    let root_ca = String::from_utf8_lossy(&remote.ca).into_owned();
    let account =
        move |name: &str| -> Arc<dyn Client> { Arc::new(AccountClient::new(&remote, base.clone(), name)) };
    let identities: Option<tiphys_controllers::Identities> = Some(Arc::new(account));
    Ok(tiphys_controllers::Config { identities, root_ca, ..tiphys_controllers::Config::default() })
}

/// `tiphys agent`, `kubelet`, `proxy` and `dns`: the node's parts against an API server elsewhere.
pub async fn agent(flags: &Agent, parts: &[NodePart]) -> Result<()> {
    let mut ending = Ending::listen(flags.node.stop_pods)?;
    let mut progress = Progress::new();
    logging::start(&flags.logging)?;
    host::require_root("a node")?;
    let identities = node::Identities::remote(&flags.kubeconfig, parts).await?;
    let settings = Settings::of_node(&flags.place, &flags.node)?;
    let kubelet = parts.contains(&NodePart::Kubelet);
    // The kubelet keeps things; proxy and DNS alone may stand beside another process of the same directory.
    let _lock = if kubelet { Some(lock::take(&settings.data_dir)?) } else { None };
    if kubelet {
        host::require_programs(settings.runtime_endpoint.is_none())?;
        host::check_format(&settings.data_dir)?;
        settings.save()?;
    }
    let stop = CancellationToken::new();
    let ground = node::Ground::prepare(&settings, kubelet).await?;
    progress.done("pod network and container runtime ready");
    let mut components = components::Components::default();
    let serving = node::serving(&settings, &flags.serving)?;
    node::start(&settings, &mut components, &identities, serving, &ground, parts, &stop)?;
    progress.ready();
    tokio::select! {
        () = ending.any() => {}
        failed = components.failed() => return Err(failed),
    }
    progress.stopping();
    let stop_pods = flags.node.stop_pods || ending.with_pods;
    if stop_pods && kubelet {
        ground.shut_down().await;
    }
    stop.cancel();
    components.ended().await;
    if stop_pods {
        reset::stop_pods(&settings).await?;
    }
    ground.end().await
}

/// What ends each layer.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Scheduler, controllers, kubelet, proxy, DNS.
    pub components: CancellationToken,
    /// The API server.
    pub api: CancellationToken,
}
