//! The data directory: whose it is, and which format it has.
//!
//! `FORMAT` is a one-line text file that every version can read, whatever engine wrote the rest. It is also the
//! lock: whoever holds it has the store. The database file is completed under another name and then renamed, so a
//! crash while creating it leaves nothing half made.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::OpenError;

/// The newest format this version reads, and the one it writes.
const SUPPORTED: u32 = 2;
const NAME: &str = "tiphys-store";
const DATABASE: &str = "store.redb";
/// One that is not complete yet.
const UNFINISHED: &str = "store.redb.new";

/// The directory, locked while this lives.
#[derive(Debug)]
pub(super) struct DataDir {
    dir: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes or takes over `dir`.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { dir: dir.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        let path = dir.join("FORMAT");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { dir: dir.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(io)?;
        check(dir, &text)?;
        if text.is_empty() {
            write(dir, &mut file).map_err(io)?;
        }
        Ok(Self { dir: dir.to_owned(), _lock: file })
    }

    /// The database file.
    pub fn database(&self) -> PathBuf {
        self.dir.join(DATABASE)
    }

    /// Creates the database with `make`, unless it exists.
    pub fn ensure(&self, make: impl FnOnce(&Path) -> Result<(), OpenError>) -> Result<(), OpenError> {
        if self.database().try_exists().map_err(|source| self.io(source))? {
            return Ok(());
        }
        make(&self.begin()?)?;
        self.complete()
    }

    /// Where to make a database that becomes the directory's own by [`DataDir::complete`].
    pub fn begin(&self) -> Result<PathBuf, OpenError> {
        let unfinished = self.dir.join(UNFINISHED);
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.io(error)),
            _ => Ok(unfinished),
        }
    }

    /// The database is made, and closed.
    pub fn complete(&self) -> Result<(), OpenError> {
        let renamed = fs::rename(self.dir.join(UNFINISHED), self.database());
        renamed.and_then(|()| sync_dir(&self.dir)).map_err(|source| self.io(source))
    }

    /// Says that what is here cannot be read.
    pub fn damaged(&self, reason: &impl ToString) -> OpenError {
        OpenError::Damaged { dir: self.dir.clone(), reason: reason.to_string() }
    }

    /// Says which directory an I/O error is about.
    pub fn io(&self, source: io::Error) -> OpenError {
        OpenError::Io { dir: self.dir.clone(), source }
    }
}

/// Whether the format file's text is one to go on with; an empty file is a new store, or one that crashed before
/// it held anything.
fn check(dir: &Path, text: &str) -> Result<(), OpenError> {
    if text.is_empty() {
        return match dir.join(DATABASE).exists() {
            true => Err(damaged(dir, "FORMAT is empty, but there is a database".to_owned())),
            false => Ok(()),
        };
    }
    let found = text.trim_end().strip_prefix(NAME).and_then(|number| number.trim().parse::<u32>().ok());
    match found {
        Some(found) if found > SUPPORTED => {
            Err(OpenError::NewerFormat { dir: dir.to_owned(), found, supported: SUPPORTED })
        }
        Some(SUPPORTED) => Ok(()),
        Some(found) => Err(damaged(dir, format!("its format {found} is one of a trial version"))),
        None => Err(damaged(dir, format!("FORMAT says {:?}", text.chars().take(40).collect::<String>()))),
    }
}

fn damaged(dir: &Path, reason: String) -> OpenError {
    OpenError::Damaged { dir: dir.to_owned(), reason }
}

fn write(dir: &Path, file: &mut File) -> io::Result<()> {
    file.write_all(format!("{NAME} {SUPPORTED}\n").as_bytes())?;
    file.sync_all()?;
    sync_dir(dir)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_format_is_refused_with_advice() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("FORMAT"), "tiphys-store 3\n").unwrap();
        let error = DataDir::open(dir.path()).unwrap_err();
        assert!(matches!(error, OpenError::NewerFormat { found: 3, supported: 2, .. }));
        assert!(error.to_string().contains("use the newer version"));
    }

    #[test]
    fn something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("FORMAT"), "hello").unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(OpenError::Damaged { .. })));
    }

    #[test]
    fn a_second_opener_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(OpenError::InUse { .. })));
        drop(first);
        DataDir::open(dir.path()).unwrap();
    }
}
