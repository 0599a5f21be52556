//! The CLI: `tiphys kubectl …`.
//!
//! For now it is the official kubectl, found on the machine and pointed at this cluster; an own CLI has its own issue.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, anyhow};

/// Becomes kubectl. Returns only if that fails. An explicit `KUBECONFIG` or `--kubeconfig` comes before the default.
pub fn run(args: &[OsString], default_kubeconfig: &Path) -> Result<()> {
    let mut command = Command::new("kubectl");
    command.args(args);
    if std::env::var_os("KUBECONFIG").is_none() && default_kubeconfig.exists() {
        command.env("KUBECONFIG", default_kubeconfig);
    }
    let error = command.exec();
    Err(anyhow!("cannot run kubectl: {error}; install it, for example: apt-get install kubernetes-client"))
}
