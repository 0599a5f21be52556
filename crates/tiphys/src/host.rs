//! What the host must offer before a cluster starts: root, programs, free ports, a data directory of a format we know.
//!
//! Each check answers with what to do. Nothing here changes the host, except the format mark of a new data directory.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Programs of the distribution that a node needs, and the package that holds each.
const PROGRAMS: &[(&str, &str)] =
    &[("iptables", "iptables"), ("iptables-restore", "iptables"), ("ip", "iproute2")];

/// Programs that Tiphys' own containerd needs.
const CONTAINERD_PROGRAMS: &[(&str, &str)] =
    &[("containerd", "containerd"), ("ctr", "containerd"), ("runc", "runc")];

/// Format of the data directory that this version writes. A higher one is refused.
const FORMAT: u32 = 1;

/// Fails unless this process is root.
pub fn require_root(what: &str) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    bail!("{what} needs root: it makes network interfaces, mounts and containers. Try: sudo tiphys …")
}

/// Fails unless all programs are installed, naming every package that is missing.
pub fn require_programs(own_containerd: bool) -> Result<()> {
    let needed = PROGRAMS.iter().chain(own_containerd.then_some(CONTAINERD_PROGRAMS).into_iter().flatten());
    let mut missing: Vec<&str> =
        needed.filter(|(program, _)| !on_path(program)).map(|(_, package)| *package).collect();
    if own_containerd && tiphys_runtime::containerd::find_cni_plugins().is_none() {
        missing.push("containernetworking-plugins");
    }
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("missing on this machine: {0}. Install with: apt-get install {0}", missing.join(" "))
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Fails if something listens on the address already; names the flag to change.
pub fn require_free_port(address: SocketAddr, flag: &str) -> Result<()> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!(
                "port {} is taken by another process; end that one or give another port with {flag}",
                address.port()
            )
        }
        Err(error) => {
            Err(error).with_context(|| format!("cannot listen on {address}; choose another with {flag}"))
        }
    }
}

/// Marks a new data directory, and refuses one that a newer version wrote.
pub fn check_format(data_dir: &Path) -> Result<()> {
    let path = data_dir.join("format");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return std::fs::write(&path, format!("{FORMAT}\n"))
                .with_context(|| format!("cannot write {}", path.display()));
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    match text.trim().parse::<u32>() {
        Ok(format) if format <= FORMAT => Ok(()),
        Ok(format) => bail!(
            "{} has format {format}, written by a newer Tiphys; this one reads up to {FORMAT}. Use the newer binary, or \
             another --data-dir. Nothing was changed",
            data_dir.display()
        ),
        Err(_) => bail!("{} is damaged: it holds {text:?} instead of a number", path.display()),
    }
}

/// The host's name, as a node's name must be written.
pub fn node_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_format_is_refused_untouched() {
        let dir = tempfile::tempdir().unwrap();
        check_format(dir.path()).unwrap();
        check_format(dir.path()).unwrap();
        std::fs::write(dir.path().join("format"), "99\n").unwrap();
        let error = check_format(dir.path()).unwrap_err().to_string();
        assert!(error.contains("format 99") && error.contains("newer"), "{error}");
        assert_eq!(std::fs::read_to_string(dir.path().join("format")).unwrap(), "99\n");
    }

    #[test]
    fn a_taken_port_names_the_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = require_free_port(taken.local_addr().unwrap(), "--https-port").unwrap_err().to_string();
        assert!(error.contains("--https-port"), "{error}");
    }
}
