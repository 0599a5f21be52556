//! Mounts below a directory, undone.

use std::path::Path;

use anyhow::{Context, Result};
use rustix::mount::{UnmountFlags, unmount};

/// Unmounts everything below a directory. An error leaves what is below in place: removing the directory then would
/// reach through the mounts.
pub fn unmount_under(dir: &Path) -> Result<()> {
    let points = tiphys_kubelet::mounts::below(dir).context("cannot read the kernel's list of mounts")?;
    for point in points {
        unmount(&point, UnmountFlags::DETACH)
            .with_context(|| format!("cannot unmount {}", point.display()))?;
    }
    Ok(())
}
