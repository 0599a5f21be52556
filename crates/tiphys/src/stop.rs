//! `tiphys stop`: ends the process that holds a data directory, and waits until it is gone.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cli::Stop;
use crate::{lock, up};

/// What an end may take beyond its own limit, at which the process ends itself.
const SPARE: Duration = Duration::from_secs(10);
/// How long is waited for an end with pods, whose time is set in the kubelet's configuration.
const WITH_PODS: Duration = Duration::from_secs(900);

/// Ends the cluster of a data directory.
pub fn run(args: &Stop) -> Result<()> {
    let ended = end(&args.data_dir, args.stop_pods)?;
    match (ended, args.stop_pods) {
        (false, _) => println!("Nothing runs with the data directory {}.", args.data_dir.display()),
        (true, true) => println!("Stopped, and its pods with it."),
        (true, false) => println!("Stopped. Its pods keep running; `tiphys up` takes them over again."),
    }
    Ok(())
}

/// Ends the holder of a data directory; says whether there was one.
///
/// SIGTERM keeps pods; SIGUSR2 asks the process to end them first.
pub fn end(data_dir: &Path, stop_pods: bool) -> Result<bool> {
    let Some(pid) = lock::holder(data_dir)?.and_then(Pid::from_raw) else { return Ok(false) };
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(false) };
    let signal = if stop_pods { Signal::USR2 } else { Signal::TERM };
    pidfd_send_signal(&process, signal)
        .with_context(|| format!("cannot signal process {}", pid.as_raw_nonzero()))?;
    let mut events = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
    let within = if stop_pods { WITH_PODS } else { up::WITHIN + SPARE };
    let timeout = within.try_into().context("the time limit")?;
    if rustix::event::poll(&mut events, Some(&timeout))? == 0 {
        bail!("process {} has not ended after {} s; see its log", pid.as_raw_nonzero(), within.as_secs());
    }
    Ok(true)
}
