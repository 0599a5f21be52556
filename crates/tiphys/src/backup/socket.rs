//! The socket in a running master's data directory that gives an archive of its store to whoever may open it: root.
//!
//! There is nothing to say: each connection gets one archive, of the state when it began, and is closed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tiphys_store::{Store, archive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::Chunks;

/// Bytes read at a time.
const PART: usize = 64 << 10;

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("backup.sock")
}

/// Gives archives until `stop`. The caller holds the data directory's lock, so a socket that is there is nobody's.
pub fn serve(data_dir: &Path, store: Arc<dyn Store>, stop: CancellationToken) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let path = path(data_dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", path.display()));
        }
        _ => {}
    }
    let listener = match UnixListener::bind(&path) {
        Ok(listener) => listener,
        // A path too long for a socket, most likely: the cluster is worth more than its online backups.
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "no backups while this runs");
            return Ok(());
        }
    };
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let store = store.clone();
            tokio::spawn(async move {
                if let Err(error) = give(&*store, connection).await {
                    tracing::warn!(%error, "a backup was not finished");
                }
            });
        }
    }));
    Ok(())
}

async fn give(store: &dyn Store, mut connection: UnixStream) -> Result<()> {
    let mut chunks = std::pin::pin!(archive::encode(store.snapshot(0).await?));
    while let Some(chunk) = chunks.try_next().await? {
        connection.write_all(&chunk).await?;
    }
    Ok(connection.shutdown().await?)
}

/// The archive of the master that runs as `pid`. One that ends too early is noticed by who reads it.
pub async fn fetch(data_dir: &Path, pid: i32) -> Result<Chunks> {
    let path = path(data_dir);
    let connection = UnixStream::connect(&path).await.with_context(|| {
        format!("process {pid} gives no backups at {}; it may be a node alone", path.display())
    })?;
    let chunks = futures::stream::try_unfold(connection, |mut connection| async move {
        let mut part = Vec::with_capacity(PART);
        let read = connection.read_buf(&mut part).await?;
        Ok((read > 0).then(|| (Bytes::from(part), connection)))
    });
    Ok(chunks.boxed())
}
