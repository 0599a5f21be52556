//! The watch cache: the whole cluster state in memory as shared objects, kept current by one feed from the store.
//!
//! - One [`Cache`] per group-resource, ordered by key, filled by one range at start and one watch for ever after.
//! - Each keeps a byte-budgeted ring of recent events. A watcher is a cursor into it: no queue per watcher, so a slow
//!   one costs nothing and is cut off (410) when the ring no longer reaches back to it.
//! - The feed publishes in revision order, then advances one global revision; a consistent read waits for that.

mod event;
pub mod splice;

pub use event::{Delivery, Event, EventKind, Frame};
