//! A new store from a snapshot of another one.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use redb::Database;

use super::core::Clock;
use super::disk::{self, Restore};
use super::format::DataDir;
use super::index::{Entry, Term};
use super::row::row_bytes;
use super::{Embedded, Options, builder, refuse};
use crate::{Error, Key, KeyValue, LeaseId, OpenError, Revision, Snapshot};

/// A snapshot could not be restored. What was begun is not a store yet: restoring again begins anew.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The directory.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The snapshot.
    #[error(transparent)]
    Read(#[from] Error),
    /// There is a store already.
    #[error("{} already holds a store; restore into another data directory, or remove it first", .0.display())]
    Exists(std::path::PathBuf),
}

/// A lease that the snapshot's keys name but that had ended: they go at once.
const ENDED: Duration = Duration::from_secs(1);

impl Embedded {
    /// Makes a store in `dir` with what `snapshot` holds. Keys keep all their numbers; there is no history.
    ///
    /// The present revision becomes the snapshot's plus `ahead`, which is at least 1. Clients of the store that was
    /// lost may have seen revisions after the snapshot: with a generous `ahead` they learn at once that these are gone
    /// instead of taking new changes for those.
    pub async fn restore(
        dir: &Path,
        mut snapshot: Snapshot,
        ahead: u64,
        options: &Options,
    ) -> Result<(), RestoreError> {
        let data = DataDir::open(dir)?;
        if data.database().exists() {
            return Err(RestoreError::Exists(dir.to_owned()));
        }
        let path = data.begin()?;
        let db = builder(options).create(&path).map_err(|error| refuse(&data, error.into()))?;
        disk::prepare(&db).map_err(|error| refuse(&data, error))?;
        let mut filler = Filler { db, places: HashMap::new(), leases: HashMap::new() };
        while let Some(items) = snapshot.items.try_next().await? {
            filler = filler.keys(items).await.map_err(|error| refuse(&data, error))?;
        }
        let revision = snapshot.revision.saturating_add(ahead.max(1));
        filler.finish(revision, &snapshot).await.map_err(|error| refuse(&data, error))?;
        Ok(data.complete()?)
    }
}

struct Filler {
    db: Database,
    /// How many keys were written by each revision so far: each needs a place of its own in it.
    places: HashMap<Revision, u32>,
    leases: HashMap<LeaseId, Term>,
}

impl Filler {
    async fn keys(mut self, items: Vec<KeyValue>) -> Result<Self, redb::Error> {
        off_thread(move || {
            let items: Vec<_> = items.into_iter().map(|kv| self.place(kv)).collect();
            Restore(&self.db).keys(&items)?;
            Ok(self)
        })
        .await
    }

    fn place(&mut self, kv: KeyValue) -> (Entry, Key, Bytes) {
        let KeyValue { key, value, create_revision, mod_revision, version, lease } = kv;
        let place = self.places.entry(mod_revision).or_default();
        let bytes = row_bytes(&key, &value) as u32;
        let entry = Entry { create_revision, mod_revision, version, lease, sub: *place, bytes };
        *place += 1;
        if lease != 0 {
            self.leases.entry(lease).or_insert_with(|| term(ENDED, ENDED));
        }
        (entry, key, value)
    }

    async fn finish(mut self, revision: Revision, snapshot: &Snapshot) -> Result<(), redb::Error> {
        self.leases.extend(snapshot.leases.iter().map(|lease| (lease.id, term(lease.ttl, lease.remaining))));
        off_thread(move || {
            let leases: Vec<_> = self.leases.into_iter().collect();
            Restore(&self.db).finish(revision, &leases)
        })
        .await
    }
}

fn term(ttl: Duration, remaining: Duration) -> Term {
    let now_ms = Clock::start().now_ms();
    Term { ttl_ms: ttl.as_millis() as u64, deadline_ms: now_ms.saturating_add(remaining.as_millis() as u64) }
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, redb::Error> + Send + 'static,
) -> Result<T, redb::Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(redb::Error::Io(std::io::Error::other(error))),
    }
}
