//! The command line: one table of commands and flags, from which help, environment, configuration file and completion
//! follow.
//!
//! A flag's value comes from the first that gives it: the command line, `TIPHYS_…` in the environment, the `--config`
//! file, the default. The file is laid under the defaults before parsing ([`config`]), so no flag is handled twice.

pub mod config;
mod flags;
mod storage;

pub use flags::{
    Cluster, Component, Detach, Listen, LogFormat, Logging, Manifest, NodeFlags, Place, Serving, Simulate,
};
pub use storage::{
    BackupCommand, BackupCreate, BackupFlags, BackupRestore, EtcdFlags, Migrate, StoreCommand, StoreFlags,
};

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "tiphys",
    version = crate::VERSION,
    about = "A complete Kubernetes in one binary",
    after_help = "Start with:  tiphys up\nThen:        kubectl get nodes",
    disable_help_subcommand = true,
    // The last of a repeated flag counts, so that a script's flags can be overridden at its end.
    args_override_self = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole cluster on this machine
    #[command(after_help = UP_HELP)]
    Up(Box<Up>),
    /// End the cluster that runs on this machine; pods keep running unless --stop-pods
    Stop(Stop),
    /// Run a master: API server, scheduler, controller manager and state store, without a node
    Server(Box<Server>),
    /// Run a node: kubelet, kube-proxy and DNS, for an API server elsewhere
    Agent(Box<Agent>),
    /// Run the API server and its state store alone
    Apiserver(Box<Server>),
    /// Run the scheduler alone
    Scheduler(Component),
    /// Run the controller manager alone
    ControllerManager(Component),
    /// Run the kubelet alone
    Kubelet(Box<Agent>),
    /// Run kube-proxy alone
    Proxy(Box<Agent>),
    /// Run cluster DNS alone
    Dns(Box<Agent>),
    /// Register nodes that heartbeat and run pods without containers, at any Kubernetes API server
    #[command(after_help = SIMULATE_HELP)]
    Simulate(Box<Simulate>),
    /// Run kubectl with this cluster's admin kubeconfig
    #[command(disable_help_flag = true)]
    Kubectl(Kubectl),
    /// Load, list and remove images of the node
    Image(Image),
    /// Copy the state between the data directory and an etcd cluster
    Store(Box<StoreFlags>),
    /// Back the cluster up into one file, check such a file, and bring a cluster back from it
    Backup(Box<BackupFlags>),
    /// Remove everything that Tiphys ever made on this machine
    Reset(Reset),
    /// Print the version
    Version,
    /// Print a completion script for a shell
    Completion(Completion),
}

const UP_HELP: &str = "\
Examples:
  tiphys up                                    a cluster in the foreground, until Ctrl-C
  tiphys up --detach && kubectl get nodes      a cluster in the background; end it with: tiphys stop
  tiphys up --apply examples/hello.yaml        the same, then apply a manifest and show its answer
  tiphys up --data-dir /srv/two --https-port 7443 --kubelet-port 11250 --bridge tiphys1 \\
      --cluster-cidr 10.52.0.0/16 --service-cidr 10.53.0.0/16     a second cluster beside the first";

const SIMULATE_HELP: &str = "\
Examples:
  tiphys simulate --nodes 500 --kubeconfig /etc/tiphys/admin.kubeconfig
  tiphys simulate --nodes 30 --zones 3 --start-delay 500ms..3s --taint simulated:NoSchedule --kubeconfig FILE

The nodes carry the label tiphys.io/simulated=true; they go with: kubectl delete node -l tiphys.io/simulated=true
Pods may override the delays by the annotations simulate.tiphys.io/start-delay, run-time, stop-delay, and fail by
simulate.tiphys.io/exit-code.";

/// Flags of `up`.
#[derive(Debug, Args)]
pub struct Up {
    /// The cluster.
    #[command(flatten)]
    pub cluster: Cluster,
    /// The node.
    #[command(flatten)]
    pub node: NodeFlags,
    /// Messages.
    #[command(flatten)]
    pub logging: Logging,
    /// Background.
    #[command(flatten)]
    pub detach: Detach,
    /// First manifest.
    #[command(flatten)]
    pub manifest: Manifest,
}

/// Flags of `server` and `apiserver`.
#[derive(Debug, Args)]
pub struct Server {
    /// The cluster.
    #[command(flatten)]
    pub cluster: Cluster,
    /// Messages.
    #[command(flatten)]
    pub logging: Logging,
}

/// Flags of `agent` and of the node's single components.
#[derive(Debug, Args)]
pub struct Agent {
    /// Where it is.
    #[command(flatten)]
    pub place: Place,
    /// Kubeconfig of the API server to speak to, with this node's own identity; proxy and DNS use
    /// kube-proxy.kubeconfig in the same directory, if present
    #[arg(long, env = "TIPHYS_KUBECONFIG", value_name = "FILE", help_heading = "Files")]
    pub kubeconfig: PathBuf,
    /// The node.
    #[command(flatten)]
    pub node: NodeFlags,
    /// Its certificate.
    #[command(flatten)]
    pub serving: Serving,
    /// Messages.
    #[command(flatten)]
    pub logging: Logging,
}

/// Flags of `stop`.
#[derive(Debug, Args)]
pub struct Stop {
    /// Directory of the cluster to end
    #[arg(long, env = "TIPHYS_DATA_DIR", default_value = crate::DATA_DIR, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// End the pods, too
    #[arg(long, env = "TIPHYS_STOP_PODS")]
    pub stop_pods: bool,
}

/// Flags of `reset`.
#[derive(Debug, Args)]
pub struct Reset {
    /// Directory of the cluster to remove
    #[arg(long, env = "TIPHYS_DATA_DIR", default_value = crate::DATA_DIR, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Do it; without this flag, reset only says what it would remove
    #[arg(long)]
    pub yes: bool,
}

/// Words for kubectl.
#[derive(Debug, Args)]
pub struct Kubectl {
    /// Passed on as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    pub args: Vec<std::ffi::OsString>,
}

/// Flags of `image`.
#[derive(Debug, Args)]
pub struct Image {
    /// Directory of the cluster whose node is meant
    #[arg(long, env = "TIPHYS_DATA_DIR", default_value = crate::DATA_DIR, value_name = "DIR", global = true)]
    pub data_dir: PathBuf,
    /// Socket of the runtime, when it is not Tiphys' own
    #[arg(long, env = "TIPHYS_RUNTIME_ENDPOINT", value_name = "unix://PATH", global = true)]
    pub runtime_endpoint: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: ImageCommand,
}

/// What `image` can do.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Load OCI or `docker save` archives (`-` reads standard input)
    Import {
        /// Archives
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// List the node's images
    List,
    /// Remove images from the node
    Remove {
        /// Names or ids
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
}

/// Which shell.
#[derive(Debug, Args)]
pub struct Completion {
    /// Shell
    pub shell: clap_complete::Shell,
}
