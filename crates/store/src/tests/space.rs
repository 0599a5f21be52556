//! The embedded engine's space: its quota, its file under churn, its snapshots on other machines.

use std::sync::Arc;
use std::time::Duration;

use super::conformance::put;
use super::states::items;
use super::{all, next, open, shown};
use crate::embedded::{Options, RestoreError, Retention};
use crate::{Embedded, Error, Op, Range, Store, Txn, WatchFrom};

/// A full store says so, takes deletes, and recovers by itself.
#[tokio::test]
async fn a_used_up_quota_is_told_clearly_and_ends_by_deleting() {
    let options = Options { quota_bytes: 20_000, ..Options::default() };
    let store = Embedded::in_memory(&options).unwrap();
    let lease = store.grant(Duration::from_secs(3600)).await.unwrap();
    let mut written = 0;
    let refused = loop {
        let txn = Txn::create(format!("/{written}"), vec![b'x'; 1000]);
        match store.txn(txn).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((written, &refused), (19, &Error::NoSpace { quota: 20_000 }));
    assert!(refused.to_string().contains("delete objects or raise the quota"));
    assert_eq!(store.grant(Duration::from_secs(1)).await, Err(refused));
    assert!(store.status().await.unwrap().no_space);
    assert_eq!(all(&store).await.len(), 19);
    store.keep_alive(lease).await.unwrap();
    for n in 0..5 {
        store.txn(Txn::new(Op::delete(format!("/{n}")))).await.unwrap();
    }
    store.compact(store.revision().await.unwrap()).await.unwrap();
    let status = store.status().await.unwrap();
    assert!(!status.no_space && status.used_bytes < 16_000, "{status:?}");
    put(&store, "/a", "").await;
}

/// Disk use is in proportion to what lives, also while one writes, and defragmentation loses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn churn_leaves_a_small_file() {
    const KEYS: u64 = 300;
    const VALUE: usize = 6_000;
    const UPDATES: u64 = 8_000;
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(open(dir.path(), &Options::default()).unwrap());
    let writers = (0..8).map(|writer| tokio::spawn(churn(store.clone(), writer, KEYS, UPDATES / 8, VALUE)));
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let live = KEYS * VALUE as u64;
    let status = store.status().await.unwrap();
    assert!(status.disk_bytes <= 3 * live, "{status:?} for {live}");
    store.compact(store.revision().await.unwrap()).await.unwrap();
    let (before, hash) = (all(&*store).await, store.hash(0).await.unwrap());
    store.defragment().await.unwrap();
    assert!(before == all(&*store).await);
    drop(store);
    let store = open(dir.path(), &Options::default()).unwrap();
    assert_eq!(store.hash(0).await.unwrap(), hash);
}

async fn churn(store: Arc<dyn Store>, writer: u64, keys: u64, updates: u64, value: usize) {
    for n in 0..updates {
        let key = format!("/{}", (n * 8 + writer) % keys);
        store.txn(Txn::new(Op::put(key, vec![n as u8; value]))).await.unwrap();
    }
}

/// A watch that keeps up needs no more than memory, whatever the engine forgets by itself.
#[tokio::test]
async fn saving_space_does_not_end_a_watch_that_memory_can_serve() {
    let retention = Retention { bytes: 300, ..Retention::FOR_EVER };
    let store = Embedded::in_memory(&Options { retention, ..Options::default() }).unwrap();
    let mut watch = store.watch(WatchFrom::prefix("/", 2)).await.unwrap();
    for _ in 0..50 {
        put(&store, "/a", "1").await;
    }
    assert!(store.status().await.unwrap().compacted > 40);
    assert!(store.range(Range::prefix("/").at(10)).await.is_err());
    assert_eq!(shown(&next(&mut watch).await)[0], "2 /a=1");
    // What the events replaced is told as far as memory goes, or the watch ends.
    let previous = store.watch(WatchFrom::prefix("/", 10).with_previous()).await;
    let batch = next(&mut previous.unwrap()).await;
    assert_eq!(shown(&batch)[0], "10 /a=1 (was 1)");
    // But what somebody asked to forget is forgotten.
    store.compact(51).await.unwrap();
    let asked = store.watch(WatchFrom::prefix("/", 10)).await;
    assert_eq!(asked.err(), Some(Error::Compacted { requested: 10, at: 51 }));
}

#[tokio::test]
async fn a_snapshot_restores_into_a_new_store_and_outlives_compaction() {
    let options = Options::default();
    let source = Embedded::in_memory(&options).unwrap();
    let lease = source.grant(Duration::from_secs(3600)).await.unwrap();
    for n in 0..3_000 {
        put(&source, &format!("/{}", n % 1_700), "value").await;
    }
    let two = Txn::new(Op::put_with_lease("/x", "1", lease)).and(Op::put("/y", "2"));
    let revision = source.txn(two).await.unwrap().committed().unwrap();
    let (before, hash) = (all(&source).await, source.hash(0).await.unwrap());
    let snapshot = source.snapshot(0).await.unwrap();
    for n in 0..500 {
        source.txn(Txn::new(Op::delete(format!("/{n}")))).await.unwrap();
    }
    source.compact(source.revision().await.unwrap()).await.unwrap();
    source.defragment().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    Embedded::restore(dir.path(), snapshot, 1_000, &options).await.unwrap();
    let again = source.snapshot(0).await.unwrap();
    let refused = Embedded::restore(dir.path(), again, 0, &options).await;
    assert!(matches!(refused, Err(RestoreError::Exists(_))));
    let store = open(dir.path(), &options).unwrap();
    assert!(all(&store).await == before && items(store.snapshot(0).await.unwrap()).await == before);
    assert_eq!(store.hash(0).await.unwrap().hash, hash.hash);
    assert_eq!(store.lease(lease).await.unwrap().keys, ["/x".into()]);
    // A client that had seen the old store learns that its place in history is gone.
    let old = store.watch(WatchFrom::prefix("/", revision + 1)).await;
    assert!(matches!(old.err(), Some(Error::Compacted { .. })));
    assert_eq!(put(&store, "/z", "").await, revision + 1_001);
}
