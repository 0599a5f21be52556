//! Flags about where the cluster's state is kept, and the commands that copy it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

/// The store of a running master: its own, or an etcd cluster.
#[derive(Clone, Debug, Default, Args)]
pub struct Storage {
    /// The etcd cluster.
    #[command(flatten)]
    pub etcd: EtcdFlags,
    /// Answer etcd's clients (etcdctl, other API servers) here, as ADDRESS:PORT; they show pki/admin.crt, or another
    /// certificate of the cluster's CA with O=system:masters
    #[arg(long, env = "TIPHYS_ETCD_LISTEN", value_name = "ADDRESS:PORT", help_heading = "State store")]
    pub etcd_listen: Option<SocketAddr>,
}

/// How an etcd cluster is reached, under kube-apiserver's names.
#[derive(Clone, Debug, Default, Args)]
pub struct EtcdFlags {
    /// Keep the state in this etcd cluster instead of --data-dir: URLs of its members, as
    /// https://10.0.0.1:2379,https://10.0.0.2:2379
    #[arg(
        long,
        env = "TIPHYS_ETCD_SERVERS",
        value_delimiter = ',',
        value_name = "URL",
        help_heading = "State store"
    )]
    pub etcd_servers: Vec<String>,
    /// CA that the etcd servers' certificates are checked with
    #[arg(long, env = "TIPHYS_ETCD_CAFILE", value_name = "FILE", help_heading = "State store")]
    pub etcd_cafile: Option<PathBuf>,
    /// Certificate to show to etcd
    #[arg(
        long,
        env = "TIPHYS_ETCD_CERTFILE",
        value_name = "FILE",
        requires = "etcd_keyfile",
        help_heading = "State store"
    )]
    pub etcd_certfile: Option<PathBuf>,
    /// Key of that certificate
    #[arg(
        long,
        env = "TIPHYS_ETCD_KEYFILE",
        value_name = "FILE",
        requires = "etcd_certfile",
        help_heading = "State store"
    )]
    pub etcd_keyfile: Option<PathBuf>,
    /// User of etcd's own authentication, where it is switched on
    #[arg(
        long,
        env = "TIPHYS_ETCD_USERNAME",
        value_name = "NAME",
        requires = "etcd_password_file",
        help_heading = "State store"
    )]
    pub etcd_username: Option<String>,
    /// File with that user's password
    #[arg(
        long,
        env = "TIPHYS_ETCD_PASSWORD_FILE",
        value_name = "FILE",
        requires = "etcd_username",
        help_heading = "State store"
    )]
    pub etcd_password_file: Option<PathBuf>,
}

/// Flags of `store`.
#[derive(Debug, Args)]
pub struct StoreFlags {
    /// What to do.
    #[command(subcommand)]
    pub command: StoreCommand,
}

/// What `store` can do.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Copy the whole state from one store into another, empty one
    #[command(after_help = MIGRATE_HELP)]
    Migrate(Migrate),
}

const MIGRATE_HELP: &str = "\
Examples:
  tiphys stop                      nothing may write to the old store meanwhile
  tiphys store migrate --from /var/lib/tiphys --to https://10.0.0.1:2379 --etcd-cafile ca.crt \\
      --etcd-certfile client.crt --etcd-keyfile client.key
  tiphys up --etcd-servers https://10.0.0.1:2379 ...
  tiphys store migrate --from http://127.0.0.1:2379 --to /var/lib/tiphys        the way back

What was written earlier stays earlier: the order of all revisions is kept. A directory gets them as they were; an etcd
cluster counts its own, so that clients list again once. Keys and certificates stay where they are, in --data-dir.";

/// Flags of `store migrate`.
#[derive(Debug, Args)]
pub struct Migrate {
    /// Data directory of a stopped cluster, or URLs of etcd's members
    #[arg(long, value_name = "DIR|URL")]
    pub from: String,
    /// Data directory without a store, or URLs of an etcd cluster without keys
    #[arg(long, value_name = "DIR|URL")]
    pub to: String,
    /// How the etcd side is reached.
    #[command(flatten)]
    pub files: EtcdFlags,
}

/// Flags of `backup`.
#[derive(Debug, Args)]
pub struct BackupFlags {
    /// What to do.
    #[command(subcommand)]
    pub command: BackupCommand,
}

/// What `backup` can do.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Write everything that is needed to bring the cluster back into one file, while it runs
    #[command(after_help = CREATE_HELP)]
    Create(BackupCreate),
    /// Read a backup to its end, check every checksum, and say what it holds
    Verify(BackupVerify),
    /// Make a cluster's data directory from a backup, on this machine or another
    #[command(after_help = RESTORE_HELP)]
    Restore(BackupRestore),
}

const CREATE_HELP: &str = "\
Examples:
  tiphys backup create /srv/backup/monday.tar
  tiphys backup create --data-dir /srv/two /srv/backup/two.tar

The file holds the cluster's keys: whoever reads it owns the cluster. It is a tar archive, written whole or not at all.";

const RESTORE_HELP: &str = "\
Examples:
  tiphys backup restore monday.tar                                   into /var/lib/tiphys, which must hold no cluster
  tiphys backup restore monday.tar --etcd-servers http://10.0.0.1:2379     the state into an empty etcd cluster

Then start it as always. On a machine with another address, certificates and kubeconfigs are made anew from the restored
CA; nodes elsewhere are told the new address in their kubeconfigs.";

/// Flags of `backup create`.
#[derive(Debug, Args)]
pub struct BackupCreate {
    /// File to write; it must not exist
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Directory of the cluster
    #[arg(long, env = "TIPHYS_DATA_DIR", default_value = crate::DATA_DIR, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Where its state is, if it is in etcd and no master runs here.
    #[command(flatten)]
    pub etcd: EtcdFlags,
}

/// Flags of `backup verify`.
#[derive(Debug, Args)]
pub struct BackupVerify {
    /// File to read
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Flags of `backup restore`.
#[derive(Debug, Args)]
pub struct BackupRestore {
    /// File to read
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Directory to make; it may exist, but hold no cluster
    #[arg(long, env = "TIPHYS_DATA_DIR", default_value = crate::DATA_DIR, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Where the state goes, if not into that directory.
    #[command(flatten)]
    pub etcd: EtcdFlags,
}
