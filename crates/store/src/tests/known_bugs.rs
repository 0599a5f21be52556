//! Mistakes that other stores of this kind have made, and that must not be made here.
//!
//! For each bug in the track record of etcd's robustness tests (its README lists them) there is a test that would have
//! caught it. Those that need no kill hold for every engine. What is not here: #14571 is about etcd's own users and
//! roles, which this contract does not have.

use std::sync::Arc;

use futures::{FutureExt, StreamExt};

use super::conformance::{Case, delete, put};
use super::medium::Medium;
use super::{Random, all, next, shown};
use crate::embedded::{Options, Retention};
use crate::{Embedded, Error, Op, Put, Range, Script, Step, Store, Txn, Watch, WatchFrom};

pub(super) const CASES: &[(&str, Case)] = &[
    ("15220_progress_is_in_step_with_events", |store| Box::pin(progress_is_in_step_with_events(store))),
    ("17247_no_event_comes_twice", |store| Box::pin(no_event_comes_twice(store))),
    ("17529_starved_watches_lose_nothing", |store| Box::pin(starved_watches_lose_nothing(store))),
    ("18089_19179_deletes_at_the_compacted_revision", |store| Box::pin(deletes_at_compaction(store))),
    ("18667_scripts_cannot_read_what_is_compacted", |store| Box::pin(scripts_and_compaction(store))),
    ("20221_a_watch_of_the_future_tells_nothing_old", |store| Box::pin(nothing_old(store))),
];

/// A report that everything up to a revision was told comes after the events up to there.
async fn progress_is_in_step_with_events(store: Arc<dyn Store>) {
    let mut watch = store.watch(WatchFrom::prefix("/", 2)).await.unwrap();
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for _ in 0..100 {
                put(&*store, "/a", "1").await;
                store.request_progress().await.unwrap();
            }
        }
    });
    let mut told = 1;
    while told < 101 {
        let batch = next(&mut watch).await;
        let expected: Vec<_> = (told + 1..=batch.revision).map(|at| format!("{at} /a=1")).collect();
        assert_eq!(shown(&batch), expected, "after {told}");
        told = batch.revision;
    }
    writer.await.unwrap();
}

/// Each change of a transaction is one event, however the transaction was put together.
async fn no_event_comes_twice(store: Arc<dyn Store>) {
    let mut watch = store.watch(WatchFrom::prefix("/", 0)).await.unwrap();
    let write = |key: &str| Step::Put(Put::new(key, "1"));
    let read = Step::Range(Range::prefix("/"));
    let inner = Script { then: vec![write("/b"), read.clone()], ..Script::default() };
    let script =
        Script { then: vec![write("/a"), read, Step::Script(inner), write("/c")], ..Script::default() };
    store.run(script).await.unwrap();
    store.txn(Txn::new(Op::put("/a", "2")).and(Op::delete("/b")).and(Op::delete("/none"))).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.extend(shown(&next(&mut watch).await));
    }
    assert_eq!(seen, ["2 /a=1", "2 /b=1", "2 /c=1", "3 /a=2", "3 -/b"]);
    assert!(watch.next().now_or_never().is_none());
}

/// Watches that nobody reads for a long time go on where they were.
async fn starved_watches_lose_nothing(store: Arc<dyn Store>) {
    let watch = async || store.watch(WatchFrom::prefix("/", 2)).await.unwrap();
    let mut watches = [watch().await, watch().await, watch().await];
    for watch in &mut watches[..2] {
        put(&*store, "/a", "x").await;
        next(watch).await;
    }
    for n in 0..1_000 {
        let ops = (0..3).map(|key| Op::put(format!("/{key}"), vec![b'x'; 300]));
        store.txn(Txn { ops: ops.collect(), ..Txn::default() }).await.unwrap();
        if n % 200 == 0 {
            next(&mut watches[1]).await;
        }
    }
    put(&*store, "/end", "").await;
    for watch in &mut watches {
        let mut last = 0;
        for at in events(watch).await {
            // Three events of each transaction, none missing between two.
            assert!(at == last || last == 0 || at == last + 1, "{last}, then {at}");
            last = at;
        }
        assert_eq!(last, 1_004);
    }
}

/// The revisions of all events up to the one at `/end`.
async fn events(watch: &mut Watch) -> Vec<u64> {
    let mut seen = Vec::new();
    loop {
        for event in next(watch).await.events {
            seen.push(event.revision());
            if event.key().as_str() == Some("/end") {
                return seen;
            }
        }
    }
}

/// A deletion at the revision compacted to is an event to a watch that was open, and to one that begins there.
async fn deletes_at_compaction(store: Arc<dyn Store>) {
    let mut open = store.watch(WatchFrom::prefix("/", 3)).await.unwrap();
    put(&*store, "/a", "1").await; // 2
    delete(&*store, "/a").await; // 3
    put(&*store, "/b", "1").await; // 4
    delete(&*store, "/b").await; // 5
    store.compact(3).await.unwrap();
    store.defragment().await.unwrap();
    assert_eq!(told(&mut open, 3).await, ["3 -/a", "4 /b=1", "5 -/b"]);
    begins_at(&*store, 3, &["3 -/a", "4 /b=1", "5 -/b"]).await;
    store.compact(5).await.unwrap();
    store.defragment().await.unwrap();
    begins_at(&*store, 5, &["5 -/b"]).await;
}

/// A watch from the compacted revision on tells all, or (etcd has lost it then) is refused; it never leaves anything out.
async fn begins_at(store: &dyn Store, revision: u64, expected: &[&str]) {
    match store.watch(WatchFrom::prefix("/", revision)).await {
        Ok(mut watch) => assert_eq!(told(&mut watch, expected.len()).await, expected),
        Err(error) => assert_eq!(error, Error::Compacted { requested: revision, at: revision }),
    }
}

/// The next so many events.
async fn told(watch: &mut Watch, events: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < events {
        seen.extend(shown(&next(watch).await));
    }
    seen
}

/// A transaction that reads a compacted revision fails as a whole, before and after the garbage is removed.
async fn scripts_and_compaction(store: Arc<dyn Store>) {
    for value in ["1", "2", "3"] {
        put(&*store, "/a", value).await; // 2, 3, 4
    }
    store.compact(4).await.unwrap();
    let (mut hash, write) = (store.hash(0).await.unwrap(), Step::Put(Put::new("/b", "1")));
    for at in [2, 3] {
        let read = Step::Range(Range::key("/a").at(at));
        let script = Script { then: vec![write.clone(), read], ..Script::default() };
        assert_eq!(store.run(script).await, Err(Error::Compacted { requested: at, at: 4 }));
        assert_eq!(store.hash(0).await.unwrap(), hash, "it changed nothing");
        store.defragment().await.unwrap();
        hash = store.hash(0).await.unwrap();
    }
}

/// A watch from a future revision gets no event from before it, and no report that would make its client resume before
/// it.
async fn nothing_old(store: Arc<dyn Store>) {
    put(&*store, "/a", "1").await; // 2
    let mut watch = store.watch(WatchFrom::prefix("/", 5)).await.unwrap();
    for value in ["3", "4"] {
        put(&*store, "/a", value).await;
        store.request_progress().await.unwrap();
    }
    put(&*store, "/a", "5").await; // 5
    put(&*store, "/a", "6").await; // 6
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let batch = next(&mut watch).await;
        assert!(batch.revision >= 4, "{batch:?}");
        seen.extend(shown(&batch));
    }
    assert_eq!(seen, ["5 /a=5", "6 /a=6"]);
}

fn open(medium: &Medium) -> Embedded {
    let options = Options { retention: Retention::FOR_EVER, replay_bytes: 500, ..Options::default() };
    Embedded::on(medium.parts(), &options).unwrap()
}

/// #14370: with one member there is nobody else to ask, so what is acknowledged must be on the disk by then. Here the
/// power fails at once after each answer, and nothing of what was not synced remains.
#[tokio::test]
async fn issue_14370_an_acknowledged_write_is_on_the_disk() {
    let mut medium = Medium::default();
    let mut store = open(&medium);
    for n in 0..40_u64 {
        let revision = put(&store, &format!("/{n}"), "x").await;
        medium = medium.without_what_is_not_synced();
        store = open(&medium);
        assert_eq!((store.revision().await.unwrap(), all(&store).await.len() as u64), (revision, n + 1));
    }
}

/// #13766, #14685, #17780: a crash under load, while defragmenting, or while compacting must not leave another
/// revision, or another state, than before; not even if everything was deleted and compacted away.
#[tokio::test]
async fn issues_13766_14685_17780_crashes_during_housekeeping_change_nothing() {
    for seed in 1..=12 {
        let mut random = Random(seed);
        let medium = Medium::default();
        let store = open(&medium);
        let pictures = Arc::new(parking_lot::Mutex::new(Vec::new()));
        for n in 0..120 {
            put(&store, &format!("/{}", n % 7), "value").await;
        }
        for n in 0..7 {
            delete(&store, &format!("/{n}")).await;
        }
        let (revision, hash) = (store.revision().await.unwrap(), store.hash(0).await.unwrap());
        let taken = pictures.clone();
        medium.on_write(move |content| {
            if random.below(6) == 0 {
                taken.lock().push(content.after_power_failure(&mut random));
            }
        });
        store.compact(revision).await.unwrap();
        store.defragment().await.unwrap();
        drop(store);
        let pictures = std::mem::take(&mut *pictures.lock());
        assert!(!pictures.is_empty());
        for picture in pictures {
            let store = open(&picture);
            assert_eq!((store.revision().await.unwrap(), store.hash(0).await.unwrap()), (revision, hash));
            assert_eq!(put(&store, "/a", "1").await, revision + 1);
        }
    }
}

/// #15271: a watch that goes on elsewhere (here: on the store as it was opened again) begins where it was told to.
#[tokio::test]
async fn issue_15271_a_watch_does_not_travel_back_in_time() {
    let mut medium = Medium::default();
    let mut from = 2;
    for round in 0..10 {
        let store = open(&medium);
        let mut watch = store.watch(WatchFrom::prefix("/", from)).await.unwrap();
        for _ in 0..3 {
            put(&store, "/a", "1").await;
        }
        let mut seen = Vec::new();
        while seen.len() < 3 {
            seen.extend(shown(&next(&mut watch).await));
        }
        let expected: Vec<_> = (from..from + 3).map(|at| format!("{at} /a=1")).collect();
        assert_eq!(seen, expected, "round {round}");
        from += 3;
        medium = medium.after_power_failure(&mut Random(round + 1));
    }
}
