//! The controller manager: every built-in controller, level-triggered over one set of shared informers.
//!
//! - Each controller is a folder or file: a pure `plan` of what to do about a snapshot, and a thin shell that feeds it
//!   from informers and carries it out. Keys come through a [`tiphys_client::WorkQueue`]; there is no periodic resync,
//!   so an idle cluster costs nothing.
//! - Informers are shared by all and hold the API server's own objects when it is in the same process. Writes go out
//!   under each controller's own identity.
//! - Whoever creates or deletes guards itself with [`recent`] against a cache that lags behind its own writes.

mod affinity;
#[cfg(test)]
mod chaos;
mod claim;
mod cluster_roles;
mod context;
mod cronjob;
mod daemonset;
mod deployment;
mod disruption;
mod endpoints;
mod garbage;
mod hash;
mod history;
mod hpa;
mod job;
mod namespace;
mod node;
mod node_ipam;
mod node_ttl;
mod pod_control;
mod pod_gc;
mod pods;
mod policy_types;
mod publish;
mod recent;
mod replicaset;
mod resource_quota;
mod resources;
mod service_cidr;
mod service_lb;
mod service_repair;
mod statefulset;
mod storage;
mod storage_versions;
#[cfg(test)]
mod succession;
mod taints;
#[cfg(test)]
mod testing;
mod tokens;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tiphys_client::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use context::Context;
pub use context::Key;

/// Gives the client of one controller by the name of its service account in `kube-system`, as
/// `replicaset-controller`.
pub type Identities = Arc<dyn Fn(&str) -> Arc<dyn Client> + Send + Sync>;

/// What the controllers need to know.
#[derive(Clone)]
pub struct Config {
    /// Clients by controller; `None` lets all use the one they share.
    pub identities: Option<Identities>,
    /// Controllers that do not run, by their Kubernetes names without `-controller`.
    pub disabled: Vec<String>,
    /// PEM of the CA that pods are to trust, published as the ConfigMap `kube-root-ca.crt`. Empty: not published.
    pub root_ca: String,
    /// Ranges of pod addresses, at most one of a family, of which every node gets a part. Empty: none is handed out.
    pub cluster_cidrs: Vec<String>,
    /// Directory of the nodes below which the built-in provisioner makes volumes, unless a class says another.
    pub local_path: String,
    /// How long a node may be silent before it counts as lost.
    pub node_monitor_grace_period: Duration,
    /// How many ended pods may stay before the oldest are removed; 0 for any number.
    pub terminated_pod_threshold: usize,
    /// How many keys one controller works on at once.
    pub workers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            identities: None,
            disabled: Vec::new(),
            root_ca: String::new(),
            cluster_cidrs: Vec::new(),
            local_path: "/var/lib/tiphys/storage".into(),
            node_monitor_grace_period: Duration::from_secs(50),
            terminated_pod_threshold: 12_500,
            workers: 5,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("disabled", &self.disabled).finish_non_exhaustive()
    }
}

/// Why the controllers stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A controller panicked outside of its reconciliations.
    #[error("controller {0} failed")]
    Failed(String),
}

/// Runs all controllers until `stop` is cancelled. `client` feeds the shared informers.
pub async fn run(config: Config, client: Arc<dyn Client>, stop: CancellationToken) -> Result<(), Error> {
    let context = Context::new(config, client, stop);
    let mut running = JoinSet::new();
    let mut start = |name: &'static str, task: futures::future::BoxFuture<'static, ()>| {
        if !context.config.disabled.iter().any(|disabled| disabled == name) {
            running.spawn(async move {
                task.await;
                name
            });
        }
    };
    start("deployment", Box::pin(deployment::run(context.clone())));
    start("replicaset", Box::pin(replicaset::run(context.clone())));
    start("replicationcontroller", Box::pin(replicaset::run_replication_controllers(context.clone())));
    start("daemonset", Box::pin(daemonset::run(context.clone())));
    start("statefulset", Box::pin(statefulset::run(context.clone())));
    start("job", Box::pin(job::run(context.clone())));
    start("ttl-after-finished", Box::pin(job::ttl::run(context.clone())));
    start("cronjob", Box::pin(cronjob::run(context.clone())));
    start("disruption", Box::pin(disruption::run(context.clone())));
    start("horizontal-pod-autoscaler", Box::pin(hpa::run(context.clone())));
    start("node-ipam", Box::pin(node_ipam::run(context.clone())));
    start("endpointslice", Box::pin(endpoints::run_slices(context.clone())));
    start("endpoint", Box::pin(endpoints::run_endpoints(context.clone())));
    start("endpointslice-mirroring", Box::pin(endpoints::mirror::run(context.clone())));
    start("clusterrole-aggregation", Box::pin(cluster_roles::run(context.clone())));
    start("validatingadmissionpolicy-status", Box::pin(policy_types::run(context.clone())));
    start("serviceaccount-token", Box::pin(tokens::service_account::run(context.clone())));
    start("legacy-serviceaccount-token-cleaner", Box::pin(tokens::legacy::run(context.clone())));
    start("bootstrap-signer", Box::pin(tokens::bootstrap::run_signer(context.clone())));
    start("token-cleaner", Box::pin(tokens::bootstrap::run_cleaner(context.clone())));
    start("serviceaccount", Box::pin(publish::run_service_accounts(context.clone())));
    start("root-ca-certificate-publisher", Box::pin(publish::run_root_ca(context.clone())));
    start("resourcequota", Box::pin(resource_quota::run(context.clone())));
    start("persistentvolume-binder", Box::pin(storage::binder::run(context.clone())));
    start("persistentvolumeclaim-protection", Box::pin(storage::protection::run_claims(context.clone())));
    start("persistentvolume-protection", Box::pin(storage::protection::run_volumes(context.clone())));
    start("persistentvolume-expander", Box::pin(storage::expand::run(context.clone())));
    start("persistentvolume-attach-detach", Box::pin(storage::attach::run(context.clone())));
    start("ephemeral-volume", Box::pin(storage::ephemeral::run(context.clone())));
    start("local-path-provisioner", Box::pin(storage::local_path::run(context.clone())));
    start("namespace", Box::pin(namespace::run(context.clone())));
    start("garbage-collector", Box::pin(garbage::run(context.clone())));
    start("node-lifecycle", Box::pin(node::run(context.clone())));
    start("ttl", Box::pin(node_ttl::run(context.clone())));
    start("service-cidr", Box::pin(service_cidr::run_ranges(context.clone())));
    start("service-address", Box::pin(service_cidr::run_addresses(context.clone())));
    start("service-repair", Box::pin(service_repair::run(context.clone())));
    start("storage-version-garbage-collector", Box::pin(storage_versions::run(context.clone())));
    start("service-lb", Box::pin(service_lb::run(context.clone())));
    start("taint-eviction", Box::pin(node::evict::run(context.clone())));
    start("pod-garbage-collector", Box::pin(pod_gc::run(context.clone())));
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok(name) => tracing::debug!(controller = name, "stopped"),
            Err(error) => return Err(Error::Failed(error.to_string())),
        }
    }
    Ok(())
}
