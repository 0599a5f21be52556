//! SIGKILL at random instants, under load from several writers: the store must be whole each time.
//!
//! The test runs itself as a child process with a directory in the environment; the child writes and tells its
//! standard output what was acknowledged, and what a watch has shown, until it is killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::load::{self, Acknowledged, WRITERS};
use super::{Random, open};
use crate::embedded::{Options, Retention};
use crate::{Event, Store, Watch, WatchFrom};

const DIRECTORY: &str = "TIPHYS_STORE_CRASH_DIR";
/// Kills in each of two directories; a longer run says so in the environment.
const KILLS: u64 = 100;

fn options() -> Options {
    let retention = Retention { age: Duration::from_secs(60), revisions: 50, bytes: 50_000 };
    Options { retention, replay_bytes: 30_000, ..Options::default() }
}

#[tokio::test]
async fn survives_being_killed() {
    survive().await;
}

#[tokio::test]
async fn survives_being_killed_elsewhere() {
    survive().await;
}

async fn survive() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random::fresh();
    let mut acknowledged = Acknowledged::default();
    let kills = std::env::var("TIPHYS_STORE_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS);
    for _ in 0..kills {
        // Sometimes while it is still opening or creating its file, mostly under load.
        run_and_kill(dir.path(), random.below(400), &mut acknowledged);
        let store = open(dir.path(), &options()).unwrap();
        load::check(&store, &acknowledged).await;
    }
    assert!(acknowledged.iter().sum::<u64>() > 100, "the load did not run: {acknowledged:?}");
}

/// Runs the child until it has told `lines`, kills it, and notes all it had told.
fn run_and_kill(dir: &Path, lines: u64, acknowledged: &mut Acknowledged) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["tests::crash::child", "--exact", "--nocapture"])
        .env(DIRECTORY, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut note = |line: String| {
        let mut words = line.split(' ').skip_while(|word| *word != "durable").skip(1);
        if let (Some(writer), Some(n)) = (words.next(), words.next()) {
            let writer: usize = writer.parse().unwrap();
            acknowledged[writer] = acknowledged[writer].max(n.parse().unwrap());
        }
    };
    told.by_ref().take(lines as usize).for_each(|line| note(line.unwrap()));
    child.kill().unwrap();
    // A last line may have been cut off by the end of the process, but never within a write to the pipe.
    told.for_each(|line| note(line.unwrap()));
    child.wait().unwrap();
}

/// The child process; does nothing when run as a test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let store: Arc<dyn Store> = Arc::new(open(dir.as_ref(), &options()).unwrap());
    println!();
    let watch = store.watch(WatchFrom::prefix("/w/", 0)).await.unwrap();
    let watcher = tokio::spawn(tell_events(watch));
    let tell = |writer, n| println!("durable {writer} {n}");
    let writers = (0..WRITERS).map(|writer| tokio::spawn(load::write(store.clone(), writer, tell)));
    futures::future::join_all(writers.collect::<Vec<_>>()).await;
    watcher.await.unwrap();
}

/// What a watch shows is durable as well.
async fn tell_events(mut watch: Watch) {
    while let Some(Ok(batch)) = watch.next().await {
        for event in batch.events {
            if let Event::Put { kv, .. } = event {
                let key = kv.key.to_string();
                let writer = key.split('/').nth(2).unwrap();
                println!("durable {writer} {}", String::from_utf8_lossy(&kv.value));
            }
        }
    }
}
