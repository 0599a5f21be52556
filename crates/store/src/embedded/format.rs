//! The data directory: whose it is, and which format it has.
//!
//! `FORMAT` is a one-line text file that every version can read, whatever engine wrote the rest. It is also the
//! lock: whoever holds it has the store. The database file is completed under another name and then renamed, so a
//! crash while creating it leaves nothing half made. Its [`log`](super::log) is made before it. What earlier versions
//! wrote is taken over: a directory has this version's format once all in it has.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;

use super::log::{self, LogFile};
use crate::OpenError;

/// The newest format this version reads, and the one it writes.
const SUPPORTED: u32 = 4;
/// The one before it, whose log was one file; that is taken over by [`former`](super::former).
const ONE_LOG: u32 = 3;
/// The one before that, which had no log.
const WITHOUT_LOG: u32 = 2;
const NAME: &str = "tiphys-store";
const DATABASE: &str = "store.redb";
/// One that is not complete yet.
const UNFINISHED: &str = "store.redb.new";
/// The log's segments.
const LOGS: [&str; 2] = ["store.0.log", "store.1.log"];
const FORMER_LOG: &str = "store.log";

/// The directory, locked while this lives.
#[derive(Debug)]
pub(super) struct DataDir {
    dir: PathBuf,
    /// FORMAT, which is the lock.
    format: File,
    /// What it said.
    found: u32,
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
        let found = check(dir, &text)?;
        if text.is_empty() {
            write(dir, &mut file).map_err(io)?;
        }
        Ok(Self { dir: dir.to_owned(), format: file, found })
    }

    /// All files that grow.
    pub fn files(&self) -> Vec<PathBuf> {
        LOGS.iter().map(|name| self.dir.join(name)).chain([self.database()]).collect()
    }

    /// Opens the log, which must be there.
    pub fn open_logs(&self) -> Result<[LogFile; 2], OpenError> {
        let [even, odd] = LOGS;
        Ok([Box::new(self.open_log(even)?), Box::new(self.open_log(odd)?)])
    }

    fn open_log(&self, name: &str) -> Result<FileBackend, OpenError> {
        let opened = OpenOptions::new().read(true).write(true).open(self.dir.join(name));
        let file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.damaged(&format!("its log, {name}, is missing")),
            _ => self.io(error),
        })?;
        backend(file).map_err(|error| self.io(error))
    }

    /// The log that an earlier version wrote, if this is the directory of one that had it.
    pub fn former_log(&self) -> Result<Option<FileBackend>, OpenError> {
        let written = self.found == ONE_LOG && self.database().exists();
        written.then(|| self.open_log(FORMER_LOG)).transpose()
    }

    /// Gives the directory the present format. Its former log has been taken over.
    pub fn upgrade(&self) -> Result<(), OpenError> {
        if self.found == SUPPORTED {
            return Ok(());
        }
        let rewrite = || {
            self.make_logs()?;
            self.format.write_all_at(text_of(SUPPORTED).as_bytes(), 0)?;
            self.format.sync_all()?;
            match fs::remove_file(self.dir.join(FORMER_LOG)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        };
        rewrite().map_err(|error| self.io(error))
    }

    fn make_logs(&self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        for name in LOGS {
            log::make(&backend(options.open(self.dir.join(name))?)?, log::LEAST)?;
        }
        sync_dir(&self.dir)
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
        self.upgrade()?;
        self.make_logs().map_err(|source| self.io(source))?;
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

/// The format, if the file's text is one to go on with; an empty file is a new store, or one that crashed before
/// it held anything.
fn check(dir: &Path, text: &str) -> Result<u32, OpenError> {
    if text.is_empty() {
        return match dir.join(DATABASE).exists() {
            true => Err(damaged(dir, "FORMAT is empty, but there is a database".to_owned())),
            false => Ok(SUPPORTED),
        };
    }
    let found = text.trim_end().strip_prefix(NAME).and_then(|number| number.trim().parse::<u32>().ok());
    match found {
        Some(found) if found > SUPPORTED => {
            Err(OpenError::NewerFormat { dir: dir.to_owned(), found, supported: SUPPORTED })
        }
        Some(found @ (SUPPORTED | ONE_LOG | WITHOUT_LOG)) => Ok(found),
        Some(found) => Err(damaged(dir, format!("its format {found} is one of a trial version"))),
        None => Err(damaged(dir, format!("FORMAT says {:?}", text.chars().take(40).collect::<String>()))),
    }
}

fn damaged(dir: &Path, reason: String) -> OpenError {
    OpenError::Damaged { dir: dir.to_owned(), reason }
}

fn text_of(format: u32) -> String {
    format!("{NAME} {format}\n")
}

fn backend(file: File) -> io::Result<FileBackend> {
    FileBackend::new(file).map_err(io::Error::other)
}

fn write(dir: &Path, file: &mut File) -> io::Result<()> {
    file.write_all(text_of(SUPPORTED).as_bytes())?;
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
        fs::write(dir.path().join("FORMAT"), "tiphys-store 5\n").unwrap();
        let error = DataDir::open(dir.path()).unwrap_err();
        assert!(matches!(error, OpenError::NewerFormat { found: 5, supported: 4, .. }));
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
