//! The cluster state store: a small revisioned key-value contract, and the engines that keep it.
//!
//! [`Store`] has etcd's meaning, so that a single machine (the [`Embedded`] engine) and a real etcd cluster are the
//! same thing to the API server:
//!
//! - There is one counter, the **revision**. Every transaction that changes something takes the next one; all its
//!   changes carry that revision. An empty store is at revision 1, as etcd's is, so 0 can mean "none" everywhere.
//! - A key's **mod revision** names the transaction that wrote it last, its **create revision** the one that made it
//!   exist, and its **version** counts writes since (1 = just created).
//! - A transaction compares mod revisions (0 = the key must not exist) and, if all hold, applies all its
//!   operations; otherwise nothing. Its answer comes only after the change is durable.
//! - A range reads at one revision: the present or any past one down to the compacted one.
//! - A watch hands over every event from a revision on, in order, once each, and never half a transaction. One that
//!   asks for what is gone, or falls so far behind that it is, ends with [`Error::Compacted`]; nothing is skipped.
//! - Keys attached to a lease are deleted when it expires.
//! - [`Txn`] is the transaction that Kubernetes needs, cheap to decide; [`Script`] is etcd's, with everything.
//! - A [`Snapshot`] is a state at one revision, read while others write. A [`StateHash`] compares states of any two
//!   engines. [`archive`] keeps a snapshot as a stream of bytes that notices damage.
//!
//! Values are opaque. The API server's watch cache is the one long-lived copy of them in memory: an engine keeps
//! only its index and a bounded recent history.

pub mod archive;
pub mod embedded;
mod error;
pub mod etcd;
mod lease_pool;
mod script;
mod snapshot;
mod span;
mod types;

pub use embedded::Embedded;
pub use error::{Error, OpenError};
pub use etcd::Etcd;
pub use lease_pool::LeasePool;
pub use script::{Condition, Done, Is, Operand, Put, Script, ScriptResult, Step};
pub use snapshot::Snapshot;
pub use span::Span;
pub use types::{
    Compare, Event, Key, KeyValue, Lease, LeaseId, Op, Range, RangeResult, Revision, StateHash, Status, Txn,
    TxnResult, Watch, WatchBatch, WatchFrom,
};

use std::time::Duration;

/// The state store's contract. Every method may be called from any task, at any time; all calls are linearizable:
/// once a call has returned, every call started later sees its effect.
///
/// Dropping a returned future is safe, but does not undo a transaction that was already handed in.
#[async_trait::async_trait]
pub trait Store: Send + Sync + 'static {
    /// The revision of the last committed transaction.
    async fn revision(&self) -> Result<Revision, Error>;

    /// Applies `txn` if every comparison holds; answers after it is durable.
    ///
    /// Operations that change nothing (deleting an absent key) take no revision of their own. A key may be written
    /// once in a transaction ([`Error::DuplicateKey`]).
    async fn txn(&self, txn: Txn) -> Result<TxnResult, Error>;

    /// Runs `script`; answers after its changes are durable. An error means that nothing was changed.
    async fn run(&self, script: Script) -> Result<ScriptResult, Error>;

    /// Reads keys in order, at one revision. See [`Range`].
    async fn range(&self, range: Range) -> Result<RangeResult, Error>;

    /// Streams every event of some keys, beginning with history. See [`WatchFrom`].
    ///
    /// The stream yields [`WatchBatch`]es for ever. It ends after an error: [`Error::Compacted`] when the consumer
    /// fell behind what is kept (list again, then watch from there), [`Error::Closed`] when the store was closed,
    /// [`Error::Failed`] when it stopped for good.
    async fn watch(&self, from: WatchFrom) -> Result<Watch, Error>;

    /// Makes every watch that has delivered all there is yield an (empty) batch with the present revision, so that
    /// its consumer knows that nothing is missing up to there.
    async fn request_progress(&self) -> Result<(), Error>;

    /// Forgets the history before `revision`: reads at `revision` and later stay possible, earlier ones answer
    /// [`Error::Compacted`]. Answers when the decision is durable; space is given back in the background.
    async fn compact(&self, revision: Revision) -> Result<(), Error>;

    /// Makes a lease that expires `ttl` from now unless kept alive. Keys are attached by [`Op::put_with_lease`].
    /// For many short-lived keys, take leases from a [`LeasePool`].
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error>;

    /// The same with a number of the caller's choice ([`Error::LeaseExists`]); 0 = any.
    async fn grant_as(&self, lease: LeaseId, ttl: Duration) -> Result<LeaseId, Error>;

    /// Starts the lease's time to live anew and returns it.
    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, Error>;

    /// Ends the lease and deletes its keys, in one transaction.
    async fn revoke(&self, lease: LeaseId) -> Result<(), Error>;

    /// A lease, with the keys attached to it.
    async fn lease(&self, lease: LeaseId) -> Result<Lease, Error>;

    /// All leases, in order of their numbers.
    async fn leases(&self) -> Result<Vec<LeaseId>, Error>;

    /// The state at `revision` (0 = the present one), to be read while others write.
    async fn snapshot(&self, revision: Revision) -> Result<Snapshot, Error>;

    /// A hash of the state at `revision` (0 = the present one).
    async fn hash(&self, revision: Revision) -> Result<StateHash, Error> {
        self.snapshot(revision).await?.hash().await
    }

    /// Gives space that is no longer used back to the file system, while others read and write. Answers when there
    /// is no more to give.
    async fn defragment(&self) -> Result<(), Error>;

    /// Figures about the store, for health and metrics. An error when it has stopped for good.
    async fn status(&self) -> Result<Status, Error>;

    /// The present value of one key.
    async fn get(&self, key: Key) -> Result<Option<KeyValue>, Error> {
        Ok(self.range(Range::key(key)).await?.items.pop())
    }
}

#[cfg(test)]
mod tests;
