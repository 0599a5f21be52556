//! Flags that several commands share, in the groups that `--help` shows.

use std::net::{AddrParseError, IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

/// Where a process is, and in which cluster: what master and node both need to know.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// File of flags as YAML keys [default: /etc/tiphys/config.yaml if present]
    #[arg(long, env = "TIPHYS_CONFIG", value_name = "FILE", help_heading = "Files")]
    pub config: Option<PathBuf>,
    /// Directory of everything that is kept
    #[arg(long, env = "TIPHYS_DATA_DIR", default_value = crate::DATA_DIR, value_name = "DIR", help_heading = "Files")]
    pub data_dir: PathBuf,
    /// Range of the pods' addresses
    #[arg(
        long,
        env = "TIPHYS_CLUSTER_CIDR",
        default_value = "10.42.0.0/16",
        value_name = "CIDR",
        help_heading = "Network"
    )]
    pub cluster_cidr: String,
    /// Range of the Services' addresses
    #[arg(
        long,
        env = "TIPHYS_SERVICE_CIDR",
        default_value = "10.43.0.0/16",
        value_name = "CIDR",
        help_heading = "Network"
    )]
    pub service_cidr: String,
    /// Address of cluster DNS [default: the tenth of --service-cidr]
    #[arg(long, env = "TIPHYS_CLUSTER_DNS", value_name = "IP", help_heading = "Network")]
    pub cluster_dns: Option<Ipv4Addr>,
    /// Domain of the cluster's names
    #[arg(
        long,
        env = "TIPHYS_CLUSTER_DOMAIN",
        default_value = "cluster.local",
        value_name = "NAME",
        help_heading = "Network"
    )]
    pub cluster_domain: String,
    /// Resolvers of a domain, as corp.example=10.0.0.53,10.0.0.54; may be given several times
    #[arg(
        long,
        env = "TIPHYS_DNS_STUB_DOMAIN",
        value_delimiter = ';',
        value_name = "DOMAIN=IP,...",
        help_heading = "Network"
    )]
    pub dns_stub_domain: Vec<tiphys_dns::StubDomain>,
    /// This node's address [default: that of the default route]
    #[arg(long, env = "TIPHYS_NODE_IP", value_name = "IP", help_heading = "Node")]
    pub node_ip: Option<Ipv4Addr>,
    /// This node's name [default: the host's name]
    #[arg(long, env = "TIPHYS_NODE_NAME", value_name = "NAME", help_heading = "Node")]
    pub node_name: Option<String>,
}

/// What only a master needs to know.
#[derive(Clone, Debug, Args)]
pub struct Cluster {
    /// Where it is.
    #[command(flatten)]
    pub place: Place,
    /// Where to write the admin kubeconfig
    #[arg(
        long,
        env = "TIPHYS_KUBECONFIG",
        default_value = crate::ADMIN_KUBECONFIG,
        value_name = "FILE",
        help_heading = "Files"
    )]
    pub kubeconfig: PathBuf,
    /// Do not add a context to ~/.kube/config
    #[arg(long, env = "TIPHYS_NO_MERGE", help_heading = "Files")]
    pub no_merge: bool,
    /// Address that the API server listens on
    #[arg(
        long,
        env = "TIPHYS_BIND_ADDRESS",
        default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        value_name = "IP",
        help_heading = "API server"
    )]
    pub bind_address: IpAddr,
    /// Port of the API server
    #[arg(
        long,
        env = "TIPHYS_HTTPS_PORT",
        default_value_t = 6443,
        value_name = "PORT",
        help_heading = "API server"
    )]
    pub https_port: u16,
    /// More names and addresses for the API server's certificate
    #[arg(
        long,
        env = "TIPHYS_TLS_SAN",
        value_delimiter = ',',
        value_name = "NAME",
        help_heading = "API server"
    )]
    pub tls_san: Vec<String>,
    /// Versions of the API to serve or not: `group/version=true`, `api/beta`, `api/all=false` [default: stable ones]
    #[arg(
        long,
        env = "TIPHYS_RUNTIME_CONFIG",
        value_delimiter = ',',
        value_name = "KEY=VALUE",
        help_heading = "API server"
    )]
    pub runtime_config: Vec<String>,
    /// Where the state is.
    #[command(flatten)]
    pub storage: super::storage::Storage,
    /// Components not to run, so that others can take their place
    #[arg(
        long,
        env = "TIPHYS_DISABLE",
        value_delimiter = ',',
        value_name = "COMPONENT",
        value_parser = ["scheduler", "controller-manager", "kubelet", "proxy", "dns"],
        help_heading = "Components"
    )]
    pub disable: Vec<String>,
}

/// What only a node needs to know.
#[derive(Clone, Debug, Args)]
pub struct NodeFlags {
    /// Socket of a container runtime to use instead of Tiphys' own containerd
    #[arg(long, env = "TIPHYS_RUNTIME_ENDPOINT", value_name = "unix://PATH", help_heading = "Node")]
    pub runtime_endpoint: Option<String>,
    /// Port of the kubelet
    #[arg(
        long,
        env = "TIPHYS_KUBELET_PORT",
        default_value_t = 10250,
        value_name = "PORT",
        help_heading = "Node"
    )]
    pub kubelet_port: u16,
    /// `KubeletConfiguration` (kubelet.config.k8s.io/v1beta1) of the node
    #[arg(long, env = "TIPHYS_KUBELET_CONFIG", value_name = "FILE", help_heading = "Node")]
    pub kubelet_config: Option<PathBuf>,
    /// Name of the pods' bridge
    #[arg(
        long,
        env = "TIPHYS_BRIDGE",
        default_value = "tiphys0",
        value_name = "NAME",
        help_heading = "Node"
    )]
    pub bridge: String,
    /// Where the proxy tells whether it keeps up (/healthz, /livez); nowhere if empty
    #[arg(
        long,
        env = "TIPHYS_PROXY_HEALTHZ_ADDRESS",
        default_value = "0.0.0.0:10256",
        value_name = "IP:PORT",
        help_heading = "Node"
    )]
    pub proxy_healthz_address: Listen,
    /// Where the proxy tells its figures (/metrics); nowhere if empty
    #[arg(
        long,
        env = "TIPHYS_PROXY_METRICS_ADDRESS",
        default_value = "127.0.0.1:10249",
        value_name = "IP:PORT",
        help_heading = "Node"
    )]
    pub proxy_metrics_address: Listen,
    /// End the pods when this process ends
    #[arg(long, env = "TIPHYS_STOP_PODS", help_heading = "Node")]
    pub stop_pods: bool,
}

/// Where to listen, if anywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listen(pub Option<SocketAddr>);

impl FromStr for Listen {
    type Err = AddrParseError;

    /// Reads an address with its port, or nothing at all.
    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        if text.is_empty() { Ok(Self(None)) } else { text.parse().map(Some).map(Self) }
    }
}

/// A component that runs alone.
#[derive(Clone, Debug, Args)]
pub struct Component {
    /// File of flags as YAML keys [default: /etc/tiphys/config.yaml if present]
    #[arg(long, env = "TIPHYS_CONFIG", value_name = "FILE", help_heading = "Files")]
    pub config: Option<PathBuf>,
    /// Kubeconfig of the API server to speak to, with this component's own identity
    #[arg(long, env = "TIPHYS_KUBECONFIG", value_name = "FILE", help_heading = "Files")]
    pub kubeconfig: PathBuf,
    /// Whether to work only while holding the component's Lease in kube-system, so that several can stand by
    #[arg(
        long,
        env = "TIPHYS_LEADER_ELECT",
        default_value_t = true,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL",
        help_heading = "Components"
    )]
    pub leader_elect: bool,
    /// Messages.
    #[command(flatten)]
    pub logging: Logging,
}

/// Simulated nodes.
#[derive(Clone, Debug, Args)]
pub struct Simulate {
    /// File of flags as YAML keys [default: /etc/tiphys/config.yaml if present]
    #[arg(long, env = "TIPHYS_CONFIG", value_name = "FILE", help_heading = "Files")]
    pub config: Option<PathBuf>,
    /// Kubeconfig of the API server to speak to; its user makes nodes and writes pods' statuses
    #[arg(long, env = "TIPHYS_KUBECONFIG", value_name = "FILE", help_heading = "Files")]
    pub kubeconfig: PathBuf,
    /// How many nodes
    #[arg(long, env = "TIPHYS_NODES", default_value_t = 1, value_name = "N", help_heading = "Nodes")]
    pub nodes: u32,
    /// Their names: this, a dash and a number
    #[arg(
        long,
        env = "TIPHYS_NODE_PREFIX",
        default_value = "sim",
        value_name = "NAME",
        help_heading = "Nodes"
    )]
    pub node_prefix: String,
    /// Labels of the nodes
    #[arg(
        long,
        env = "TIPHYS_NODE_LABEL",
        value_delimiter = ',',
        value_name = "KEY=VALUE",
        help_heading = "Nodes"
    )]
    pub node_label: Vec<String>,
    /// Taints of the nodes
    #[arg(
        long,
        env = "TIPHYS_TAINT",
        value_delimiter = ',',
        value_name = "KEY=VALUE:EFFECT",
        help_heading = "Nodes"
    )]
    pub taint: Vec<tiphys_simulate::Taint>,
    /// Zones that the nodes are spread over
    #[arg(long, env = "TIPHYS_ZONES", default_value_t = 0, value_name = "N", help_heading = "Nodes")]
    pub zones: u32,
    /// CPUs of each node
    #[arg(long, env = "TIPHYS_CPU", default_value = "32", value_name = "QUANTITY", help_heading = "Nodes")]
    pub cpu: String,
    /// Memory of each node
    #[arg(
        long,
        env = "TIPHYS_MEMORY",
        default_value = "256Gi",
        value_name = "QUANTITY",
        help_heading = "Nodes"
    )]
    pub memory: String,
    /// Most pods of each node
    #[arg(long, env = "TIPHYS_PODS", default_value_t = 110, value_name = "N", help_heading = "Nodes")]
    pub pods: u32,
    /// From a pod's binding to Running; a span (500ms..3s) gives each pod its own
    #[arg(long, env = "TIPHYS_START_DELAY", default_value = "0", value_name = "TIME", help_heading = "Pods")]
    pub start_delay: tiphys_simulate::Delay,
    /// From a Job's pod being Running to its success
    #[arg(long, env = "TIPHYS_RUN_TIME", default_value = "1s", value_name = "TIME", help_heading = "Pods")]
    pub run_time: tiphys_simulate::Delay,
    /// From a pod's deletion to its end
    #[arg(long, env = "TIPHYS_STOP_DELAY", default_value = "0", value_name = "TIME", help_heading = "Pods")]
    pub stop_delay: tiphys_simulate::Delay,
    /// Messages.
    #[command(flatten)]
    pub logging: Logging,
}

/// The kubelet's own certificate, when it runs alone. Without one it serves no logs, exec and port-forward.
#[derive(Clone, Debug, Args)]
pub struct Serving {
    /// Certificate of the kubelet's server [default: pki/kubelet.crt in --data-dir, if present]
    #[arg(long, env = "TIPHYS_TLS_CERT_FILE", value_name = "FILE", help_heading = "Node")]
    pub tls_cert_file: Option<PathBuf>,
    /// Key of that certificate [default: pki/kubelet.key in --data-dir, if present]
    #[arg(long, env = "TIPHYS_TLS_PRIVATE_KEY_FILE", value_name = "FILE", help_heading = "Node")]
    pub tls_private_key_file: Option<PathBuf>,
    /// CA of the clients that may use it [default: pki/ca.crt in --data-dir, if present]
    #[arg(long, env = "TIPHYS_CLIENT_CA_FILE", value_name = "FILE", help_heading = "Node")]
    pub client_ca_file: Option<PathBuf>,
}

/// What is logged, and how.
#[derive(Clone, Debug, Args)]
pub struct Logging {
    /// error, warn, info, debug or trace; or per part, as `warn,tiphys_kubelet=debug`
    #[arg(
        long,
        env = "TIPHYS_LOG_LEVEL",
        default_value = "warn",
        value_name = "LEVEL",
        help_heading = "Messages"
    )]
    pub log_level: String,
    /// Form of log lines
    #[arg(
        long,
        env = "TIPHYS_LOG_FORMAT",
        default_value = "text",
        value_enum,
        value_name = "FORMAT",
        help_heading = "Messages"
    )]
    pub log_format: LogFormat,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Running in the background.
#[derive(Clone, Debug, Args)]
pub struct Detach {
    /// Return once the node is Ready and go on in the background
    #[arg(long, env = "TIPHYS_DETACH", help_heading = "Running")]
    pub detach: bool,
}

/// What to apply first.
#[derive(Clone, Debug, Args)]
pub struct Manifest {
    /// Apply this manifest once the node is Ready, and show what its Services answer
    #[arg(long, env = "TIPHYS_APPLY", value_name = "FILE", help_heading = "Running")]
    pub apply: Option<PathBuf>,
}
