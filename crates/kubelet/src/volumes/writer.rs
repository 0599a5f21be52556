//! Writes a set of files so that readers see all of the old or all of the new ones, never a mix.
//!
//! The layout is that of Kubernetes' atomic writer, which programs rely on to notice changes:
//! `name -> ..data/name`, `..data -> ..2026_11_22_10_00_00.000000001/`. A change makes a new directory and renames a
//! new `..data` over the old one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

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
pub(crate) fn write(dir: &Path, payload: &Payload, group: Option<u32>, now: Timestamp) -> io::Result<bool> {
    for path in payload.keys() {
        check(path)?;
    }
    let current = fs::read_link(dir.join(DATA)).ok();
    if current.as_ref().is_some_and(|current| same(&dir.join(current), payload)) {
        return Ok(false);
    }
    let fresh = format!("..{}", now.strftime("%Y_%m_%d_%H_%M_%S.%9f"));
    fill(&dir.join(&fresh), payload, group)?;
    let temporary = dir.join(NEW_DATA);
    let _ = fs::remove_file(&temporary);
    symlink(&fresh, &temporary)?;
    fs::rename(&temporary, dir.join(DATA))?;
    let names: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    link(dir, &names)?;
    if let Some(old) = current {
        fs::remove_dir_all(dir.join(old))?;
    }
    Ok(true)
}

fn check(path: &str) -> io::Result<()> {
    let parts = || path.split('/');
    let bad = path.is_empty() || parts().any(|part| part.is_empty() || part == ".." || part == ".");
    match bad || path.starts_with("..") {
        true => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid path {path:?}"))),
        false => Ok(()),
    }
}

fn same(dir: &Path, payload: &Payload) -> bool {
    let unchanged = |(path, file): (&String, &File)| {
        let at = dir.join(path);
        let mode = fs::metadata(&at).map(|meta| meta.permissions().mode() & 0o777);
        mode.is_ok_and(|mode| mode == file.mode & 0o777) && fs::read(&at).is_ok_and(|data| data == file.data)
    };
    count(dir) == payload.len() && payload.iter().all(unchanged)
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
    make_dir(dir)?;
    for (path, file) in payload {
        let at = dir.join(path);
        let mut parent = dir.to_owned();
        for part in path.split('/').rev().skip(1).collect::<Vec<_>>().into_iter().rev() {
            parent.push(part);
            if !parent.exists() {
                make_dir(&parent)?;
            }
        }
        fs::write(&at, &file.data)?;
        if file.owner.is_some() || group.is_some() {
            chown(&at, file.owner, group)?;
        }
        fs::set_permissions(&at, fs::Permissions::from_mode(file.mode))?;
    }
    Ok(())
}

fn make_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
}

/// Makes the visible links, and removes those of files that are gone.
fn link(dir: &Path, names: &BTreeSet<&str>) -> io::Result<()> {
    for name in names {
        let at = dir.join(name);
        if at.symlink_metadata().is_err() {
            symlink(Path::new(DATA).join(name), at)?;
        }
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !names.contains(name.as_ref()) {
            fs::remove_file(entry.path())?;
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
    fn paths_cannot_leave_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["../x", "a/../../x", "/x", "", "..data"] {
            assert!(write(dir.path(), &payload(&[(bad, "")]), None, Timestamp::UNIX_EPOCH).is_err(), "{bad}");
        }
    }
}
