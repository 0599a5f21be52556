//! Logs of containers are put aside when they have grown too large, and only the newest are kept.
//!
//! The names tell everything: `N.log` is what start number N writes to, `N.log.TIME` was put aside, `.gz` is packed. Which
//! container writes is asked of the runtime only for a log that is to be put aside.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use tiphys_runtime::{ContainerState, Filter};

use crate::context::Context;
use crate::{container, sandbox};

const PACKED: &str = "gz";
const UNFINISHED: &str = "tmp";

/// A log that is too large.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Large {
    path: PathBuf,
    uid: String,
    container: String,
    attempt: u32,
}

/// Looks at all logs and puts aside those that are too large.
pub(crate) async fn look(ctx: &Context) {
    let settings = &ctx.config.settings;
    let Some(most) = settings.log_max_bytes() else { return };
    let root = ctx.config.log_dir.clone();
    let found = tokio::task::spawn_blocking(move || large(&root, most)).await.unwrap_or_default();
    for log in found {
        if let Err(error) = rotate(ctx, &log, settings.container_log_max_files).await {
            tracing::warn!(log = %log.path.display(), error, "cannot put a log aside");
        }
    }
}

/// The logs below a directory that hold more than so many bytes.
fn large(root: &Path, most: u64) -> Vec<Large> {
    let mut found = Vec::new();
    for pod in entries(root) {
        // NAMESPACE_NAME_UID
        let Some(uid) = name(&pod).rsplit('_').next().map(str::to_owned) else { continue };
        for dir in entries(&pod) {
            for path in entries(&dir) {
                let attempt = name(&path).strip_suffix(".log").and_then(|number| number.parse().ok());
                let Some(attempt) = attempt else { continue };
                if fs::metadata(&path).is_ok_and(|meta| meta.len() > most) {
                    found.push(Large { uid: uid.clone(), container: name(&dir).to_owned(), attempt, path });
                }
            }
        }
    }
    found
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).collect()
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

async fn rotate(ctx: &Context, log: &Large, files: usize) -> Result<(), String> {
    let labels = [(sandbox::POD_UID, log.uid.as_str()), (container::NAME, log.container.as_str())];
    let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let filter = Filter { labels, ..Filter::default() };
    let containers = ctx.runtime.list_containers(&filter).await.map_err(|error| error.to_string())?;
    let writer = containers
        .into_iter()
        .find(|c| c.state == ContainerState::Running && c.attempt == log.attempt && ctx.owns(&c.id));
    // Nobody writes to it any more, so it grows no more.
    let Some(writer) = writer else { return Ok(()) };
    let path = log.path.clone();
    let aside = tokio::task::spawn_blocking(move || put_aside(&path, files, Timestamp::now())).await;
    let aside = aside.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    if let Err(error) = ctx.runtime.reopen_log(&writer.id).await {
        // The runtime still writes to the old file: it gets its name back.
        let _ = tokio::fs::rename(&aside, &log.path).await;
        return Err(error.to_string());
    }
    Ok(())
}

/// Removes a log with all that was put aside of it.
pub(crate) fn remove(log: &Path) -> io::Result<()> {
    for path in earlier(log).into_iter().chain([log.to_owned()]) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Packs and removes what was put aside earlier, then renames the log. Returns its new name.
fn put_aside(log: &Path, files: usize, now: Timestamp) -> io::Result<PathBuf> {
    let mut aside = earlier(log);
    // One is being written, one is about to be put aside.
    let excess = aside.len().saturating_sub(files.saturating_sub(2));
    for old in aside.drain(..excess) {
        fs::remove_file(old)?;
    }
    // The newest stays as it is: somebody may follow it still.
    for plain in aside.iter().filter(|path| path.extension().is_none_or(|end| end != PACKED)) {
        pack(plain)?;
    }
    let stamp = now.strftime("%Y%m%d-%H%M%S");
    let new = PathBuf::from(format!("{}.{stamp}", log.display()));
    fs::rename(log, &new)?;
    Ok(new)
}

/// What was put aside of a log, the oldest first. Half-done packing is removed.
fn earlier(log: &Path) -> Vec<PathBuf> {
    let prefix = format!("{}.", name(log));
    let all = log.parent().map(entries).unwrap_or_default();
    let mut found = Vec::new();
    for path in all.into_iter().filter(|path| name(path).starts_with(&prefix)) {
        match path.extension().is_some_and(|end| end == UNFINISHED) {
            true => drop(fs::remove_file(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// Replaces a file by a packed one; a kill in between leaves the file.
fn pack(path: &Path) -> io::Result<()> {
    let unfinished = PathBuf::from(format!("{}.{UNFINISHED}", path.display()));
    let mut packed = GzEncoder::new(File::create(&unfinished)?, Compression::default());
    io::copy(&mut File::open(path)?, &mut packed)?;
    packed.finish()?.sync_all()?;
    fs::rename(&unfinished, format!("{}.{PACKED}", path.display()))?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_logs_that_are_written_to_can_be_too_large() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("ns_pod_uid-1/c");
        fs::create_dir_all(&logs).unwrap();
        for (file, size) in [("0.log", 5), ("1.log", 11), ("1.log.20260101-000000", 99), ("x.txt", 99)] {
            fs::write(logs.join(file), vec![b'x'; size]).unwrap();
        }
        let expected =
            Large { path: logs.join("1.log"), uid: "uid-1".into(), container: "c".into(), attempt: 1 };
        assert_eq!(large(dir.path(), 10), [expected]);
    }

    #[test]
    fn the_newest_are_kept_and_all_but_one_are_packed() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        for second in 0..6 {
            fs::write(&log, format!("text {second}\n")).unwrap();
            fs::write(dir.path().join("0.log.x.tmp"), "half").unwrap();
            put_aside(&log, 4, at(second)).unwrap();
        }
        let left: Vec<String> = earlier(&log).iter().map(|path| name(path).to_owned()).collect();
        let kept = ["0.log.19700101-000003.gz", "0.log.19700101-000004.gz", "0.log.19700101-000005"];
        assert_eq!(left, kept);
        assert_eq!(fs::read(dir.path().join(kept[2])).unwrap(), b"text 5\n");
        let mut text = String::new();
        let packed = File::open(dir.path().join(kept[0])).unwrap();
        io::Read::read_to_string(&mut flate2::read::GzDecoder::new(packed), &mut text).unwrap();
        assert_eq!(text, "text 3\n");
    }
}
