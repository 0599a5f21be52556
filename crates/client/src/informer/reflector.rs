//! The loop that keeps a cache: list, then watch from the list's revision, and list again when that is lost.
//!
//! A broken watch resumes where it stopped; only 410 (the revision is gone) or an impossible event costs a new list.
//! Pauses after failures grow and are jittered, and end with the first success.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tiphys_api::Status;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Scope, Shared};
use crate::{Client, ListOptions, WatchEvent, WatchOptions};

const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Keeps the cache until the task is dropped.
pub(super) async fn run(
    client: Arc<dyn Client>,
    scope: Scope,
    shared: Arc<Shared>,
    synced: watch::Sender<bool>,
) {
    let mut reflector = Reflector { client, scope, shared, pause: PAUSE_FIRST };
    // Any revision will do at first: the server's cache is newer than what we have.
    let mut from = "0".to_owned();
    loop {
        match reflector.list(&from).await {
            Ok(revision) => {
                synced.send_replace(true);
                from = reflector.follow(revision).await;
            }
            Err(status) => {
                tracing::debug!(gvr = %reflector.scope.gvr, %status, "listing failed, will retry");
                if status.code == 410 || status.code == 504 {
                    from.clear();
                }
                reflector.back_off().await;
            }
        }
    }
}

struct Reflector {
    client: Arc<dyn Client>,
    scope: Scope,
    shared: Arc<Shared>,
    pause: Duration,
}

impl Reflector {
    /// Brings the whole state in; returns its revision.
    async fn list(&mut self, from: &str) -> Result<u64, Status> {
        let mut options = ListOptions {
            fields: self.scope.fields.clone(),
            resource_version: from.to_owned(),
            ..ListOptions::default()
        };
        let mut page = self.client.list(&self.scope.gvr, &self.scope.namespace, &options).await?;
        let mut objects = std::mem::take(&mut page.items);
        while !page.continue_token.is_empty() {
            options.continue_token = std::mem::take(&mut page.continue_token);
            options.resource_version.clear();
            page = self.client.list(&self.scope.gvr, &self.scope.namespace, &options).await?;
            objects.append(&mut page.items);
        }
        self.shared.replace(objects);
        self.shared.reached(page.resource_version);
        Ok(page.resource_version)
    }

    /// Follows changes for as long as watches can resume. Returns the revision that the next list must reach.
    async fn follow(&mut self, mut revision: u64) -> String {
        loop {
            let (before, start) = (revision, Instant::now());
            match self.watch(&mut revision).await {
                Ok(()) => {}
                Err(status) if status.code == 410 => return String::new(),
                Err(status) => {
                    tracing::debug!(gvr = %self.scope.gvr, %status, "the watch broke, will resume");
                }
            }
            if revision != before || start.elapsed() > PAUSE_MAX {
                self.pause = PAUSE_FIRST;
            } else {
                self.back_off().await;
            }
        }
    }

    /// One watch, until it ends or fails.
    async fn watch(&self, revision: &mut u64) -> Result<(), Status> {
        let options = WatchOptions {
            fields: self.scope.fields.clone(),
            resource_version: revision.to_string(),
            bookmarks: true,
            ..WatchOptions::default()
        };
        let mut events = self.client.watch(&self.scope.gvr, &self.scope.namespace, &options).await?;
        while let Some(event) = events.next().await {
            match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    *revision = object.meta().resource_version;
                    self.shared.upsert(&object);
                }
                WatchEvent::Deleted(object) => {
                    *revision = object.meta().resource_version;
                    self.shared.remove(&object);
                }
                WatchEvent::Bookmark(at) => *revision = at,
            }
            self.shared.reached(*revision);
        }
        Ok(())
    }

    async fn back_off(&mut self) {
        // Hashing with a fresh random key: randomness enough to keep clients from returning all at once.
        let jitter = RandomState::new().hash_one(0u8) % 500;
        tokio::time::sleep(self.pause + self.pause.mul_f64(jitter as f64 / 1000.0)).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}
