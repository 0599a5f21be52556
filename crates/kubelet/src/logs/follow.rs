//! Reads a log file, and follows it: the kernel tells when it grows, when it is moved away, and when its writer closes
//! it. No timer.

use std::io::{self, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tiphys_runtime::{ContainerState, Runtime};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

use super::{Options, Reader, tail_offset};
use crate::inotify::{Changes, Watches};

const BLOCK: usize = 32 * 1024;
/// Pieces read ahead of a slow client.
const AHEAD: usize = 16;

/// The wanted text, piece by piece. Ends with the file or, when following, with the container.
pub(crate) async fn stream(
    runtime: Arc<dyn Runtime>,
    watches: Arc<Watches>,
    container: String,
    path: PathBuf,
    options: Options,
) -> io::Result<mpsc::Receiver<Bytes>> {
    let file = open(&path, options.tail_lines).await?;
    let (sender, receiver) = mpsc::channel(AHEAD);
    let pump = Pump { runtime, watches, container, path, reader: Reader::new(options.clone()), sender };
    tokio::spawn(async move {
        let result = match options.follow {
            true => Box::pin(pump.follow(file)).await,
            false => pump.once(file).await,
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a log could not be read to its end");
        }
    });
    Ok(receiver)
}

async fn open(path: &Path, tail: Option<usize>) -> io::Result<File> {
    let mut file = File::open(path).await?;
    let from = match tail {
        Some(lines) => tail_offset(&mut file, lines).await?,
        None => 0,
    };
    file.seek(SeekFrom::Start(from)).await?;
    Ok(file)
}

struct Pump {
    runtime: Arc<dyn Runtime>,
    watches: Arc<Watches>,
    container: String,
    path: PathBuf,
    reader: Reader,
    sender: mpsc::Sender<Bytes>,
}

impl Pump {
    async fn once(mut self, mut file: File) -> io::Result<()> {
        self.drain(&mut file).await.map(drop)
    }

    /// Reads to the end of the file. Whether the client wants more.
    async fn drain(&mut self, file: &mut File) -> io::Result<bool> {
        let mut block = vec![0; BLOCK];
        loop {
            let read = file.read(&mut block).await?;
            if read == 0 {
                return Ok(true);
            }
            let text = self.reader.read(&block[..read]);
            if !text.is_empty() && self.sender.send(text.into()).await.is_err() || self.reader.full() {
                return Ok(false);
            }
        }
    }

    async fn follow(mut self, mut file: File) -> io::Result<()> {
        loop {
            let changes = self.watches.file(&file)?;
            let mut aside = Changes::default();
            // Put aside, and its writer has gone on to a new file: only then is nothing more to come in this one.
            while !(aside.moved && aside.closed) {
                // Whatever came before watching is read now; after that every change is told.
                let running = self.running().await;
                if !self.drain(&mut file).await? || !running {
                    return Ok(());
                }
                let seen = tokio::select! {
                    seen = changes.changed() => seen,
                    () = self.sender.closed() => return Ok(()),
                };
                aside.moved |= seen.moved;
                aside.closed |= seen.closed;
            }
            if !self.drain(&mut file).await? {
                return Ok(());
            }
            let next = File::open(&self.path).await?;
            // A rotation that failed gave the file its name back.
            if next.metadata().await?.ino() != file.metadata().await?.ino() {
                file = next;
            }
        }
    }

    async fn running(&self) -> bool {
        let status = self.runtime.container_status(&self.container).await;
        status.is_ok_and(|status| matches!(status.state, ContainerState::Running | ContainerState::Created))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use tiphys_runtime::fake::Fake;
    use tiphys_runtime::{ContainerConfig, SandboxConfig};

    use super::*;

    /// What a client has read until it holds so many lines.
    async fn lines(pieces: &mut mpsc::Receiver<Bytes>, text: &mut String, count: usize) {
        while text.lines().count() < count {
            text.push_str(std::str::from_utf8(&pieces.recv().await.unwrap()).unwrap());
        }
    }

    #[tokio::test]
    async fn a_follower_goes_on_to_the_new_file_and_misses_nothing() {
        let runtime = Arc::new(Fake::new(&["web:1"]));
        let sandbox = runtime.run_sandbox(&SandboxConfig::default()).await.unwrap();
        let config = ContainerConfig { image: "web:1".into(), ..ContainerConfig::default() };
        let id = runtime.create_container(&sandbox, &config, &SandboxConfig::default()).await.unwrap();
        runtime.start_container(&id).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let line = |text: &str| format!("2026-11-22T10:00:00Z stdout F {text}\n");
        let mut old = fs::File::create(&path).unwrap();
        old.write_all(line("one").as_bytes()).unwrap();
        let options = Options { follow: true, ..Options::default() };
        let mut pieces = stream(runtime.clone(), Arc::default(), id, path.clone(), options).await.unwrap();
        let mut text = String::new();
        lines(&mut pieces, &mut text, 1).await;
        // As the kubelet and the runtime do it: renamed, written to still, then a new file.
        fs::rename(&path, dir.path().join("0.log.x")).unwrap();
        old.write_all(line("two").as_bytes()).unwrap();
        lines(&mut pieces, &mut text, 2).await;
        fs::write(&path, line("four")).unwrap();
        old.write_all(line("three").as_bytes()).unwrap();
        drop(old);
        lines(&mut pieces, &mut text, 4).await;
        assert_eq!(text, "one\ntwo\nthree\nfour\n");
    }
}
