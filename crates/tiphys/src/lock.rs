//! One process per data directory: a lock file that names its holder.
//!
//! The kernel drops the lock when the holder dies, however it dies, so there is nothing stale to clean.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

/// The held lock; dropping it lets go.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "held for its lock, never read")] File);

/// Takes the data directory for this process, or says who has it.
pub fn take(data_dir: &Path) -> Result<Lock> {
    std::fs::create_dir_all(data_dir)
        .with_context(|| format!("cannot make the data directory {}", data_dir.display()))?;
    let mut file = open(data_dir)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let holder =
            read_pid(&mut file).map_or_else(|| "another process".into(), |pid| format!("process {pid}"));
        bail!(
            "{holder} already runs with the data directory {}; end it with `tiphys stop`, or give this one another \
             --data-dir, --https-port, --kubelet-port, --bridge and ranges",
            data_dir.display()
        );
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Lock(file))
}

/// The process that holds the data directory, if any.
pub fn holder(data_dir: &Path) -> Result<Option<i32>> {
    if !data_dir.join(NAME).exists() {
        return Ok(None);
    }
    let mut file = open(data_dir)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(None),
        Err(_) => Ok(read_pid(&mut file)),
    }
}

const NAME: &str = "lock";

fn open(data_dir: &Path) -> Result<File> {
    let path = data_dir.join(NAME);
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))
}

fn read_pid(file: &mut File) -> Option<i32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_was_first() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(holder(dir.path()).unwrap(), None);
        let lock = take(dir.path()).unwrap();
        assert!(take(dir.path()).unwrap_err().to_string().contains(&std::process::id().to_string()));
        assert_eq!(holder(dir.path()).unwrap(), i32::try_from(std::process::id()).ok());
        drop(lock);
        assert!(take(dir.path()).is_ok());
    }
}
