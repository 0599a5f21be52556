//! Few leases for many short-lived keys.
//!
//! Thousands of Events an hour each live for an hour. A lease for each would cost a write of its own, so, as
//! Kubernetes does, keys written within about a minute share one that lasts that minute longer than asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::{Error, LeaseId, Store};

/// A lease is shared for this part of its time to live, ...
const SHARED_PART: u32 = 20;
/// ... but not longer than this, ...
const SHARED_MAX: Duration = Duration::from_secs(60);
/// ... and by no more keys than this, so that its end is not a huge transaction.
const KEYS_MAX: u32 = 1000;

/// Hands out leases, shared where possible.
pub struct LeasePool {
    store: Arc<dyn Store>,
    /// By time to live. Locked across the grant on purpose: whoever comes meanwhile will share it.
    current: Mutex<HashMap<Duration, Shared>>,
}

struct Shared {
    lease: LeaseId,
    until: Instant,
    keys: u32,
}

impl LeasePool {
    /// An empty pool.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, current: Mutex::new(HashMap::new()) }
    }

    /// A lease that lasts at least `ttl` from now, and at most a minute longer, for one key.
    pub async fn lease(&self, ttl: Duration) -> Result<LeaseId, Error> {
        let mut current = self.current.lock().await;
        let now = Instant::now();
        current.retain(|_, shared| shared.until > now && shared.keys < KEYS_MAX);
        if let Some(shared) = current.get_mut(&ttl) {
            shared.keys += 1;
            return Ok(shared.lease);
        }
        let extra = (ttl / SHARED_PART).min(SHARED_MAX);
        let lease = self.store.grant(ttl + extra).await?;
        current.insert(ttl, Shared { lease, until: now + extra, keys: 1 });
        Ok(lease)
    }
}
