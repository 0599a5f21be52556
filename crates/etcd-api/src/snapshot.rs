//! `Maintenance.Snapshot`: the state as a database file of etcd's own, followed by its SHA-256.
//!
//! `etcdctl snapshot restore` makes an etcd of it, with every key's revisions and leases as they were. The past is not in
//! it: the file says that it was compacted to the snapshot's revision, which also keeps that revision when the last
//! change was a deletion.
//!
//! etcd's file is ordered by revision, the store's snapshot by key. So the values are laid down in a first file, and only
//! their places are sorted in memory.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{Stream, TryStreamExt};
use prost::Message;
use sha2::{Digest, Sha256};
use tiphys_store::etcd::admin_messages::{Nothing, SnapshotResponse};
use tiphys_store::etcd::convert::{key_value_message, signed};
use tiphys_store::{Lease, Revision, Snapshot};
use tonic::Status;

use crate::Api;
use crate::answer::{header, refusal};
use crate::bolt;

/// Bytes of the file in one answer.
const PART: usize = 64 << 10;

/// etcd's message of a stored lease.
#[derive(Clone, PartialEq, Message)]
struct StoredLease {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
}

pub(crate) async fn snapshot(
    api: Arc<Api>,
    _: Nothing,
) -> Result<impl Stream<Item = Result<SnapshotResponse, Status>> + Send + 'static, Status> {
    let snapshot = api.store.snapshot(0).await.map_err(refusal)?;
    let revision = snapshot.revision;
    let scratch = api.scratch.clone();
    let made = tokio::task::spawn_blocking(move || make(snapshot, &scratch)).await;
    let (file, length) = match made {
        Ok(made) => {
            made.map_err(|error| Status::internal(format!("the snapshot could not be made: {error}")))?
        }
        Err(error) => return Err(Status::internal(error.to_string())),
    };
    let parts = Parts { file, left: length, hash: Some(Sha256::new()) };
    Ok(futures::stream::try_unfold(parts, move |parts| async move {
        let part = tokio::task::spawn_blocking(move || parts.next()).await;
        let part = part.map_err(|error| Status::internal(error.to_string()))?;
        let part = part.map_err(|error| Status::internal(error.to_string()))?;
        Ok(part.map(|(blob, parts)| {
            // What follows counts the checksum, too.
            let digest = if parts.hash.is_some() { 32 } else { 0 };
            let answer = SnapshotResponse {
                header: header(revision),
                remaining_bytes: parts.left + digest,
                blob: blob.into(),
            };
            (answer, parts)
        }))
    }))
}

/// The rest of the file to be sent, and then its checksum.
struct Parts {
    file: File,
    left: u64,
    hash: Option<Sha256>,
}

impl Parts {
    fn next(mut self) -> io::Result<Option<(Vec<u8>, Self)>> {
        let Some(mut hash) = self.hash.take() else { return Ok(None) };
        if self.left == 0 {
            return Ok(Some((hash.finalize().to_vec(), self)));
        }
        let mut part = vec![0; usize::try_from(self.left).unwrap_or(PART).min(PART)];
        self.file.read_exact(&mut part)?;
        hash.update(&part);
        self.left -= part.len() as u64;
        self.hash = Some(hash);
        Ok(Some((part, self)))
    }
}

/// Where a key's value lies in the first file.
struct Place {
    revision: Revision,
    offset: u64,
    bytes: u32,
}

/// Makes the file; blocks.
fn make(snapshot: Snapshot, scratch: &Path) -> io::Result<(File, u64)> {
    let revision = snapshot.revision;
    let leases = snapshot.leases.iter().map(stored_lease).collect::<Vec<_>>();
    let (spool, mut places) = spool(snapshot, scratch)?;
    places.sort_by_key(|place| place.revision);
    let mut writer = bolt::Writer::new(nameless(scratch)?)?;
    writer.bucket("key", keys(&spool, &places))?;
    writer.bucket("lease", leases.into_iter().map(Ok))?;
    let compacted = at(revision, 0);
    let meta = ["finishedCompactRev", "scheduledCompactRev"].map(|name| Ok((name.into(), compacted.clone())));
    writer.bucket("meta", meta.into_iter())?;
    writer.finish()
}

fn stored_lease(lease: &Lease) -> (Vec<u8>, Vec<u8>) {
    let id = signed(lease.id);
    let stored = StoredLease { id, ttl: signed(lease.ttl.as_secs().max(1)) };
    (id.to_be_bytes().to_vec(), stored.encode_to_vec())
}

/// Lays all keys down as etcd's messages, in the order in which they come.
fn spool(mut snapshot: Snapshot, scratch: &Path) -> io::Result<(File, Vec<Place>)> {
    let runtime = tokio::runtime::Handle::current();
    let mut out = BufWriter::with_capacity(1 << 20, nameless(scratch)?);
    let (mut places, mut offset) = (Vec::new(), 0);
    while let Some(items) = runtime.block_on(snapshot.items.try_next()).map_err(io::Error::other)? {
        for kv in items {
            let revision = kv.mod_revision;
            let message = key_value_message(kv).encode_to_vec();
            out.write_all(&message)?;
            // A transaction's size is limited far below 4 GiB.
            places.push(Place { revision, offset, bytes: message.len() as u32 });
            offset += message.len() as u64;
        }
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok((file, places))
}

/// The entries of the bucket of keys: each under its revision, those of one transaction numbered.
fn keys<'a>(
    spool: &'a File,
    places: &'a [Place],
) -> impl Iterator<Item = io::Result<(Vec<u8>, Vec<u8>)>> + 'a {
    let mut last = (0, 0);
    places.iter().map(move |place| {
        last = if place.revision == last.0 { (last.0, last.1 + 1) } else { (place.revision, 0) };
        let mut message = vec![0; place.bytes as usize];
        spool.read_exact_at(&mut message, place.offset)?;
        Ok((at(last.0, last.1), message))
    })
}

/// A place in etcd's history as its file has it: the revision and the number within it, so that they sort as bytes.
fn at(revision: Revision, sub: u64) -> Vec<u8> {
    let mut key = revision.to_be_bytes().to_vec();
    key.push(b'_');
    key.extend(sub.to_be_bytes());
    key
}

/// A file that is gone when it is closed.
fn nameless(scratch: &Path) -> io::Result<File> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = scratch.join(format!(".snapshot-{}-{number}", std::process::id()));
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
