//! Mount points at and below a directory, as the kernel lists them.
//!
//! Paths are bytes: a mount of someone else's whose name is no UTF-8 must not keep ours from being found. A list that
//! cannot be read is an error, since whoever asks is about to remove what is not mounted.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The mount points at and below a directory, the deepest first.
pub fn below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(points(&std::fs::read("/proc/self/mountinfo")?, dir))
}

fn points(mountinfo: &[u8], dir: &Path) -> Vec<PathBuf> {
    let point = |line: &[u8]| line.split(|b| *b == b' ').nth(4).map(path);
    let mut points: Vec<PathBuf> =
        mountinfo.split(|b| *b == b'\n').filter_map(point).filter(|path| path.starts_with(dir)).collect();
    points.sort_unstable_by(|a, b| b.cmp(a));
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
        assert_eq!(points(list, Path::new("/a/v")), expected);
    }
}
