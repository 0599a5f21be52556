//! Parts of volumes (`subPath`), shown to containers so that nothing outside the volume can be reached.
//!
//! Whoever writes into a volume may put symbolic links there, and swap them at any time. So a path is never looked at
//! twice: the kernel resolves it once, refusing to leave the volume (`openat2`), and what it found is bound, by its file
//! descriptor, to a place below the pod's directory that no container can write to. Only that place is told to the
//! runtime. The mounts go with the pod. Volumes that are read-only with all that is mounted in them are bound likewise.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, open, openat2};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount_bind, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};

use crate::container::Part;
use crate::mounts;

/// How often a path is resolved anew that someone renames meanwhile.
const TRIES: usize = 64;

/// Finds a part of a volume, made as a directory if it is not there, and binds it to its place.
pub(super) fn bind(part: &Part) -> io::Result<()> {
    let found = find(&part.volume, Path::new(&part.path))?;
    let stat = fstat(&found)?;
    let place = part.place.as_path();
    if let Ok(meta) = fs::symlink_metadata(place) {
        let same = (meta.dev(), meta.ino()) == (stat.st_dev, stat.st_ino);
        if same && !part.recursive_read_only {
            return Ok(());
        }
        // What the volume showed when the container was last started.
        let _ = unmount(place, UnmountFlags::DETACH);
    }
    make_place(place, FileType::from_raw_mode(stat.st_mode).is_dir())?;
    let source = format!("/proc/self/fd/{}", found.as_raw_fd());
    if !part.recursive_read_only {
        return Ok(mount_bind(source, place)?);
    }
    mount_bind_recursive(source, place)?;
    mount_change(place, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    close(place)
}

/// Makes the mounts at and below a place read-only. What else they forbid stays forbidden.
fn close(place: &Path) -> io::Result<()> {
    for (point, options) in mounts::options_below(&place.canonicalize()?)? {
        let kept = options.split(|byte| *byte == b',').filter_map(|option| {
            let known = FLAGS.iter().find(|(name, _)| name.as_bytes() == option);
            known.map(|(_, flag)| *flag)
        });
        let flags = kept.fold(MountFlags::BIND | MountFlags::RDONLY, |all, flag| all | flag);
        mount_remount(&point, flags, "")?;
    }
    Ok(())
}

/// Options of a mount as the kernel lists them.
const FLAGS: &[(&str, MountFlags)] = &[
    ("nosuid", MountFlags::NOSUID),
    ("nodev", MountFlags::NODEV),
    ("noexec", MountFlags::NOEXEC),
    ("noatime", MountFlags::NOATIME),
    ("nodiratime", MountFlags::NODIRATIME),
    ("relatime", MountFlags::RELATIME),
];

/// Something to mount over, of the kind that is to be mounted.
fn make_place(place: &Path, dir: bool) -> io::Result<()> {
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::symlink_metadata(place) {
        Ok(meta) if meta.is_dir() == dir => return Ok(()),
        Ok(meta) if meta.is_dir() => fs::remove_dir(place)?,
        Ok(_) => fs::remove_file(place)?,
        Err(_) => {}
    }
    if dir { fs::create_dir(place) } else { fs::File::create_new(place).map(drop) }
}

/// The part itself, whatever happens to its path from now on.
fn find(volume: &Path, part: &Path) -> io::Result<OwnedFd> {
    if !part.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it must be a relative path below the volume",
        ));
    }
    let root = open(volume, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if part.as_os_str().is_empty() {
        return Ok(root);
    }
    match beneath(&root, part) {
        Err(Errno::NOENT) => make(&root, part),
        found => Ok(found?),
    }
}

/// Opens a path that stays below the root all the way, links included.
fn beneath(root: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut found = Err(Errno::AGAIN);
    for _ in 0..TRIES {
        found = openat2(root.as_fd(), path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve);
        if !matches!(found, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    found
}

/// Makes the directories that are missing, each with the permissions of the volume.
fn make(root: &OwnedFd, part: &Path) -> io::Result<OwnedFd> {
    let mode = Mode::from_raw_mode(fstat(root)?.st_mode & 0o7777);
    let mut path = PathBuf::new();
    let mut parent = beneath(root, Path::new("."))?;
    for name in part.components() {
        path.push(name);
        parent = match beneath(root, &path) {
            Err(Errno::NOENT) => {
                let made = mkdirat(&parent, name.as_os_str(), mode);
                let dir = beneath(root, &path).map_err(|error| made.err().unwrap_or(error))?;
                if made.is_ok() {
                    // The process's mask took some of it away.
                    let at = format!("/proc/self/fd/{}", dir.as_raw_fd());
                    fs::set_permissions(at, fs::Permissions::from_mode(mode.as_raw_mode()))?;
                }
                dir
            }
            found => found?,
        };
    }
    Ok(parent)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn path_of(fd: &OwnedFd) -> PathBuf {
        fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap()
    }

    /// A volume, and beside it what must not be reached.
    fn volume() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (volume, secret) = (root.join("volume"), root.join("secret"));
        fs::create_dir(&volume).unwrap();
        fs::create_dir(&secret).unwrap();
        (dir, volume, secret)
    }

    #[test]
    fn parts_are_found_or_made_with_the_volumes_permissions() {
        let (_dir, volume, _) = volume();
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o2777)).unwrap();
        let made = find(&volume, Path::new("a/./b")).unwrap();
        assert_eq!(path_of(&made), volume.join("a/b"));
        for made in ["a", "a/b"] {
            assert_eq!(fs::metadata(volume.join(made)).unwrap().mode() & 0o7777, 0o2777);
        }
        fs::write(volume.join("a/file"), "").unwrap();
        assert_eq!(path_of(&find(&volume, Path::new("a/file")).unwrap()), volume.join("a/file"));
        assert!(find(&volume, Path::new("a/file/below")).is_err());
        // As the files of a ConfigMap are laid out.
        symlink("a", volume.join("..data")).unwrap();
        symlink("..data/file", volume.join("file")).unwrap();
        assert_eq!(path_of(&find(&volume, Path::new("file")).unwrap()), volume.join("a/file"));
        assert_eq!(path_of(&find(&volume, Path::new("..data/new")).unwrap()), volume.join("a/new"));
    }

    #[test]
    fn links_do_not_lead_out_and_nothing_is_made_outside() {
        let (_dir, volume, secret) = volume();
        let links = [
            ("absolute", secret.to_str().unwrap()),
            ("relative", "../secret"),
            ("root", "/"),
            ("self", "/proc/self/root"),
            ("dangling", "../secret/new"),
            ("loop", "loop"),
        ];
        fs::create_dir(volume.join("d")).unwrap();
        symlink("../../secret", volume.join("d/up")).unwrap();
        for (name, to) in links {
            symlink(to, volume.join(name)).unwrap();
            assert!(find(&volume, Path::new(name)).is_err(), "{name}");
            assert!(find(&volume, &Path::new(name).join("below")).is_err(), "{name}");
        }
        for bad in ["d/up", "d/up/x", "..", "d/../..", "/etc", "d/../../secret"] {
            assert!(find(&volume, Path::new(bad)).is_err(), "{bad}");
        }
        assert_eq!(fs::read_dir(&secret).unwrap().count(), 0);
    }

    #[test]
    fn a_swapped_link_never_wins() {
        let (_dir, volume, secret) = volume();
        let stop = AtomicBool::new(false);
        fs::create_dir(volume.join("good")).unwrap();
        symlink(&secret, volume.join("bad")).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // `part` is a directory, a link out, or nothing.
                    let _ = fs::rename(volume.join("good"), volume.join("part"));
                    let _ = fs::rename(volume.join("part"), volume.join("good"));
                    let _ = fs::rename(volume.join("bad"), volume.join("part"));
                    let _ = fs::rename(volume.join("part"), volume.join("bad"));
                }
            });
            for _ in 0..2000 {
                if let Ok(found) = find(&volume, Path::new("part/below")) {
                    assert!(path_of(&found).starts_with(&volume), "{:?}", path_of(&found));
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(fs::read_dir(&secret).unwrap().count(), 0);
    }
}
