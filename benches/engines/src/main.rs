//! redb, fjall and LMDB (heed) under what the state store does: durable commits of rows, one writer.
//!
//! `make bench-engines`. A row is a value of 1.2 KB under a growing number; a head is a small record under a key. Two
//! layouts are measured: *plain*, every row and every head a record of its own, and *packed*, rows of one commit together
//! in records of up to 8 KiB, and heads left out, because they are written in rounds. Then churn: old rows are
//! removed as new ones come, and what the files take is told. Then a process that writes is killed many times, and what
//! it had said to be durable is looked for.
//!
//! The data goes below `TIPHYS_BENCH_DIR`, or a temporary directory. Prints, and asserts nothing but the crash test.

mod databases;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use databases::{Change, Database, NAMES, Table, open};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const VALUE_BYTES: usize = 1200;
const HEAD_BYTES: usize = 44;
const PACK_ROWS: u64 = 6;
const KEYS: u64 = 100_000;
const KILLS: u64 = 100;
/// Set for the process that is killed: the engine, and its directory is the argument.
const CHILD: &str = "TIPHYS_BENCH_ENGINE_CHILD";

fn main() -> Outcome<()> {
    if let Ok(name) = std::env::var(CHILD) {
        let dir = std::env::args().nth(1).ok_or("no directory")?;
        return write_until_killed(open(&name, Path::new(&dir))?.as_mut());
    }
    let temporary = tempfile::tempdir()?;
    let dir = std::env::var_os("TIPHYS_BENCH_DIR").map_or(temporary.path().to_owned(), PathBuf::from);
    if std::env::args().nth(1).as_deref() == Some("crashes") {
        return NAMES.into_iter().try_for_each(|name| crashes(name, &dir.join(name)));
    }
    println!(
        "{:>6} {:>7} {:>6} {:>10} {:>10} {:>11}",
        "engine", "layout", "rows", "commits/s", "rows/s", "CPU µs/row"
    );
    for packed in [false, true] {
        for rows in [1, 16, 64, 256] {
            for name in NAMES {
                commits(name, &dir.join(name), packed, rows)?;
            }
        }
    }
    for name in NAMES {
        churn(name, &dir.join(name))?;
    }
    for name in NAMES {
        crashes(name, &dir.join(name))?;
    }
    Ok(())
}

/// The nth commit's changes.
fn changes(first: u64, rows: u64, packed: bool) -> Vec<Change> {
    const ROW_BYTES: usize = VALUE_BYTES + 60;
    if packed {
        let pack = |at: u64| Change {
            table: Table::Rows,
            key: at.to_be_bytes().to_vec(),
            value: Some(vec![b'x'; ROW_BYTES * PACK_ROWS.min(first + rows - at) as usize]),
        };
        return (first..first + rows).step_by(PACK_ROWS as usize).map(pack).collect();
    }
    let mut changes = Vec::new();
    for n in first..first + rows {
        changes.push(Change {
            table: Table::Rows,
            key: n.to_be_bytes().to_vec(),
            value: Some(vec![b'x'; ROW_BYTES]),
        });
        changes.push(Change { table: Table::Heads, key: key(n), value: Some(vec![b'h'; HEAD_BYTES]) });
    }
    changes
}

fn key(n: u64) -> Vec<u8> {
    format!("/registry/pods/namespace-{}/pod-{}", n % 97, n.wrapping_mul(7_919) % KEYS).into_bytes()
}

fn commits(name: &str, dir: &Path, packed: bool, rows: u64) -> Outcome<()> {
    let mut db = open(name, dir)?;
    // Some content to write among.
    for first in (0..KEYS / 4).step_by(1_000) {
        db.commit(changes(first, 1_000, packed))?;
    }
    let (started, cpu, mut n) = (Instant::now(), cpu_seconds()?, KEYS);
    while started.elapsed() < Duration::from_secs(3) {
        db.commit(changes(n, rows, packed))?;
        n += rows;
    }
    let (took, done) = (started.elapsed().as_secs_f64(), (n - KEYS) as f64);
    let cpu = (cpu_seconds()? - cpu) / done * 1e6;
    let layout = if packed { "packed" } else { "plain" };
    println!(
        "{name:>6} {layout:>7} {rows:>6} {:>10.0} {:>10.0} {cpu:>11.1}",
        done / rows as f64 / took,
        done / took
    );
    drop(db);
    Ok(std::fs::remove_dir_all(dir)?)
}

/// Keeps the newest two thousand rows of two hundred thousand: what the files take at most.
fn churn(name: &str, dir: &Path) -> Outcome<()> {
    const KEPT: u64 = 2_000;
    let mut db = open(name, dir)?;
    let (mut most, mut longest) = (0, Duration::ZERO);
    for first in (0..200_000).step_by(50) {
        let mut batch = changes(first, 50, false);
        for old in first.saturating_sub(KEPT)..(first + 50).saturating_sub(KEPT) {
            batch.push(Change { table: Table::Rows, key: old.to_be_bytes().to_vec(), value: None });
        }
        let started = Instant::now();
        db.commit(batch)?;
        longest = longest.max(started.elapsed());
        if first % 5_000 == 0 {
            most = most.max(disk(dir)?);
        }
    }
    let kept = KEPT * VALUE_BYTES as u64 + KEYS * (HEAD_BYTES as u64 + 40);
    println!(
        "{name}: churn: {:.1} x what is kept at most, {:.1} x at the end; longest commit {:.0} ms; {} MB resident",
        most as f64 / kept as f64,
        disk(dir)? as f64 / kept as f64,
        longest.as_secs_f64() * 1e3,
        resident() / 1_000_000,
    );
    drop(db);
    Ok(std::fs::remove_dir_all(dir)?)
}

/// Kills a writing process again and again; all it had told must be there.
fn crashes(name: &str, dir: &Path) -> Outcome<()> {
    let (mut told, mut opening) = (0_u64, Duration::ZERO);
    // Not while a file is made: redb calls a half-made one damaged. The store makes it under another name.
    drop(open(name, dir)?);
    for round in 0..KILLS {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(dir)
            .env(CHILD, name)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let mut note = |line: std::io::Result<String>| -> Outcome<()> {
            // The last line may be cut.
            told = told.max(line?.trim_end_matches('.').parse().unwrap_or(0));
            Ok(())
        };
        lines.by_ref().take((round * 37 % 150) as usize).try_for_each(&mut note)?;
        child.kill()?;
        lines.try_for_each(note)?;
        child.wait()?;
        let started = Instant::now();
        let mut db = open(name, dir)?;
        opening = opening.max(started.elapsed());
        let found = db.last_row()?.unwrap_or(0);
        assert!(found >= told, "{name}: {told} was durable, {found} is there");
    }
    println!(
        "{name}: {KILLS} kills: {told} rows told, none lost; longest opening {:.0} ms",
        opening.as_secs_f64() * 1e3
    );
    Ok(std::fs::remove_dir_all(dir)?)
}

fn write_until_killed(db: &mut dyn Database) -> Outcome<()> {
    let mut next = db.last_row()?.unwrap_or(0) + 1;
    let mut out = std::io::stdout();
    loop {
        db.commit(changes(next, 8, false))?;
        next += 8;
        writeln!(out, "{}.", next - 1)?;
    }
}

fn disk(dir: &Path) -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // A file may go while it is looked at.
        bytes += match entry.metadata() {
            Ok(found) if found.is_dir() => disk(&entry.path()).unwrap_or(0),
            Ok(found) => found.blocks() * 512,
            Err(_) => 0,
        };
    }
    Ok(bytes)
}

/// CPU that this process has used, with all its threads.
fn cpu_seconds() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / 100.0)
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}
