//! Keeps containerd running: one that ends is started again at once. Its containers have run on meanwhile, and whoever
//! uses it finds it at the same socket.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{Config, Containerd, Error};

const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// A containerd that is started again whenever it ends. Dropping this leaves it running, and alone.
#[derive(Debug)]
pub struct Kept {
    stop: Arc<Notify>,
    task: JoinHandle<Result<(), Error>>,
}

impl Kept {
    /// Watches over a containerd that was started with this configuration.
    pub fn new(config: Config, running: Containerd) -> Self {
        let stop = Arc::new(Notify::new());
        let task = tokio::spawn(keep(config, running, stop.clone()));
        Self { stop, task }
    }

    /// Ends it; containers keep running under their shims.
    pub async fn stop(mut self) -> Result<(), Error> {
        self.stop.notify_one();
        // A task that was aborted or has panicked watches nothing any more: there is nothing to end.
        (&mut self.task).await.unwrap_or(Ok(()))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(config: Config, mut running: Containerd, stop: Arc<Notify>) -> Result<(), Error> {
    let mut pause = RETRY_FIRST;
    loop {
        tokio::select! {
            () = stop.notified() => return running.stop().await,
            ended = running.ended() => ended?,
        }
        tracing::warn!("containerd has ended; starting it again");
        running = loop {
            match Containerd::start(&config).await {
                Ok(started) => break started,
                Err(error) => tracing::warn!(%error, "containerd does not start"),
            }
            tokio::select! {
                () = stop.notified() => return Ok(()),
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_MAX),
            }
        };
        pause = RETRY_FIRST;
    }
}
