//! Objects with a time to live (events: one hour): they hang on leases that many of them share.

use std::time::Duration;

use parking_lot::Mutex;
use tiphys_api::Status;
use tokio::time::Instant;

use super::Registry;
use super::commit::store_error;
use crate::cache::Cache;

/// How long events live, as kube-apiserver's `--event-ttl` is by default.
const EVENT_TTL: Duration = Duration::from_secs(3600);
/// Objects of this time share one lease, so an event lives at most this much longer than its time.
const SHARED_FOR: Duration = Duration::from_secs(60);

/// The lease that new events are attached to, and when it was granted.
#[derive(Default)]
pub struct SharedLease(Mutex<Option<(u64, Instant)>>);

impl Registry {
    /// The lease for objects of this resource, if they expire.
    pub(super) async fn ttl_lease(&self, cache: &Cache) -> Result<Option<u64>, Status> {
        let gvr = &cache.resource.gvr;
        if gvr.resource != "events" || !matches!(gvr.group.as_ref(), "" | "events.k8s.io") {
            return Ok(None);
        }
        if let Some((lease, granted)) = *self.event_lease.0.lock()
            && granted.elapsed() < SHARED_FOR
        {
            return Ok(Some(lease));
        }
        // Two may grant at once: the loser's lease expires empty.
        let lease = self.caches().store().grant(EVENT_TTL + SHARED_FOR).await.map_err(store_error)?;
        *self.event_lease.0.lock() = Some((lease, Instant::now()));
        Ok(Some(lease))
    }
}
