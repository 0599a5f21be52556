//! The node's status: addresses, resources, conditions, images, in Kubernetes' words.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus,
    NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tiphys_runtime::{Condition, Image};

use super::machine::Machine;
use crate::Config;
use crate::context::Context;

/// The most images told, the largest first.
const IMAGES_MAX: usize = 50;

/// What was asked of the runtime.
pub(super) struct Findings {
    version: String,
    images: Vec<Image>,
    /// Why the node is not ready; `None`: it is.
    pub(super) complaint: Option<String>,
}

/// Asks the runtime.
pub(super) async fn find(ctx: &Context) -> Findings {
    let runtime = &ctx.runtime;
    let version = match runtime.version().await {
        Ok(version) => format!("{}://{}", version.name, version.version),
        Err(_) => String::new(),
    };
    let complaint = match runtime.status().await {
        Err(error) => Some(format!("container runtime is down: {error}")),
        Ok(conditions) => conditions.iter().find_map(complaint),
    };
    Findings { version, images: runtime.list_images().await.unwrap_or_default(), complaint }
}

fn complaint(condition: &Condition) -> Option<String> {
    let what = match condition.kind.as_str() {
        "RuntimeReady" => "container runtime not ready: RuntimeReady",
        "NetworkReady" => "container runtime network not ready: NetworkReady",
        _ => return None,
    };
    let said = format!("reason:{} message:{}", condition.reason, condition.message);
    (!condition.ok).then(|| format!("{what}=false {said}"))
}

pub(super) fn status(
    ctx: &Context,
    machine: &Machine,
    findings: &Findings,
    known: &NodeStatus,
    now: Timestamp,
) -> NodeStatus {
    let resources: BTreeMap<String, Quantity> =
        resources(&ctx.config, machine).into_iter().map(|(key, value)| (key, Quantity(value))).collect();
    let address = |kind: &str, address: String| NodeAddress { type_: kind.into(), address };
    NodeStatus {
        addresses: Some(vec![
            address("InternalIP", ctx.config.node_ip.to_string()),
            address("Hostname", ctx.config.node_name.clone()),
        ]),
        allocatable: Some(resources.clone()),
        capacity: Some(resources),
        conditions: Some(conditions(findings, known, now)),
        daemon_endpoints: ctx.config.server.as_ref().map(|server| NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: server.port.into() }),
        }),
        images: Some(images(&findings.images)),
        node_info: Some(info(ctx, machine, findings)),
        ..NodeStatus::default()
    }
}

/// Capacity by resource, as quantities.
pub(super) fn resources(config: &Config, machine: &Machine) -> BTreeMap<String, String> {
    let mut resources = BTreeMap::from([
        ("cpu".to_owned(), machine.cpus.to_string()),
        ("memory".to_owned(), format!("{}Ki", machine.memory / 1024)),
        ("ephemeral-storage".to_owned(), format!("{}Ki", machine.storage / 1024)),
        ("pods".to_owned(), config.max_pods.to_string()),
    ]);
    for (size, bytes) in &machine.hugepages {
        resources.insert(format!("hugepages-{size}"), bytes.to_string());
    }
    resources
}

fn conditions(findings: &Findings, known: &NodeStatus, now: Timestamp) -> Vec<NodeCondition> {
    let condition = |kind: &str, ok: bool, reason: &str, message: &str| {
        let status = if ok { "True" } else { "False" };
        let before = known.conditions.iter().flatten().find(|c| c.type_ == kind && c.status == status);
        let now = Time(crate::status::whole_seconds(now));
        NodeCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_heartbeat_time: Some(now.clone()),
            last_transition_time: Some(before.and_then(|c| c.last_transition_time.clone()).unwrap_or(now)),
        }
    };
    let (memory, disk, pids) =
        ("KubeletHasSufficientMemory", "KubeletHasNoDiskPressure", "KubeletHasSufficientPID");
    vec![
        condition("MemoryPressure", false, memory, "kubelet has sufficient memory available"),
        condition("DiskPressure", false, disk, "kubelet has no disk pressure"),
        condition("PIDPressure", false, pids, "kubelet has sufficient PID available"),
        match &findings.complaint {
            None => condition("Ready", true, "KubeletReady", "kubelet is posting ready status"),
            Some(why) => condition("Ready", false, "KubeletNotReady", why),
        },
    ]
}

fn images(images: &[Image]) -> Vec<ContainerImage> {
    let mut images: Vec<&Image> = images.iter().collect();
    images.sort_by_key(|image| (std::cmp::Reverse(image.size), image.id.clone()));
    let told = |image: &Image| ContainerImage {
        names: Some(image.digests.iter().chain(&image.tags).take(5).cloned().collect()),
        size_bytes: i64::try_from(image.size).ok(),
    };
    images.into_iter().take(IMAGES_MAX).map(told).collect()
}

fn info(ctx: &Context, machine: &Machine, findings: &Findings) -> NodeSystemInfo {
    NodeSystemInfo {
        architecture: machine.architecture.clone(),
        boot_id: machine.boot_id.clone(),
        container_runtime_version: findings.version.clone(),
        kernel_version: machine.kernel.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: ctx.config.version.clone(),
        machine_id: machine.machine_id.clone(),
        operating_system: "linux".into(),
        os_image: machine.os.clone(),
        swap: None,
        system_uuid: machine.system_uuid.clone(),
    }
}

/// Whether two statuses say the same, heartbeats aside.
pub(super) fn same(old: &NodeStatus, new: &NodeStatus) -> bool {
    let still = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    still(old) == still(new)
}
