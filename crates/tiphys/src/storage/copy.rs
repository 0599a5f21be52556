//! Fills an empty store with a snapshot of another one.
//!
//! A directory gets every key with its numbers as they were. An etcd counts its own revisions, so there the keys are
//! written in the order in which they were last written, those of one revision in one transaction: what was earlier
//! stays earlier. The snapshot comes ordered by key, so its values wait in a file.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::TryStreamExt;
use tiphys_store::embedded::Options;
use tiphys_store::{
    Embedded, Error, Etcd, Key, KeyValue, Lease, LeaseId, Op, Range, Revision, Snapshot, Store, Txn,
};

/// Keys of one transaction at most: etcd's limit.
const KEYS_MOST: usize = 128;
/// Bytes of one transaction at most, below etcd's limit.
const BYTES_MOST: usize = 1 << 20;
/// A lease that had ended, but whose keys are there: they go soon.
const ENDED: Duration = Duration::from_secs(60);

/// Where a copy goes.
pub enum Target {
    /// A data directory without a store.
    Dir(std::path::PathBuf),
    /// An etcd without keys.
    Etcd(Etcd),
}

/// What was copied.
pub struct Copied {
    /// Keys.
    pub keys: u64,
    /// The revision of the original's state.
    pub from: Revision,
}

/// Copies a snapshot into an empty target. A directory's revisions go on `ahead` after the snapshot's. `scratch` is a
/// directory for a file as large as the state.
pub async fn fill(target: &Target, snapshot: Snapshot, ahead: u64, scratch: &Path) -> Result<Copied> {
    let from = snapshot.revision;
    let keys = match target {
        Target::Dir(dir) => {
            let counted = Counted::new(snapshot);
            let keys = counted.keys.clone();
            Embedded::restore(dir, counted.snapshot, ahead, &Options::default()).await?;
            keys.load(std::sync::atomic::Ordering::Relaxed)
        }
        Target::Etcd(etcd) => {
            ensure_empty(etcd).await?;
            into_etcd(etcd, snapshot, scratch).await?
        }
    };
    Ok(Copied { keys, from })
}

/// A snapshot whose keys are counted while they are read.
struct Counted {
    snapshot: Snapshot,
    keys: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl Counted {
    fn new(snapshot: Snapshot) -> Self {
        let keys = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counter = keys.clone();
        let items = snapshot.items.inspect_ok(move |items| {
            counter.fetch_add(items.len() as u64, std::sync::atomic::Ordering::Relaxed);
        });
        Self { snapshot: Snapshot { items: Box::pin(items), ..snapshot }, keys }
    }
}

async fn ensure_empty(etcd: &Etcd) -> Result<()> {
    let found = etcd.range(Range::prefix("/registry/").keys_only().limit(1)).await?;
    if let Some(kv) = found.items.first() {
        bail!("that etcd already holds a cluster ({} and others); name an empty one", kv.key);
    }
    Ok(())
}

async fn into_etcd(etcd: &Etcd, snapshot: Snapshot, scratch: &Path) -> Result<u64> {
    let leases = snapshot.leases.clone();
    let mut spool = Spool::new(snapshot, scratch).await?;
    spool.places.sort_by_key(|place| place.revision);
    let mut granted = std::collections::HashSet::new();
    let mut txn = Batch::default();
    for place in &spool.places {
        if place.lease != 0 && granted.insert(place.lease) {
            grant(etcd, &leases, place.lease).await?;
        }
        if txn.revision != place.revision || txn.is_full(place.bytes) {
            txn.commit(etcd).await?;
            txn.revision = place.revision;
        }
        txn.put(spool.read(place)?);
    }
    txn.commit(etcd).await?;
    Ok(spool.places.len() as u64)
}

async fn grant(etcd: &Etcd, leases: &[Lease], id: LeaseId) -> Result<()> {
    let remaining = leases.iter().find(|lease| lease.id == id).map_or(ENDED, |lease| lease.remaining);
    match etcd.grant_as(id, remaining).await {
        Ok(_) | Err(Error::LeaseExists(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Keys of one revision.
#[derive(Default)]
struct Batch {
    revision: Revision,
    bytes: usize,
    txn: Txn,
}

impl Batch {
    fn is_full(&self, more: u32) -> bool {
        self.txn.ops.len() >= KEYS_MOST || (self.bytes > 0 && self.bytes + more as usize > BYTES_MOST)
    }

    fn put(&mut self, kv: KeyValue) {
        self.bytes += kv.value.len();
        self.txn.ops.push(Op::put_with_lease(kv.key, kv.value, kv.lease));
    }

    async fn commit(&mut self, etcd: &Etcd) -> Result<()> {
        self.bytes = 0;
        let txn = std::mem::take(&mut self.txn);
        if !txn.ops.is_empty() {
            // The same keys once more, if the answer was lost, are the same state; but not the same order.
            etcd.txn(txn).await.context("the copy is not complete; empty that etcd before the next try")?;
        }
        Ok(())
    }
}

/// Values in a file, and where each lies.
struct Spool {
    file: File,
    places: Vec<Place>,
}

struct Place {
    key: Key,
    revision: Revision,
    lease: LeaseId,
    offset: u64,
    bytes: u32,
}

impl Spool {
    async fn new(mut snapshot: Snapshot, scratch: &Path) -> Result<Self> {
        let mut out = BufWriter::with_capacity(1 << 20, nameless(scratch)?);
        let (mut places, mut offset) = (Vec::new(), 0);
        while let Some(items) = snapshot.items.try_next().await? {
            for kv in items {
                out.write_all(&kv.value)?;
                let bytes = u32::try_from(kv.value.len()).context("a value is too large")?;
                let KeyValue { key, mod_revision: revision, lease, .. } = kv;
                places.push(Place { key, revision, lease, offset, bytes });
                offset += u64::from(bytes);
            }
        }
        Ok(Self { file: out.into_inner()?, places })
    }

    fn read(&self, place: &Place) -> Result<KeyValue> {
        let mut value = vec![0; place.bytes as usize];
        self.file.read_exact_at(&mut value, place.offset)?;
        let (key, value) = (place.key.clone(), Bytes::from(value));
        let (mod_revision, lease) = (place.revision, place.lease);
        Ok(KeyValue { key, value, create_revision: 0, mod_revision, version: 0, lease })
    }
}

/// A file that is gone when it is closed.
fn nameless(scratch: &Path) -> Result<File> {
    ensure!(scratch.is_dir(), "{} is no directory", scratch.display());
    let path = scratch.join(format!(".copy-{}", std::process::id()));
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
