//! The contract, tested once for every engine.
//!
//! Each case gets a fresh store. An engine joins with a test that hands [`conform`] a factory.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};

use super::{all, known_bugs, next, scripts, shown, states};
use crate::embedded::{Options, Retention};
use crate::{Embedded, Error, Event, Key, LeasePool, Op, OpenError, Range, Store, Txn, TxnResult, WatchFrom};

pub(super) type Case = fn(Arc<dyn Store>) -> Pin<Box<dyn Future<Output = ()>>>;

const CASES: &[(&str, Case)] = &[
    ("numbers", |store| Box::pin(numbers(store))),
    ("compare_and_swap", |store| Box::pin(compare_and_swap(store))),
    ("several_keys", |store| Box::pin(several_keys(store))),
    ("ranges", |store| Box::pin(ranges(store))),
    ("past", |store| Box::pin(past(store))),
    ("compaction", |store| Box::pin(compaction(store))),
    ("watch_joins_history_and_present", |store| Box::pin(watch_joins_history_and_present(store))),
    ("watch_filters_and_keeps_transactions_whole", |store| Box::pin(watch_filters(store))),
    ("watch_shows_what_was_replaced", |store| Box::pin(watch_previous(store))),
    ("watch_progress", |store| Box::pin(watch_progress(store))),
    ("watch_of_the_future", |store| Box::pin(watch_of_the_future(store))),
    ("slow_watch_is_ended_clearly", |store| Box::pin(slow_watch(store))),
    ("leases", |store| Box::pin(leases(store))),
    ("expiry", |store| Box::pin(expiry(store))),
    ("contention", |store| Box::pin(contention(store))),
];

/// Runs every case against stores made by `make`.
pub(super) async fn conform<S: Store>(make: impl AsyncFn() -> Arc<S>) {
    for (name, case) in [CASES, scripts::CASES, states::CASES, known_bugs::CASES].concat() {
        let done = tokio::time::timeout(Duration::from_secs(10), case(make().await));
        assert!(done.await.is_ok(), "{name} hangs");
    }
}

#[tokio::test]
async fn embedded_in_memory() {
    conform(async || Arc::new(Embedded::in_memory(&Options::default()).unwrap())).await;
}

/// With no history in memory, everything about the past comes from the disk.
#[tokio::test]
async fn embedded_with_all_history_on_disk() {
    let options = Options { history_bytes: 0, retention: Retention::FOR_EVER, ..Options::default() };
    conform(async || Arc::new(Embedded::in_memory(&options).unwrap())).await;
}

#[tokio::test]
async fn embedded_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let counter = std::cell::Cell::new(0);
    let next_dir = || {
        counter.set(counter.get() + 1);
        dir.path().join(counter.get().to_string())
    };
    conform(async || Arc::new(Embedded::open(&next_dir(), &Options::default()).unwrap())).await;
}

pub(super) async fn put(store: &dyn Store, key: &str, value: &'static str) -> u64 {
    store.txn(Txn::new(Op::put(key, value))).await.unwrap().committed().unwrap()
}

pub(super) async fn delete(store: &dyn Store, key: &str) -> u64 {
    store.txn(Txn::new(Op::delete(key))).await.unwrap().committed().unwrap()
}

async fn numbers(store: Arc<dyn Store>) {
    assert_eq!(store.revision().await.unwrap(), 1);
    assert_eq!(put(&*store, "/a", "1").await, 2);
    assert_eq!(put(&*store, "/a", "2").await, 3);
    let kv = store.get("/a".into()).await.unwrap().unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version, &kv.value[..]), (2, 3, 2, &b"2"[..]));
    assert_eq!(delete(&*store, "/a").await, 4);
    assert_eq!(delete(&*store, "/a").await, 4, "deleting nothing takes no revision");
    assert_eq!(store.get("/a".into()).await.unwrap(), None);
    assert_eq!(put(&*store, "/a", "3").await, 5);
    let kv = store.get("/a".into()).await.unwrap().unwrap();
    assert_eq!((kv.create_revision, kv.version), (5, 1), "a key starts anew after its deletion");
}

async fn compare_and_swap(store: Arc<dyn Store>) {
    assert_eq!(store.txn(Txn::create("/a", "1")).await.unwrap().committed(), Some(2));
    let taken = store.txn(Txn::create("/a", "2")).await.unwrap();
    assert_eq!(taken, TxnResult::Conflict { revision: 2, found: vec![2] });
    assert_eq!(store.txn(Txn::update("/a", "3", 2)).await.unwrap().committed(), Some(3));
    assert_eq!(store.txn(Txn::update("/a", "4", 2)).await.unwrap().committed(), None);
    assert_eq!(store.txn(Txn::delete("/a", 2)).await.unwrap().committed(), None);
    assert_eq!(store.txn(Txn::delete("/a", 3)).await.unwrap().committed(), Some(4));
}

async fn several_keys(store: Arc<dyn Store>) {
    let both = Txn::create("/a", "1").and(Op::put("/b", "1")).when("/b", 0);
    assert_eq!(store.txn(both.clone()).await.unwrap().committed(), Some(2));
    let half = Txn::new(Op::put("/c", "")).when("/a", 2).when("/b", 0).when("/c", 0);
    let refused = store.txn(half).await.unwrap();
    assert_eq!(refused, TxnResult::Conflict { revision: 2, found: vec![2, 2, 0] });
    let keys: Vec<_> =
        all(&*store).await.into_iter().map(|kv| (kv.key.to_string(), kv.mod_revision)).collect();
    assert_eq!(keys, [("/a".to_owned(), 2), ("/b".to_owned(), 2)]);
    let twice = store.txn(Txn::new(Op::put("/a", "")).and(Op::put("/a", ""))).await;
    assert_eq!(twice, Err(Error::DuplicateKey("/a".into())));
}

async fn ranges(store: Arc<dyn Store>) {
    for key in ["/p/a", "/p/b", "/p/c", "/pq", "/o"] {
        put(&*store, key, "v").await;
    }
    let read = |range: Range| async {
        let result = store.range(range).await.unwrap();
        (result.items.iter().map(|kv| kv.key.to_string()).collect::<Vec<_>>().join(" "), result.remaining)
    };
    assert_eq!(read(Range::prefix("/p/")).await, ("/p/a /p/b /p/c".into(), 0));
    assert_eq!(read(Range::prefix("/p/").limit(2)).await, ("/p/a /p/b".into(), 1));
    assert_eq!(read(Range::prefix("/p/").after(&"/p/b".into())).await, ("/p/c".into(), 0));
    assert_eq!(read(Range::prefix("/p/").after(&"/z".into())).await, (String::new(), 0));
    assert_eq!(read(Range::prefix("").limit(1)).await, ("/o".into(), 4));
    assert_eq!(read(Range::key("/p/b")).await, ("/p/b".into(), 0));
    let bare = store.range(Range::key("/p/b").keys_only()).await.unwrap();
    assert_eq!((bare.items[0].mod_revision, bare.items[0].value.len()), (3, 0));
    assert_eq!(bare.revision, 6);
}

async fn past(store: Arc<dyn Store>) {
    put(&*store, "/b", "1").await; // 2
    put(&*store, "/c", "1").await; // 3
    put(&*store, "/b", "2").await; // 4
    delete(&*store, "/c").await; // 5
    put(&*store, "/a", "1").await; // 6
    put(&*store, "/c", "2").await; // 7
    let at = |revision| {
        let store = &store;
        async move {
            let result = store.range(Range::prefix("/").at(revision)).await.unwrap();
            assert_eq!(result.revision, revision);
            let show = |kv: &crate::KeyValue| format!("{}={}", kv.key, String::from_utf8_lossy(&kv.value));
            result.items.iter().map(show).collect::<Vec<_>>().join(" ")
        }
    };
    assert_eq!(at(2).await, "/b=1");
    assert_eq!(at(3).await, "/b=1 /c=1");
    assert_eq!(at(4).await, "/b=2 /c=1");
    assert_eq!(at(5).await, "/b=2");
    assert_eq!(at(6).await, "/a=1 /b=2");
    assert_eq!(at(7).await, "/a=1 /b=2 /c=2");
    let page = store.range(Range::prefix("/").at(4).limit(1)).await.unwrap();
    assert_eq!((page.items[0].key.as_str(), page.remaining), (Some("/b"), 1));
    let future = store.range(Range::prefix("/").at(8)).await;
    assert_eq!(future, Err(Error::FutureRevision { requested: 8, current: 7 }));
}

async fn compaction(store: Arc<dyn Store>) {
    for value in ["1", "2", "3"] {
        put(&*store, "/a", value).await; // 2, 3, 4
    }
    delete(&*store, "/a").await; // 5
    put(&*store, "/b", "1").await; // 6
    assert_eq!(store.compact(7).await, Err(Error::FutureRevision { requested: 7, current: 6 }));
    store.compact(4).await.unwrap();
    let gone = Error::Compacted { requested: 3, at: 4 };
    assert_eq!(store.range(Range::prefix("/").at(3)).await, Err(gone.clone()));
    assert_eq!(store.watch(WatchFrom::prefix("/", 3)).await.err(), Some(gone.clone()));
    assert_eq!(store.compact(3).await, Err(gone));
    assert_eq!(store.range(Range::prefix("/").at(4)).await.unwrap().items[0].value, "3");
    store.compact(5).await.unwrap();
    put(&*store, "/b", "2").await; // 7: gives an engine the occasion to remove what it may
    // A deletion exactly at the compacted revision is still an event to whoever begins there. An engine that no longer
    // knows of it says so; it does not leave it out.
    match store.watch(WatchFrom::prefix("/", 5)).await {
        Ok(mut watch) => {
            let mut seen = Vec::new();
            while seen.len() < 3 {
                seen.extend(shown(&next(&mut watch).await));
            }
            assert_eq!(seen, ["5 -/a", "6 /b=1", "7 /b=2"]);
        }
        Err(error) => assert_eq!(error, Error::Compacted { requested: 5, at: 5 }),
    }
    assert_eq!(store.range(Range::prefix("/").at(6)).await.unwrap().items[0].value, "1");
    assert_eq!(store.status().await.unwrap().compacted, 5);
}

async fn watch_joins_history_and_present(store: Arc<dyn Store>) {
    put(&*store, "/a", "1").await;
    put(&*store, "/a", "2").await;
    let mut watch = store.watch(WatchFrom::prefix("/", 3)).await.unwrap();
    let mut fresh = store.watch(WatchFrom::prefix("/", 0)).await.unwrap();
    put(&*store, "/a", "3").await;
    delete(&*store, "/a").await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(shown(&next(&mut watch).await));
    }
    assert_eq!(seen, ["3 /a=2", "4 /a=3", "5 -/a"]);
    assert!(watch.next().now_or_never().is_none(), "nothing more, and no duplicate");
    assert_eq!(shown(&next(&mut fresh).await)[0], "4 /a=3");
}

async fn watch_filters(store: Arc<dyn Store>) {
    let mut watch = store.watch(WatchFrom::prefix("/p/", 0)).await.unwrap();
    put(&*store, "/q/a", "").await;
    let txn = Txn::new(Op::put("/p/a", "1")).and(Op::put("/q/b", "1")).and(Op::put("/p/b", "1"));
    store.txn(txn).await.unwrap();
    let batch = next(&mut watch).await;
    assert_eq!((shown(&batch), batch.revision), (vec!["3 /p/a=1".to_owned(), "3 /p/b=1".to_owned()], 3));
    put(&*store, "/q/a", "").await;
    assert!(watch.next().now_or_never().is_none());
}

async fn watch_previous(store: Arc<dyn Store>) {
    let from = WatchFrom::prefix("/", 2).with_previous();
    let mut watch = store.watch(from).await.unwrap();
    put(&*store, "/a", "1").await;
    put(&*store, "/a", "2").await;
    delete(&*store, "/a").await;
    let mut events = Vec::new();
    while events.len() < 3 {
        events.extend(next(&mut watch).await.events);
    }
    let shown: Vec<_> = events.iter().map(super::shown_event).collect();
    assert_eq!(shown, ["2 /a=1", "3 /a=2 (was 1)", "4 -/a (was 2)"]);
    assert!(matches!(events[2], Event::Delete { previous_revision: 3, .. }));
}

async fn watch_progress(store: Arc<dyn Store>) {
    let mut watch = store.watch(WatchFrom::prefix("/p/", 0)).await.unwrap();
    put(&*store, "/q", "").await;
    store.request_progress().await.unwrap();
    let batch = next(&mut watch).await;
    assert_eq!((batch.revision, batch.events.len()), (2, 0));
    assert!(watch.next().now_or_never().is_none(), "one report for one request");
}

async fn watch_of_the_future(store: Arc<dyn Store>) {
    let mut watch = store.watch(WatchFrom::prefix("/", 4)).await.unwrap();
    for value in ["2", "3", "4"] {
        put(&*store, "/a", value).await;
    }
    assert_eq!(shown(&next(&mut watch).await), ["4 /a=4"]);
}

async fn slow_watch(store: Arc<dyn Store>) {
    let mut slow = store.watch(WatchFrom::prefix("/a", 0)).await.unwrap();
    let mut unconcerned = store.watch(WatchFrom::prefix("/b", 0)).await.unwrap();
    for _ in 0..5 {
        put(&*store, "/a", "").await; // 2..=6
    }
    store.compact(5).await.unwrap();
    put(&*store, "/b", "").await; // 7
    match slow.next().await.unwrap() {
        Err(error) => {
            assert_eq!(error, Error::Compacted { requested: 2, at: 5 });
            assert!(slow.next().await.is_none(), "it ends after its error");
        }
        // An engine elsewhere may have sent all of it in time.
        Ok(first) => {
            let mut seen = shown(&first);
            while seen.len() < 5 {
                seen.extend(shown(&next(&mut slow).await));
            }
            assert_eq!(seen, ["2 /a=", "3 /a=", "4 /a=", "5 /a=", "6 /a="]);
        }
    }
    assert_eq!(shown(&next(&mut unconcerned).await), ["7 /b="]);
}

async fn leases(store: Arc<dyn Store>) {
    let hour = Duration::from_secs(3600);
    let (one, two) = (store.grant(hour).await.unwrap(), store.grant(hour).await.unwrap());
    assert_ne!(one, two);
    assert_eq!(store.keep_alive(one).await.unwrap(), hour);
    for (key, lease) in [("/a", one), ("/b", one), ("/c", two)] {
        store.txn(Txn::new(Op::put_with_lease(key, "", lease))).await.unwrap();
    }
    put(&*store, "/b", "stays").await;
    assert_eq!(store.get("/a".into()).await.unwrap().unwrap().lease, one);
    let before = store.revision().await.unwrap();
    store.revoke(one).await.unwrap();
    assert_eq!(store.revision().await.unwrap(), before + 1);
    let keys: Vec<Key> = all(&*store).await.into_iter().map(|kv| kv.key).collect();
    assert_eq!(keys, ["/b".into(), "/c".into()]);
    let orphan = store.txn(Txn::new(Op::put_with_lease("/d", "", one))).await;
    assert_eq!(orphan, Err(Error::LeaseNotFound(one)));
    assert_eq!(store.keep_alive(one).await, Err(Error::LeaseNotFound(one)));
    let pool = LeasePool::new(store.clone());
    assert_eq!(pool.lease(hour).await.unwrap(), pool.lease(hour).await.unwrap());
}

async fn expiry(store: Arc<dyn Store>) {
    let mut watch = store.watch(WatchFrom::prefix("/", 0)).await.unwrap();
    let lease = store.grant(Duration::from_millis(20)).await.unwrap();
    let txn = Txn::new(Op::put_with_lease("/a", "", lease)).and(Op::put_with_lease("/b", "", lease));
    // On a machine that stalls, the lease may be over before the put: then there is nothing left to expire.
    if store.txn(txn).await.is_ok() {
        assert_eq!(shown(&next(&mut watch).await), ["2 /a=", "2 /b="]);
        assert_eq!(shown(&next(&mut watch).await), ["3 -/a", "3 -/b"]);
        assert_eq!(store.status().await.unwrap().leases, 0);
    }
}

/// Many clients increment one counter by compare-and-swap: no increment may get lost.
async fn contention(store: Arc<dyn Store>) {
    put(&*store, "/n", "0").await;
    let clients = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut done = 0;
            while done < 10 {
                let kv = store.get("/n".into()).await.unwrap().unwrap();
                let n: u64 = String::from_utf8_lossy(&kv.value).parse().unwrap();
                let txn = Txn::update("/n", (n + 1).to_string(), kv.mod_revision);
                done += u64::from(store.txn(txn).await.unwrap().committed().is_some());
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    assert_eq!(store.get("/n".into()).await.unwrap().unwrap().value, "80");
}

#[tokio::test]
async fn embedded_is_there_again_after_reopening_and_lets_only_one_in() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Embedded::open(dir.path(), &Options::default());
    let store = open().unwrap();
    assert!(matches!(open(), Err(OpenError::InUse { .. })));
    put(&store, "/a", "1").await;
    put(&store, "/a", "2").await;
    let lease = store.grant(Duration::from_secs(3600)).await.unwrap();
    store.txn(Txn::new(Op::put_with_lease("/b", "", lease))).await.unwrap();
    let before = all(&store).await;
    let mut watch = store.watch(WatchFrom::prefix("/", 0)).await.unwrap();
    drop(store);
    assert_eq!(watch.next().await, Some(Err(Error::Closed)));
    let store = open().unwrap();
    assert_eq!((all(&store).await, store.revision().await.unwrap()), (before, 4));
    assert_eq!(store.range(Range::prefix("/").at(2)).await.unwrap().items[0].value, "1");
    let mut watch = store.watch(WatchFrom::prefix("/", 3)).await.unwrap();
    assert_eq!(shown(&next(&mut watch).await), ["3 /a=2", "4 /b="]);
    store.revoke(lease).await.unwrap();
    assert_eq!(all(&store).await.len(), 1);
}
