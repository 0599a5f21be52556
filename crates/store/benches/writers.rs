//! How many durable transactions a second the embedded engine makes, by number of concurrent writers.
//!
//! Run with `cargo bench -p tiphys-store`; the data goes below the directory in `TIPHYS_BENCH_DIR`, or a temporary
//! one: what is measured is mostly its disk. Beside each figure stands what the disk itself does: one small write and
//! fdatasync after the other, measured just before. Prints, and asserts nothing.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tiphys_store::embedded::Options;
use tiphys_store::{Embedded, Op, Range, Store, Txn};

/// The size of a small object.
const VALUE_BYTES: usize = 1200;
const SECONDS: f64 = 3.0;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let temporary = tempfile::tempdir()?;
    let named = std::env::var_os("TIPHYS_BENCH_DIR").map(std::path::PathBuf::from);
    let dir = named.as_deref().unwrap_or(temporary.path());
    println!(
        "{:>7}  {:>12}  {:>9}  {:>9}  {:>16}",
        "writers", "durable tx/s", "p50 ms", "p99 ms", "disk fdatasync/s"
    );
    for writers in [1, 16, 64, 256] {
        runtime.block_on(writes(&dir.join(format!("bench-{writers}")), writers))?;
    }
    runtime.block_on(opening(&dir.join("bench-open")))
}

async fn writes(dir: &Path, writers: u64) -> Outcome<()> {
    let disk = fdatasyncs(dir)?;
    let store: Arc<dyn Store> = Arc::new(Embedded::open(dir, &Options::default())?);
    let started = Instant::now();
    let until = started + Duration::from_secs_f64(SECONDS);
    let clients = (0..writers).map(|writer| tokio::spawn(client(store.clone(), writer, until)));
    let mut times = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        times.extend(client.await??);
    }
    times.sort_unstable();
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
    println!("{writers:>7}  {rate:>12.0}  {p50:>9.2}  {p99:>9.2}  {disk:>16.0}");
    Ok(std::fs::remove_dir_all(dir)?)
}

/// Updates a hundred keys of its own in turn, and tells how long each took.
async fn client(store: Arc<dyn Store>, writer: u64, until: Instant) -> Outcome<Vec<Duration>> {
    let value = bytes::Bytes::from(vec![b'x'; VALUE_BYTES]);
    let mut times = Vec::new();
    while Instant::now() < until {
        let key = format!("/registry/pods/default/bench-{writer}-{}", times.len() % 100);
        let started = Instant::now();
        store.txn(Txn::new(Op::put(key, value.clone()))).await?;
        times.push(started.elapsed());
    }
    Ok(times)
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted.get(sorted.len() * percent / 100).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// How often a second the disk can make a small write durable.
fn fdatasyncs(dir: &Path) -> io::Result<f64> {
    std::fs::create_dir_all(dir)?;
    let mut file = File::create(dir.join("probe"))?;
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < Duration::from_millis(500) {
        file.write_all(&[b'x'; VALUE_BYTES])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

/// Fills a store with many objects and opens it again.
async fn opening(dir: &Path) -> Outcome<()> {
    let objects = std::env::var("TIPHYS_BENCH_OBJECTS").ok().and_then(|n| n.parse().ok()).unwrap_or(500_000);
    let store: Arc<dyn Store> = Arc::new(Embedded::open(dir, &Options::default())?);
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let fillers = (0..512).map(|_| tokio::spawn(fill(store.clone(), next.clone(), objects)));
    for filler in fillers.collect::<Vec<_>>() {
        filler.await??;
    }
    println!("{objects} objects of {VALUE_BYTES} bytes written in {:.1} s", started.elapsed().as_secs_f64());
    let status = store.status().await?;
    drop(store);
    let started = Instant::now();
    let store = Embedded::open(dir, &Options::default())?;
    println!("opened in {:.2} s ({} MiB on disk)", started.elapsed().as_secs_f64(), status.disk_bytes >> 20);
    let started = Instant::now();
    let read = store.range(Range::prefix("/registry/").limit(10_000)).await?.items.len();
    println!("{read} objects read cold in {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    Ok(std::fs::remove_dir_all(dir)?)
}

async fn fill(store: Arc<dyn Store>, next: Arc<AtomicU64>, end: u64) -> Outcome<()> {
    let value = bytes::Bytes::from(vec![b'x'; VALUE_BYTES]);
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= end {
            return Ok(());
        }
        let key = format!("/registry/pods/namespace-{}/pod-{n}", n % 97);
        store.txn(Txn::new(Op::put(key, value.clone()))).await?;
    }
}
