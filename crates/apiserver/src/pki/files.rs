//! Private files: only the owner may read them, and a reader sees the old or the new content, never a part.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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

/// A file to be.
#[derive(Clone, Debug)]
pub(super) struct New {
    pub(super) name: String,
    pub(super) content: String,
    pub(super) lasting: Lasting,
}

/// Replaces a file at once, mode 0600, synced to the disk.
pub fn write_private(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Error> {
    write(path, content.as_ref(), Lasting::Synced)
}

pub(super) fn write(path: &Path, content: &[u8], lasting: Lasting) -> Result<(), Error> {
    let replace = || {
        let file = prepare(path, content)?;
        if lasting == Lasting::Synced {
            file.sync_all()?;
        }
        fs::rename(temporary(path)?, path)?;
        match (lasting, path.parent()) {
            (Lasting::Synced, Some(dir)) => File::open(dir)?.sync_all(),
            _ => Ok(()),
        }
    };
    replace().map_err(|source| file_error(path, source))
}

/// Writes several files of a directory: all are on the disk before the first appears, and they appear in order. One sync
/// after another of files written together costs little more than one.
pub(super) fn write_all(dir: &Path, files: &[New]) -> Result<(), Error> {
    let paths: Vec<PathBuf> = files.iter().map(|file| dir.join(&file.name)).collect();
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| file_error(&path, source)
    };
    let mut lasting = Vec::new();
    for (new, path) in files.iter().zip(&paths) {
        let file = prepare(path, new.content.as_bytes()).map_err(failed(path))?;
        if new.lasting == Lasting::Synced {
            lasting.push((file, path));
        }
    }
    for (file, path) in &lasting {
        file.sync_all().map_err(failed(path))?;
    }
    for path in &paths {
        temporary(path).and_then(|new| fs::rename(new, path)).map_err(failed(path))?;
    }
    match lasting.is_empty() {
        true => Ok(()),
        false => File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir)),
    }
}

/// Where a file's new content waits beside it.
fn temporary(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(path.with_file_name(format!(".{}.new", name.to_string_lossy())))
}

fn prepare(path: &Path, content: &[u8]) -> io::Result<File> {
    let temporary = temporary(path)?;
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    Ok(file)
}

pub(super) fn file_error(path: &Path, source: io::Error) -> Error {
    Error::File { path: path.to_owned(), source }
}
