//! The embedded engine with much in it, and under churn.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tiphys_store::embedded::Options;
use tiphys_store::{Embedded, Op, Range, Store, Txn};

use crate::{Outcome, VALUE_BYTES, load};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Updates a thousand keys a million times: what the file takes at most and at the end, and the longest pause.
pub(crate) async fn churn(dir: &Path) -> Outcome<()> {
    const KEYS: u64 = 1_000;
    let updates = number("TIPHYS_BENCH_UPDATES", 1_000_000);
    for value in [VALUE_BYTES, 6_000] {
        let store: Arc<dyn Store> = Arc::new(Embedded::open(dir, &Options::default())?);
        let next = Arc::new(AtomicU64::new(0));
        let started = Instant::now();
        let writer = |_| tokio::spawn(update(store.clone(), next.clone(), updates, KEYS, value));
        let writers: Vec<_> = (0..64).map(writer).collect();
        let mut most = 0;
        while next.load(Ordering::Relaxed) < updates {
            most = most.max(store.status().await?.disk_bytes);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut times = Vec::new();
        for writer in writers {
            times.extend(writer.await??);
        }
        times.sort_unstable();
        let (took, status) = (started.elapsed().as_secs_f64(), store.status().await?);
        let live = (KEYS * value as u64) as f64;
        println!(
            "{updates} updates of {KEYS} keys of {value} bytes: {:.0} tx/s; the file {:.2} x what lives at most, {:.2} x at the end",
            updates as f64 / took,
            most as f64 / live,
            status.disk_bytes as f64 / live,
        );
        println!(
            "latency with 64 writers: p50 {:.2} ms, p99 {:.2} ms, p99.99 {:.2} ms, longest {:.2} ms",
            crate::percentile(&times, 50),
            crate::percentile(&times, 99),
            times.get(times.len() - times.len() / 10_000 - 1).map_or(0.0, |time| time.as_secs_f64() * 1e3),
            crate::percentile(&times, 100),
        );
        drop(store);
        std::fs::remove_dir_all(dir)?;
    }
    Ok(())
}

async fn update(
    store: Arc<dyn Store>,
    next: Arc<AtomicU64>,
    updates: u64,
    keys: u64,
    value: usize,
) -> Outcome<Vec<Duration>> {
    let value = bytes::Bytes::from(vec![b'x'; value]);
    let mut times = Vec::new();
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= updates {
            return Ok(times);
        }
        // No two of neighbouring keys one after the other.
        let key = load::key(n * 7_919 % keys);
        let started = Instant::now();
        store.txn(Txn::new(Op::put(key, value.clone()))).await?;
        times.push(started.elapsed());
    }
}

/// Set for the process that fills a store, to be killed.
pub(crate) const FILL: &str = "TIPHYS_BENCH_FILL";

/// Fills the store in `dir` with many objects, says so, and waits to be killed.
pub(crate) async fn fill_and_wait(dir: &Path) -> Outcome<()> {
    let objects = number("TIPHYS_BENCH_OBJECTS", 500_000);
    let store: Arc<dyn Store> = Arc::new(Embedded::open(dir, &Options::default())?);
    let started = Instant::now();
    load::fill(&store, objects).await?;
    println!("{objects} objects of {VALUE_BYTES} bytes written in {:.1} s", started.elapsed().as_secs_f64());
    let status = store.status().await?;
    let per_object = status.disk_bytes as f64 / objects as f64;
    println!("{} MiB on disk, {per_object:.0} bytes an object", status.disk_bytes >> 20);
    println!();
    std::future::pending().await
}

/// Opens a store with many objects after the process that filled it was killed, and after it was closed.
pub(crate) async fn open(dir: &Path) -> Outcome<()> {
    let mut child = Command::new(std::env::current_exe()?).env(FILL, dir).stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        println!("{line}");
    }
    child.kill()?;
    child.wait()?;
    let before = resident();
    for what in ["after a kill", "after it was closed"] {
        let started = Instant::now();
        let store = Embedded::open(dir, &Options::default())?;
        println!("opened {what} in {:.2} s", started.elapsed().as_secs_f64());
        if what == "after a kill" {
            let (grown, keys) = (resident().saturating_sub(before), store.status().await?.keys);
            println!("resident memory grew by {} MB: {} bytes an object", grown / 1_000_000, grown / keys);
            continue;
        }
        let started = Instant::now();
        let read = store.range(Range::prefix("/registry/").limit(10_000)).await?.items.len();
        println!("{read} objects read cold in {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
        let started = Instant::now();
        let hash = store.hash(0).await?;
        println!("all {} read for a hash in {:.1} s", hash.keys, started.elapsed().as_secs_f64());
    }
    Ok(std::fs::remove_dir_all(dir)?)
}

/// This process's resident memory in bytes, as the system tells it.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}
