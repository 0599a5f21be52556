//! Private files: only the owner may read them, and a reader sees the old or the new content, never a part.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::Error;

/// Makes a directory (and its parents) that only the owner may enter.
pub(super) fn make_private_dir(dir: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| file_error(dir, source))
}

/// A file's text; `None` when there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // No text: as good as a damaged one, which the caller handles.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some(String::new())),
        Err(source) => Err(file_error(path, source)),
    }
}

/// Whether a write must outlive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lasting {
    /// Synced: nothing can replace a lost authority.
    Synced,
    /// Not synced: a torn certificate is found at the next start and issued anew.
    Replaceable,
}

/// Replaces a file at once, mode 0600, synced to the disk.
pub fn write_private(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Error> {
    write(path, content.as_ref(), Lasting::Synced)
}

pub(super) fn write(path: &Path, content: &[u8], lasting: Lasting) -> Result<(), Error> {
    replace(path, content, lasting).map_err(|source| file_error(path, source))
}

fn replace(path: &Path, content: &[u8], lasting: Lasting) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary = dir.join(format!(".{}.new", name.to_string_lossy()));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    if lasting == Lasting::Synced {
        file.sync_all()?;
    }
    fs::rename(&temporary, path)?;
    match lasting {
        Lasting::Synced => File::open(dir)?.sync_all(),
        Lasting::Replaceable => Ok(()),
    }
}

pub(super) fn file_error(path: &Path, source: io::Error) -> Error {
    Error::File { path: path.to_owned(), source }
}
