//! `tiphys backup`: everything that is needed to bring a cluster back, in one file.
//!
//! That is its keys and certificates ([`file`]) and its state at one revision, an archive of the store. A running master
//! gives the archive through a socket in its data directory ([`socket`]), whatever engine it has; of one that does not
//! run, the store is opened.

mod file;
pub mod socket;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tiphys_apiserver::pki::write_private;
use tiphys_store::embedded::Options;
use tiphys_store::{Embedded, Etcd, StateHash, Store, archive};

use self::file::{About, Backup};
use crate::cli::{BackupCommand, BackupCreate, BackupFlags, BackupRestore};
use crate::lock;
use crate::settings::Settings;
use crate::storage::{self, Target};

/// Revisions that a restored store leaves out: more than the lost one can have gone on by after the backup, so that its
/// clients learn that what they saw is gone.
const AHEAD: u64 = 1_000_000;

/// Parts of an archive.
type Chunks = BoxStream<'static, Result<Bytes>>;

/// Runs a command of `tiphys backup`.
pub async fn run(flags: &BackupFlags) -> Result<()> {
    match &flags.command {
        BackupCommand::Create(flags) => create(flags).await,
        BackupCommand::Verify(flags) => {
            let backup = Backup::open(&flags.file)?;
            println!("{}", told(&flags.file, &backup, check(&backup).await?));
            Ok(())
        }
        BackupCommand::Restore(flags) => restore(flags).await,
    }
}

async fn create(flags: &BackupCreate) -> Result<()> {
    let pki = file::pki_files(&flags.data_dir)?;
    let about = About::of(Settings::load(&flags.data_dir)?.as_ref());
    let (chunks, _lock) = state(flags).await?;
    let unfinished = file::write(&flags.file, &about, &pki, chunks).await?;
    // A backup that cannot be read is none: what is on the disk now is read to its end.
    let backup = Backup::open(unfinished.path())?;
    let hash = check(&backup).await?;
    unfinished.finish()?;
    println!("{}", told(&flags.file, &backup, hash));
    println!("Whoever reads this file owns the cluster: keep it as safe as the cluster's keys.");
    Ok(())
}

/// The archive of the state, and what keeps others from starting meanwhile.
async fn state(flags: &BackupCreate) -> Result<(Chunks, Option<lock::Lock>)> {
    if !flags.etcd.etcd_servers.is_empty() {
        let etcd = Etcd::connect(&storage::etcd_options(&flags.etcd)?).await?;
        return Ok((archived(&etcd).await?, None));
    }
    if let Some(pid) = lock::holder(&flags.data_dir)? {
        return Ok((socket::fetch(&flags.data_dir, pid).await?, None));
    }
    let dir = storage::dir(&flags.data_dir);
    let shown = flags.data_dir.display();
    ensure!(
        dir.is_dir(),
        "{shown} holds no state store; give --data-dir, or --etcd-servers if the state is in etcd"
    );
    let lock = lock::take(&flags.data_dir)?;
    let store = tokio::task::spawn_blocking(move || Embedded::open(&dir, &Options::default())).await??;
    let chunks = archived(&store).await?;
    // The store must live as long as what is read of it.
    let chunks = chunks.inspect(move |_| {
        let _ = &store;
    });
    Ok((chunks.boxed(), Some(lock)))
}

async fn archived(store: &dyn Store) -> Result<Chunks> {
    let snapshot = store.snapshot(0).await?;
    Ok(archive::encode(snapshot).map_err(anyhow::Error::from).boxed())
}

/// Reads the state of a backup to its end.
async fn check(backup: &Backup) -> Result<StateHash> {
    let snapshot = archive::decode(backup.archive()?).await.context("the state in the backup")?;
    snapshot.hash().await.context("the state in the backup")
}

fn told(file: &Path, backup: &Backup, hash: StateHash) -> String {
    let StateHash { revision, keys, hash } = hash;
    let (about, files) = (&backup.about, backup.pki.len());
    format!(
        "{} is whole: the state of revision {revision} with {keys} keys (hash {hash:08x}) and {files} files of keys \
         and certificates, of {}, made {} by Tiphys {}.",
        file.display(),
        about.node_name.as_deref().unwrap_or("a cluster"),
        about.created,
        about.version
    )
}

async fn restore(flags: &BackupRestore) -> Result<()> {
    let backup = Backup::open(&flags.file)?;
    // All of it before the first byte is written.
    let hash = check(&backup).await?;
    let lock = lock::take(&flags.data_dir)?;
    for part in ["store", "pki"] {
        let path = flags.data_dir.join(part);
        if path.exists() {
            bail!(
                "{} exists: give an empty --data-dir, or remove that cluster with tiphys reset first",
                path.display()
            );
        }
    }
    let target = match flags.etcd.etcd_servers.is_empty() {
        true => Target::Dir(storage::dir(&flags.data_dir)),
        false => Target::Etcd(Etcd::connect(&storage::etcd_options(&flags.etcd)?).await?),
    };
    let snapshot = archive::decode(backup.archive()?).await?;
    let copied = storage::fill(&target, snapshot, AHEAD, &flags.data_dir).await?;
    ensure!(copied.keys == hash.keys, "only {} of {} keys were restored", copied.keys, hash.keys);
    let pki = flags.data_dir.join("pki");
    std::fs::create_dir_all(&pki)?;
    for (name, content) in &backup.pki {
        write_private(&pki.join(name), content)?;
    }
    drop(lock);
    println!(
        "Restored {} keys, the state of revision {}, into {}.",
        copied.keys,
        copied.from,
        flags.data_dir.display()
    );
    println!("Start it with:  {}", start_command(flags, &backup.about));
    Ok(())
}

/// The command that starts the restored cluster with the address ranges it had.
fn start_command(flags: &BackupRestore, about: &About) -> String {
    let mut words = vec!["tiphys up".to_owned()];
    let mut flag = |name: &str, value: &str| words.push(format!("--{name} {value}"));
    if flags.data_dir != Path::new(crate::DATA_DIR) {
        flag("data-dir", &flags.data_dir.display().to_string());
    }
    let ranges = [("cluster-cidr", &about.cluster_cidr), ("service-cidr", &about.service_cidr)];
    for (name, value) in ranges.iter().chain(&[("cluster-domain", &about.cluster_domain)]) {
        if let Some(value) = value {
            flag(name, value);
        }
    }
    if !flags.etcd.etcd_servers.is_empty() {
        flag("etcd-servers", &flags.etcd.etcd_servers.join(","));
    }
    words.join(" ")
}
