//! Directories and mounts behind volumes.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::mounts;

/// Makes an `emptyDir`: a directory everyone may write, on tmpfs if it is one of memory.
pub(super) fn empty_dir(at: &Path, memory: bool, size: Option<i64>, group: Option<u32>) -> io::Result<()> {
    let fresh = !at.exists();
    fs::create_dir_all(at)?;
    if memory && !is_mount_point(at)? {
        let size = size.map(|size| format!("size={size}"));
        tmpfs(at, size.as_deref())?;
    } else if !fresh {
        return Ok(());
    }
    fs::set_permissions(at, fs::Permissions::from_mode(0o777))?;
    if let Some(group) = group {
        chown(at, None, Some(group))?;
        fs::set_permissions(at, fs::Permissions::from_mode(0o2777))?;
    }
    Ok(())
}

/// Makes the directory of a volume of files, on tmpfs if they are secret.
pub(super) fn files_dir(at: &Path, secret: bool) -> io::Result<()> {
    fs::create_dir_all(at)?;
    if secret && !is_mount_point(at)? {
        tmpfs(at, None)?;
    }
    fs::set_permissions(at, fs::Permissions::from_mode(0o755))
}

fn tmpfs(at: &Path, options: Option<&str>) -> io::Result<()> {
    let options = options.map(std::ffi::CString::new).transpose()?;
    mount("tmpfs", at, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_deref())?;
    Ok(())
}

/// A mount point is on another file system than its parent.
fn is_mount_point(at: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let Some(parent) = at.parent() else { return Ok(true) };
    Ok(fs::symlink_metadata(at)?.dev() != fs::symlink_metadata(parent)?.dev())
}

/// Checks a path of the node against the type the pod asks for, and makes it where the type says so.
pub(super) fn host_path(path: &Path, kind: &str) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let meta = fs::metadata(path);
    let wrong = |what: &str| Err(format!("hostPath type check failed: {} is not a {what}", path.display()));
    match (kind, meta) {
        ("", Ok(_)) => Ok(()),
        // The runtime makes a missing directory of a plain bind mount itself.
        ("" | "DirectoryOrCreate", Err(_)) => fs::create_dir_all(path).map_err(text),
        ("Directory" | "DirectoryOrCreate", Ok(meta)) if meta.is_dir() => Ok(()),
        ("File" | "FileOrCreate", Ok(meta)) if meta.is_file() => Ok(()),
        ("FileOrCreate", Err(_)) => fs::write(path, "").map_err(text),
        ("Socket", Ok(meta)) if meta.file_type().is_socket() => Ok(()),
        ("CharDevice", Ok(meta)) if meta.file_type().is_char_device() => Ok(()),
        ("BlockDevice", Ok(meta)) if meta.file_type().is_block_device() => Ok(()),
        ("Directory" | "DirectoryOrCreate", _) => wrong("directory"),
        ("File" | "FileOrCreate", _) => wrong("file"),
        ("Socket", _) => wrong("socket file"),
        ("CharDevice", _) => wrong("character device"),
        ("BlockDevice", _) => wrong("block device"),
        (other, _) => Err(format!("{other:?} is an invalid volume type")),
    }
}

/// Unmounts everything at and below the volumes' directory, the deepest first, then removes what is left. Nothing is
/// removed through a mount: those files may be someone else's.
pub(super) fn take_down(volumes: &Path) -> io::Result<()> {
    if !volumes.exists() {
        return Ok(());
    }
    for mount in mounts::below(&volumes.canonicalize()?)? {
        unmount(&mount, UnmountFlags::DETACH)?;
    }
    fs::remove_dir_all(volumes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_paths_are_checked_by_type() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        assert!(host_path(&path("d"), "DirectoryOrCreate").is_ok() && path("d").is_dir());
        assert!(host_path(&path("f"), "FileOrCreate").is_ok() && path("f").is_file());
        assert!(host_path(&path("f"), "Directory").unwrap_err().contains("is not a directory"));
        assert!(host_path(&path("no"), "File").is_err());
        assert!(host_path(Path::new("/dev/null"), "CharDevice").is_ok());
        assert!(host_path(&path("d"), "Nonsense").is_err());
    }

    #[test]
    fn volumes_are_removed_with_what_is_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = dir.path().join("volumes");
        empty_dir(&volumes.join("kubernetes.io~empty-dir/a"), false, None, None).unwrap();
        fs::write(volumes.join("kubernetes.io~empty-dir/a/x"), "x").unwrap();
        take_down(&volumes).unwrap();
        assert!(!volumes.exists());
        take_down(&volumes).unwrap();
    }
}
