//! `tiphys store`: the state from one store into another.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tiphys_store::embedded::Options;
use tiphys_store::{Embedded, Etcd, Store};

use super::copy::{self, Target};
use crate::cli::{EtcdFlags, Migrate, StoreCommand, StoreFlags};
use crate::lock;

/// Runs a command of `tiphys store`.
pub async fn run(flags: &StoreFlags) -> Result<()> {
    match &flags.command {
        StoreCommand::Migrate(flags) => migrate(flags).await,
    }
}

async fn migrate(flags: &Migrate) -> Result<()> {
    ensure!(
        flags.files.etcd_servers.is_empty(),
        "name the etcd servers by --from or --to, as --to https://10.0.0.1:2379, not by --etcd-servers"
    );
    ensure!(flags.from != flags.to, "--from and --to are the same store");
    let (store, _from) = source(flags).await?;
    let (target, _to) = target(flags).await?;
    let copied = copy::fill(&target, store.snapshot(0).await?, 1, &std::env::temp_dir()).await?;
    println!(
        "Copied {} keys, the state of revision {}, from {} to {}.",
        copied.keys, copied.from, flags.from, flags.to
    );
    match &target {
        Target::Etcd(_) => println!("Start the cluster with it:  tiphys up --etcd-servers {}", flags.to),
        Target::Dir(_) => println!("Start the cluster with it:  tiphys up --data-dir {}", flags.to),
    }
    Ok(())
}

/// The store to read, and the lock of its directory.
async fn source(flags: &Migrate) -> Result<(Box<dyn Store>, Option<lock::Lock>)> {
    if let Some(servers) = servers(&flags.from) {
        return Ok((Box::new(etcd(flags, servers).await?), None));
    }
    let data_dir = Path::new(&flags.from);
    let dir = super::dir(data_dir);
    // Opening would make one.
    ensure!(dir.is_dir(), "--from {}: there is no store in that data directory", flags.from);
    let lock = lock::take(data_dir)?;
    let store = tokio::task::spawn_blocking(move || Embedded::open(&dir, &Options::default())).await??;
    Ok((Box::new(store), Some(lock)))
}

async fn target(flags: &Migrate) -> Result<(Target, Option<lock::Lock>)> {
    if let Some(servers) = servers(&flags.to) {
        return Ok((Target::Etcd(etcd(flags, servers).await?), None));
    }
    let data_dir = PathBuf::from(&flags.to);
    let lock = lock::take(&data_dir)?;
    Ok((Target::Dir(super::dir(&data_dir)), Some(lock)))
}

async fn etcd(flags: &Migrate, servers: Vec<String>) -> Result<Etcd> {
    let flags = EtcdFlags { etcd_servers: servers, ..flags.files.clone() };
    Etcd::connect(&super::etcd_options(&flags)?).await.context("cannot reach etcd")
}

/// The URLs in a word that names an etcd cluster; none in one that names a directory.
fn servers(word: &str) -> Option<Vec<String>> {
    let is_url = word.starts_with("http://") || word.starts_with("https://");
    is_url.then(|| word.split(',').map(str::to_owned).collect())
}
