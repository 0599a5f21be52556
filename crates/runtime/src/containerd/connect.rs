//! A connection to a runtime that has only just started.
//!
//! containerd serves its socket before its CRI plugin has read what runs, and until then answers "server is not
//! initialized yet". The CRI has no event for the end of that, so it is asked again, for a bounded time.

use std::path::Path;
use std::time::Duration;

use crate::cri::Cri;
use crate::{Result, Runtime};

const ASK_AGAIN: Duration = Duration::from_millis(10);
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Connects, and returns once the runtime answers for its containers.
pub async fn connect(socket: &Path) -> Result<Cri> {
    let runtime = Cri::new(socket)?;
    let end = tokio::time::Instant::now() + READY_WITHIN;
    loop {
        match runtime.list_sandboxes(&crate::Filter::default()).await {
            Ok(_) => return Ok(runtime),
            Err(error) if tokio::time::Instant::now() >= end => return Err(error),
            Err(_) => tokio::time::sleep(ASK_AGAIN).await,
        }
    }
}
