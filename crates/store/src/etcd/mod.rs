//! The etcd engine: a store kept by a real etcd cluster, through its v3 gRPC API.
//!
//! - One member is spoken to at a time; one that fails is left for the next by all calls and watches ([`members`]).
//!   A call waits some seconds for a cluster that is electing a leader. A write whose answer was lost ends as
//!   [`Error::Unavailable`]: it may have happened, and is never done twice.
//! - Reads ask the leader, so they are linearizable at every member. Watches go on from where they were when their
//!   connection ends ([`watch`]): they end only when their past was compacted.
//! - What etcd does not tell is found out: the compacted revision by reads at past revisions, and what a refusal was
//!   about from what was asked.
//!
//! The messages ([`messages`], [`admin_messages`]) and their conversions ([`convert`]) also serve those who answer etcd's
//! clients. They are by hand, and so is the client: docs/decisions/etcd.md says why.

pub mod admin_messages;
mod compactor;
pub mod convert;
mod dial;
mod leases;
mod members;
pub mod messages;
mod script;
mod watch;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tonic::Status as Refusal;

use self::admin_messages::{HeaderOnly, Nothing, StatusResponse};
use self::members::{Failure, Kind, Members};
use self::script::Named;
use crate::{
    Error, Lease, LeaseId, Op, Range, RangeResult, Revision, Script, ScriptResult, Snapshot, Status, Store,
    Txn, TxnResult, Watch, WatchFrom,
};

pub use dial::Tls;
pub use members::Login;

/// A key that Kubernetes' own health check reads: it is within what its users may read, and does not exist.
const PROBE: &str = "/registry/health";
/// etcd's limit for a request unless its operator chose another, told in errors only.
const REQUEST_BYTES: usize = 3 << 19;

const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";
const DEFRAGMENT: &str = "/etcdserverpb.Maintenance/Defragment";

/// Which etcd.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// URLs of its members: `http://host:port` or `https://host:port`.
    pub servers: Vec<String>,
    /// How they prove who they are, and this client too.
    pub tls: Tls,
    /// A user of etcd's own authentication, if it has that.
    pub login: Option<Login>,
    /// How long the past is kept, by this client's doing; none = its compaction is somebody else's.
    pub retention: Option<Duration>,
}

/// The engine cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No server was named.
    #[error("no etcd server was named; give --etcd-servers, such as http://127.0.0.1:2379")]
    NoServers,
    /// A URL that is none.
    #[error("{0:?} is no URL of an etcd server; it must look like https://10.0.0.1:2379")]
    Url(String),
    /// TLS without trust.
    #[error("an https etcd server needs --etcd-cafile, the CA that its certificate is checked with")]
    NoCa,
    /// A file of TLS.
    #[error("{path}: {why}; check --etcd-cafile, --etcd-certfile and --etcd-keyfile")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Nobody answers, or not to us.
    #[error("etcd at {servers}: {source}; start it, or check --etcd-servers and the --etcd-*file flags")]
    Silent {
        /// Where was tried.
        servers: String,
        /// Why.
        source: Error,
    },
}

impl ConnectError {
    fn file(path: &Path, why: &impl ToString) -> Self {
        Self::File { path: path.to_owned(), why: why.to_string() }
    }
}

/// A store in an etcd cluster.
#[derive(Clone)]
pub struct Etcd {
    inner: Arc<Inner>,
}

/// The present revision, asked for once by many.
struct Latest {
    /// How often it was asked for.
    asked: AtomicU64,
    /// The last answer, and for how many of those.
    answered: tokio::sync::Mutex<(u64, Result<Revision, Error>)>,
}

impl Default for Latest {
    fn default() -> Self {
        Self { asked: AtomicU64::new(0), answered: tokio::sync::Mutex::new((0, Ok(0))) }
    }
}

/// What calls and watches share.
struct Inner {
    members: Members,
    /// The highest revision known to be compacted.
    compacted: AtomicU64,
    /// Who asks for the present revision.
    latest: Latest,
    /// Wishes for progress reports.
    asked: tokio::sync::watch::Sender<watch::Asked>,
}

impl Etcd {
    /// Reaches a member and asks whether it is fit; waits some seconds for one that is just starting.
    pub async fn connect(options: &Options) -> Result<Self, ConnectError> {
        let members = Members::new(options)?;
        let (asked, _) = tokio::sync::watch::channel((0, 0));
        let inner =
            Arc::new(Inner { members, compacted: AtomicU64::new(1), latest: Latest::default(), asked });
        let silent = |source| ConnectError::Silent { servers: options.servers.join(", "), source };
        inner.revision().await.map_err(silent)?;
        if let Some(interval) = options.retention {
            tokio::spawn(compactor::run(Arc::downgrade(&inner), interval));
        }
        Ok(Self { inner })
    }

    /// The place in [`Options::servers`] of the member spoken to.
    #[cfg(test)]
    pub(crate) fn spoken_to(&self) -> usize {
        self.inner.members.present()
    }
}

impl Inner {
    /// Reads, and leaves the meaning of a refusal to the caller.
    async fn try_range(&self, range: &Range) -> Result<RangeResult, Failure> {
        let answer = self.members.call(RANGE, convert::range_request(range), Kind::Read).await?;
        Ok(convert::range_result(answer, range.revision))
    }

    /// The present revision. Those who ask while a question is under way share the next one: its answer is not older than
    /// any of theirs.
    async fn revision(&self) -> Result<Revision, Error> {
        let number = self.latest.asked.fetch_add(1, Ordering::SeqCst) + 1;
        // Held until the answer is there on purpose: so the others wait for it.
        let mut answered = self.latest.answered.lock().await;
        if answered.0 < number {
            let covers = self.latest.asked.load(Ordering::SeqCst);
            let found = self.try_range(&Range::key(PROBE).keys_only()).await;
            *answered = (covers, found.map(|found| found.revision).map_err(Error::from));
        }
        answered.1.clone()
    }

    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        match self.try_range(&range).await {
            Err(Failure::Answer(status)) => Err(self.refused_at(&status, range.revision).await?),
            other => Ok(other?),
        }
    }

    /// The error behind a refusal that is about a revision.
    async fn refused_at(&self, status: &Refusal, requested: Revision) -> Result<Error, Error> {
        if is_compacted(status) {
            return Ok(Error::Compacted { requested, at: self.compacted().await? });
        }
        if status.message().contains("required revision is a future revision") {
            return Ok(Error::FutureRevision { requested, current: self.revision().await? });
        }
        Ok(refused(status))
    }

    /// The error behind a refused script.
    async fn refused_script(&self, failure: Failure, script: &Script) -> Result<Error, Error> {
        let Named { lease, key, revision } = script::named(script);
        if let (Failure::Answer(status), Some(revision)) = (&failure, revision) {
            match self.refused_at(status, revision).await? {
                Error::Refused(_) => {}
                about => return Ok(about),
            }
        }
        Ok(match (refused_write(failure, 0, lease), key) {
            (Error::Refused(why), Some(key)) if why.contains("key not found") => Error::KeyNotFound(key),
            (error, _) => error,
        })
    }

    /// The oldest revision that can be read: looked for between the one known and the present one.
    async fn compacted(&self) -> Result<Revision, Error> {
        let mut low = self.compacted.load(Ordering::Relaxed);
        if self.can_read(low).await? {
            return Ok(low);
        }
        let mut high = self.revision().await?;
        // `low` cannot be read; `high` could be when it was the present one.
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            match self.can_read(middle).await? {
                true => high = middle,
                false => low = middle,
            }
        }
        self.compacted.fetch_max(high, Ordering::Relaxed);
        Ok(high)
    }

    async fn can_read(&self, revision: Revision) -> Result<bool, Error> {
        match self.try_range(&Range::key(PROBE).keys_only().at(revision)).await {
            Err(Failure::Answer(status)) if is_compacted(&status) => Ok(false),
            other => Ok(other.map(|_| true)?),
        }
    }

    async fn member_status(&self) -> Result<StatusResponse, Error> {
        Ok(self.members.call(STATUS, Nothing {}, Kind::Read).await?)
    }

    /// Whether the present member's progress reports come after the events they tell of.
    async fn reports_progress(&self) -> Result<bool, Error> {
        Ok(watch_is_right(&self.member_status().await?.version))
    }

    async fn request_progress(&self) -> Result<(), Error> {
        let revision = if self.reports_progress().await? { 0 } else { self.revision().await? };
        self.asked.send_modify(|(number, wanted)| (*number, *wanted) = (*number + 1, revision));
        Ok(())
    }
}

/// Whether a server of this version has the repair of progress reports: 3.4.25, 3.5.8, and all later lines.
fn watch_is_right(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or_default());
    let mut next = || numbers.next().unwrap_or_default();
    match (next(), next(), next()) {
        (3, 4, patch) => patch >= 25,
        (3, 5, patch) => patch >= 8,
        (major, minor, _) => (major, minor) >= (3, 6),
    }
}

fn is_compacted(status: &Refusal) -> bool {
    status.message().contains("required revision has been compacted")
}

/// A refusal that needs no more to be understood.
fn refused(status: &Refusal) -> Error {
    let message = status.message();
    if message.contains("request is too large") || message.contains("too many operations") {
        return Error::TooLarge { bytes: 0, limit: REQUEST_BYTES };
    }
    if message.contains("database space exceeded") {
        return Error::NoSpace { quota: 0 };
    }
    Error::Refused(message.into())
}

/// The error behind a refused write; `lease` is the first that it named.
fn refused_write(failure: Failure, bytes: usize, lease: Option<LeaseId>) -> Error {
    let Failure::Answer(status) = failure else { return failure.into() };
    match (refused(&status), lease) {
        (Error::TooLarge { limit, .. }, _) => Error::TooLarge { bytes, limit },
        (Error::Refused(why), Some(lease)) if why.contains("requested lease not found") => {
            Error::LeaseNotFound(lease)
        }
        (error, _) => error,
    }
}

/// Refuses what etcd would refuse in other words, or not at all.
fn check(txn: &Txn) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    match txn.ops.iter().find(|op| !seen.insert(op.key())) {
        Some(twice) => Err(Error::DuplicateKey(twice.key().clone())),
        None => Ok(()),
    }
}

fn first_lease(txn: &Txn) -> Option<LeaseId> {
    txn.ops.iter().find_map(|op| match op {
        Op::Put { lease, .. } if *lease != 0 => Some(*lease),
        _ => None,
    })
}

#[async_trait::async_trait]
impl Store for Etcd {
    async fn revision(&self) -> Result<Revision, Error> {
        self.inner.revision().await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, Error> {
        check(&txn)?;
        let request = convert::txn_request(&txn);
        let answer: messages::TxnResponse =
            self.inner.members.call(TXN, request, Kind::Write).await.map_err(|failure| {
                refused_write(failure, txn.ops.iter().map(Op::size).sum(), first_lease(&txn))
            })?;
        let revision = convert::revision(answer.header.as_ref());
        Ok(match answer.succeeded {
            true => TxnResult::Committed { revision },
            false => TxnResult::Conflict { revision, found: convert::found_revisions(answer.responses) },
        })
    }

    async fn run(&self, script: Script) -> Result<ScriptResult, Error> {
        crate::embedded::overlaps(&script)?;
        match self.inner.members.call(TXN, script::request(&script), Kind::Write).await {
            Ok(answer) => Ok(script::result(&script, answer, None)),
            Err(failure) => Err(self.inner.refused_script(failure, &script).await?),
        }
    }

    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        self.inner.range(range).await
    }

    async fn watch(&self, from: WatchFrom) -> Result<Watch, Error> {
        watch::start(&self.inner, from).await
    }

    async fn request_progress(&self) -> Result<(), Error> {
        self.inner.request_progress().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let request = messages::CompactionRequest { revision: convert::signed(revision), physical: false };
        let done: Result<HeaderOnly, _> = self.inner.members.call(COMPACT, request, Kind::Read).await;
        let status = match done {
            Ok(_) => return Ok(()),
            Err(Failure::Answer(status)) => status,
            Err(lost) => return Err(lost.into()),
        };
        match self.inner.refused_at(&status, revision).await? {
            Error::Compacted { requested, at } if requested == at => Ok(()),
            error => Err(error),
        }
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        self.inner.grant(0, ttl).await
    }

    async fn grant_as(&self, lease: LeaseId, ttl: Duration) -> Result<LeaseId, Error> {
        self.inner.grant(lease, ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, Error> {
        self.inner.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        self.inner.revoke(lease).await
    }

    async fn lease(&self, lease: LeaseId) -> Result<Lease, Error> {
        self.inner.lease(lease, true).await
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, Error> {
        self.inner.leases().await
    }

    async fn snapshot(&self, revision: Revision) -> Result<Snapshot, Error> {
        Snapshot::by_pages(self.clone(), revision, self.inner.all_leases().await?).await
    }

    async fn defragment(&self) -> Result<(), Error> {
        let _: HeaderOnly = self.inner.members.call(DEFRAGMENT, Nothing {}, Kind::Read).await?;
        Ok(())
    }

    async fn status(&self) -> Result<Status, Error> {
        let everything = Range::prefix("").keys_only().limit(1);
        let (status, keys, compacted, leases) = tokio::try_join!(
            self.inner.member_status(),
            self.inner.range(everything),
            self.inner.compacted(),
            self.inner.leases()
        )?;
        Ok(Status {
            revision: keys.revision,
            compacted,
            keys: keys.items.len() as u64 + keys.remaining,
            disk_bytes: convert::unsigned(status.db_size),
            used_bytes: convert::unsigned(status.db_size_in_use),
            quota_bytes: 0,
            no_space: status.errors.iter().any(|error| error.contains("NOSPACE")),
            leases: leases.len() as u64,
            watches: self.inner.asked.receiver_count() as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_right_progress_reports_are_known() {
        for right in ["3.4.25", "3.5.8", "3.5.21", "3.6.0-rc.1", "4.0.0"] {
            assert!(watch_is_right(right), "{right}");
        }
        for wrong in ["3.4.23", "3.5.7", "3.3.27", "", "nonsense"] {
            assert!(!watch_is_right(wrong), "{wrong}");
        }
    }
}
