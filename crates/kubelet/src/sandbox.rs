//! A pod's sandbox as the runtime is told to make it. Pure.

use std::path::Path;

use k8s_openapi::api::core::v1::{ContainerPort, Pod};
use tiphys_runtime::SandboxConfig;
use tiphys_runtime::model::{Map, PortMapping, Protocol};

use crate::cgroups::Driver;
use crate::dns::{self, Names};
use crate::pod;
use crate::{resources, security};

/// Labels by which the runtime's sandboxes and containers are found again, the same as other kubelets use.
pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
/// Namespace of the pod.
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Identity of the pod.
pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";

/// Annotation: the node whose kubelet made the sandbox.
pub(crate) const NODE: &str = "tiphys.io/node";
/// Annotation: that kubelet's directory, which tells kubelets of one machine apart.
pub(crate) const ROOT: &str = "tiphys.io/root-dir";

/// Labels that every object of a pod carries.
pub(crate) fn labels(pod: &Pod) -> Map {
    let pairs = [(POD_NAME, pod::name(pod)), (POD_NAMESPACE, pod::namespace(pod)), (POD_UID, pod::uid(pod))];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Directory of a pod's logs.
pub(crate) fn log_directory(root: &Path, pod: &Pod) -> std::path::PathBuf {
    root.join(format!("{}_{}_{}", pod::namespace(pod), pod::name(pod), pod::uid(pod)))
}

/// What the node adds to a sandbox.
pub(crate) struct Node<'a> {
    pub(crate) names: &'a Names,
    pub(crate) log_dir: &'a Path,
    /// Name of the node, and the kubelet's directory on it.
    pub(crate) own: (&'a str, &'a Path),
    /// Who makes control groups, and the one above all pods.
    pub(crate) cgroups: (Driver, &'a str),
    pub(crate) seccomp: &'a Path,
    /// What the pod's runtime class is to the runtime; empty for its default.
    pub(crate) handler: &'a str,
}

/// What marks a sandbox as made by this kubelet.
fn marks(node: &str, root: &Path) -> [(String, String); 2] {
    [(NODE.into(), node.into()), (ROOT.into(), root.display().to_string())]
}

/// Whether this kubelet made a sandbox. A runtime may serve several.
pub(crate) fn is_own(annotations: &Map, node: &str, root: &Path) -> bool {
    marks(node, root).iter().all(|(key, value)| annotations.get(key) == Some(value))
}

/// The sandbox of this attempt.
pub(crate) fn config(pod: &Pod, attempt: u32, node: &Node<'_>) -> SandboxConfig {
    let spec = pod::spec(pod);
    let shared = security::of_pod(pod);
    let mut annotations = pod.metadata.annotations.clone().unwrap_or_default();
    annotations.extend(marks(node.own.0, node.own.1));
    let mut all = pod.metadata.labels.clone().unwrap_or_default();
    all.extend(labels(pod));
    let host = pod::host_network(pod);
    let groups = shared.supplemental_groups.clone().unwrap_or_default();
    SandboxConfig {
        name: pod::name(pod).into(),
        namespace: pod::namespace(pod).into(),
        uid: pod::uid(pod).into(),
        attempt,
        hostname: if host { String::new() } else { dns::kernel_hostname(pod, node.names) },
        log_directory: log_directory(node.log_dir, pod),
        dns: Some(dns::resolver(pod, node.names).0),
        ports: if host { Vec::new() } else { ports(pod) },
        labels: all,
        annotations,
        cgroup_parent: node.cgroups.0.parent(node.cgroups.1, pod::qos(pod), pod::uid(pod)),
        sysctls: pod::sysctls(pod).collect(),
        namespaces: security::namespaces(pod),
        privileged: security::any_privileged(pod),
        run_as_user: shared.run_as_user,
        run_as_group: shared.run_as_group.filter(|_| shared.run_as_user.is_some()),
        supplemental_groups: groups.into_iter().chain(shared.fs_group).collect(),
        selinux: shared.se_linux_options.as_ref().map(security::selinux),
        seccomp: security::profile(shared.seccomp_profile.as_ref(), node.seccomp),
        overhead: spec.overhead.as_ref().map(resources::overhead),
        resources: Some(resources::of_pod(pod)),
        handler: node.handler.to_owned(),
    }
}

fn ports(pod: &Pod) -> Vec<PortMapping> {
    pod::containers(pod).flat_map(|container| container.ports.iter().flatten()).filter_map(port).collect()
}

fn port(port: &ContainerPort) -> Option<PortMapping> {
    let number = |number: i32| u16::try_from(number).ok();
    Some(PortMapping {
        protocol: match port.protocol.as_deref() {
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            _ => Protocol::Tcp,
        },
        container_port: number(port.container_port)?,
        host_port: number(port.host_port.filter(|port| *port > 0)?)?,
        host_ip: port.host_ip.clone().unwrap_or_default(),
    })
}
