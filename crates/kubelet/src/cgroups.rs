//! Control groups that pods leave behind: the runtime removes a container's, the pod's own is ours to remove.

use std::path::{Path, PathBuf};

const MOUNT: &str = "/sys/fs/cgroup";

/// Whether this machine has version 2 alone.
pub(crate) fn unified() -> bool {
    Path::new(MOUNT).join("cgroup.controllers").exists()
}

/// Removes a pod's group in every hierarchy. One that is still in use stays: the next clean-up finds it.
pub(crate) fn remove(parent: &str) {
    for root in roots() {
        let group = root.join(parent.trim_start_matches('/'));
        remove_tree(&group);
    }
}

fn roots() -> Vec<PathBuf> {
    let mount = PathBuf::from(MOUNT);
    if unified() {
        return vec![mount];
    }
    let Ok(entries) = std::fs::read_dir(&mount) else { return Vec::new() };
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
