//! Power failures and broken disks, on a medium that loses what was not synced.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;

use super::Random;
use super::load::{self, Acknowledged, WRITERS};
use super::medium::Medium;
use crate::embedded::{Options, Retention};
use crate::{Embedded, Error, Op, Range, Store, Txn, WatchFrom};

/// Little is kept, so that removal of the past is under way at any time.
fn options() -> Options {
    let retention = Retention { age: Duration::from_secs(60), revisions: 64, bytes: 50_000 };
    Options { retention, history_bytes: 20_000, replay_bytes: 30_000, ..Options::default() }
}

/// Takes a picture of the disk after a power failure at some of the writes of a loaded store, and looks whether each
/// one is a good store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_failure_loses_nothing_acknowledged() {
    const PICTURES: usize = 80;
    let medium = Medium::default();
    let store: Arc<dyn Store> = Arc::new(Embedded::on(medium.parts(), &options()).unwrap());
    let counts: Arc<[AtomicU64; WRITERS as usize]> = Arc::default();
    let pictures: Arc<Mutex<Vec<(Medium, Acknowledged)>>> = Arc::default();
    let enough = Arc::new(tokio::sync::Notify::new());
    let (taken, told, full) = (pictures.clone(), counts.clone(), enough.clone());
    let mut random = Random::fresh();
    medium.on_write(move |content| {
        let mut taken = taken.lock();
        if taken.len() < PICTURES && random.below(16) == 0 {
            let acknowledged = std::array::from_fn(|i| told[i].load(Ordering::SeqCst));
            taken.push((content.after_power_failure(&mut random), acknowledged));
            if taken.len() == PICTURES {
                full.notify_one();
            }
        }
    });
    let writers = (0..WRITERS).map(|writer| {
        let counts = counts.clone();
        tokio::spawn(load::write(store.clone(), writer, move |writer, n| {
            counts[writer as usize].store(n, Ordering::SeqCst);
        }))
    });
    let writers: Vec<_> = writers.collect();
    tokio::time::timeout(Duration::from_secs(30), enough.notified()).await.expect("the load writes");
    writers.iter().for_each(|writer| writer.abort());
    let pictures = std::mem::take(&mut *pictures.lock());
    for (medium, acknowledged) in pictures {
        let store = Embedded::on(medium.parts(), &options()).unwrap();
        load::check(&store, &acknowledged).await;
    }
}

/// After a failed sync nothing is acknowledged any more, everybody is told, reads go on, and nothing that had been
/// acknowledged is lost.
#[tokio::test]
async fn a_broken_disk_stops_writing_for_good() {
    let medium = Medium::default();
    let store = Embedded::on(medium.parts(), &options()).unwrap();
    store.txn(Txn::new(Op::put("/a", "1"))).await.unwrap();
    let mut watch = store.watch(WatchFrom::prefix("/", 0)).await.unwrap();
    medium.fail();
    for _ in 0..2 {
        let refused = store.txn(Txn::new(Op::put("/a", "2"))).await;
        assert!(matches!(refused, Err(Error::Failed(_))), "{refused:?}");
    }
    assert!(matches!(watch.next().await, Some(Err(Error::Failed(_)))));
    assert_eq!(store.get("/a".into()).await.unwrap().unwrap().value, "1");
    assert_eq!(store.revision().await.unwrap(), 2);
    let again = Embedded::on(medium.after_power_failure(&mut Random(7)).parts(), &options()).unwrap();
    assert!(again.get("/a".into()).await.unwrap().is_some());
}

/// The same when it is the database that cannot be synced, to which nobody waits any more.
#[tokio::test]
async fn a_broken_database_stops_writing_for_good() {
    let medium = Medium::default();
    let store = Embedded::on(medium.parts(), &options()).unwrap();
    medium.fail_database();
    let mut written = 0;
    let refused = loop {
        match store.txn(Txn::new(Op::put(format!("/{written}"), vec![b'x'; 2_000]))).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(refused.to_string().contains("check the disk, then restart"), "{refused}");
    assert!(matches!(store.txn(Txn::new(Op::delete("/0"))).await, Err(Error::Failed(_))));
    drop(store);
    let again = Embedded::on(medium.after_power_failure(&mut Random(5)).parts(), &options()).unwrap();
    assert_eq!(super::all(&again).await.len(), written);
}

/// A disk that is full although it said that there was room: writes are refused with an error that says so; what was
/// acknowledged stays and can be read, and with room it goes on.
#[tokio::test]
async fn a_full_disk_loses_nothing_acknowledged() {
    let medium = Medium::default();
    let store = Embedded::on(medium.parts(), &options()).unwrap();
    medium.fill();
    let mut written = 0;
    let refused = loop {
        match store.txn(Txn::new(Op::put(format!("/{written}"), vec![b'x'; 20_000]))).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 10_000, "the disk is full");
    };
    assert!(matches!(refused, Error::DiskFull { .. }), "{refused}");
    assert!(store.status().await.unwrap().no_space);
    assert_eq!(read_all(&store).await.len(), written);
    let picture = medium.after_power_failure(&mut Random(3));
    medium.empty();
    put_when_there_is_room(&store, "/more").await;
    assert!(!store.status().await.unwrap().no_space);
    drop(store);
    for (medium, expected) in [(picture, written), (medium, written + 1)] {
        let again = Embedded::on(medium.parts(), &options()).unwrap();
        assert_eq!(super::all(&again).await.len(), expected);
        again.txn(Txn::new(Op::put("/more", vec![b'x'; 100_000]))).await.unwrap();
    }
}

/// Everything in a store whose database is opened again now and then.
async fn read_all(store: &Embedded) -> Vec<crate::KeyValue> {
    loop {
        match store.range(Range::prefix("")).await {
            Ok(found) => return found.items,
            Err(error) => assert!(matches!(error, Error::Read(_)), "{error}"),
        }
        tokio::task::yield_now().await;
    }
}

/// Tries again what a full disk refuses.
async fn put_when_there_is_room(store: &Embedded, key: &str) {
    while let Err(error) = store.txn(Txn::new(Op::put(key, vec![b'x'; 20_000]))).await {
        assert!(matches!(error, Error::DiskFull { .. }), "{error}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Before the disk is really full, only deletes are taken, then nothing; with room again everything goes on.
#[tokio::test]
async fn a_disk_that_is_nearly_full_is_left_alone_until_there_is_room() {
    let medium = Medium::default();
    let store = Embedded::on(medium.parts(), &options()).unwrap();
    let value = || vec![b'x'; 20_000];
    for n in 0..4 {
        store.txn(Txn::new(Op::put(format!("/{n}"), value()))).await.unwrap();
    }
    medium.leave_free(20 << 20);
    let refused = store.txn(Txn::new(Op::put("/more", value()))).await.unwrap_err();
    assert_eq!(refused, Error::DiskFull { free: 20 << 20 });
    assert!(refused.to_string().contains("remove files"), "{refused}");
    assert!(store.status().await.unwrap().no_space);
    store.txn(Txn::new(Op::delete("/0"))).await.unwrap();
    medium.leave_free(1 << 20);
    // From now on the medium would not take another byte, so what is tried would stop the store.
    medium.fill();
    for n in 1..4 {
        // The log has its room already.
        store.txn(Txn::new(Op::delete(format!("/{n}")))).await.unwrap();
    }
    assert_eq!(store.defragment().await, Err(Error::DiskFull { free: 1 << 20 }));
    assert_eq!(super::all(&store).await.len(), 0);
    medium.empty();
    put_when_there_is_room(&store, "/more").await;
    store.defragment().await.unwrap();
    drop(store);
    let store = Embedded::on(medium.parts(), &options()).unwrap();
    assert_eq!(super::all(&store).await.len(), 1);
}

/// On a slow disk concurrent writers share its syncs.
#[tokio::test]
async fn a_slow_disk_is_asked_once_for_many() {
    let medium = Medium::default();
    let store = Embedded::on(medium.parts(), &options()).unwrap();
    medium.slow_down(Duration::from_millis(3));
    let before = medium.syncs();
    for _ in 0..5 {
        let writes = (0..100).map(|n| store.txn(Txn::new(Op::put(format!("/{n}"), "x"))));
        for outcome in futures::future::join_all(writes).await {
            outcome.unwrap();
        }
    }
    let syncs = medium.syncs() - before;
    assert!(syncs < 100, "{syncs} syncs for 500 writes");
}
