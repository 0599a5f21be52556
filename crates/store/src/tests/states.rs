//! The part of the contract that is about whole states, leases and space. See [`super::conformance`].

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt, TryStreamExt};

use super::conformance::{Case, delete, put};
use super::{all, next, shown};
use crate::{Error, KeyValue, Op, Range, Snapshot, Span, Store, Txn, WatchFrom, archive};

pub(super) const CASES: &[(&str, Case)] = &[
    ("snapshots", |store| Box::pin(snapshots(store))),
    ("archives", |store| Box::pin(archives(store))),
    ("hashes", |store| Box::pin(hashes(store))),
    ("leases_are_told", |store| Box::pin(leases_are_told(store))),
    ("defragmentation_changes_nothing", |store| Box::pin(defragmentation(store))),
    ("watches_of_spans", |store| Box::pin(watches_of_spans(store))),
    ("large_states_hold_still", |store| Box::pin(large_states_hold_still(store))),
];

pub(super) async fn items(snapshot: Snapshot) -> Vec<KeyValue> {
    let parts: Vec<_> = snapshot.items.try_collect().await.unwrap();
    parts.concat()
}

async fn snapshots(store: Arc<dyn Store>) {
    for key in ["/b", "/a", "/c"] {
        put(&*store, key, "1").await; // 2, 3, 4
    }
    let lease = store.grant(Duration::from_secs(3600)).await.unwrap();
    let expected = all(&*store).await;
    let (now, then) = (store.snapshot(0).await.unwrap(), store.snapshot(3).await.unwrap());
    assert_eq!((now.revision, now.leases[0].id, then.revision), (4, lease, 3));
    put(&*store, "/a", "2").await;
    delete(&*store, "/b").await;
    assert_eq!(items(now).await, expected);
    let keys: Vec<_> = items(then).await.iter().map(|kv| kv.key.to_string()).collect();
    assert_eq!(keys, ["/a", "/b"]);
    let future = store.snapshot(90).await.err();
    assert_eq!(future, Some(Error::FutureRevision { requested: 90, current: 6 }));
    store.compact(6).await.unwrap();
    assert_eq!(store.snapshot(3).await.err(), Some(Error::Compacted { requested: 3, at: 6 }));
}

async fn archives(store: Arc<dyn Store>) {
    put(&*store, "/a", "1").await;
    put(&*store, "/b", "2").await;
    let chunks: Vec<_> = archive::encode(store.snapshot(0).await.unwrap()).collect().await;
    let again = archive::decode(futures::stream::iter(chunks)).await.unwrap();
    assert_eq!(again.revision, 3);
    assert_eq!(items(again).await, all(&*store).await);
}

async fn hashes(store: Arc<dyn Store>) {
    put(&*store, "/a", "1").await; // 2
    put(&*store, "/b", "2").await; // 3
    let before = store.hash(0).await.unwrap();
    // The same for every engine, on every machine.
    assert_eq!((before.revision, before.keys, before.hash), (3, 2, 0xef95_9bdf));
    put(&*store, "/b", "2").await; // 4
    assert_ne!(store.hash(0).await.unwrap().hash, before.hash, "a revision is part of the state");
    assert_eq!(store.hash(3).await.unwrap(), before);
    store.compact(4).await.unwrap();
    assert_eq!(store.hash(3).await, Err(Error::Compacted { requested: 3, at: 4 }));
}

async fn leases_are_told(store: Arc<dyn Store>) {
    let hour = Duration::from_secs(3600);
    assert_eq!(store.leases().await.unwrap(), []);
    let one = store.grant(hour).await.unwrap();
    assert_eq!(store.grant_as(77, 2 * hour).await, Ok(77));
    assert_eq!(store.grant_as(77, hour).await, Err(Error::LeaseExists(77)));
    assert_eq!(store.leases().await.unwrap(), [77, one]);
    for key in ["/b", "/a", "/c"] {
        store.txn(Txn::new(Op::put_with_lease(key, "", 77))).await.unwrap();
    }
    put(&*store, "/c", "").await;
    let lease = store.lease(77).await.unwrap();
    assert_eq!((lease.id, lease.ttl, lease.keys), (77, 2 * hour, vec!["/a".into(), "/b".into()]));
    assert!(lease.remaining <= 2 * hour && lease.remaining > hour);
    store.revoke(77).await.unwrap();
    assert_eq!(store.lease(77).await, Err(Error::LeaseNotFound(77)));
    assert_eq!(store.leases().await.unwrap(), [one]);
}

async fn defragmentation(store: Arc<dyn Store>) {
    for n in 0..50 {
        put(&*store, if n % 3 == 0 { "/a" } else { "/b" }, "value").await;
    }
    let (before, past) = (all(&*store).await, store.hash(20).await.unwrap());
    store.defragment().await.unwrap();
    assert_eq!((all(&*store).await, store.hash(20).await.unwrap()), (before, past));
    let mut watch = store.watch(WatchFrom::prefix("/", 50)).await.unwrap();
    assert_eq!(shown(&next(&mut watch).await), ["50 /a=value", "51 /b=value"]);
    let status = store.status().await.unwrap();
    assert!(!status.no_space);
}

async fn watches_of_spans(store: Arc<dyn Store>) {
    let within = Span { start: "/b".into(), end: Some("/d".into()) };
    let onwards = Span { start: "/c".into(), end: None };
    let watch = async |span| store.watch(WatchFrom::span(span, 2)).await.unwrap();
    let (mut within, mut onwards) = (watch(within).await, watch(onwards).await);
    let mut one = watch(Span::key("/b")).await;
    let txn = ["/b", "/bb", "/c", "/d"]
        .into_iter()
        .fold(Txn::new(Op::put("/a", "")), |txn, key| txn.and(Op::put(key, "")));
    store.txn(txn).await.unwrap();
    assert_eq!(shown(&next(&mut within).await), ["2 /b=", "2 /bb=", "2 /c="]);
    assert_eq!(shown(&next(&mut onwards).await), ["2 /c=", "2 /d="]);
    assert_eq!(shown(&next(&mut one).await), ["2 /b="]);
    assert!(one.next().now_or_never().is_none());
}

/// Reads of one revision are the same however much is written meanwhile; each read is so large that it takes several
/// steps.
async fn large_states_hold_still(store: Arc<dyn Store>) {
    const KEYS: usize = 6_000;
    let key = |n: usize| format!("/{n:05}");
    for first in (0..KEYS).step_by(100) {
        let ops = (first..first + 100).filter(|n| n % 3 > 0).map(|n| Op::put(key(n), "old"));
        store.txn(Txn { ops: ops.collect(), ..Txn::default() }).await.unwrap();
    }
    let range = Range::prefix("/").at(store.revision().await.unwrap());
    let expected = store.range(range.clone()).await.unwrap();
    assert_eq!(expected.items.len(), KEYS / 3 * 2);
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            // Creates, updates and deletes all over the place.
            for n in 0..600 {
                let n = n * 4_001 % KEYS;
                let op = if n % 3 == 1 { Op::delete(key(n)) } else { Op::put(key(n), "new") };
                store.txn(Txn::new(op)).await.unwrap();
            }
        }
    });
    while !writer.is_finished() {
        assert!(store.range(range.clone()).await.unwrap() == expected);
        let part = store.range(range.clone().after(&key(2_000).into()).limit(50).keys_only()).await.unwrap();
        let from = expected.items.iter().position(|kv| kv.key > key(2_000).into()).unwrap();
        let keys = |items: &[KeyValue]| items.iter().map(|kv| kv.key.clone()).collect::<Vec<_>>();
        assert_eq!(keys(&part.items), keys(&expected.items[from..from + 50]));
        assert_eq!(part.remaining as usize, expected.items.len() - from - 50);
    }
    writer.await.unwrap();
}
