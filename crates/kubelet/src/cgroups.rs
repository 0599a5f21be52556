//! Control groups: where those of pods are, what they weigh ([`weights`]), and their end. The runtime removes a container's, the pod's own is ours to
//! remove.

pub(crate) mod weights;

use std::path::{Path, PathBuf};

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

/// Removes a pod's group in every hierarchy. One that is still in use stays: the next clean-up finds it.
pub(crate) fn remove(group: impl AsRef<Path>) {
    let group = group.as_ref();
    for root in roots() {
        remove_tree(&root.join(group.strip_prefix("/").unwrap_or(group)));
    }
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
    let Ok(entries) = std::fs::read_dir(group) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_tree(&entry.path());
    }
    let _ = std::fs::remove_dir(group);
}

#[cfg(test)]
mod tests {
    use super::*;

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
