//! Files that were cut or changed behind the store's back.
//!
//! Whatever was done to a file: it is refused with advice, or everything read from it is right, or a read says that
//! it is corrupt. Never is a wrong value served or a key silently missing, and nothing panics.

use std::path::Path;

use super::conformance::put;
use super::{Random, all, open};
use crate::embedded::{Options, Retention};
use crate::{Error, KeyValue, OpenError, Range, Store};

/// How many damaged files are tried; a longer run says so in the environment.
const FILES: u64 = 150;

fn options() -> Options {
    Options { retention: Retention::FOR_EVER, replay_bytes: 20_000, ..Options::default() }
}

/// A directory with a store in it, and what it holds.
async fn sample(dir: &Path) -> Vec<KeyValue> {
    let store = open(dir, &options()).unwrap();
    for n in 0..600 {
        put(&store, &format!("/registry/pods/{}", n * 7 % 190), "some value that is longer than its key")
            .await;
    }
    all(&store).await
}

#[tokio::test]
async fn a_damaged_file_is_refused_with_advice_or_read_right() {
    let (dir, damaged) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = sample(dir.path()).await;
    let good = std::fs::read(dir.path().join("store.redb")).unwrap();
    let files = std::env::var("TIPHYS_STORE_DAMAGED").ok().and_then(|n| n.parse().ok()).unwrap_or(FILES);
    let mut random = Random::fresh();
    let (mut refused, mut right) = (0, 0);
    for _ in 0..files {
        let (what, bytes) = damage(&good, &mut random);
        std::fs::write(damaged.path().join("store.redb"), bytes).unwrap();
        for name in ["FORMAT", "store.0.log", "store.1.log"] {
            std::fs::copy(dir.path().join(name), damaged.path().join(name)).unwrap();
        }
        match look(damaged.path(), &expected).await {
            Ok(()) => right += 1,
            Err(advice) => {
                refused += 1;
                assert!(advice.contains("backup"), "{what}: {advice}");
            }
        }
    }
    assert!(refused > files / 5, "{refused} refused, {right} right");
}

/// Changes some bytes, or cuts the file.
fn damage(good: &[u8], random: &mut Random) -> (String, Vec<u8>) {
    let mut bytes = good.to_vec();
    let at = random.below(bytes.len() as u64) as usize;
    let what = match random.below(4) {
        0 => {
            bytes.truncate(at);
            format!("cut at {at}")
        }
        1 => {
            let end = bytes.len().min(at + 4096);
            bytes[at..end].fill(0);
            format!("zeros from {at}")
        }
        // Where the database keeps what leads to everything else.
        2 => {
            let at = at % 600;
            bytes[at] ^= 1 << random.below(8);
            format!("a bit at {at}")
        }
        _ => {
            bytes[at] ^= 1 << random.below(8);
            format!("a bit at {at}")
        }
    };
    (what, bytes)
}

/// Reads all there is, past included. The error is what the operator is told.
async fn look(dir: &Path, expected: &[KeyValue]) -> Result<(), String> {
    let store = match open(dir, &options()) {
        Ok(store) => store,
        Err(error @ (OpenError::Damaged { .. } | OpenError::Io { .. })) => return Err(error.to_string()),
        Err(other) => panic!("{other}"),
    };
    for at in [0, 300, 601] {
        match store.range(Range::prefix("").at(at)).await {
            Ok(found) if at == 300 => assert_eq!(found.items.len(), 190),
            Ok(found) => assert!(found.items == expected, "a wrong state at {at}"),
            Err(error @ Error::Corrupt(_)) => return Err(error.to_string()),
            Err(other) => panic!("{other}"),
        }
    }
    Ok(())
}

/// A copy of a store that runs, as a crash would leave it: what was written last is in the log alone.
#[tokio::test]
async fn a_damaged_log_is_refused_and_a_missing_one_too() {
    let (dir, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path(), &options()).unwrap();
    for n in 0..60 {
        put(&store, &format!("/{n}"), "some value that is longer than its key").await;
    }
    let copy = || {
        for name in ["FORMAT", "store.redb", "store.0.log", "store.1.log"] {
            std::fs::copy(dir.path().join(name), crashed.path().join(name)).unwrap();
        }
    };
    copy();
    let again = open(crashed.path(), &options()).unwrap();
    assert!(all(&again).await == all(&store).await);
    drop(again);
    copy();
    let log = crashed.path().join("store.0.log");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[20 * 512 + 40] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let refused = open(crashed.path(), &options()).err().unwrap().to_string();
    assert!(refused.contains("log has a gap") && refused.contains("backup"), "{refused}");
    std::fs::remove_file(&log).unwrap();
    let refused = open(crashed.path(), &options()).err().unwrap().to_string();
    assert!(refused.contains("store.0.log, is missing") && refused.contains("backup"), "{refused}");
}

/// A store of an early format has no log; it is given one.
#[tokio::test]
async fn a_store_without_a_log_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let expected = sample(dir.path()).await;
    for name in ["store.0.log", "store.1.log"] {
        std::fs::remove_file(dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("FORMAT"), "tiphys-store 2\n").unwrap();
    let store = open(dir.path(), &options()).unwrap();
    assert!(all(&store).await == expected);
    put(&store, "/more", "").await;
    drop(store);
    assert_eq!(std::fs::read_to_string(dir.path().join("FORMAT")).unwrap(), "tiphys-store 4\n");
    let store = open(dir.path(), &options()).unwrap();
    assert_eq!(all(&store).await.len(), expected.len() + 1);
}
