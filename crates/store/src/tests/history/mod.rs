//! Histories of many concurrent clients under kills, and what must hold for them.
//!
//! [`clients`] run against a store that is killed now and then, and record what they asked, what they were told, and
//! when. [`check`] holds such a history to the guarantees: strict serializability of transactions and reads, and
//! watches that are ordered, unique, atomic, complete, resumable and bookmarkable. The auditor, a watch of everything
//! from the beginning, tells what really happened; every client must have seen that.

mod check;
mod clients;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Random;
use super::etcd::{Server, installed};
use super::medium::Medium;
use crate::embedded::{Options, Retention};
use crate::{Embedded, Etcd, Event, KeyValue, Revision, Store, Txn, TxnResult};

/// A store that can be killed and comes back with what it had acknowledged.
#[async_trait::async_trait]
pub(super) trait Engine: Send + Sync + 'static {
    /// The store, as it is now.
    fn store(&self) -> Arc<dyn Store>;
    /// Kills it and starts it again.
    async fn kill(&self);
}

/// Something a client did.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// When it was asked, and when answered, on one clock for all clients; never = `u64::MAX`.
    invoked: u64,
    returned: u64,
    what: What,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    /// A transaction; each writes a value that no other one writes. None = nobody knows how it ended.
    Txn(Txn, Option<TxnResult>),
    /// A read of everything, at the present or (asked) a past revision.
    Read { asked: Revision, revision: Revision, items: Vec<KeyValue> },
}

/// What one watch was told, its resumptions included.
#[derive(Debug, Clone, Default)]
pub(super) struct Watched {
    prefix: String,
    /// The first revision it asked for.
    first: Revision,
    batches: Vec<(Revision, Vec<Event>)>,
}

/// Everything that was recorded.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    calls: Vec<Call>,
    /// The first one is the auditor's.
    watches: Vec<Watched>,
}

/// One clock for all clients.
#[derive(Default)]
struct Stamps(AtomicU64);

impl Stamps {
    fn now(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// The embedded engine on a disk that loses what was not synced.
struct Killable {
    store: Mutex<(Medium, Arc<dyn Store>)>,
    random: Mutex<Random>,
}

impl Killable {
    fn new() -> Self {
        let medium = Medium::default();
        let store = Self::open(&medium);
        Self { store: Mutex::new((medium, store)), random: Mutex::new(Random::fresh()) }
    }

    fn open(medium: &Medium) -> Arc<dyn Store> {
        // Little in memory and much housekeeping, so that everything happens often.
        let options = Options {
            history_bytes: 4_000,
            replay_bytes: 5_000,
            retention: Retention::FOR_EVER,
            ..Options::default()
        };
        Arc::new(Embedded::on(medium.parts(), &options).unwrap())
    }
}

#[async_trait::async_trait]
impl Engine for Killable {
    fn store(&self) -> Arc<dyn Store> {
        self.store.lock().1.clone()
    }

    async fn kill(&self) {
        let mut store = self.store.lock();
        let medium = store.0.kill(&mut self.random.lock());
        let opened = Self::open(&medium);
        *store = (medium, opened);
    }
}

/// A real etcd, whose process is killed.
struct Elsewhere {
    store: Arc<dyn Store>,
    server: Mutex<Server>,
}

#[async_trait::async_trait]
impl Engine for Elsewhere {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    async fn kill(&self) {
        let mut server = self.server.lock();
        server.kill();
        server.again();
    }
}

/// Runs clients against an engine with so many kills, and checks what they saw.
pub(super) async fn run(engine: Arc<dyn Engine>, kills: usize, calls: usize) {
    let history = clients::record(engine, kills, calls).await;
    if let Err(violation) = check::check(&history) {
        panic!("{violation}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_see_under_kills_is_one_history() {
    // A longer run says so in the environment.
    let histories = std::env::var("TIPHYS_STORE_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    for _ in 0..histories {
        run(Arc::new(Killable::new()), 25, 3_000).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_see_of_a_killed_etcd_is_one_history() {
    if !installed() {
        return;
    }
    let server = Server::start();
    let store = Arc::new(Etcd::connect(&server.options()).await.unwrap());
    run(Arc::new(Elsewhere { store, server: Mutex::new(server) }), 3, 1_500).await;
}
