//! Shims: the processes that hold containers, one a pod, started by containerd and outliving it.
//!
//! A containerd that is killed while it starts a shim leaves one that its next start knows nothing of: nobody speaks to
//! it, it holds no container, and it never ends. [`end_forgotten`] ends those, [`end_all`] whatever is left once all
//! containers are removed. A shim is known by its command line, which is the same in containerd 1.6 to 2.x.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use super::Config;

/// Where containerd keeps the bundle of each task of CRI's namespace, below its state.
pub(super) const BUNDLES: &str = "state/io.containerd.runtime.v2.task/k8s.io";

/// Ends the shims that this containerd does not know and that hold nothing. How many there were.
pub fn end_forgotten(config: &Config) -> usize {
    // The bundle is made before the shim is started, and removed after it.
    end(config, |pid, id| !config.dir.join(BUNDLES).join(id).exists() && !has_children(pid))
}

/// Ends all shims of this containerd, which no longer runs. How many there were.
pub fn end_all(config: &Config) -> usize {
    end(config, |_, _| true)
}

fn end(config: &Config, which: impl Fn(i32, &str) -> bool) -> usize {
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let ended = pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let chosen = container_of(&line, &config.socket()).is_some_and(|id| which(*pid, &id));
        chosen && Pid::from_raw(*pid).is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
    });
    ended.count()
}

/// The container that a shim of the containerd at this socket was started for: `…/containerd-shim-… -namespace k8s.io
/// -id ID -address SOCKET`, in any order of the flags.
fn container_of(command_line: &[u8], socket: &Path) -> Option<String> {
    let mut words = command_line.split(|byte| *byte == 0);
    let program = words.next()?.rsplit(|byte| *byte == b'/').next()?;
    if !program.starts_with(b"containerd-shim-") {
        return None;
    }
    let words: Vec<&[u8]> = words.collect();
    let value = |flag: &[u8]| {
        words.windows(2).find_map(|pair| (pair.first()? == &flag).then(|| pair.get(1).copied())?)
    };
    let ours = value(b"-address")? == socket.as_os_str().as_encoded_bytes();
    ours.then(|| String::from_utf8(value(b"-id")?.to_vec()).ok())?
}

/// Whether a process has children: containers' processes are their shim's, whichever of its threads they belong to.
fn has_children(pid: i32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().any(|thread| {
        std::fs::read(thread.path().join("children")).is_ok_and(|children| !children.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shim_is_known_by_its_socket() {
        let line =
            b"/usr/bin/containerd-shim-runc-v2\0-namespace\0k8s.io\0-id\0abc\0-address\0/x/containerd.sock\0";
        assert_eq!(container_of(line, Path::new("/x/containerd.sock")).as_deref(), Some("abc"));
        assert_eq!(container_of(line, Path::new("/y/containerd.sock")), None);
        assert_eq!(
            container_of(b"/usr/bin/containerd\0-address\0/x/containerd.sock\0", Path::new("/x")),
            None
        );
    }

    #[test]
    fn children_are_those_of_any_thread() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(has_children(own));
        assert!(!has_children(i32::try_from(child.id()).unwrap()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
