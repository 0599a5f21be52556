//! `fsGroup`: hands a volume's files over to the pod's group.
//!
//! As Kubernetes does it: the group may read and write everything, enter every directory, and new files inherit it. The
//! root of the volume comes last, so that with `OnRootMismatch` a walk that was cut short is done again. Whoever has the
//! volume mounted may swap links meanwhile: every path is resolved without links, and changed by its file descriptor.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, chownat, fstat, open, openat, openat2,
};

const READ_WRITE: u32 = 0o660;
/// For directories: the group may enter them, and new files belong to it.
const ENTER_AND_INHERIT: u32 = 0o2110;

/// The pod's group, and how to hand volumes over to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) id: u32,
    /// Only if the volume's root does not belong to it yet.
    pub(super) on_root_mismatch: bool,
}

/// Hands everything in a volume over to the group.
pub(super) fn hand_over(volume: &Path, group: Group) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = open(volume, flags, Mode::empty())?;
    let stat = fstat(&root)?;
    if group.on_root_mismatch && matches(&stat, group.id) {
        return Ok(());
    }
    let mut dirs = match is_dir(&stat) {
        true => vec![PathBuf::from(".")],
        false => Vec::new(),
    };
    while let Some(path) = dirs.pop() {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        // What vanishes while the volume is in use needs no group.
        let Ok(dir) = openat2(&root, &path, OFlags::RDONLY | flags_of_dir(), Mode::empty(), resolve) else {
            continue;
        };
        dirs.extend(entries(&dir, group.id)?.into_iter().map(|name| path.join(name)));
    }
    change(&root, &stat, group.id)
}

fn flags_of_dir() -> OFlags {
    OFlags::DIRECTORY | OFlags::CLOEXEC
}

/// Changes all that is in a directory. Returns the names of the directories among it.
fn entries(dir: &OwnedFd, group: u32) -> io::Result<Vec<PathBuf>> {
    let mut dirs = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = Path::new(OsStr::from_bytes(entry.file_name().to_bytes()));
        if name == Path::new(".") || name == Path::new("..") {
            continue;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(found) = openat(dir, name, flags, Mode::empty()) else { continue };
        let stat = fstat(&found)?;
        change(&found, &stat, group)?;
        if is_dir(&stat) {
            dirs.push(name.to_owned());
        }
    }
    Ok(dirs)
}

fn change(file: &OwnedFd, stat: &Stat, group: u32) -> io::Result<()> {
    chownat(file, "", None, Some(Gid::from_raw(group)), AtFlags::EMPTY_PATH)?;
    if FileType::from_raw_mode(stat.st_mode).is_symlink() {
        return Ok(());
    }
    // A descriptor that only names a file cannot change its mode; the link to it can.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::set_permissions(path, fs::Permissions::from_mode(wanted(stat)))
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_dir()
}

fn wanted(stat: &Stat) -> u32 {
    let more = if is_dir(stat) { ENTER_AND_INHERIT } else { 0 };
    (stat.st_mode & 0o7777) | READ_WRITE | more
}

/// Whether a volume's root is already as it would be made.
fn matches(stat: &Stat, group: u32) -> bool {
    stat.st_gid == group && stat.st_mode & 0o7777 == wanted(stat)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn everything_in_the_volume_is_handed_over_and_nothing_outside() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, outside) = (dir.path().join("v"), dir.path().join("outside"));
        fs::create_dir_all(volume.join("sub/deeper")).unwrap();
        fs::write(volume.join("sub/deeper/f"), "").unwrap();
        fs::write(&outside, "").unwrap();
        fs::set_permissions(volume.join("sub/deeper"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(volume.join("sub/deeper/f"), fs::Permissions::from_mode(0o400)).unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o400)).unwrap();
        symlink(&outside, volume.join("link")).unwrap();
        let id = fs::metadata(&volume).unwrap().gid();
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o7777;
        let group = Group { id, on_root_mismatch: false };
        hand_over(&volume, group).unwrap();
        assert_eq!(mode(&volume.join("sub/deeper")), 0o2775);
        assert_eq!(mode(&volume.join("sub/deeper/f")), 0o660);
        assert_eq!(mode(&outside), 0o400);
        // A volume whose root fits is left alone, if the pod says so.
        fs::set_permissions(volume.join("sub/deeper/f"), fs::Permissions::from_mode(0o600)).unwrap();
        hand_over(&volume, Group { on_root_mismatch: true, ..group }).unwrap();
        assert_eq!(mode(&volume.join("sub/deeper/f")), 0o600);
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o755)).unwrap();
        hand_over(&volume, Group { on_root_mismatch: true, ..group }).unwrap();
        assert_eq!(mode(&volume.join("sub/deeper/f")), 0o660);
    }
}
