//! Reads a log file, and follows it: the kernel tells when it grows, when it is moved away, and when its writer closes
//! it. No timer.

use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tiphys_runtime::{ContainerState, Runtime};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

use super::{Options, Reader, tail_offset};
use crate::inotify::Watch;

const BLOCK: usize = 32 * 1024;
/// Pieces read ahead of a slow client.
const AHEAD: usize = 16;

/// The wanted text, piece by piece. Ends with the file or, when following, with the container.
pub(crate) async fn stream(
    runtime: Arc<dyn Runtime>,
    container: String,
    path: PathBuf,
    options: Options,
) -> io::Result<mpsc::Receiver<Bytes>> {
    let file = open(&path, options.tail_lines).await?;
    let (sender, receiver) = mpsc::channel(AHEAD);
    let pump = Pump { runtime, container, path, reader: Reader::new(options.clone()), sender };
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
            let changes = Watch::file(&self.path)?;
            // Whatever came between opening and watching is read now; after that every change is told.
            loop {
                let running = self.running().await;
                if !self.drain(&mut file).await? || !running {
                    return Ok(());
                }
                let moved = tokio::select! {
                    moved = changes.changed() => moved?,
                    () = self.sender.closed() => return Ok(()),
                };
                if moved {
                    break;
                }
            }
            // Rotated: the rest of the old file, then the new one from its begin.
            if !self.drain(&mut file).await? {
                return Ok(());
            }
            file = File::open(&self.path).await?;
        }
    }

    async fn running(&self) -> bool {
        let status = self.runtime.container_status(&self.container).await;
        status.is_ok_and(|status| matches!(status.state, ContainerState::Running | ContainerState::Created))
    }
}
