//! Leases of an etcd cluster. etcd counts whole seconds, and makes none shorter than about two.

use std::time::Duration;

use futures::StreamExt;
use tonic::Status;

use super::Inner;
use super::admin_messages::{
    HeaderOnly, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseNamed, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, Nothing,
};
use super::convert::{signed, unsigned};
use super::members::{Failure, Kind, patience};
use crate::{Error, Lease, LeaseId};

const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
const TIME_TO_LIVE: &str = "/etcdserverpb.Lease/LeaseTimeToLive";
const LEASES: &str = "/etcdserverpb.Lease/LeaseLeases";

/// How many leases are asked about at a time.
const AT_ONCE: usize = 16;
/// How long a renewal may take at one member.
const RENEWAL: Duration = Duration::from_secs(3);

impl Inner {
    /// Makes a lease; number 0 = any.
    pub(super) async fn grant(&self, id: LeaseId, ttl: Duration) -> Result<LeaseId, Error> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let request = LeaseGrantRequest { ttl: signed(seconds), id: signed(id) };
        let answer: Result<LeaseGrantResponse, _> = self.members.call(GRANT, request, Kind::Write).await;
        match answer {
            Ok(answer) => Ok(unsigned(answer.id)),
            Err(Failure::Answer(status)) if status.message().contains("lease already exists") => {
                Err(Error::LeaseExists(id))
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// A second renewal does no harm, so another member may be asked at any time.
    pub(super) async fn keep_alive(&self, id: LeaseId) -> Result<Duration, Error> {
        let give_up = patience();
        loop {
            let said =
                futures::stream::iter([LeaseNamed { id: signed(id) }]).chain(futures::stream::pending());
            let (at, opened) = self.members.stream(KEEP_ALIVE, said).await;
            let answered = async { opened?.message().await };
            let answer: Option<LeaseKeepAliveResponse> =
                match tokio::time::timeout(RENEWAL, answered).await.unwrap_or_else(|_| Err(late())) {
                    Ok(answer) => answer,
                    Err(status) => {
                        self.members.after(at, status, Kind::Read, give_up).await?;
                        continue;
                    }
                };
            return match answer {
                Some(answer) if answer.ttl > 0 => Ok(Duration::from_secs(unsigned(answer.ttl))),
                _ => Err(Error::LeaseNotFound(id)),
            };
        }
    }

    pub(super) async fn revoke(&self, id: LeaseId) -> Result<(), Error> {
        let named = LeaseNamed { id: signed(id) };
        match self.members.call::<_, HeaderOnly>(REVOKE, named, Kind::Write).await {
            Err(Failure::Answer(status)) if status.message().contains("lease not found") => {
                Err(Error::LeaseNotFound(id))
            }
            other => Ok(other.map(drop)?),
        }
    }

    pub(super) async fn lease(&self, id: LeaseId, keys: bool) -> Result<Lease, Error> {
        let request = LeaseTimeToLiveRequest { id: signed(id), keys };
        let answer: LeaseTimeToLiveResponse = self.members.call(TIME_TO_LIVE, request, Kind::Read).await?;
        if answer.ttl < 0 {
            return Err(Error::LeaseNotFound(id));
        }
        let mut keys: Vec<crate::Key> = answer.keys.iter().map(|key| key.as_ref().into()).collect();
        keys.sort();
        let seconds = |number| Duration::from_secs(unsigned(number));
        Ok(Lease { id, ttl: seconds(answer.granted_ttl), remaining: seconds(answer.ttl), keys })
    }

    /// All leases, without their keys. One that ends meanwhile is none.
    pub(super) async fn all_leases(&self) -> Result<Vec<Lease>, Error> {
        let ids = self.leases().await?;
        let asked = futures::stream::iter(ids).map(|id| self.lease(id, false)).buffered(AT_ONCE);
        let found: Vec<_> = asked.collect().await;
        found.into_iter().filter(|lease| !matches!(lease, Err(Error::LeaseNotFound(_)))).collect()
    }

    pub(super) async fn leases(&self) -> Result<Vec<LeaseId>, Error> {
        let answer: LeaseLeasesResponse = self.members.call(LEASES, Nothing {}, Kind::Read).await?;
        let mut leases: Vec<LeaseId> = answer.leases.iter().map(|lease| unsigned(lease.id)).collect();
        leases.sort_unstable();
        Ok(leases)
    }
}

fn late() -> Status {
    Status::deadline_exceeded("no answer to a lease's renewal")
}
