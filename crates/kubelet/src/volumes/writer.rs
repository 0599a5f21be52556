//! Writes a set of files so that readers see all of the old or all of the new ones, never a mix.
//!
//! The layout is that of Kubernetes' atomic writer, which programs rely on to notice changes:
//! `name -> ..data/name`, `..data -> ..2026_11_22_10_00_00.000000001/`. A change makes a new directory and renames a
//! new `..data` over the old one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// Contents and mode of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) data: Vec<u8>,
    pub(crate) mode: u32,
    /// Owner, where it is not root.
    pub(crate) owner: Option<u32>,
}

/// Files by relative path.
pub(crate) type Payload = BTreeMap<String, File>;

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Makes `dir` show exactly this payload. Returns whether anything changed.
///
/// It may be cut short anywhere: until `..data` is renamed readers see the old files, and the next call makes up for
/// what was left out after it.
pub(crate) fn write(dir: &Path, payload: &Payload, group: Option<u32>, now: Timestamp) -> io::Result<bool> {
    for path in payload.keys() {
        check(path)?;
    }
    let current = fs::read_link(dir.join(DATA)).ok();
    let changed = !current.as_ref().is_some_and(|current| same(&dir.join(current), payload, group));
    let shown = match current {
        Some(current) if !changed => current,
        _ => replace(dir, payload, group, now)?,
    };
    let names: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    link(dir, &names, group)?;
    sweep(dir, &names, &shown)?;
    Ok(changed)
}

/// Writes all files to a new directory and lets `..data` name it.
fn replace(dir: &Path, payload: &Payload, group: Option<u32>, now: Timestamp) -> io::Result<PathBuf> {
    let fresh = PathBuf::from(format!("..{}", now.strftime("%Y_%m_%d_%H_%M_%S.%9f")));
    fill(&dir.join(&fresh), payload, group)?;
    let temporary = dir.join(NEW_DATA);
    let _ = fs::remove_file(&temporary);
    symlink(&fresh, &temporary)?;
    give(&temporary, group)?;
    fs::rename(&temporary, dir.join(DATA))?;
    Ok(fresh)
}

fn check(path: &str) -> io::Result<()> {
    let parts = || path.split('/');
    let bad = path.is_empty() || parts().any(|part| part.is_empty() || part == ".." || part == ".");
    match bad || path.starts_with("..") {
        true => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid path {path:?}"))),
        false => Ok(()),
    }
}

fn same(dir: &Path, payload: &Payload, group: Option<u32>) -> bool {
    let unchanged = |(path, file): (&String, &File)| {
        let at = dir.join(path);
        let Ok(meta) = fs::metadata(&at) else { return false };
        meta.permissions().mode() & 0o777 == mode(file, group)
            && file.owner.is_none_or(|owner| owner == meta.uid())
            && group.is_none_or(|group| group == meta.gid())
            && fs::read(&at).is_ok_and(|data| data == file.data)
    };
    count(dir) == payload.len() && payload.iter().all(unchanged)
}

/// A file's permissions: the pod's group may always read, whatever mode was asked for.
fn mode(file: &File, group: Option<u32>) -> u32 {
    let readable = if group.is_some() { 0o440 } else { 0 };
    (file.mode | readable) & 0o777
}

/// Hands a path over to the pod's group, if it has one. Links are not followed.
fn give(path: &Path, group: Option<u32>) -> io::Result<()> {
    if group.is_some() { lchown(path, None, group) } else { Ok(()) }
}

fn count(dir: &Path) -> usize {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => count(&entry.path()),
            false => 1,
        })
        .sum()
}

fn fill(dir: &Path, payload: &Payload, group: Option<u32>) -> io::Result<()> {
    make_dir(dir, group)?;
    for (path, file) in payload {
        let at = dir.join(path);
        let mut parent = dir.to_owned();
        for part in path.split('/').rev().skip(1).collect::<Vec<_>>().into_iter().rev() {
            parent.push(part);
            if !parent.exists() {
                make_dir(&parent, group)?;
            }
        }
        fs::write(&at, &file.data)?;
        if file.owner.is_some() || group.is_some() {
            chown(&at, file.owner, group)?;
        }
        fs::set_permissions(&at, fs::Permissions::from_mode(mode(file, group)))?;
    }
    Ok(())
}

fn make_dir(dir: &Path, group: Option<u32>) -> io::Result<()> {
    fs::create_dir(dir)?;
    give(dir, group)?;
    let mode = if group.is_some() { 0o2755 } else { 0o755 };
    fs::set_permissions(dir, fs::Permissions::from_mode(mode))
}

/// Makes the visible links.
fn link(dir: &Path, names: &BTreeSet<&str>, group: Option<u32>) -> io::Result<()> {
    for name in names {
        let at = dir.join(name);
        if at.symlink_metadata().is_err() {
            symlink(Path::new(DATA).join(name), &at)?;
            give(&at, group)?;
        }
    }
    Ok(())
}

/// Removes the links of files that are gone, and every directory but the one that is shown.
fn sweep(dir: &Path, names: &BTreeSet<&str>, shown: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name == DATA || Path::new(name.as_ref()) == shown || names.contains(name.as_ref()) {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |data: &str| File { data: data.into(), mode: 0o644, owner: None };
        files.iter().map(|(path, data)| ((*path).to_owned(), file(data))).collect()
    }

    fn visible(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| !name.starts_with("..")).collect();
        names.sort();
        names
    }

    #[test]
    fn a_change_swaps_everything_at_once_and_sameness_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = payload(&[("a", "1"), ("sub/b", "2")]);
        assert!(write(dir.path(), &first, None, at(1)).unwrap());
        assert!(!write(dir.path(), &first, None, at(2)).unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("sub/b")).unwrap(), "2");
        let before = fs::read_link(dir.path().join(DATA)).unwrap();
        assert!(write(dir.path(), &payload(&[("a", "3"), ("c", "4")]), None, at(3)).unwrap());
        assert_eq!(visible(dir.path()), ["a", "c"]);
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "3");
        assert!(!dir.path().join(before).exists());
        assert_eq!(fs::read_link(dir.path().join("a")).unwrap(), Path::new("..data/a"));
    }

    #[test]
    fn what_a_kill_left_undone_is_made_up_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        let files = payload(&[("a", "1"), ("b", "2")]);
        write(dir.path(), &files, None, at(1)).unwrap();
        // Killed after `..data` was renamed: no link to a new file, the old files still there.
        fs::remove_file(dir.path().join("b")).unwrap();
        symlink("..data/old", dir.path().join("old")).unwrap();
        fs::create_dir_all(dir.path().join("..1999_01_01_00_00_00.000000001/sub")).unwrap();
        assert!(!write(dir.path(), &files, None, at(2)).unwrap());
        assert_eq!(visible(dir.path()), ["a", "b"]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    }

    #[test]
    fn the_pods_group_may_read_what_only_the_owner_could() {
        let dir = tempfile::tempdir().unwrap();
        let group = fs::metadata(dir.path()).unwrap().gid();
        let mut files = payload(&[("key", "1")]);
        files.get_mut("key").unwrap().mode = 0o400;
        assert!(write(dir.path(), &files, Some(group), Timestamp::UNIX_EPOCH).unwrap());
        let meta = fs::metadata(dir.path().join("key")).unwrap();
        assert_eq!((meta.mode() & 0o777, meta.gid()), (0o440, group));
        assert!(!write(dir.path(), &files, Some(group), Timestamp::UNIX_EPOCH).unwrap());
    }

    #[test]
    fn paths_cannot_leave_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["../x", "a/../../x", "/x", "", "..data"] {
            assert!(write(dir.path(), &payload(&[(bad, "")]), None, Timestamp::UNIX_EPOCH).is_err(), "{bad}");
        }
    }
}
