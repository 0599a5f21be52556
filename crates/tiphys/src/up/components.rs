//! The components that run in this process, by name: who failed, and who does not end.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::task::JoinSet;

/// How long components may take to end.
pub const END_WITHIN: Duration = Duration::from_secs(10);

/// Components, each with its name and how it ends.
#[derive(Default)]
pub struct Components {
    tasks: JoinSet<(&'static str, Result<()>)>,
    running: BTreeSet<&'static str>,
}

impl Components {
    /// Starts a component.
    pub fn spawn(&mut self, name: &'static str, running: impl Future<Output = Result<()>> + Send + 'static) {
        self.running.insert(name);
        self.tasks.spawn(async move { (name, running.await) });
    }

    /// Returns when a component has failed; one that merely ended is no failure.
    pub async fn failed(&mut self) -> anyhow::Error {
        loop {
            match self.next().await {
                Some((name, Err(error))) => return error.context(format!("the {name} failed")),
                Some((_, Ok(()))) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until all have ended, but not for ever: one that hangs ends with the process.
    pub async fn ended(&mut self) {
        let all = async { while self.next().await.is_some() {} };
        if tokio::time::timeout(END_WITHIN, all).await.is_err() {
            tracing::warn!(components = ?self.running, "components have not ended in time");
        }
    }

    async fn next(&mut self) -> Option<(&'static str, Result<()>)> {
        match self.tasks.join_next().await? {
            Ok((name, result)) => {
                self.running.remove(name);
                Some((name, result))
            }
            Err(panic) => Some(("component", Err(anyhow!("it panicked: {panic}")))),
        }
    }
}
