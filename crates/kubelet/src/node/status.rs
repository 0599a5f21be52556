//! The node's status: addresses, resources, conditions, images, in Kubernetes' words.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeRuntimeHandler,
    NodeRuntimeHandlerFeatures, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tiphys_api::quantity::{Format, Quantity as Amount};
use tiphys_runtime::{Condition, Image};

use super::machine::Machine;
use crate::configuration::Settings;
use crate::context::Context;
use crate::eviction::{Pressure, Signal};

/// The most images told, the largest first.
const IMAGES_MAX: usize = 50;

/// Reason and message of a pressure, met and not.
type Words = [(&'static str, &'static str); 2];

const MEMORY: Words = [
    ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
    ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
];
const DISK: Words = [
    ("KubeletHasDiskPressure", "kubelet has disk pressure"),
    ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
];
const PROCESSES: Words = [
    ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
    ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
];

/// What was asked of the runtime.
pub(super) struct Findings {
    version: String,
    images: Vec<Image>,
    /// Why the node is not ready; `None`: it is.
    pub(super) complaint: Option<String>,
    /// What it runs short of.
    pub(super) pressures: BTreeSet<Pressure>,
}

/// Asks the runtime.
pub(super) async fn find(ctx: &Context, pressures: BTreeSet<Pressure>) -> Findings {
    let runtime = &ctx.runtime;
    let version = match runtime.version().await {
        Ok(version) => format!("{}://{}", version.name, version.version),
        Err(_) => String::new(),
    };
    let complaint = match runtime.status().await {
        Err(error) => Some(format!("container runtime is down: {error}")),
        Ok(conditions) => conditions.iter().find_map(complaint),
    };
    let shuts_down = ctx.now.lock().shuts_down;
    let complaint = complaint.or_else(|| shuts_down.then(|| "node is shutting down".to_owned()));
    Findings { version, images: runtime.list_images().await.unwrap_or_default(), complaint, pressures }
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

pub(super) fn status(ctx: &Context, findings: &Findings, known: &NodeStatus, now: Timestamp) -> NodeStatus {
    let machine = &ctx.machine;
    let capacity = capacity(&ctx.config.settings, machine);
    let allocatable = allocatable(&ctx.config.settings, machine);
    let quantities = |resources: BTreeMap<String, String>| -> BTreeMap<String, Quantity> {
        resources.into_iter().map(|(key, value)| (key, Quantity(value))).collect()
    };
    let address = |kind: &str, address: String| NodeAddress { type_: kind.into(), address };
    NodeStatus {
        addresses: Some(vec![
            address("InternalIP", ctx.config.node_ip.to_string()),
            address("Hostname", ctx.config.node_name.clone()),
        ]),
        allocatable: Some(quantities(allocatable)),
        capacity: Some(quantities(capacity)),
        conditions: Some(conditions(findings, known, now)),
        daemon_endpoints: ctx.config.server.as_ref().map(|server| NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: server.port.into() }),
        }),
        images: Some(images(&findings.images)),
        node_info: Some(info(ctx, findings)),
        runtime_handlers: Some(vec![default_handler()]),
        ..NodeStatus::default()
    }
}

/// What containers of pods without a runtime class can have. Mounts are closed by this kubelet, not by the runtime.
fn default_handler() -> NodeRuntimeHandler {
    let features =
        NodeRuntimeHandlerFeatures { recursive_read_only_mounts: Some(true), user_namespaces: Some(false) };
    NodeRuntimeHandler { name: Some(String::new()), features: Some(features) }
}

/// Capacity by resource, as quantities.
pub(super) fn capacity(settings: &Settings, machine: &Machine) -> BTreeMap<String, String> {
    let mut resources = BTreeMap::from([
        ("cpu".to_owned(), machine.cpus.to_string()),
        ("memory".to_owned(), format!("{}Ki", machine.memory / 1024)),
        ("ephemeral-storage".to_owned(), format!("{}Ki", machine.storage / 1024)),
        ("pods".to_owned(), settings.max_pods.to_string()),
    ]);
    for (size, bytes) in &machine.hugepages {
        resources.insert(format!("hugepages-{size}"), bytes.to_string());
    }
    resources
}

/// What pods may have of it: without what is reserved, and without what evictions keep free.
pub(super) fn allocatable(settings: &Settings, machine: &Machine) -> BTreeMap<String, String> {
    let mut resources = capacity(settings, machine);
    for (name, text) in &mut resources {
        let kept =
            |list: &BTreeMap<String, String>| list.get(name.as_str()).and_then(|text| text.parse().ok());
        let mut left: Amount = match text.parse() {
            Ok(quantity) => quantity,
            Err(_) => continue,
        };
        for reserved in [kept(&settings.kube_reserved), kept(&settings.system_reserved)].into_iter().flatten()
        {
            left = left - reserved;
        }
        let signal = match name.as_str() {
            "memory" => Some((Signal::Memory, machine.memory)),
            "ephemeral-storage" => Some((Signal::NodeDisk, machine.storage)),
            _ => None,
        };
        let free = signal.and_then(|(signal, all)| {
            let amount = settings.eviction_hard.get(signal)?;
            i64::try_from(amount.of(u64::try_from(all).ok()?)).ok()
        });
        if let Some(free) = free {
            left = left - Amount::from_units(free, Format::BinarySi);
        }
        if left.sign() < 0 {
            left = Amount::from_units(0, left.format());
        }
        *text = left.to_string();
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
    let pressure = |kind: Pressure, [bad, good]: [(&str, &str); 2]| {
        let met = findings.pressures.contains(&kind);
        let (reason, message) = if met { bad } else { good };
        condition(kind.name(), met, reason, message)
    };
    vec![
        pressure(Pressure::Memory, MEMORY),
        pressure(Pressure::Disk, DISK),
        pressure(Pressure::Processes, PROCESSES),
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

fn info(ctx: &Context, findings: &Findings) -> NodeSystemInfo {
    let machine = &ctx.machine;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_may_have_what_is_not_reserved() {
        let machine = Machine { cpus: 4, memory: 8 << 30, storage: 100 << 30, ..Machine::default() };
        let settings = Settings {
            kube_reserved: [("cpu".to_owned(), "250m".to_owned()), ("memory".to_owned(), "1Gi".to_owned())]
                .into(),
            system_reserved: [("cpu".to_owned(), "250m".to_owned())].into(),
            ..Settings::default()
        };
        let may = allocatable(&settings, &machine);
        // 8 Gi - 1 Gi - 100 Mi
        assert_eq!(
            (may["cpu"].as_str(), may["memory"].as_str(), may["pods"].as_str()),
            ("3500m", "7068Mi", "110")
        );
        assert_eq!(may["ephemeral-storage"], "90Gi");
        assert_eq!(capacity(&settings, &machine)["memory"], "8388608Ki");
        let all = Settings { system_reserved: [("cpu".to_owned(), "9".to_owned())].into(), ..settings };
        assert_eq!(allocatable(&all, &machine)["cpu"], "0");
    }
}
