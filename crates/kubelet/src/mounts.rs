//! Mount points at and below a directory, as the kernel lists them.
//!
//! Paths are bytes: a mount of someone else's whose name is no UTF-8 must not keep ours from being found. A list that
//! cannot be read is an error, since whoever asks is about to remove what is not mounted.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

const LIST: &str = "/proc/self/mountinfo";

/// The mount points at and below a directory, the deepest first.
pub fn below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(options_below(dir)?.into_iter().map(|(point, _)| point).collect())
}

/// The same, each with its options as the kernel lists them: `rw,nosuid`.
pub(crate) fn options_below(dir: &Path) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    Ok(points(&std::fs::read(LIST)?, dir))
}

/// Whether something is mounted at a path. It is not asked of what is mounted, which may be a server that is gone.
pub(crate) fn is_point(path: &Path) -> io::Result<bool> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(true) };
    let path = parent.canonicalize()?.join(name);
    Ok(below(&path)?.contains(&path))
}

fn points(mountinfo: &[u8], dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let point = |line: &[u8]| {
        let mut fields = line.split(|b| *b == b' ').skip(4);
        Some((path(fields.next()?), fields.next()?.to_vec()))
    };
    let lines = mountinfo.split(|b| *b == b'\n');
    let mut points: Vec<_> =
        lines.filter_map(point).filter(|(path, _): &(PathBuf, _)| path.starts_with(dir)).collect();
    points.sort_by(|a, b| b.0.cmp(&a.0));
    points
}

/// A path without the kernel's octal escapes of blanks and backslashes.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let escaped = if *first == b'\\' { after.get(..3).and_then(octal) } else { None };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    OsString::from_vec(bytes).into()
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_come_first_and_strange_names_are_names() {
        let list = b"36 35 98:0 / /a/v/x rw - tmpfs tmpfs rw\n37 35 98:0 / /a/vx rw - tmpfs t rw\n\
                    38 35 98:0 / /a/v/x/y\\040z\\134040 rw - ext4 d rw\n39 35 98:0 / /media/caf\xe9 rw - vfat d rw\n\
                    40 35 98:0 / /a/v/\xe9 rw - ext4 d rw\n";
        let latin = PathBuf::from(OsString::from_vec(b"/a/v/\xe9".to_vec()));
        let expected = [latin, PathBuf::from("/a/v/x/y z\\040"), PathBuf::from("/a/v/x")];
        let found = points(list, Path::new("/a/v"));
        assert_eq!(
            found.iter().map(|(path, _)| path).collect::<Vec<_>>(),
            expected.iter().collect::<Vec<_>>()
        );
        assert!(found.iter().all(|(_, options)| options == b"rw"));
    }
}
