//! Mounts below a directory, found and undone.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{UnmountFlags, unmount};

/// Mount points below a directory, deepest first.
pub fn under(dir: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    points(&table, dir)
}

/// Unmounts everything below a directory.
pub fn unmount_under(dir: &Path) -> Result<()> {
    for point in under(dir) {
        unmount(&point, UnmountFlags::DETACH)
            .with_context(|| format!("cannot unmount {}", point.display()))?;
    }
    Ok(())
}

fn points(table: &str, dir: &Path) -> Vec<PathBuf> {
    let second = |line: &str| line.split(' ').nth(1).map(unescape);
    let mut points: Vec<PathBuf> = table.lines().filter_map(second).filter(|p| p.starts_with(dir)).collect();
    points.sort_unstable_by(|a, b| b.cmp(a));
    points
}

/// Undoes the kernel's octal escapes of blanks and backslashes.
fn unescape(field: &str) -> PathBuf {
    let text = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (escape, plain)| text.replace(escape, plain));
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_mounts_come_first() {
        let table = "x / ext4 rw 0 0\na /d/a tmpfs rw 0 0\nb /d/a/b\\040c tmpfs rw 0 0\nc /da tmpfs rw 0 0\n";
        assert_eq!(points(table, Path::new("/d")), [PathBuf::from("/d/a/b c"), PathBuf::from("/d/a")]);
    }
}
