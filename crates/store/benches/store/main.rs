//! The state store beside etcd, on the same disk, in the same run.
//!
//! Run with `cargo bench -p tiphys-store [-- PART...]`, parts as in [`PARTS`]; all of them without one. The data goes below
//! the directory in `TIPHYS_BENCH_DIR`, or a temporary one. etcd is the distribution's, if it is installed; it is asked
//! over loopback gRPC by the engine for it, while the embedded engine is asked in this process, as each is in use.
//! Prints, and asserts nothing.

mod engines;
mod large;
mod load;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engines::Engine;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The size of a small object.
const VALUE_BYTES: usize = 1200;
const PARTS: [&str; 5] = ["writes", "reads", "fanout", "churn", "open"];

fn main() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if let Some(dir) = std::env::var_os(large::FILL) {
        return runtime.block_on(large::fill_and_wait(Path::new(&dir)));
    }
    let temporary = tempfile::tempdir()?;
    let dir = std::env::var_os("TIPHYS_BENCH_DIR").map_or(temporary.path().to_owned(), PathBuf::from);
    // cargo adds an argument of its own.
    let asked: Vec<String> = std::env::args().skip(1).filter(|part| !part.starts_with("--")).collect();
    for part in PARTS.into_iter().filter(|part| asked.is_empty() || asked.iter().any(|asked| asked == part)) {
        println!("\n{part}");
        runtime.block_on(async {
            match part {
                "writes" => writes(&dir).await,
                "reads" => reads(&dir).await,
                "fanout" => fanout(&dir).await,
                "churn" => large::churn(&dir.join("churn")).await,
                _ => large::open(&dir.join("open")).await,
            }
        })?;
    }
    Ok(())
}

async fn writes(dir: &Path) -> Outcome<()> {
    println!(
        "{:>9} {:>8} {:>11} {:>9} {:>9} {:>7}   disk alone, p50 ms",
        "engine", "writers", "tx/s", "p50 ms", "p99 ms", "CPU µs"
    );
    for writers in [1, 16, 256, 1024] {
        for engine in Engine::all(&dir.join("writes")).await? {
            let disk = syncs(dir)?;
            let before = cpu();
            let (rate, times) = load::write(&engine.store, writers, Duration::from_secs(4)).await?;
            let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
            let cpu = (cpu() - before) / times.len() as f64 * 1e6;
            let name = engine.name;
            println!("{name:>9} {writers:>8} {rate:>11.0} {p50:>9.2} {p99:>9.2} {cpu:>7.1}   {disk:.2}");
        }
    }
    Ok(())
}

async fn reads(dir: &Path) -> Outcome<()> {
    println!("{:>9} {:>26} {:>11} {:>9} {:>9}", "engine", "read", "reads/s", "p50 ms", "p99 ms");
    for engine in Engine::all(&dir.join("reads")).await? {
        load::fill(&engine.store, 20_000).await?;
        for (name, limit, readers) in
            [("a key, 1 reader", 0, 1), ("a key, 64 readers", 0, 64), ("500 keys, 4 readers", 500, 4)]
        {
            let (rate, times) = load::read(&engine.store, limit, readers, 20_000).await?;
            let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
            println!("{:>9} {name:>26} {rate:>11.0} {p50:>9.2} {p99:>9.2}", engine.name);
        }
    }
    Ok(())
}

async fn fanout(dir: &Path) -> Outcome<()> {
    println!("{:>9} {:>9} {:>13} {:>11}", "engine", "watchers", "deliveries/s", "tx/s");
    for engine in Engine::all(&dir.join("fanout")).await? {
        let (deliveries, writes) = load::fan_out(&engine.store, 100, 5_000).await?;
        println!("{:>9} {:>9} {deliveries:>13.0} {writes:>11.0}", engine.name, 100);
    }
    Ok(())
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// CPU seconds that this process has used: of the embedded engine all, of etcd the client's part.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// How long the disk takes to make a small write at the end of a file durable: the median, in ms.
fn syncs(dir: &Path) -> io::Result<f64> {
    std::fs::create_dir_all(dir)?;
    let mut file = File::create(dir.join("probe"))?;
    let mut times = Vec::new();
    for _ in 0..1_000 {
        let started = Instant::now();
        file.write_all(&[b'x'; VALUE_BYTES])?;
        file.sync_data()?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok(percentile(&times, 50))
}
