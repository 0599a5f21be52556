//! Questions about a pod's spec, answered without looking at anything else.

use k8s_openapi::api::core::v1::{
    Container, ContainerRestartRule, EphemeralContainer, Pod, PodSpec, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::borrow::Cow;
use std::collections::BTreeMap;
use tiphys_client::typed::Kind;

use crate::downward::amount;

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
    /// Added to a running pod to look into it; never started again.
    Ephemeral,
}

impl Role {
    /// The list, as paths name it.
    pub(crate) fn list(self) -> &'static str {
        match self {
            Self::Init | Self::Sidecar => "initContainers",
            Self::App => "containers",
            Self::Ephemeral => "ephemeralContainers",
        }
    }
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

/// Containers that were added to the running pod.
pub(crate) fn ephemeral_containers(pod: &Pod) -> &[EphemeralContainer] {
    spec(pod).ephemeral_containers.as_deref().unwrap_or_default()
}

/// An ephemeral container in the form of the others, which it differs from by what it may not have.
pub(crate) fn plain(from: &EphemeralContainer) -> Container {
    let from = from.clone();
    Container {
        args: from.args,
        command: from.command,
        env: from.env,
        env_from: from.env_from,
        image: from.image,
        image_pull_policy: from.image_pull_policy,
        name: from.name,
        resources: from.resources,
        security_context: from.security_context,
        stdin: from.stdin,
        stdin_once: from.stdin_once,
        termination_message_path: from.termination_message_path,
        termination_message_policy: from.termination_message_policy,
        tty: from.tty,
        volume_devices: from.volume_devices,
        volume_mounts: from.volume_mounts,
        working_dir: from.working_dir,
        ..Container::default()
    }
}

/// The container of a name, of whichever list.
pub(crate) fn container<'a>(pod: &'a Pod, name: &str) -> Option<Cow<'a, Container>> {
    let ephemeral = || ephemeral_containers(pod).iter().find(|c| c.name == name).map(plain);
    containers(pod).find(|c| c.name == name).map(Cow::Borrowed).or_else(|| ephemeral().map(Cow::Owned))
}

pub(crate) fn role(pod: &Pod, name: &str) -> Role {
    match init_containers(pod).iter().find(|c| c.name == name) {
        Some(c) if is_sidecar(c) => Role::Sidecar,
        Some(_) => Role::Init,
        None if ephemeral_containers(pod).iter().any(|c| c.name == name) => Role::Ephemeral,
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
        (_, Role::Ephemeral) => RestartPolicy::Never,
        (RestartPolicy::Always, Role::Init) => RestartPolicy::OnFailure,
        (policy, _) => policy,
    }
}

/// The container's first rule about this exit code.
fn rule(container: &Container, exit_code: i32) -> Option<&ContainerRestartRule> {
    let fits = |rule: &ContainerRestartRule| {
        let codes = rule.exit_codes.as_ref();
        codes.is_some_and(|on| {
            let listed = on.values.iter().flatten().any(|code| *code == exit_code);
            listed == (on.operator == "In")
        })
    };
    container.restart_policy_rules.iter().flatten().find(|rule| fits(rule))
}

/// Whether all containers of the pod start again when this one ends with this code.
pub(crate) fn restarts_all(container: &Container, exit_code: i32) -> bool {
    rule(container, exit_code).is_some_and(|rule| rule.action == "RestartAllContainers")
}

/// Whether a container that ended with this code is started again: by a rule of its own, else by the policy.
pub(crate) fn restarts(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    if rule(container, exit_code).is_some() {
        return true;
    }
    match restart_policy_of(pod, container) {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit_code != 0,
        RestartPolicy::Never => false,
    }
}

/// What the pod itself asks for of a resource, whatever its containers do; `None` where it does not. CPU in thousandths.
pub(crate) fn own_request(pod: &Pod, key: &str) -> Option<i64> {
    of_itself(spec(pod).resources.as_ref()?.requests.as_ref(), key)
}

/// What the pod may use itself, all containers together.
pub(crate) fn own_limit(pod: &Pod, key: &str) -> Option<i64> {
    of_itself(spec(pod).resources.as_ref()?.limits.as_ref(), key)
}

fn of_itself(list: Option<&BTreeMap<String, Quantity>>, key: &str) -> Option<i64> {
    let list = list.filter(|list| list.contains_key(key))?;
    Some(amount(Some(list), key))
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

/// Whether the node or the cluster needs the pod, so that it is never evicted for what it uses.
pub(crate) fn is_critical(pod: &Pod) -> bool {
    is_static(pod) || spec(pod).priority.is_some_and(|priority| priority >= crate::resources::CRITICAL)
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
    let empty = ResourceRequirements::default();
    // What the pod asks for itself stands for what its containers ask for.
    let own = spec(pod).resources.as_ref().filter(|own| own.requests.is_some() || own.limits.is_some());
    let each = containers(pod).filter(|_| own.is_none()).map(|c| c.resources.as_ref().unwrap_or(&empty));
    for resources in own.into_iter().chain(each) {
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
