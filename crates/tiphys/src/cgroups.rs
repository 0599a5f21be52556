//! The control groups of pods, taken away when nothing is left in them.
//!
//! The kernel removes only empty groups, and a group with children is not empty: so what another cluster on this machine
//! still uses stays by itself.

use std::fs;
use std::path::Path;

/// Where control groups are mounted: one hierarchy (v2) or one directory per controller (v1).
const MOUNT: &str = "/sys/fs/cgroup";

/// Removes every empty group below (and with) `name` at the root of each hierarchy.
pub fn remove_empty(name: &str) {
    let mount = Path::new(MOUNT);
    let controllers = fs::read_dir(mount).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    for root in controllers.chain([mount.to_owned()]) {
        remove_tree(&root.join(name));
    }
}

/// Children first. What is in use refuses, and so keeps its parents.
fn remove_tree(group: &Path) {
    let children = fs::read_dir(group).into_iter().flatten().filter_map(Result::ok);
    for child in children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_tree(&child.path());
    }
    let _ = fs::remove_dir(group);
}
