//! Tests of the contract and of the engine's promises.
//!
//! [`conformance`] holds for every engine, with cases from [`scripts`], [`states`] and [`known_bugs`]; [`model`] compares
//! an engine with a simple one under random operations; [`history`] checks what concurrent clients saw under kills;
//! [`crash`] kills a process at random instants; [`torn`] loses and tears what was not synced, as a power failure
//! does, and breaks, fills and slows down the disk ([`medium`]); [`damage`] changes files; [`space`] looks at their size.

mod cluster;
mod conformance;
mod crash;
mod damage;
mod etcd;
mod history;
mod known_bugs;
mod load;
mod medium;
mod model;
mod scripts;
mod space;
mod states;
mod torn;

use std::path::Path;

use futures::StreamExt;

use crate::embedded::Options;
use crate::{Embedded, Event, KeyValue, OpenError, Range, Store, Watch, WatchBatch};

/// Opens a store that nobody else has open. A child process of another test has its lock, too, between fork and exec.
fn open(dir: &Path, options: &Options) -> Result<Embedded, OpenError> {
    loop {
        match Embedded::open(dir, options) {
            Err(OpenError::InUse { .. }) => std::thread::yield_now(),
            other => return other,
        }
    }
}

/// Everything in the store.
async fn all(store: &dyn Store) -> Vec<KeyValue> {
    store.range(Range::prefix("")).await.unwrap().items
}

/// The next batch, which must come.
async fn next(watch: &mut Watch) -> WatchBatch {
    watch.next().await.unwrap().unwrap()
}

/// `revision key=value` or `revision -key` for each event, with what it replaced, if known.
fn shown(batch: &WatchBatch) -> Vec<String> {
    batch.events.iter().map(shown_event).collect()
}

fn shown_event(event: &Event) -> String {
    let text = |kv: &KeyValue| String::from_utf8_lossy(&kv.value).into_owned();
    let (body, previous) = match event {
        Event::Put { kv, previous, .. } => (format!("{}={}", kv.key, text(kv)), previous),
        Event::Delete { key, previous, .. } => (format!("-{key}"), previous),
    };
    let was = previous.as_ref().map(|kv| format!(" (was {})", text(kv))).unwrap_or_default();
    format!("{} {body}{was}", event.revision())
}

/// Small random numbers from a seed (xorshift), so that a failure can be repeated.
struct Random(u64);

impl Random {
    /// A new seed every time.
    fn fresh() -> Self {
        use std::hash::{BuildHasher, Hasher};
        Self(std::hash::RandomState::new().build_hasher().finish() | 1)
    }

    /// Below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
