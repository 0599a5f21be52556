//! The control groups of pods, taken away when nothing is left in them.
//!
//! The kernel removes only empty groups, and a group with children is not empty: so the groups of another cluster's running
//! pods stay. Another's idle parents may go; its kubelet makes them again with its next pod.

use std::fs;
use std::path::Path;

/// Where control groups are mounted: one hierarchy (v2) or one directory per controller (v1).
const MOUNT: &str = "/sys/fs/cgroup";

/// Removes every empty group below (and with) `name` at the root of each hierarchy.
pub fn remove_empty(name: &str) {
    let mount = Path::new(MOUNT);
    let controllers = fs::read_dir(mount).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    for root in controllers.chain([mount.to_owned()]) {
        tiphys_kubelet::cgroups::remove_tree(&root.join(name));
    }
}
