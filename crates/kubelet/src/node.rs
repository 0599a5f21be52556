//! The node's own object: registered with what the machine has, kept up to date, its lease renewed.
//!
//! - The lease is renewed every ten seconds; the status is written when it changes, else every five minutes.
//! - Until the runtime and its network are ready they are asked often, so that the node is Ready at once.
//! - With each look at the runtime goes one at what the node runs short of ([`crate::eviction`]) and at what piled up ([`crate::gc`]):
//!   the node wakes up once for both.

pub(crate) mod machine;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use serde_json::json;
use tiphys_api::Status;
use tiphys_client::typed::Kind;
use tiphys_client::{Api, PatchKind};
use tokio::sync::watch;

use crate::Config;
use crate::context::Context;
use crate::eviction::Pressure;
use crate::eviction::monitor::Monitor;
use crate::gc::images::Images;
use crate::manager::Manager;
use machine::Machine;

const LEASE_NAMESPACE: &str = "kube-node-lease";
const LEASE_SECONDS: i32 = 40;
const RENEW: Duration = Duration::from_secs(10);
/// After something was done about a shortage.
const AGAIN: Duration = Duration::from_secs(1);
const NOT_READY: Duration = Duration::from_millis(250);
const REPORT_SECONDS: i64 = 300;

/// What pods without limits may use, by resource.
pub(crate) fn allocatable(config: &Config, machine: &Machine) -> BTreeMap<String, String> {
    status::allocatable(&config.settings, machine)
}

/// Keeps the node's object and its lease until the process ends.
///
/// Two loops: the lease says that the kubelet lives, so it waits neither for a runtime that does not answer nor for the removal
/// of images.
pub(crate) async fn run(manager: Arc<Manager>) {
    let (tell, registered) = watch::channel(None);
    let ctx = manager.context();
    tokio::join!(keep(Keeper::new(manager, tell)), renew(&ctx, registered));
}

/// Renews the lease, once the node is registered.
async fn renew(ctx: &Context, mut registered: watch::Receiver<Option<Node>>) {
    loop {
        let Ok(node) = registered.wait_for(Option::is_some).await.map(|node| node.clone()) else { return };
        let pause = match renew_once(ctx, node.as_ref()).await {
            Ok(()) => RENEW,
            Err(status) => {
                tracing::warn!(%status, "cannot renew the node's lease");
                NOT_READY * 4
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn keep(mut keeper: Keeper) {
    loop {
        let acted = keeper.housekeep().await;
        let pause = match keeper.beat().await {
            Ok(()) if keeper.ready && acted => AGAIN,
            Ok(()) if keeper.ready => RENEW,
            Ok(()) => NOT_READY,
            Err(status) => {
                tracing::warn!(%status, "cannot keep the node's object up to date");
                NOT_READY * 4
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = keeper.ctx.hurry.notified() => {}
        }
    }
}

struct Keeper {
    ctx: Arc<Context>,
    manager: Arc<Manager>,
    /// Tells the node, once it is there.
    registered: watch::Sender<Option<Node>>,
    monitor: Monitor,
    images: Images,
    pressures: BTreeSet<Pressure>,
    housekept: Option<Instant>,
    node: Option<Node>,
    reported: Option<(NodeStatus, Timestamp)>,
    ready: bool,
    /// The range of pod addresses that the runtime was told.
    pod_cidr: Option<String>,
}

impl Keeper {
    fn new(manager: Arc<Manager>, registered: watch::Sender<Option<Node>>) -> Self {
        Self {
            ctx: manager.context(),
            manager,
            registered,
            monitor: Monitor::default(),
            images: Images::default(),
            pressures: BTreeSet::new(),
            housekept: None,
            node: None,
            reported: None,
            ready: false,
            pod_cidr: None,
        }
    }

    /// Looks at what is short and at what piled up. Whether pods were ended, so that there is more to see soon.
    async fn housekeep(&mut self) -> bool {
        // A node that is not ready yet beats much faster than anything here changes.
        if self.housekept.is_some_and(|at| at.elapsed() < AGAIN) {
            return false;
        }
        self.housekept = Some(Instant::now());
        let now = Timestamp::now();
        let look = Box::pin(self.monitor.look(&self.manager, &mut self.images, now)).await;
        self.ctx.now.lock().pressures.clone_from(&look.pressures);
        self.pressures = look.pressures;
        Box::pin(self.images.look(&self.ctx, now)).await;
        Box::pin(crate::gc::logs::look(&self.ctx)).await;
        look.acted
    }

    async fn beat(&mut self) -> Result<(), Status> {
        if self.node.is_none() {
            self.node = Some(self.register().await?);
        }
        self.report().await?;
        self.registered.send_replace(self.node.clone());
        self.pass_on_range().await;
        Ok(())
    }

    /// Tells the runtime the range of the pods' addresses, once the node's object has it. A runtime whose network is
    /// configured by files does not need it.
    async fn pass_on_range(&mut self) {
        let range = self.node.as_ref().and_then(|node| node.spec.as_ref()?.pod_cidr.clone());
        let Some(range) = range.filter(|range| !range.is_empty() && self.pod_cidr.as_ref() != Some(range))
        else {
            return;
        };
        match self.ctx.runtime.set_pod_cidr(&range).await {
            Ok(()) => self.pod_cidr = Some(range),
            Err(error) => {
                tracing::warn!(%error, "the runtime does not take the range of the pods' addresses")
            }
        }
    }

    fn nodes(&self) -> Api<Node> {
        Api::new(self.ctx.client.clone(), "")
    }

    async fn register(&self) -> Result<Node, Status> {
        let config = &self.ctx.config;
        let labels = labels(config, &self.ctx.machine);
        let node = Node {
            metadata: ObjectMeta {
                name: Some(config.node_name.clone()),
                labels: Some(labels.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec {
                taints: (!config.taints.is_empty()).then(|| config.taints.clone()),
                ..NodeSpec::default()
            }),
            status: None,
        };
        match self.nodes().create(&node).await {
            Err(status) if status.is("AlreadyExists") => {
                let patch = json!({"metadata": {"labels": labels}});
                self.nodes().patch(&config.node_name, PatchKind::Strategic, &patch).await
            }
            other => other,
        }
    }

    async fn report(&mut self) -> Result<(), Status> {
        let now = Timestamp::now();
        let findings = status::find(&self.ctx, self.pressures.clone()).await;
        self.ready = findings.complaint.is_none();
        let known = self.reported.as_ref().map(|(status, _)| status.clone());
        let known =
            known.or_else(|| self.node.as_ref().and_then(|node| node.status.clone())).unwrap_or_default();
        let new = status::status(&self.ctx, &findings, &known, now);
        let fresh =
            self.reported.as_ref().is_some_and(|(_, at)| now.as_second() - at.as_second() < REPORT_SECONDS);
        if fresh && status::same(&known, &new) {
            return Ok(());
        }
        let patch = json!({"status": new});
        let name = &self.ctx.config.node_name;
        match self.nodes().patch_status(name, PatchKind::Strategic, &patch).await {
            Ok(node) => self.node = Some(node),
            Err(status) => {
                // Somebody removed it: it is registered again.
                self.node = None;
                return Err(status);
            }
        }
        if self.reported.is_none() {
            tracing::info!(node = name, "the node is registered");
        }
        self.reported = Some((new, now));
        Ok(())
    }
}

async fn renew_once(ctx: &Context, node: Option<&Node>) -> Result<(), Status> {
    let name = &ctx.config.node_name;
    let leases = Api::<Lease>::new(ctx.client.clone(), LEASE_NAMESPACE);
    let renewed = json!({"spec": {"renewTime": MicroTime(Timestamp::now())}});
    match leases.patch(name, PatchKind::Merge, &renewed).await {
        Err(status) if status.is("NotFound") => leases.create(&lease(name, node)).await.map(drop),
        other => other.map(drop),
    }
}

fn lease(name: &str, node: Option<&Node>) -> Lease {
    let owner = node.map(|node| OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: name.to_owned(),
        uid: node.uid().to_owned(),
        ..OwnerReference::default()
    });
    Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(LEASE_NAMESPACE.into()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(name.to_owned()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        }),
    }
}

/// The labels that a node registers with.
pub(crate) fn labels(config: &Config, machine: &Machine) -> BTreeMap<String, String> {
    let usual = [
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", machine.architecture.as_str()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", machine.architecture.as_str()),
    ];
    let usual = usual.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    usual.chain(config.labels.clone()).collect()
}
