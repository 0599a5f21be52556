//! Questions about a pod's spec, answered without looking at anything else.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;
use tiphys_client::typed::Kind;

/// When a container is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// Quality of service, which decides cgroup parents and out-of-memory scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// Which list of the spec a container is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Init,
    /// An init container that keeps running.
    Sidecar,
    App,
}

static NO_SPEC: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);

pub(crate) fn spec(pod: &Pod) -> &PodSpec {
    pod.spec.as_ref().unwrap_or(&NO_SPEC)
}

pub(crate) fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

pub(crate) fn app_containers(pod: &Pod) -> &[Container] {
    &spec(pod).containers
}

/// Kernel parameters that the pod asks for, by their names with dots: they may also be written as paths.
pub(crate) fn sysctls(pod: &Pod) -> impl Iterator<Item = (String, String)> {
    let context = spec(pod).security_context.as_ref();
    let list = context.and_then(|context| context.sysctls.as_deref()).unwrap_or_default();
    list.iter().map(|sysctl| (dotted(&sysctl.name), sysctl.value.clone()))
}

/// What the first separator is tells how a name is written.
fn dotted(name: &str) -> String {
    if name.chars().find(|char| matches!(char, '.' | '/')) != Some('/') {
        return name.to_owned();
    }
    let swap = |char| match char {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    name.chars().map(swap).collect()
}

/// Init containers first, then the others.
pub(crate) fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    init_containers(pod).iter().chain(app_containers(pod))
}

pub(crate) fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    containers(pod).find(|c| c.name == name)
}

pub(crate) fn role(pod: &Pod, name: &str) -> Role {
    match init_containers(pod).iter().find(|c| c.name == name) {
        Some(c) if is_sidecar(c) => Role::Sidecar,
        Some(_) => Role::Init,
        None => Role::App,
    }
}

pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

pub(crate) fn restart_policy(pod: &Pod) -> RestartPolicy {
    policy(spec(pod).restart_policy.as_deref())
}

fn policy(text: Option<&str>) -> RestartPolicy {
    match text {
        Some("Never") => RestartPolicy::Never,
        Some("OnFailure") => RestartPolicy::OnFailure,
        _ => RestartPolicy::Always,
    }
}

/// The policy that holds for one container: its own where it has one. Init containers run to success once.
pub(crate) fn restart_policy_of(pod: &Pod, container: &Container) -> RestartPolicy {
    if let Some(own) = container.restart_policy.as_deref() {
        return policy(Some(own));
    }
    match (restart_policy(pod), role(pod, &container.name)) {
        (RestartPolicy::Always, Role::Init) => RestartPolicy::OnFailure,
        (policy, _) => policy,
    }
}

pub(crate) fn name(pod: &Pod) -> &str {
    Kind::name(pod)
}

pub(crate) fn namespace(pod: &Pod) -> &str {
    Kind::namespace(pod)
}

pub(crate) fn uid(pod: &Pod) -> &str {
    Kind::uid(pod)
}

/// `name_namespace(uid)`: how the kubelet's messages name a pod.
pub(crate) fn full_name(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

pub(crate) fn host_network(pod: &Pod) -> bool {
    spec(pod).host_network == Some(true)
}

pub(crate) fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Whether this is the API's picture of a pod from a file of the node.
pub(crate) fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, MIRROR).is_some()
}

/// Where a pod came from: `api` or `file`.
pub(crate) const SOURCE: &str = "kubernetes.io/config.source";
/// On a mirror pod: hash of the file's pod.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";
/// On both: hash of the file's pod.
pub(crate) const HASH: &str = "kubernetes.io/config.hash";

pub(crate) fn is_static(pod: &Pod) -> bool {
    annotation(pod, SOURCE) == Some("file")
}

/// Seconds between the stop signal and the kill.
pub(crate) fn grace_seconds(pod: &Pod) -> i64 {
    let asked = pod.metadata.deletion_grace_period_seconds;
    // Even an immediate deletion leaves a moment for a clean end, as the kubelet's documentation says.
    asked.or(spec(pod).termination_grace_period_seconds).unwrap_or(30).max(1)
}

/// What tells that a running container is no longer the one in the spec: its name and image.
pub(crate) fn hash(container: &Container) -> String {
    let image = container.image.as_deref().unwrap_or_default();
    let mut hash: u32 = 0x811c_9dc5;
    for byte in container.name.bytes().chain([0]).chain(image.bytes()) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    format!("{hash:x}")
}

/// The pod's quality of service. The API server has decided it where it set the status; it never changes.
pub(crate) fn qos(pod: &Pod) -> Qos {
    match pod.status.as_ref().and_then(|status| status.qos_class.as_deref()) {
        Some("Guaranteed") => Qos::Guaranteed,
        Some("Burstable") => Qos::Burstable,
        Some("BestEffort") => Qos::BestEffort,
        _ => computed_qos(pod),
    }
}

fn computed_qos(pod: &Pod) -> Qos {
    let counted = |list: &Option<BTreeMap<String, Quantity>>, key: &str| {
        let quantity = list.as_ref().and_then(|list| list.get(key))?;
        Some(quantity.0.clone()).filter(|text| text != "0")
    };
    let mut any = false;
    let mut guaranteed = true;
    for container in containers(pod) {
        let empty = ResourceRequirements::default();
        let resources = container.resources.as_ref().unwrap_or(&empty);
        for key in ["cpu", "memory"] {
            let (request, limit) = (counted(&resources.requests, key), counted(&resources.limits, key));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
}
