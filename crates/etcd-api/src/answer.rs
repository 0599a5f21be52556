//! What every answer begins with, and refusals in etcd's own words, which its clients look for.

use tiphys_store::etcd::convert::signed;
use tiphys_store::etcd::messages::ResponseHeader;
use tiphys_store::{Error, Revision};
use tonic::Status;

use crate::Api;

/// The number of this cluster and of its one member. Clients compare it between endpoints.
pub(crate) const MEMBER: u64 = 0x7469_7068_7973;
/// There are no elections, so there is one term for ever.
pub(crate) const TERM: u64 = 1;

/// What an answer begins with.
pub(crate) fn header(revision: Revision) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: MEMBER,
        member_id: MEMBER,
        revision: signed(revision),
        raft_term: TERM,
    })
}

impl Api {
    /// The same for an answer that has no revision of its own.
    pub(crate) async fn header(&self) -> Result<Option<ResponseHeader>, Status> {
        Ok(header(self.store.revision().await.map_err(refusal)?))
    }
}

/// The store's refusal as etcd words it.
pub(crate) fn refusal(error: Error) -> Status {
    match error {
        Error::Compacted { .. } => {
            Status::out_of_range("etcdserver: mvcc: required revision has been compacted")
        }
        Error::FutureRevision { .. } => {
            Status::out_of_range("etcdserver: mvcc: required revision is a future revision")
        }
        Error::DuplicateKey(_) => Status::invalid_argument("etcdserver: duplicate key given in txn request"),
        Error::LeaseNotFound(_) => Status::not_found("etcdserver: requested lease not found"),
        Error::LeaseExists(_) => Status::failed_precondition("etcdserver: lease already exists"),
        Error::KeyNotFound(_) => Status::invalid_argument("etcdserver: key not found"),
        Error::TooLarge { .. } => Status::invalid_argument("etcdserver: request is too large"),
        Error::NoSpace { .. } | Error::DiskFull { .. } => {
            Status::resource_exhausted("etcdserver: mvcc: database space exceeded")
        }
        Error::Corrupt(why) => Status::data_loss(format!("etcdserver: corrupt cluster: {why}")),
        Error::Closed => Status::unavailable("etcdserver: server stopped"),
        Error::Unavailable(why) => Status::unavailable(format!("etcdserver: request timed out: {why}")),
        Error::Refused(why) => Status::unknown(why.to_string()),
        other => Status::unavailable(other.to_string()),
    }
}

/// A request that etcd would not take.
pub(crate) fn invalid(what: &str) -> Status {
    Status::invalid_argument(format!("etcdserver: {what}"))
}
