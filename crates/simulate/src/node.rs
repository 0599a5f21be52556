//! The nodes: registered, made Ready, and kept alive by their leases.
//!
//! One timer serves all nodes in turn, so that a thousand heartbeats are a steady trickle and never a burst.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use serde::Deserialize;
use tiphys_api::{Object, Status, Value, json};
use tiphys_client::typed::Kind;
use tiphys_client::{Client, Informer, PatchKind, Target, WriteOptions};
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;

use crate::Config;

const LEASE_NAMESPACE: &str = "kube-node-lease";
const LEASE_SECONDS: u32 = 40;
/// Between two renewals of a node's lease.
const RENEW: Duration = Duration::from_secs(10);
/// Every so many renewals a node repeats its status: each five minutes.
const REPORT_EVERY: usize = 30;
/// Renewals under way at once; when the server is slower, heartbeats are late, as real ones would be.
const AT_ONCE: usize = 64;

/// A taint, written `key=value:Effect` or `key:Effect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    key: String,
    value: String,
    effect: String,
}

/// A text that is no taint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no taint such as key=value:NoSchedule")]
pub struct ParseTaintError(String);

impl FromStr for Taint {
    type Err = ParseTaintError;

    fn from_str(text: &str) -> Result<Self, ParseTaintError> {
        let wrong = || ParseTaintError(text.to_owned());
        let (pair, effect) = text.rsplit_once(':').ok_or_else(wrong)?;
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect);
        match known && !key.is_empty() {
            true => Ok(Self { key: key.into(), value: value.into(), effect: effect.into() }),
            false => Err(wrong()),
        }
    }
}

/// Address of a node. Nothing listens there.
pub(crate) fn address(index: usize) -> String {
    let [_, b, c, d] = u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes();
    format!("10.{}.{c}.{d}", 64 | (b & 0x3f))
}

/// Makes the Node object, says that it is Ready, and takes its first lease.
pub(crate) async fn register(
    client: &Arc<dyn Client>,
    config: &Config,
    names: &[Box<str>],
    index: usize,
) -> Result<(), Status> {
    let Some(name) = names.get(index) else { return Ok(()) };
    let (target, options) = (Target::new(&Node::GVR, "", name), WriteOptions::default());
    let created = client.create(&target, object(config, name, index).to_string().into(), &options).await;
    if let Err(status) = created
        && !status.is("AlreadyExists")
    {
        return Err(status);
    }
    report(client, config, name, index, true).await?;
    renew(client, name).await
}

/// Whether a node's object says what we last said: the node controller writes there, too, when a heartbeat is late.
fn says_ready(node: &Object) -> bool {
    #[derive(Deserialize)]
    struct View {
        status: Option<Status>,
    }
    #[derive(Deserialize)]
    struct Status {
        conditions: Option<Vec<Condition>>,
    }
    #[derive(Deserialize)]
    struct Condition {
        r#type: String,
        status: String,
    }
    let conditions = node.decode::<View>().ok().and_then(|view| view.status?.conditions);
    conditions.into_iter().flatten().any(|c| c.r#type == "Ready" && c.status == "True")
}

/// Keeps all nodes alive, one after the other, for ever.
pub(crate) async fn beat(
    client: &Arc<dyn Client>,
    config: &Arc<Config>,
    names: &Arc<[Box<str>]>,
    nodes: &Arc<Informer>,
) {
    nodes.synced().await;
    let Some(count) = u32::try_from(names.len()).ok().filter(|count| *count > 0) else {
        return std::future::pending().await;
    };
    let mut ticks = tokio::time::interval(RENEW / count);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    for turn in 0_usize.. {
        ticks.tick().await;
        let (index, round) = (turn % names.len(), turn / names.len());
        let Some(name) = names.get(index).cloned() else { continue };
        let Some(node) = nodes.get("", &name) else { continue };
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (client, config) = (client.clone(), config.clone());
        tokio::spawn(async move {
            // The nodes' reports are spread over their rounds, too.
            let fresh = !says_ready(&node);
            let reports = fresh || (round > 0 && (round + index) % REPORT_EVERY == 0);
            let reported = if reports { report(&client, &config, &name, index, fresh).await } else { Ok(()) };
            if let Err(status) = reported.and(renew(&client, &name).await) {
                tracing::warn!(node = %name, %status, "a heartbeat failed");
            }
            drop(place);
        });
    }
}

/// Writes the status; `fresh` says that its conditions are news.
async fn report(
    client: &Arc<dyn Client>,
    config: &Config,
    name: &str,
    index: usize,
    fresh: bool,
) -> Result<(), Status> {
    let patch = json!({"status": status(config, name, index, Timestamp::now(), fresh)});
    let target = Target::new(&Node::GVR, "", name).sub("status");
    client
        .patch(&target, PatchKind::Strategic, patch.to_string().into(), &WriteOptions::default())
        .await
        .map(drop)
}

async fn renew(client: &Arc<dyn Client>, name: &str) -> Result<(), Status> {
    let now = micros(Timestamp::now());
    let (target, options) = (Target::new(&Lease::GVR, LEASE_NAMESPACE, name), WriteOptions::default());
    let patch = json!({"spec": {"renewTime": now}}).to_string();
    match client.patch(&target, PatchKind::Merge, patch.into(), &options).await {
        Err(status) if status.is("NotFound") => {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": name, "namespace": LEASE_NAMESPACE},
                "spec": {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now},
            });
            client.create(&target, lease.to_string().into(), &options).await.map(drop)
        }
        other => other.map(drop),
    }
}

fn micros(now: Timestamp) -> String {
    DateTimePrinter::new().precision(Some(6)).timestamp_to_string(&now)
}

/// A time as objects hold it.
pub(crate) fn seconds(now: Timestamp) -> String {
    DateTimePrinter::new().precision(Some(0)).timestamp_to_string(&now)
}

fn object(config: &Config, name: &str, index: usize) -> Value {
    let mut labels = json!({
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": arch(),
        "tiphys.io/simulated": "true",
    });
    if config.zones > 0 {
        let zone = index % config.zones as usize;
        labels["topology.kubernetes.io/zone"] = format!("zone-{zone}").into();
        labels["topology.kubernetes.io/region"] = "simulated".into();
    }
    for (key, value) in &config.labels {
        labels[key] = value.as_str().into();
    }
    let taint = |t: &Taint| json!({"key": t.key, "value": t.value, "effect": t.effect});
    let taints: Vec<Value> = config.taints.iter().map(taint).collect();
    let annotations = json!({"tiphys.io/simulated-by": "tiphys simulate"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": if taints.is_empty() { json!({}) } else { json!({"taints": taints}) },
    })
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn status(config: &Config, name: &str, index: usize, now: Timestamp, fresh: bool) -> Value {
    let now = seconds(now);
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        let mut condition = json!({
            "type": kind, "status": status, "reason": reason, "message": message, "lastHeartbeatTime": now,
        });
        if fresh {
            condition["lastTransitionTime"] = now.as_str().into();
        }
        condition
    };
    let resources = json!({
        "cpu": config.cpu, "memory": config.memory, "pods": config.pods.to_string(), "ephemeral-storage": "1Ti",
    });
    json!({
        "addresses": [{"type": "InternalIP", "address": address(index)}, {"type": "Hostname", "address": name}],
        "capacity": resources,
        "allocatable": resources,
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        ],
        "nodeInfo": {
            "architecture": arch(), "bootID": "", "containerRuntimeVersion": "simulated://1", "kernelVersion": "",
            "kubeProxyVersion": "", "kubeletVersion": config.version, "machineID": name, "operatingSystem": "linux",
            "osImage": "simulated", "systemUUID": name,
        },
    })
}
