//! Commits: one object, one compare-and-swap, answered when durable.

use std::time::Duration;

use tiphys_api::apply::folded::Before;
use tiphys_api::{Object, Status, Value};
use tiphys_store::{Error, Op, Txn, TxnResult};

use super::Registry;
use super::tree;
use crate::cache::{Cache, Prepared};

/// The largest object that is stored: etcd's limit for a request.
pub const OBJECT_BYTES_MAX: usize = 3 << 19;

/// How long events live, as kube-apiserver's `--event-ttl` is by default.
const EVENT_TTL: Duration = Duration::from_secs(3600);

/// How a compare-and-swap ended.
pub enum Commit<T> {
    /// It is durable: the object as it is now, or the revision of its removal.
    Done(T),
    /// The object is not at the expected revision; the store was seen at this one.
    Conflict(u64),
}

impl Registry {
    /// Writes an object whose stored version must be `expected` (0: it must not exist).
    pub(super) async fn put(
        &self,
        cache: &Cache,
        object: (&str, &str),
        next: Prepared<'_>,
        expected: u64,
    ) -> Result<Commit<Object>, Status> {
        let key = tiphys_store::Key::from(cache.key(object.0, object.1));
        let op = self.put_op(cache, key.clone(), next.bytes()).await?;
        Ok(match self.transact(Txn::new(op).when(key, expected)).await? {
            Commit::Done(revision) => Commit::Done(next.committed(revision)),
            Commit::Conflict(revision) => Commit::Conflict(revision),
        })
    }

    /// What writes a value of a resource: some expire.
    pub(super) async fn put_op(
        &self,
        cache: &Cache,
        key: tiphys_store::Key,
        value: bytes::Bytes,
    ) -> Result<Op, Status> {
        if !expires(cache) {
            return Ok(Op::put(key, value));
        }
        let lease = self.leases.lease(EVENT_TTL).await.map_err(store_error)?;
        Ok(Op::put_with_lease(key, value, lease))
    }

    /// Removes an object whose stored version must be `expected`.
    pub(super) async fn remove(
        &self,
        cache: &Cache,
        object: (&str, &str),
        expected: u64,
    ) -> Result<Commit<u64>, Status> {
        self.transact(Txn::delete(cache.key(object.0, object.1), expected)).await
    }

    async fn transact(&self, txn: Txn) -> Result<Commit<u64>, Status> {
        Ok(match self.submit(txn).await? {
            TxnResult::Committed { revision } => Commit::Done(revision),
            TxnResult::Conflict { revision, .. } => Commit::Conflict(revision),
        })
    }

    pub(super) async fn submit(&self, txn: Txn) -> Result<TxnResult, Status> {
        let result = self.caches().store().txn(txn).await.map_err(store_error)?;
        if let TxnResult::Committed { revision } = result {
            // Whoever has the answer finds the write in every cache: the next request's admission, authorization
            // and look-ups read them without a wait. A feed that is late does not undo what is committed.
            drop(self.caches().reach(revision).await);
        }
        Ok(result)
    }
}

fn expires(cache: &Cache) -> bool {
    let gvr = &cache.resource.gvr;
    gvr.resource == "events" && matches!(gvr.group.as_ref(), "" | "events.k8s.io")
}

/// The object as it will be stored: without a revision, and not too large. `before`: the version it was made from.
/// `protobuf`: its protobuf will be asked for.
pub fn prepare<'c>(
    cache: &'c Cache,
    mut object: Value,
    before: Option<(&Before<'_>, &Object)>,
    protobuf: bool,
) -> Result<Prepared<'c>, Status> {
    tree::metadata(&mut object).remove("resourceVersion");
    let mut prepared = cache.prepare(&object, before).map_err(Status::internal)?;
    if protobuf {
        prepared.keep(&object);
    }
    match prepared.bytes().len() > OBJECT_BYTES_MAX {
        true => Err(Status::too_large("etcdserver: request is too large")),
        false => Ok(prepared),
    }
}

/// The store's refusal as the API tells it.
pub fn store_error(error: Error) -> Status {
    match error {
        Error::TooLarge { .. } => Status::too_large("etcdserver: request is too large"),
        Error::Compacted { requested, at } => Status::expired(format!(
            "The resourceVersion for the provided list is too old: {requested} ({at})"
        )),
        Error::Closed => Status::unavailable("the server is shutting down"),
        // Whether a write was done is not known, which is what this reason means.
        Error::Unavailable(why) => Status::timeout(format!("etcdserver: request timed out: {why}")),
        other => Status::internal(other),
    }
}
