//! The sandbox's first process: it holds the pod's namespaces, collects orphaned children, and ends when told.

use std::process::ExitCode;

use anyhow::Result;
use rustix::process::{Pid, WaitOptions, waitpid};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Sleeps between signals; ends at SIGTERM or SIGINT.
pub(super) fn run() -> Result<ExitCode> {
    let mut signals = Signals::new([SIGCHLD, SIGINT, SIGTERM])?;
    for signal in signals.forever() {
        if signal != SIGCHLD {
            break;
        }
        // Every process of a pod that shares one process namespace ends up here when its parent is gone.
        while let Ok(Some(_)) = waitpid(None::<Pid>, WaitOptions::NOHANG) {}
    }
    Ok(ExitCode::SUCCESS)
}
