//! Directories and mounts behind volumes.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::mounts;

/// What an `emptyDir` is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    Disk,
    /// Memory, and the most bytes that it may hold; 0 for no limit.
    Memory(i64),
    /// Huge pages, of a size such as `2M`.
    HugePages(String),
}

/// Makes an `emptyDir`: a directory everyone may write. What a container has made of it since is left as it is.
pub(super) fn empty_dir(at: &Path, medium: &Medium, group: Option<u32>) -> io::Result<()> {
    match medium {
        Medium::Disk => directory(at, group),
        Medium::Memory(size) => memory(at, *size, group),
        Medium::HugePages(size) => {
            if make_mount_point(at)? {
                let options = CString::new(format!("pagesize={size},mode={}", mode(0o777, group)))?;
                mount("hugetlbfs", at, "hugetlbfs", MountFlags::NOSUID, Some(options.as_c_str()))?;
            }
            give(at, group)
        }
    }
}

/// A directory for everyone. It appears under its name with its permissions, so that a kill in between leaves no
/// directory that nobody may write.
pub(super) fn directory(at: &Path, group: Option<u32>) -> io::Result<()> {
    if at.exists() {
        return Ok(());
    }
    let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else { return Ok(()) };
    fs::create_dir_all(parent)?;
    let new = parent.join(format!(".{}.new", name.to_string_lossy()));
    match fs::create_dir(&new) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    open_to_all(&new, group)?;
    fs::rename(&new, at)
}

fn open_to_all(at: &Path, group: Option<u32>) -> io::Result<()> {
    give(at, group)?;
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    fs::set_permissions(at, fs::Permissions::from_mode(mode))
}

fn give(at: &Path, group: Option<u32>) -> io::Result<()> {
    if group.is_some() { chown(at, None, group) } else { Ok(()) }
}

/// Makes the directory of a volume of files, on tmpfs if they are secret.
pub(super) fn files_dir(at: &Path, secret: bool, group: Option<u32>) -> io::Result<()> {
    if secret {
        return memory(at, 0, group);
    }
    fs::create_dir_all(at)?;
    open_to_all(at, group)
}

/// A tmpfs of at most `size` bytes; 0 for no limit. Its permissions come with the mount.
fn memory(at: &Path, size: i64, group: Option<u32>) -> io::Result<()> {
    if !make_mount_point(at)? {
        return Ok(());
    }
    let mut options = format!("mode={}", mode(0o1777, group));
    if let Some(group) = group {
        options.push_str(&format!(",gid={group}"));
    }
    if size > 0 {
        options.push_str(&format!(",size={size}"));
    }
    let tmpfs = |options: String| {
        let options = CString::new(options)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        io::Result::Ok(mount("tmpfs", at, "tmpfs", flags, Some(options.as_c_str()))?)
    };
    // Secrets must not reach a disk by way of swap. Kernels before 6.4 cannot promise that.
    tmpfs(format!("{options},noswap")).or_else(|_| tmpfs(options))
}

/// A mode in octal, with the bit that hands the pod's group on to new files.
fn mode(plain: u32, group: Option<u32>) -> String {
    format!("{:o}", if group.is_some() { plain | 0o2000 } else { plain })
}

/// Makes a directory to mount on. Whether something has to be mounted there yet.
fn make_mount_point(at: &Path) -> io::Result<bool> {
    if let Some(parent) = at.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::create_dir(at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(!mounts::is_point(at)?),
        Err(error) => Err(error),
    }
}

/// Mounts a directory of an NFS server, with the distribution's `mount.nfs`. The error is what `mount` said.
pub(super) fn nfs(at: &Path, source: &str, options: &[String]) -> Result<(), String> {
    if !make_mount_point(at).map_err(|error| error.to_string())? {
        return Ok(());
    }
    let mut arguments = vec!["-t".to_owned(), "nfs".to_owned()];
    if !options.is_empty() {
        arguments.extend(["-o".to_owned(), options.join(",")]);
    }
    // What a pod says is never an option of `mount`.
    arguments.extend(["--".to_owned(), source.to_owned(), at.display().to_string()]);
    let output = Command::new("mount").args(&arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("mount failed: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "mount failed: {}\nMounting command: mount\nMounting arguments: {}\nOutput: {}",
        output.status,
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// Checks that a volume of the mode Block is a device.
pub(super) fn device(path: &Path) -> Result<(), String> {
    match fs::metadata(path) {
        Ok(meta) if meta.file_type().is_block_device() => Ok(()),
        Ok(_) => Err(format!("{} is not a block device", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
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

/// Unmounts everything at and below a pod's directory, the deepest first, then removes its volumes. Nothing is removed
/// through a mount: those files may be someone else's.
pub(super) fn take_down(pod: &Path) -> io::Result<()> {
    if !pod.exists() {
        return Ok(());
    }
    for mount in mounts::below(&pod.canonicalize()?)? {
        unmount(&mount, UnmountFlags::DETACH)?;
    }
    // A `mount` that outlived a killed kubelet may finish just now: a mounted directory refuses this, its files stay.
    let servers = pod.join(super::VOLUMES).join("kubernetes.io~nfs");
    for place in fs::read_dir(servers).into_iter().flatten().flatten() {
        fs::remove_dir(place.path())?;
    }
    for part in [super::VOLUMES, super::SUB_PATHS] {
        match fs::remove_dir_all(pod.join(part)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
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
    fn a_directory_for_everyone_is_never_seen_half_made() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("deep/v");
        let mode = || fs::metadata(&at).unwrap().permissions().mode() & 0o7777;
        // Killed between making it and opening it to all.
        fs::create_dir_all(dir.path().join("deep/.v.new")).unwrap();
        empty_dir(&at, &Medium::Disk, None).unwrap();
        assert_eq!(mode(), 0o777);
        fs::set_permissions(&at, fs::Permissions::from_mode(0o700)).unwrap();
        empty_dir(&at, &Medium::Disk, None).unwrap();
        assert_eq!(mode(), 0o700, "what a container did to it stays");
        let group = std::os::unix::fs::MetadataExt::gid(&fs::metadata(&at).unwrap());
        fs::remove_dir(&at).unwrap();
        empty_dir(&at, &Medium::Disk, Some(group)).unwrap();
        assert_eq!(mode(), 0o2777);
    }

    #[test]
    fn volumes_are_removed_with_what_is_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volumes/kubernetes.io~empty-dir/a");
        empty_dir(&volume, &Medium::Disk, None).unwrap();
        fs::write(volume.join("x"), "x").unwrap();
        take_down(dir.path()).unwrap();
        assert!(!dir.path().join("volumes").exists());
        take_down(dir.path()).unwrap();
        take_down(&dir.path().join("none")).unwrap();
    }
}
