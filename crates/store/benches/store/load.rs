//! Closed loops of clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use tiphys_store::{Op, Range, Store, Txn, WatchFrom};

use crate::{Outcome, VALUE_BYTES};

type Shared = Arc<dyn Store>;

fn value() -> bytes::Bytes {
    bytes::Bytes::from(vec![b'x'; VALUE_BYTES])
}

/// Name of the nth of many objects.
pub(crate) fn key(n: u64) -> String {
    format!("/registry/pods/namespace-{}/pod-{n}", n % 97)
}

/// So many writers, each updating a hundred keys of its own in turn. Answers the rate and the sorted times.
pub(crate) async fn write(store: &Shared, writers: u64, time: Duration) -> Outcome<(f64, Vec<Duration>)> {
    let (started, until) = (Instant::now(), Instant::now() + time);
    let writer = |writer| {
        let (store, value) = (store.clone(), value());
        tokio::spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < until {
                let key = format!("/registry/pods/default/bench-{writer}-{}", times.len() % 100);
                let started = Instant::now();
                store.txn(Txn::new(Op::put(key, value.clone()))).await?;
                times.push(started.elapsed());
            }
            Outcome::Ok(times)
        })
    };
    gather((0..writers).map(writer).collect(), started).await
}

/// Reads of one of so many keys, or of `limit` from there on.
pub(crate) async fn read(
    store: &Shared,
    limit: usize,
    readers: u64,
    keys: u64,
) -> Outcome<(f64, Vec<Duration>)> {
    let (started, until) = (Instant::now(), Instant::now() + Duration::from_secs(3));
    let reader = |reader| {
        let store = store.clone();
        tokio::spawn(async move {
            let (mut times, mut n) = (Vec::new(), reader);
            while Instant::now() < until {
                n = (n * 1_103_515_245 + 12_345) % keys;
                let range = match limit {
                    0 => Range::key(key(n)),
                    _ => Range::prefix("/registry/").after(&key(n).into()).limit(limit),
                };
                let started = Instant::now();
                store.range(range).await?;
                times.push(started.elapsed());
            }
            Outcome::Ok(times)
        })
    };
    gather((0..readers).map(reader).collect(), started).await
}

async fn gather(
    clients: Vec<tokio::task::JoinHandle<Outcome<Vec<Duration>>>>,
    started: Instant,
) -> Outcome<(f64, Vec<Duration>)> {
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await??);
    }
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    times.sort_unstable();
    Ok((rate, times))
}

/// Writes so many objects, many at once.
pub(crate) async fn fill(store: &Shared, objects: u64) -> Outcome<()> {
    let next = Arc::new(AtomicU64::new(0));
    let filler = |_| {
        let (store, next, value) = (store.clone(), next.clone(), value());
        tokio::spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= objects {
                    return Outcome::Ok(());
                }
                store.txn(Txn::new(Op::put(key(n), value.clone()))).await?;
            }
        })
    };
    for filler in (0..512).map(filler).collect::<Vec<_>>() {
        filler.await??;
    }
    Ok(())
}

/// So many watches of everything see so many writes by 16 writers. Answers deliveries and writes a second.
pub(crate) async fn fan_out(store: &Shared, watchers: usize, writes: usize) -> Outcome<(f64, f64)> {
    let mut watches = Vec::new();
    for _ in 0..watchers {
        watches.push(store.watch(WatchFrom::prefix("/registry/", 0)).await?);
    }
    let started = Instant::now();
    let watches = watches.into_iter().map(|mut watch| {
        tokio::spawn(async move {
            let mut seen = 0;
            while seen < writes {
                match watch.next().await {
                    Some(batch) => seen += batch?.events.len(),
                    None => return Err("the watch ended".into()),
                }
            }
            Outcome::Ok(())
        })
    });
    let watches: Vec<_> = watches.collect();
    let writers = (0..16).map(|writer| {
        let (store, value) = (store.clone(), value());
        tokio::spawn(async move {
            for n in (writer..writes).step_by(16) {
                store.txn(Txn::new(Op::put(key(n as u64), value.clone()))).await?;
            }
            Outcome::Ok(())
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await??;
    }
    let written = started.elapsed().as_secs_f64();
    for watch in watches {
        watch.await??;
    }
    Ok(((watchers * writes) as f64 / started.elapsed().as_secs_f64(), writes as f64 / written))
}
