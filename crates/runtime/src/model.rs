//! What a runtime is told and what it tells: plain values, fit for CRI, Docker and native drivers.
//!
//! - They name what the kubelet decides, not how one driver encodes it; a driver converts at its own edge.
//! - Times are nanoseconds since 1970, 0 when not known, as runtimes report them.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Labels and annotations.
pub type Map = BTreeMap<String, String>;

/// Which runtime answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// As `containerd`.
    pub name: String,
    /// As `1.6.20`.
    pub version: String,
    /// Version of the interface it speaks.
    pub api_version: String,
}

/// One condition of the runtime, as `RuntimeReady` and `NetworkReady`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// Which.
    pub kind: String,
    /// Whether it holds.
    pub ok: bool,
    /// A CamelCase word for why not.
    pub reason: String,
    /// What people read.
    pub message: String,
}

/// How a namespace is shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Namespace {
    /// One for the whole pod.
    #[default]
    Pod,
    /// One for the container alone.
    Container,
    /// The node's own.
    Node,
    /// That of another container of the pod, named by [`Namespaces::target`].
    Target,
}

/// The namespaces of a sandbox or container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Network.
    pub network: Namespace,
    /// Process identifiers.
    pub pid: Namespace,
    /// System V IPC and POSIX queues.
    pub ipc: Namespace,
    /// Identifier of the container whose namespaces [`Namespace::Target`] means.
    pub target: String,
}

/// Contents of `/etc/resolv.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Addresses of name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options as `ndots:5`.
    pub options: Vec<String>,
}

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of the pod that is reachable on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortMapping {
    /// Transport.
    pub protocol: Protocol,
    /// Port in the pod.
    pub container_port: u16,
    /// Port on the host; 0 for none.
    pub host_port: u16,
    /// Address on the host; empty for all.
    pub host_ip: String,
}

/// `SELinux` label parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selinux {
    /// User.
    pub user: String,
    /// Role.
    pub role: String,
    /// Type.
    pub kind: String,
    /// Level.
    pub level: String,
}

/// A seccomp or `AppArmor` profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// No confinement.
    #[default]
    Unconfined,
    /// The runtime's own default profile.
    RuntimeDefault,
    /// A profile on the node: a path for seccomp, a name for `AppArmor`.
    Localhost(String),
}

/// Limits and weights, as the kernel's control groups take them. Zero or empty means: not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// CFS period in microseconds.
    pub cpu_period: i64,
    /// CFS quota in microseconds per period.
    pub cpu_quota: i64,
    /// CPU weight in cgroup v1 shares.
    pub cpu_shares: i64,
    /// Memory limit in bytes.
    pub memory_limit: i64,
    /// The kernel's out-of-memory score adjustment, -1000 to 1000.
    pub oom_score_adj: i64,
    /// Allowed CPUs, as `0-3`.
    pub cpuset_cpus: String,
    /// Allowed memory nodes.
    pub cpuset_mems: String,
    /// Huge page limits in bytes by page size, as `2MB`.
    pub hugepages: Vec<(String, u64)>,
    /// cgroup v2 settings by file name.
    pub unified: Map,
}

/// A pod's sandbox to be made. Name, namespace, uid and attempt identify it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SandboxConfig {
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's uid.
    pub uid: String,
    /// Counts the sandboxes of this pod from 0.
    pub attempt: u32,
    /// Host name; empty with the node's network.
    pub hostname: String,
    /// Directory of the containers' logs.
    pub log_directory: PathBuf,
    /// Name resolution; `None` leaves it to the runtime.
    pub dns: Option<Dns>,
    /// Ports on the host.
    pub ports: Vec<PortMapping>,
    /// Labels to find it by.
    pub labels: Map,
    /// Notes kept with it.
    pub annotations: Map,
    /// Parent control group, in cgroupfs form.
    pub cgroup_parent: String,
    /// Kernel settings.
    pub sysctls: Map,
    /// Namespaces.
    pub namespaces: Namespaces,
    /// Whether a privileged container may follow.
    pub privileged: bool,
    /// User of the sandbox process.
    pub run_as_user: Option<i64>,
    /// Group of the sandbox process.
    pub run_as_group: Option<i64>,
    /// Further groups.
    pub supplemental_groups: Vec<i64>,
    /// `SELinux` label.
    pub selinux: Option<Selinux>,
    /// Seccomp profile of the sandbox process.
    pub seccomp: Profile,
    /// What the sandbox itself costs.
    pub overhead: Option<Resources>,
    /// Sum of the containers' resources.
    pub resources: Option<Resources>,
    /// Name of the runtime handler; empty for the default.
    pub handler: String,
}

/// How mounts travel between host and container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    #[default]
    Private,
    /// From the host to the container.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// A path of the host seen in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// Path in the container.
    pub container_path: String,
    /// Path on the host.
    pub host_path: PathBuf,
    /// Whether writes are refused.
    pub read_only: bool,
    /// The image whose files are seen instead of a path of the host, for runtimes that can (containerd 2.1).
    pub image: Option<String>,
    /// Path in the image; empty for all of it.
    pub image_sub_path: String,
    /// Whether to relabel for `SELinux`.
    pub relabel: bool,
    /// Propagation.
    pub propagation: Propagation,
}

/// A device of the host in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Path in the container.
    pub container_path: String,
    /// Path on the host.
    pub host_path: PathBuf,
    /// What may be done with it, of `r`, `w`, `m`.
    pub permissions: String,
}

/// What a container's processes may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// Capabilities added, without the `CAP_` prefix; `ALL` for all.
    pub add_capabilities: Vec<String>,
    /// Capabilities dropped.
    pub drop_capabilities: Vec<String>,
    /// Whether nothing is withheld.
    pub privileged: bool,
    /// Namespaces.
    pub namespaces: Namespaces,
    /// `SELinux` label.
    pub selinux: Option<Selinux>,
    /// User by number.
    pub run_as_user: Option<i64>,
    /// User by name, from the image.
    pub run_as_username: String,
    /// Group.
    pub run_as_group: Option<i64>,
    /// Further groups.
    pub supplemental_groups: Vec<i64>,
    /// Whether the root file system is read-only.
    pub read_only_root: bool,
    /// Whether privileges cannot be gained.
    pub no_new_privileges: bool,
    /// Paths hidden from the container.
    pub masked_paths: Vec<String>,
    /// Paths that cannot be written.
    pub readonly_paths: Vec<String>,
    /// Seccomp profile.
    pub seccomp: Profile,
    /// `AppArmor` profile; `None` leaves it to the runtime.
    pub apparmor: Option<Profile>,
}

/// A container to be made. Name and attempt identify it within its sandbox.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerConfig {
    /// Name in the pod's spec.
    pub name: String,
    /// Counts the containers of this name in the pod from 0.
    pub attempt: u32,
    /// The image to run, as the runtime identifies it.
    pub image: String,
    /// The image as the pod names it.
    pub user_image: String,
    /// Replaces the image's entry point.
    pub command: Vec<String>,
    /// Replaces the image's arguments.
    pub args: Vec<String>,
    /// Working directory; empty for the image's.
    pub working_dir: String,
    /// Environment in order.
    pub env: Vec<(String, String)>,
    /// Mounts in order.
    pub mounts: Vec<Mount>,
    /// Devices in order.
    pub devices: Vec<Device>,
    /// Labels to find it by.
    pub labels: Map,
    /// Notes kept with it.
    pub annotations: Map,
    /// Log file, relative to the sandbox's log directory.
    pub log_path: String,
    /// Whether standard input is kept open.
    pub stdin: bool,
    /// Whether it is closed after the first attach.
    pub stdin_once: bool,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Name of the signal that ends it, as `SIGUSR1`; empty for the image's own.
    pub stop_signal: String,
    /// Limits.
    pub resources: Resources,
    /// Security.
    pub security: Security,
}

/// A sandbox as the runtime has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// Identifier.
    pub id: String,
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's uid.
    pub uid: String,
    /// Counts the pod's sandboxes from 0.
    pub attempt: u32,
    /// Whether it runs.
    pub ready: bool,
    /// When it was made.
    pub created_at: i64,
    /// Its addresses, the first one being the primary; empty in lists.
    pub ips: Vec<String>,
    /// Labels.
    pub labels: Map,
    /// Annotations.
    pub annotations: Map,
}

/// Where a container is in its life; it only moves forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContainerState {
    /// The runtime does not know.
    #[default]
    Unknown,
    /// Made, not started.
    Created,
    /// Running.
    Running,
    /// Ended.
    Exited,
}

/// A container as the runtime has it. Lists leave out what only a status tells (see the driver).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Identifier.
    pub id: String,
    /// The sandbox's identifier; empty in a status.
    pub sandbox: String,
    /// Name in the pod's spec.
    pub name: String,
    /// Counts the containers of this name in the pod from 0.
    pub attempt: u32,
    /// Where in its life.
    pub state: ContainerState,
    /// When it was made.
    pub created_at: i64,
    /// When it was started.
    pub started_at: i64,
    /// When it ended.
    pub finished_at: i64,
    /// How it ended.
    pub exit_code: i32,
    /// A CamelCase word for why it is as it is, as `OOMKilled`.
    pub reason: String,
    /// What people read.
    pub message: String,
    /// The image's name.
    pub image: String,
    /// The image's identity, with digest where known.
    pub image_ref: String,
    /// Labels.
    pub labels: Map,
    /// Annotations.
    pub annotations: Map,
    /// The log file.
    pub log_path: String,
}

/// What selects sandboxes or containers; empty fields select all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// By identifier.
    pub id: String,
    /// Containers of this sandbox.
    pub sandbox: String,
    /// All these labels.
    pub labels: Map,
}

/// Outcome of a command in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// What it wrote.
    pub stdout: Vec<u8>,
    /// What it complained.
    pub stderr: Vec<u8>,
    /// How it ended.
    pub exit_code: i32,
}

/// An interactive command, or an attachment when `command` is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// Container.
    pub container: String,
    /// Command and arguments.
    pub command: Vec<String>,
    /// Whether on a terminal.
    pub tty: bool,
    /// Whether standard input flows.
    pub stdin: bool,
    /// Whether standard output flows.
    pub stdout: bool,
    /// Whether standard error flows.
    pub stderr: bool,
}

/// An image on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Identifier.
    pub id: String,
    /// Names with tags.
    pub tags: Vec<String>,
    /// Names with digests.
    pub digests: Vec<String>,
    /// Bytes.
    pub size: u64,
    /// The image's own user by number.
    pub uid: Option<i64>,
    /// The image's own user by name.
    pub username: String,
    /// Whether it should not be collected.
    pub pinned: bool,
}

/// Credentials for a registry.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Auth {
    /// User.
    pub username: String,
    /// Password.
    pub password: String,
    /// Registry the credentials are for.
    pub server: String,
    /// Token exchanged for an access token.
    pub identity_token: String,
    /// Bearer token sent as it is.
    pub registry_token: String,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Auth({}@{})", self.username, self.server)
    }
}

/// Usage of the file system that holds images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsUsage {
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// Bytes used by images.
    pub used_bytes: u64,
    /// Inodes used by images.
    pub inodes_used: u64,
}

/// Usage of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Container.
    pub id: String,
    /// Labels of the container.
    pub labels: Map,
    /// When measured.
    pub timestamp: i64,
    /// CPU time used since the start, in nanoseconds.
    pub cpu_nanos: u64,
    /// Memory in the working set, in bytes.
    pub working_set_bytes: u64,
    /// Anonymous memory, in bytes.
    pub rss_bytes: u64,
    /// Bytes in the writable layer.
    pub writable_bytes: u64,
    /// Inodes in the writable layer.
    pub writable_inodes: u64,
}

/// What happens to containers and sandboxes without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The container (or sandbox) now runs.
    Started {
        /// Its identifier.
        id: String,
    },
    /// The container (or sandbox) ended.
    Exited {
        /// Its identifier.
        id: String,
        /// How it ended.
        code: i32,
        /// When.
        at: i64,
    },
    /// The kernel killed a process of the container for want of memory.
    OutOfMemory {
        /// Its identifier.
        id: String,
    },
    /// The container (or sandbox) was removed.
    Deleted {
        /// Its identifier.
        id: String,
    },
}

impl Event {
    /// Identifier of the container or sandbox.
    pub fn id(&self) -> &str {
        match self {
            Self::Started { id }
            | Self::Exited { id, .. }
            | Self::OutOfMemory { id }
            | Self::Deleted { id } => id,
        }
    }
}
