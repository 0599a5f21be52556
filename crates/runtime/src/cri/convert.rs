//! Between the runtime's plain values and CRI's messages: field by field, no decisions.

use super::container_messages as c;
use super::messages as m;
use super::signal;
use crate::model::{
    Auth, Condition, Container, ContainerConfig, ContainerState, Device, Dns, ExecRequest, FsUsage, Image,
    Mount, Namespace, Namespaces, PortMapping, Profile, Propagation, Protocol, Resources, Sandbox,
    SandboxConfig, Security, Selinux, Stats,
};

pub(super) fn condition(from: m::RuntimeCondition) -> Condition {
    Condition { kind: from.kind, ok: from.status, reason: from.reason, message: from.message }
}

pub(super) fn sandbox_config(from: &SandboxConfig) -> m::PodSandboxConfig {
    m::PodSandboxConfig {
        metadata: Some(m::PodSandboxMetadata {
            name: from.name.clone(),
            uid: from.uid.clone(),
            namespace: from.namespace.clone(),
            attempt: from.attempt,
        }),
        hostname: from.hostname.clone(),
        log_directory: from.log_directory.display().to_string(),
        dns_config: from.dns.as_ref().map(dns),
        port_mappings: from.ports.iter().map(port).collect(),
        labels: from.labels.clone(),
        annotations: from.annotations.clone(),
        linux: Some(m::LinuxPodSandboxConfig {
            cgroup_parent: from.cgroup_parent.clone(),
            security_context: Some(sandbox_security(from)),
            sysctls: from.sysctls.clone(),
            overhead: from.overhead.as_ref().map(resources),
            resources: from.resources.as_ref().map(resources),
        }),
    }
}

fn sandbox_security(from: &SandboxConfig) -> m::LinuxSandboxSecurityContext {
    m::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(&from.namespaces)),
        selinux_options: from.selinux.as_ref().map(selinux),
        run_as_user: from.run_as_user.map(|value| m::Int64Value { value }),
        readonly_rootfs: false,
        supplemental_groups: from.supplemental_groups.clone(),
        privileged: from.privileged,
        run_as_group: from.run_as_group.map(|value| m::Int64Value { value }),
        seccomp: Some(profile(&from.seccomp)),
    }
}

fn dns(from: &Dns) -> m::DnsConfig {
    m::DnsConfig {
        servers: from.servers.clone(),
        searches: from.searches.clone(),
        options: from.options.clone(),
    }
}

fn port(from: &PortMapping) -> m::PortMapping {
    let protocol = match from.protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
        Protocol::Sctp => 2,
    };
    m::PortMapping {
        protocol,
        container_port: from.container_port.into(),
        host_port: from.host_port.into(),
        host_ip: from.host_ip.clone(),
    }
}

fn namespaces(from: &Namespaces) -> m::NamespaceOption {
    let mode = |namespace| match namespace {
        Namespace::Pod => 0,
        Namespace::Container => 1,
        Namespace::Node => 2,
        Namespace::Target => 3,
    };
    m::NamespaceOption {
        network: mode(from.network),
        pid: mode(from.pid),
        ipc: mode(from.ipc),
        target_id: from.target.clone(),
    }
}

fn selinux(from: &Selinux) -> m::SelinuxOption {
    m::SelinuxOption {
        user: from.user.clone(),
        role: from.role.clone(),
        kind: from.kind.clone(),
        level: from.level.clone(),
    }
}

fn profile(from: &Profile) -> m::SecurityProfile {
    let (profile_type, localhost_ref) = match from {
        Profile::RuntimeDefault => (0, String::new()),
        Profile::Unconfined => (1, String::new()),
        Profile::Localhost(name) => (2, name.clone()),
    };
    m::SecurityProfile { profile_type, localhost_ref }
}

pub(super) fn resources(from: &Resources) -> m::LinuxContainerResources {
    m::LinuxContainerResources {
        cpu_period: from.cpu_period,
        cpu_quota: from.cpu_quota,
        cpu_shares: from.cpu_shares,
        memory_limit_in_bytes: from.memory_limit,
        oom_score_adj: from.oom_score_adj,
        cpuset_cpus: from.cpuset_cpus.clone(),
        cpuset_mems: from.cpuset_mems.clone(),
        hugepage_limits: from
            .hugepages
            .iter()
            .map(|(size, limit)| m::HugepageLimit { page_size: size.clone(), limit: *limit })
            .collect(),
        unified: from.unified.clone(),
        memory_swap_limit_in_bytes: 0,
    }
}

pub(super) fn container_config(from: &ContainerConfig) -> c::ContainerConfig {
    let envs = from.env.iter().map(|(key, value)| m::KeyValue { key: key.clone(), value: value.clone() });
    c::ContainerConfig {
        metadata: Some(c::ContainerMetadata { name: from.name.clone(), attempt: from.attempt }),
        image: Some(m::ImageSpec {
            user_specified_image: from.user_image.clone(),
            ..image_spec(&from.image)
        }),
        command: from.command.clone(),
        args: from.args.clone(),
        working_dir: from.working_dir.clone(),
        envs: envs.collect(),
        mounts: from.mounts.iter().map(mount).collect(),
        devices: from.devices.iter().map(device).collect(),
        labels: from.labels.clone(),
        annotations: from.annotations.clone(),
        log_path: from.log_path.clone(),
        stdin: from.stdin,
        stdin_once: from.stdin_once,
        tty: from.tty,
        stop_signal: signal::cri_number(&from.stop_signal),
        linux: Some(c::LinuxContainerConfig {
            resources: Some(resources(&from.resources)),
            security_context: Some(security(&from.security)),
        }),
    }
}

fn device(from: &Device) -> c::Device {
    c::Device {
        container_path: from.container_path.clone(),
        host_path: from.host_path.display().to_string(),
        permissions: from.permissions.clone(),
    }
}

fn mount(from: &Mount) -> m::Mount {
    m::Mount {
        container_path: from.container_path.clone(),
        host_path: from.host_path.display().to_string(),
        readonly: from.read_only,
        selinux_relabel: from.relabel,
        propagation: match from.propagation {
            Propagation::Private => 0,
            Propagation::HostToContainer => 1,
            Propagation::Bidirectional => 2,
        },
        image: from.image.as_deref().map(image_spec),
        image_sub_path: from.image_sub_path.clone(),
    }
}

fn security(from: &Security) -> c::LinuxContainerSecurityContext {
    c::LinuxContainerSecurityContext {
        capabilities: Some(c::Capability {
            add: from.add_capabilities.clone(),
            drop: from.drop_capabilities.clone(),
        }),
        privileged: from.privileged,
        namespace_options: Some(namespaces(&from.namespaces)),
        selinux_options: from.selinux.as_ref().map(selinux),
        run_as_user: from.run_as_user.map(|value| m::Int64Value { value }),
        run_as_username: from.run_as_username.clone(),
        readonly_rootfs: from.read_only_root,
        supplemental_groups: from.supplemental_groups.clone(),
        apparmor_profile: from.apparmor.as_ref().map(apparmor_text).unwrap_or_default(),
        no_new_privs: from.no_new_privileges,
        run_as_group: from.run_as_group.map(|value| m::Int64Value { value }),
        masked_paths: from.masked_paths.clone(),
        readonly_paths: from.readonly_paths.clone(),
        seccomp: Some(profile(&from.seccomp)),
        apparmor: from.apparmor.as_ref().map(profile),
    }
}

/// The deprecated text field, which older runtimes still read first.
fn apparmor_text(from: &Profile) -> String {
    match from {
        Profile::Unconfined => "unconfined".into(),
        Profile::RuntimeDefault => "runtime/default".into(),
        Profile::Localhost(name) => format!("localhost/{name}"),
    }
}

pub(super) fn sandbox_status(from: m::PodSandboxStatus) -> Sandbox {
    let meta = from.metadata.unwrap_or_default();
    let network = from.network.unwrap_or_default();
    let ips = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|more| more.ip));
    Sandbox {
        id: from.id,
        name: meta.name,
        namespace: meta.namespace,
        uid: meta.uid,
        attempt: meta.attempt,
        ready: from.state == 0,
        created_at: from.created_at,
        ips: ips.filter(|ip| !ip.is_empty()).collect(),
        labels: from.labels,
        annotations: from.annotations,
    }
}

pub(super) fn sandbox(from: m::PodSandbox) -> Sandbox {
    let meta = from.metadata.unwrap_or_default();
    Sandbox {
        id: from.id,
        name: meta.name,
        namespace: meta.namespace,
        uid: meta.uid,
        attempt: meta.attempt,
        ready: from.state == 0,
        created_at: from.created_at,
        ips: Vec::new(),
        labels: from.labels,
        annotations: from.annotations,
    }
}

/// CRI's number of the state of a container that runs.
pub(super) const RUNNING: i32 = 1;

fn state(number: i32) -> ContainerState {
    match number {
        0 => ContainerState::Created,
        RUNNING => ContainerState::Running,
        2 => ContainerState::Exited,
        _ => ContainerState::Unknown,
    }
}

pub(super) fn container(from: c::Container) -> Container {
    let meta = from.metadata.unwrap_or_default();
    Container {
        id: from.id,
        sandbox: from.pod_sandbox_id,
        name: meta.name,
        attempt: meta.attempt,
        state: state(from.state),
        created_at: from.created_at,
        image: from.image.unwrap_or_default().image,
        image_ref: from.image_ref,
        labels: from.labels,
        annotations: from.annotations,
        ..Container::default()
    }
}

/// How containerd tells that it gave up a start.
const ABANDONED: [&str; 2] = ["context canceled", "failed to start shim: start failed: : signal: killed"];

/// Whether a container's start was given up since who had asked for it was gone: containerd counts it as one that failed,
/// but it never was.
fn is_abandoned(from: &c::ContainerStatus) -> bool {
    state(from.state) == ContainerState::Exited
        && from.reason == "StartError"
        && ABANDONED.iter().any(|words| from.message.contains(words))
}

pub(super) fn container_status(from: c::ContainerStatus) -> Container {
    let state = match state(from.state) {
        // A runtime that was killed in the middle of a start may not know how far it came; nothing of it was told.
        ContainerState::Unknown if from.started_at == 0 => ContainerState::Created,
        _ if is_abandoned(&from) => ContainerState::Created,
        known => known,
    };
    let meta = from.metadata.unwrap_or_default();
    Container {
        id: from.id,
        sandbox: String::new(),
        name: meta.name,
        attempt: meta.attempt,
        state,
        created_at: from.created_at,
        started_at: from.started_at,
        finished_at: from.finished_at,
        exit_code: from.exit_code,
        reason: from.reason,
        message: from.message,
        image: from.image.unwrap_or_default().image,
        image_ref: from.image_ref,
        labels: from.labels,
        annotations: from.annotations,
        log_path: from.log_path,
    }
}

pub(super) fn exec(from: &ExecRequest) -> c::ExecRequest {
    c::ExecRequest {
        container_id: from.container.clone(),
        cmd: from.command.clone(),
        tty: from.tty,
        stdin: from.stdin,
        stdout: from.stdout,
        stderr: from.stderr,
    }
}

pub(super) fn attach(from: &ExecRequest) -> c::AttachRequest {
    c::AttachRequest {
        container_id: from.container.clone(),
        stdin: from.stdin,
        tty: from.tty,
        stdout: from.stdout,
        stderr: from.stderr,
    }
}

pub(super) fn image_spec(image: &str) -> m::ImageSpec {
    m::ImageSpec { image: image.into(), ..m::ImageSpec::default() }
}

pub(super) fn image_request(image: &str) -> c::ImageRequest {
    c::ImageRequest { image: Some(image_spec(image)) }
}

pub(super) fn image(from: c::Image) -> Image {
    Image {
        id: from.id,
        tags: from.repo_tags,
        digests: from.repo_digests,
        size: from.size,
        uid: from.uid.map(|uid| uid.value),
        username: from.username,
        pinned: from.pinned,
    }
}

pub(super) fn auth(from: &Auth) -> c::AuthConfig {
    c::AuthConfig {
        username: from.username.clone(),
        password: from.password.clone(),
        auth: String::new(),
        // Left empty, as the real kubelet does: containerd reads it as a URL and fails on a plain `host:port`.
        server_address: String::new(),
        identity_token: from.identity_token.clone(),
        registry_token: from.registry_token.clone(),
    }
}

fn number(from: Option<m::UInt64Value>) -> u64 {
    from.unwrap_or_default().value
}

pub(super) fn fs_usage(from: c::FilesystemUsage) -> FsUsage {
    FsUsage {
        mountpoint: from.fs_id.unwrap_or_default().id.into(),
        used_bytes: number(from.used_bytes),
        inodes_used: number(from.inodes_used),
    }
}

pub(super) fn stats(from: c::ContainerStats) -> Stats {
    let attributes = from.attributes.unwrap_or_default();
    let cpu = from.cpu.unwrap_or_default();
    let memory = from.memory.unwrap_or_default();
    let layer = from.writable_layer.unwrap_or_default();
    Stats {
        id: attributes.id,
        labels: attributes.labels,
        timestamp: cpu.timestamp,
        cpu_nanos: number(cpu.usage_core_nano_seconds),
        working_set_bytes: number(memory.working_set_bytes),
        rss_bytes: number(memory.rss_bytes),
        writable_bytes: number(layer.used_bytes),
        writable_inodes: number(layer.inodes_used),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_was_given_up_never_was() {
        let failed = |message: &str| c::ContainerStatus {
            state: 2,
            reason: "StartError".into(),
            message: message.into(),
            ..c::ContainerStatus::default()
        };
        let abandoned = failed("failed to start containerd task \"c\": context canceled: unknown");
        assert_eq!(container_status(abandoned).state, ContainerState::Created);
        assert_eq!(container_status(failed("no such file or directory")).state, ContainerState::Exited);
        let lost = |started_at| c::ContainerStatus { state: 3, started_at, ..c::ContainerStatus::default() };
        assert_eq!(container_status(lost(0)).state, ContainerState::Created);
        assert_eq!(container_status(lost(1)).state, ContainerState::Unknown);
    }
}
