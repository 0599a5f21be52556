//! Tiphys' own containerd: its configuration, its process, and images given to it as files.
//!
//! - Everything lies under one directory (configuration, root, state, socket), so that a containerd or Docker that is
//!   already on the machine is left alone.
//! - The process outlives a killed Tiphys, and its shims outlive it: containers keep running through both. A new
//!   start finds the running process by its command line and takes it over; there is no pid file to go stale.
//! - Readiness is containerd's own word (systemd's notify protocol), not a poll of the socket.

pub mod config;
mod connect;
pub mod images;
mod keep;
mod networks;
mod process;
pub mod shims;

pub use connect::connect;
pub use keep::Kept;
pub use process::{Containerd, Error};

use std::path::{Path, PathBuf};

/// Where things of one containerd lie, and what it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Holds everything else; made when missing.
    pub dir: PathBuf,
    /// Directory of the CNI plugins' programs.
    pub cni_bin_dir: PathBuf,
    /// Directory of the CNI configuration.
    pub cni_conf_dir: PathBuf,
    /// Directory in which `host-local` keeps the addresses, in one for each network.
    pub cni_state_dir: PathBuf,
    /// Image of pod sandboxes.
    pub sandbox_image: String,
    /// File that containerd's own messages go to.
    pub log_file: PathBuf,
    /// Whether scores of the out-of-memory killer may not be lowered (no `CAP_SYS_RESOURCE`).
    pub restrict_oom_score: bool,
}

impl Config {
    /// The file that containerd reads.
    pub fn file(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    /// The socket that containerd serves.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("containerd.sock")
    }
}

/// Where distributions put the CNI plugins; the first directory that holds `bridge`.
pub fn find_cni_plugins() -> Option<PathBuf> {
    ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"]
        .into_iter()
        .map(Path::new)
        .find(|dir| dir.join("bridge").exists())
        .map(Path::to_owned)
}

/// Whether this process may lower out-of-memory scores (`CAP_SYS_RESOURCE`, bit 24 of the effective set).
pub fn may_lower_oom_score() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|set| set & (1 << 24) != 0)
}
