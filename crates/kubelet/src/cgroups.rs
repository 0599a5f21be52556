//! Control groups: where those of pods are, what they weigh ([`weights`]), and their end. The runtime removes a container's, the pod's own is ours to
//! remove.

pub(crate) mod weights;

use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::pod::Qos;

const MOUNT: &str = "/sys/fs/cgroup";

/// Where this machine has its control groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Where they are mounted.
    pub(crate) mount: PathBuf,
    /// Version 2 alone: one hierarchy. Else there is one for each controller.
    pub(crate) unified: bool,
}

impl Layout {
    /// That of this machine.
    pub(crate) fn here() -> Self {
        let mount = PathBuf::from(MOUNT);
        let unified = mount.join("cgroup.controllers").exists();
        Self { mount, unified }
    }

    /// The directory of a group, given as the path below its hierarchy's root.
    pub(crate) fn group(&self, controller: &str, path: &Path) -> PathBuf {
        let path = path.strip_prefix("/").unwrap_or(path);
        if self.unified { self.mount.join(path) } else { self.mount.join(controller).join(path) }
    }
}

/// Who makes control groups: this process and the runtime as directories, or systemd as units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// Directories.
    #[default]
    Cgroupfs,
    /// Slices and scopes.
    Systemd,
}

impl Driver {
    /// A pod's group as the runtime is told it: a path, or the name of a slice.
    pub(crate) fn parent(self, root: &str, qos: Qos, uid: &str) -> String {
        match self {
            Self::Cgroupfs => self.path(root, qos, uid).display().to_string(),
            Self::Systemd => slices(root, qos, uid).pop().unwrap_or_default(),
        }
    }

    /// The same as a path below the root of a hierarchy.
    pub(crate) fn path(self, root: &str, qos: Qos, uid: &str) -> PathBuf {
        match self {
            Self::Systemd => Path::new("/").join(slices(root, qos, uid).iter().collect::<PathBuf>()),
            Self::Cgroupfs => class(root, qos).join(format!("pod{uid}")),
        }
    }

    /// The group of all pods of a class, as a path below the root of a hierarchy.
    pub(crate) fn class(self, root: &str, qos: Qos) -> PathBuf {
        match self {
            Self::Cgroupfs => class(root, qos),
            Self::Systemd => self.path(root, qos, "").parent().map(Path::to_path_buf).unwrap_or_default(),
        }
    }
}

fn class(root: &str, qos: Qos) -> PathBuf {
    let root = Path::new(root);
    match qos {
        Qos::Guaranteed => root.to_owned(),
        Qos::Burstable => root.join("burstable"),
        Qos::BestEffort => root.join("besteffort"),
    }
}

/// The names of a pod's slice and of those above it: each carries the whole path, in which a dash is a level.
fn slices(root: &str, qos: Qos, uid: &str) -> Vec<String> {
    let levels = root.split('/').filter(|level| !level.is_empty()).map(str::to_owned);
    let class = match qos {
        Qos::Guaranteed => None,
        Qos::Burstable => Some("burstable".to_owned()),
        Qos::BestEffort => Some("besteffort".to_owned()),
    };
    let pod = format!("pod{}", uid.replace('-', "_"));
    let mut name = String::new();
    let grow = |level: String| {
        name = if name.is_empty() { level } else { format!("{name}-{level}") };
        format!("{name}.slice")
    };
    levels.chain(class).chain([pod]).map(grow).collect()
}

/// Ends what still runs in a pod's group and removes the group, in every hierarchy. An error while something is left.
///
/// Nothing runs there when all has gone well. But a runtime that is killed while it starts a container forgets the
/// process it has made, which would wait for it for ever.
pub(crate) fn remove(group: impl AsRef<Path>) -> io::Result<()> {
    let group = group.as_ref();
    let groups = || roots().into_iter().map(|root| root.join(group.strip_prefix("/").unwrap_or(group)));
    groups().for_each(|group| kill(&group));
    groups().for_each(|group| remove_tree(&group));
    match groups().find(|group| group.exists()) {
        Some(left) => Err(io::Error::other(format!("control group {} is still in use", left.display()))),
        None => Ok(()),
    }
}

/// Kills the processes of a group and of those below it.
fn kill(group: &Path) {
    below(group).for_each(|group| kill(&group));
    let pids = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in pids.lines().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
        // One that has ended meanwhile is what was wanted.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// The groups in a group.
fn below(group: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(group).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

fn roots() -> Vec<PathBuf> {
    let layout = Layout::here();
    if layout.unified {
        return vec![layout.mount];
    }
    let Ok(entries) = std::fs::read_dir(&layout.mount) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Removes a group and those below it, as far as they are empty. Groups are directories whose files cannot be removed;
/// empty ones go by `rmdir`, children first.
pub fn remove_tree(group: &Path) {
    below(group).for_each(|group| remove_tree(&group));
    let _ = std::fs::remove_dir(group);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_in_a_group_is_killed() {
        let group = tempfile::tempdir().unwrap();
        let inner = group.path().join("container");
        std::fs::create_dir(&inner).unwrap();
        let mut left = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        std::fs::write(inner.join("cgroup.procs"), format!("{}\n", left.id())).unwrap();
        kill(group.path());
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&left.wait().unwrap()), Some(9));
    }

    #[test]
    fn pods_are_where_their_driver_puts_them() {
        let files = Driver::Cgroupfs;
        assert_eq!(files.parent("/kubepods", Qos::Burstable, "a-b"), "/kubepods/burstable/poda-b");
        assert_eq!(files.path("/kubepods", Qos::Guaranteed, "u"), Path::new("/kubepods/podu"));
        let systemd = Driver::Systemd;
        assert_eq!(systemd.parent("/kubepods", Qos::Burstable, "a-b"), "kubepods-burstable-poda_b.slice");
        assert_eq!(
            systemd.path("/kubepods", Qos::BestEffort, "u"),
            Path::new("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podu.slice")
        );
        assert_eq!(systemd.class("/kubepods", Qos::Guaranteed), Path::new("/kubepods.slice"));
    }
}
