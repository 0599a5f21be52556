//! kube-proxy: Services reach pods by packet rules that the kernel applies; no packet passes through this process.
//!
//! - Follows Services and EndpointSlices by informers; a change marks the picture dirty, one task makes the rules follow.
//!   Changes that come while it works are one change for the next round.
//! - [`model`] reads objects, [`rules`] renders every chain, [`apply`] writes what differs, in one `iptables-restore`.
//! - Chains are this instance's own ([`rules::Names`]). What a killed process left is found at the start and mended.

pub mod apply;
pub mod model;
pub mod rules;

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tiphys_api::{Gvr, Object};
use tiphys_client::{Client, Informer, Informers, typed};
use tiphys_network::command::{self, Jump};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use model::Port;
use rules::{Chains, Names, Node};

const SERVICES: Gvr = Gvr::new("", "v1", "services");
const SLICES: Gvr = Gvr::new("discovery.k8s.io", "v1", "endpointslices");
/// Label that says which Service a slice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label of Services that another proxy serves.
const FOREIGN: &str = "service.kubernetes.io/service-proxy-name";
/// Pause after rules could not be written, before the next try.
const RETRY: Duration = Duration::from_secs(1);

/// What the proxy is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Tells this cluster's chains from others'; the bridge's name.
    pub instance: String,
    /// Name of this node.
    pub node_name: String,
    /// Range of all pods.
    pub cluster_cidr: String,
    /// Cluster addresses that this node answers itself, as cluster DNS.
    pub answered_here: BTreeSet<Ipv4Addr>,
}

/// Runs until `stop` is cancelled. Rules stay when it ends: Services go on answering.
pub async fn run(
    config: Config,
    client: Arc<dyn Client>,
    stop: CancellationToken,
) -> Result<(), command::Error> {
    let informers = Informers::new(client);
    let (services, slices) = (informers.of(&SERVICES), informers.of(&SLICES));
    let picture = Arc::new(Picture::default());
    services.synced().await;
    slices.synced().await;
    picture.clone().follow(&services);
    picture.clone().follow(&slices);
    let mut proxy = Proxy::start(config).await?;
    loop {
        let ports = ports(&services, &slices, &proxy.config.node_name);
        let again = match proxy.sync(&ports).await {
            Ok(()) => Duration::MAX,
            Err(error) => {
                tracing::error!(%error, "cannot write the Services' rules; trying again");
                RETRY
            }
        };
        tokio::select! {
            () = picture.changed.notified() => {}
            () = tokio::time::sleep(again) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Takes every rule of an instance away; what is not there is no error.
pub async fn cleanup(instance: &str) -> Result<(), command::Error> {
    let names = Names::new(instance);
    for jump in jumps(&names) {
        jump.remove().await?;
    }
    let have = left_behind(&names).await?;
    let text = apply::difference(&have, &Chains::new());
    if text.is_empty() { Ok(()) } else { command::iptables_restore(&text).await }
}

/// Says that something changed.
#[derive(Default)]
struct Picture {
    changed: Notify,
}

impl Picture {
    fn follow(self: Arc<Self>, informer: &Informer) {
        informer.on_change(Box::new(move |_, _| self.changed.notify_one()));
    }
}

struct Proxy {
    config: Config,
    names: Names,
    node: Node,
    written: Chains,
}

impl Proxy {
    async fn start(config: Config) -> Result<Self, command::Error> {
        let names = Names::new(&config.instance);
        let node =
            Node { cluster_cidr: config.cluster_cidr.clone(), answered_here: config.answered_here.clone() };
        let written = left_behind(&names).await?;
        let mut proxy = Self { config, names, node, written };
        // The chains must be there before a jump can lead to them.
        let fixed = rules::render(&[], &proxy.node, &proxy.names);
        let first = proxy.written.keys().all(|key| !fixed.contains_key(key));
        if first {
            proxy.write(fixed).await?;
        }
        for jump in jumps(&proxy.names) {
            jump.ensure().await?;
        }
        Ok(proxy)
    }

    async fn sync(&mut self, ports: &[Port]) -> Result<(), command::Error> {
        let want = rules::render(ports, &self.node, &self.names);
        self.write(want).await
    }

    async fn write(&mut self, want: Chains) -> Result<(), command::Error> {
        let text = apply::difference(&self.written, &want);
        if !text.is_empty() {
            command::iptables_restore(&text).await?;
        }
        self.written = want;
        Ok(())
    }
}

/// Our chains that are there already, their rules unknown: whatever they hold, they differ from what is wanted.
async fn left_behind(names: &Names) -> Result<Chains, command::Error> {
    let saved = command::iptables_save().await?;
    let unknown = || vec!["unknown".to_owned()];
    Ok(apply::present(&saved, &names.prefix()).into_iter().map(|key| (key, unknown())).collect())
}

fn jumps(names: &Names) -> [Jump; 7] {
    let jump = |table, chain, role: &str, new: bool| {
        let mut rule: Vec<String> =
            ["-m", "comment", "--comment", "tiphys Services"].map(String::from).into();
        if new {
            rule.extend(["-m", "conntrack", "--ctstate", "NEW"].map(String::from));
        }
        rule.extend(["-j".to_owned(), names.chain(role)]);
        Jump { table, chain, rule }
    };
    [
        jump("nat", "PREROUTING", "SERVICES", false),
        jump("nat", "OUTPUT", "SERVICES", false),
        jump("nat", "POSTROUTING", "MASQ", false),
        jump("filter", "FORWARD", "REJECT", true),
        jump("filter", "OUTPUT", "REJECT", true),
        jump("filter", "INPUT", "REJECT", true),
        jump("filter", "INPUT", "LOCAL", false),
    ]
}

/// Every port of every Service that is ours to serve.
fn ports(services: &Informer, slices: &Informer, node: &str) -> Vec<Port> {
    let mut by_service: HashMap<(String, String), Vec<EndpointSlice>> = HashMap::new();
    for slice in slices.list("") {
        let Some(service) = slice.meta().labels.get(SERVICE_NAME).map(str::to_owned) else { continue };
        if let Some(decoded) = decode(&slice) {
            by_service.entry((slice.meta().namespace.to_string(), service)).or_default().push(decoded);
        }
    }
    let mut all = Vec::new();
    for service in services.list("") {
        let meta = service.meta();
        if meta.labels.get(FOREIGN).is_some() {
            continue;
        }
        let own = by_service.remove(&(meta.namespace.to_string(), meta.name.to_string())).unwrap_or_default();
        if let Some(decoded) = decode::<Service>(&service) {
            all.extend(model::ports(&decoded, &own, node));
        }
    }
    all
}

fn decode<T: typed::Kind>(object: &Object) -> Option<T> {
    typed::decode(object)
        .inspect_err(|error| tracing::warn!(%error, object = object.meta().key(), "unreadable object"))
        .ok()
}

#[cfg(test)]
mod tests;
