//! Clients that write, read and watch as fast as they can, and note everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;

use super::super::Random;
use super::{Call, Engine, History, Stamps, Watched, What};
use crate::{Error, KeyValue, Op, Range, Revision, Txn, WatchFrom};

const CLIENTS: usize = 8;
/// How long a watch may be quiet before its client looks whether there is still time for it.
const QUIET: Duration = Duration::from_millis(20);
const KEYS: [&str; 5] = ["/a/1", "/a/2", "/b/1", "/b/2", "/b/3"];

struct Shared {
    engine: Arc<dyn Engine>,
    stamps: Stamps,
    calls: Mutex<Vec<Call>>,
    /// Calls still to be made.
    left: AtomicUsize,
    /// Up to here the auditor has seen everything, so that it may be forgotten.
    audited: AtomicU64,
    done: AtomicBool,
}

/// Runs all clients to the end. Nothing may hang or be refused for another reason than a kill.
pub(super) async fn record(engine: Arc<dyn Engine>, kills: usize, calls: usize) -> History {
    let shared = Arc::new(Shared {
        engine,
        stamps: Stamps::default(),
        calls: Mutex::default(),
        left: AtomicUsize::new(calls),
        audited: AtomicU64::new(1),
        done: AtomicBool::new(false),
    });
    let watchers = ["/", "/a/", "/b/", "/b/1"].into_iter().enumerate();
    let watchers: Vec<_> =
        watchers.map(|(n, prefix)| tokio::spawn(watch(shared.clone(), prefix, n == 0))).collect();
    let clients = (0..CLIENTS).map(|client| tokio::spawn(client_loop(shared.clone(), client)));
    let clients: Vec<_> = clients.chain([tokio::spawn(housekeeper(shared.clone()))]).collect();
    for kill in 1..=kills {
        while shared.left.load(Ordering::SeqCst) > calls - calls * kill / (kills + 1) {
            tokio::task::yield_now().await;
        }
        shared.engine.kill().await;
    }
    for client in clients {
        client.await.unwrap();
    }
    shared.done.store(true, Ordering::SeqCst);
    // A last event for everybody, after which nothing more comes.
    let last = KEYS.into_iter().fold(Txn::default(), |txn, key| txn.and(Op::put(key, "end")));
    assert!(transact(&shared, last).await, "nothing was killed any more, but a write was lost");
    let mut history = History::default();
    for watcher in watchers {
        history.watches.push(watcher.await.unwrap());
    }
    history.calls = std::mem::take(&mut shared.calls.lock());
    history
}

/// What ends a call because of a kill.
fn killed(error: &Error) -> bool {
    matches!(error, Error::Failed(_) | Error::Closed | Error::Read(_) | Error::Unavailable(_))
}

async fn client_loop(shared: Arc<Shared>, client: usize) {
    let mut random = Random::fresh();
    let mut known: Vec<KeyValue> = Vec::new();
    let mut revision = 1;
    for n in 0.. {
        let taken = shared.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if taken.is_err() {
            return;
        }
        match random.below(10) {
            0..=5 => {
                transact(&shared, transaction(&mut random, &known, &format!("{client}.{n}"))).await;
            }
            6 => drop(read(&shared, revision - revision.min(random.below(20))).await),
            _ => {
                if let Some(found) = read(&shared, 0).await {
                    (revision, known) = found;
                }
            }
        }
    }
}

/// A transaction of a few changes under conditions that often hold.
fn transaction(random: &mut Random, known: &[KeyValue], value: &str) -> Txn {
    let at = |key: &str| known.iter().find(|kv| kv.key.as_str() == Some(key)).map_or(0, |kv| kv.mod_revision);
    let first = random.below(5) as usize;
    let mut txn = Txn::new(Op::put(KEYS[first], value.to_owned()));
    if random.below(2) == 0 {
        txn = txn.when(KEYS[first], at(KEYS[first]));
    }
    for key in KEYS.into_iter().skip(first + 1) {
        txn = match random.below(6) {
            0 => txn.and(Op::put(key, value.to_owned())),
            1 => txn.and(Op::delete(key)),
            2 => txn.when(key, at(key)),
            _ => txn,
        };
    }
    txn
}

/// Answers whether it was answered.
async fn transact(shared: &Shared, txn: Txn) -> bool {
    let (invoked, store) = (shared.stamps.now(), shared.engine.store());
    let result = store.txn(txn.clone()).await;
    let (returned, outcome) = match result {
        Ok(result) => (shared.stamps.now(), Some(result)),
        Err(error) => {
            assert!(killed(&error), "{error}");
            (u64::MAX, None)
        }
    };
    let answered = outcome.is_some();
    shared.calls.lock().push(Call { invoked, returned, what: What::Txn(txn, outcome) });
    tokio::task::yield_now().await;
    answered
}

async fn read(shared: &Shared, asked: Revision) -> Option<(Revision, Vec<KeyValue>)> {
    let (invoked, store) = (shared.stamps.now(), shared.engine.store());
    match store.range(Range::prefix("/").at(asked)).await {
        Ok(found) => {
            let returned = shared.stamps.now();
            let what = What::Read { asked, revision: found.revision, items: found.items.clone() };
            shared.calls.lock().push(Call { invoked, returned, what });
            Some((found.revision, found.items))
        }
        Err(error) => {
            let gone = matches!(error, Error::Compacted { .. }) && asked != 0;
            assert!(killed(&error) || gone, "{error}");
            None
        }
    }
}

/// Compacts, defragments, takes hashes; all of it may be interrupted by a kill.
async fn housekeeper(shared: Arc<Shared>) {
    while shared.left.load(Ordering::SeqCst) > 0 {
        let store = shared.engine.store();
        let at = shared.audited.load(Ordering::SeqCst);
        for outcome in [store.compact(at).await, store.defragment().await, store.hash(0).await.map(drop)] {
            let fine = outcome.as_ref().err().is_none_or(|error| {
                // A compaction may have been durable although a kill took its answer away.
                killed(error) || matches!(error, Error::Compacted { .. })
            });
            assert!(fine, "{outcome:?}");
        }
    }
}

/// Watches until the last event, beginning again after each kill, and sometimes just so, where it was.
async fn watch(shared: Arc<Shared>, prefix: &str, auditor: bool) -> Watched {
    let mut watched = Watched { prefix: prefix.to_owned(), first: 2, batches: Vec::new() };
    let mut random = Random::fresh();
    let mut next = 2;
    loop {
        let store = shared.engine.store();
        let mut from = WatchFrom::prefix(prefix, next);
        from.previous = random.below(2) == 0;
        let mut watch = match store.watch(from).await {
            Ok(watch) => watch,
            // Only the auditor holds compaction up. Another one begins anew, as a client that lists again.
            Err(Error::Compacted { at, .. }) if !auditor => {
                (next, watched.first) = (at + 1, at + 1);
                watched.batches.clear();
                continue;
            }
            Err(error) if killed(&error) => continue,
            Err(error) => panic!("{error}"),
        };
        for _ in 0..random.below(60) + 5 {
            if random.below(8) == 0 {
                let _ = store.request_progress().await;
            }
            // A watch of a store that was killed may hear nothing more.
            let Ok(item) = tokio::time::timeout(QUIET, watch.next()).await else { continue };
            let Some(Ok(batch)) = item else { break };
            next = batch.revision + 1;
            if auditor {
                shared.audited.store(batch.revision, Ordering::SeqCst);
            }
            let end = batch
                .events
                .iter()
                .any(|event| matches!(event, crate::Event::Put { kv, .. } if kv.value == "end"));
            watched.batches.push((batch.revision, batch.events));
            if end {
                return watched;
            }
        }
        tokio::task::yield_now().await;
    }
}
