//! Leader election: of many candidates for one [`Lease`], one works. The Lease is kept as Kubernetes' own components keep
//! theirs, so a candidate may be any of them.
//!
//! - Clocks need not agree: a holder is gone once its record has stood unchanged, before this candidate's eyes, for as long
//!   as the record is good.
//! - Who cannot renew stops working before another may begin ([`Timing::renew_within`] is less than [`Timing::lease`]):
//!   its work is dropped where it stands, and it is a candidate again.
//! - Who ends in order gives the Lease back, so that the next begins at once.

#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use tiphys_api::Status;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::typed::Kind;
use crate::{Api, Client, Recorder};

/// Where the components' Leases are.
const NAMESPACE: &str = "kube-system";

/// How long things take. Whole seconds are told to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// For how long a record is good that nobody renews.
    pub lease: Duration,
    /// Who has not renewed for so long stops. Less than `lease`.
    pub renew_within: Duration,
    /// Between two looks of a candidate, and between two renewals of a leader.
    pub retry: Duration,
}

impl Timing {
    /// As Kubernetes' components have it: where one dies, another works a quarter of a minute later.
    pub const SHARED: Self = Self::seconds(15, 10, 2);
    /// For a holder that nobody waits for; it writes as seldom as a node renews its own Lease.
    pub const ALONE: Self = Self::seconds(40, 30, 10);

    const fn seconds(lease: u64, renew_within: u64, retry: u64) -> Self {
        let of = Duration::from_secs;
        Self { lease: of(lease), renew_within: of(renew_within), retry: of(retry) }
    }
}

/// What one candidate stands for.
#[derive(Clone, Debug)]
pub struct Election {
    /// Name of the Lease in `kube-system`, as `kube-scheduler`.
    pub name: &'static str,
    /// Who this candidate is. Of two with one identity, each takes itself for the other.
    pub identity: String,
    /// How long things take.
    pub timing: Timing,
}

/// An identity that no other process has: the host's name, and a random number behind it.
pub fn unique_identity(host: &str) -> String {
    format!("{host}_{:016x}", RandomState::new().hash_one(0u8))
}

/// Does the work whenever this candidate is elected, until the work ends by itself (which is what is returned) or `stop`
/// is cancelled (`None`, unless the work then ended in order). The work's token is cancelled by `stop`; when the Lease is
/// lost the work is dropped.
pub async fn lead<F, W>(
    client: Arc<dyn Client>,
    election: Election,
    stop: CancellationToken,
    work: F,
) -> Option<W::Output>
where
    F: Fn(CancellationToken) -> W,
    W: Future,
{
    let recorder = Recorder::new(client.clone(), election.name, "");
    let mut candidate = Candidate { leases: Api::new(client, NAMESPACE), election, seen: None };
    loop {
        let (lease, since) = tokio::select! {
            lease = candidate.elected() => lease,
            () = stop.cancelled() => return None,
        };
        candidate.tell(&recorder, &lease, "became leader");
        // Whatever the work has started by this token ends with the work, however that ends.
        let token = stop.child_token();
        let _guard = token.clone().drop_guard();
        let mut working = pin!(work(token));
        let ended = tokio::select! {
            biased;
            output = &mut working => Some(output),
            () = candidate.lost(since) => None,
        };
        candidate.tell(&recorder, &lease, "stopped leading");
        if ended.is_some() {
            candidate.release().await;
            return ended;
        }
    }
}

struct Candidate {
    leases: Api<Lease>,
    election: Election,
    /// Another's record, and since when it has stood so.
    seen: Option<(LeaseSpec, Instant)>,
}

impl Candidate {
    fn tell(&self, recorder: &Recorder, lease: &Lease, what: &str) {
        let Election { name, identity, .. } = &self.election;
        tracing::info!(lease = name, identity, "{what}");
        recorder.event(&lease.reference(), "Normal", "LeaderElection", format!("{identity} {what}"));
    }

    /// Returns once the Lease is ours, with the time it is good from: when it was asked for, as others count from then, too.
    async fn elected(&mut self) -> (Lease, Instant) {
        let Timing { renew_within, retry, .. } = self.election.timing;
        loop {
            let asked = Instant::now();
            match tokio::time::timeout(renew_within, self.attempt()).await {
                Ok(Ok(Some(lease))) => return (lease, asked),
                Ok(Err(status)) => {
                    tracing::debug!(lease = self.election.name, %status, "no part in the election yet");
                }
                // Another leads. Or the answer is too late to lead by: the next attempt finds out what was written.
                Ok(Ok(None)) | Err(_) => {}
            }
            tokio::time::sleep(retry).await;
        }
    }

    /// Renews. Returns once that has failed for too long, or the Lease is another's.
    async fn lost(&mut self, mut renewed: Instant) {
        let Timing { renew_within, retry, .. } = self.election.timing;
        loop {
            tokio::time::sleep(retry).await;
            // The Lease is as good as of when the renewal was asked for, not of when it was answered.
            let (asked, until) = (Instant::now(), renewed + renew_within);
            match tokio::time::timeout_at(until, self.attempt()).await {
                Ok(Ok(Some(_))) => renewed = asked,
                Ok(Ok(None)) => return,
                Ok(Err(status)) if Instant::now() < until => {
                    tracing::debug!(lease = self.election.name, %status, "not renewed, will retry");
                }
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    /// Takes or renews the Lease where that is right; `None` while it is another's.
    async fn attempt(&mut self) -> Result<Option<Lease>, Status> {
        let lease = match self.leases.get(self.election.name).await {
            Ok(lease) => lease,
            Err(status) if status.is("NotFound") => return self.create().await,
            Err(status) => return Err(status),
        };
        let old = lease.spec.clone().unwrap_or_default();
        let ours = holder(&old) == self.election.identity;
        if !ours && self.is_held(&old) {
            return Ok(None);
        }
        let spec = if ours { self.renewed(old) } else { self.taken(old.lease_transitions.unwrap_or(0) + 1) };
        match self.leases.update(&Lease { spec: Some(spec), ..lease }).await {
            Ok(lease) => Ok(Some(lease)),
            // Another was faster.
            Err(status) if status.is("Conflict") && !ours => Ok(None),
            Err(status) => Err(status),
        }
    }

    async fn create(&self) -> Result<Option<Lease>, Status> {
        let mut lease = Lease { spec: Some(self.taken(0)), ..Lease::default() };
        lease.metadata.name = Some(self.election.name.into());
        lease.metadata.namespace = Some(NAMESPACE.into());
        match self.leases.create(&lease).await {
            Ok(lease) => Ok(Some(lease)),
            Err(status) if status.is("AlreadyExists") => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Whether another's record is still good. Takes note of records that are new.
    fn is_held(&mut self, spec: &LeaseSpec) -> bool {
        if holder(spec).is_empty() {
            return false;
        }
        let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
        match &self.seen {
            Some((known, since)) if known == spec => since.elapsed() < Duration::from_secs(seconds),
            _ => {
                self.seen = Some((spec.clone(), Instant::now()));
                true
            }
        }
    }

    fn taken(&self, transitions: i32) -> LeaseSpec {
        let spec = LeaseSpec { lease_transitions: Some(transitions), ..LeaseSpec::default() };
        LeaseSpec { acquire_time: Some(MicroTime(Timestamp::now())), ..self.renewed(spec) }
    }

    fn renewed(&self, spec: LeaseSpec) -> LeaseSpec {
        let seconds = self.election.timing.lease.as_secs();
        LeaseSpec {
            holder_identity: Some(self.election.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..spec
        }
    }

    /// Gives the Lease back, if it is ours. One that cannot be given back runs out by itself.
    async fn release(&self) {
        let given = async {
            let lease = self.leases.get(self.election.name).await?;
            let spec = lease.spec.clone().unwrap_or_default();
            if holder(&spec) != self.election.identity {
                return Ok(());
            }
            let now = Some(MicroTime(Timestamp::now()));
            let free = LeaseSpec {
                acquire_time: now.clone(),
                renew_time: now,
                lease_duration_seconds: Some(1),
                lease_transitions: spec.lease_transitions,
                ..LeaseSpec::default()
            };
            self.leases.update(&Lease { spec: Some(free), ..lease }).await.map(drop)
        };
        match tokio::time::timeout(self.election.timing.retry, given).await {
            Ok(Ok(())) => {}
            Ok(Err(status)) => tracing::debug!(lease = self.election.name, %status, "not given back"),
            Err(_) => tracing::debug!(lease = self.election.name, "not given back in time"),
        }
    }
}

fn holder(spec: &LeaseSpec) -> &str {
    spec.holder_identity.as_deref().unwrap_or_default()
}
