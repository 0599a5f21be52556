//! `Lease`: keys that go when nobody keeps them alive.

use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tiphys_store::Error;
use tiphys_store::etcd::admin_messages as m;
use tiphys_store::etcd::convert::{bytes, signed, unsigned};
use tonic::{Status, Streaming};

use crate::Api;
use crate::answer::{header, refusal};

/// The shortest lease, in seconds: a whole number, as the protocol has it.
const TTL_LEAST: u64 = 1;
/// The longest one, as etcd has it.
const TTL_MOST: u64 = 9_000_000_000;

pub(crate) async fn grant(
    api: Arc<Api>,
    request: m::LeaseGrantRequest,
) -> Result<m::LeaseGrantResponse, Status> {
    let ttl = unsigned(request.ttl).max(TTL_LEAST);
    if ttl > TTL_MOST {
        return Err(Status::out_of_range("etcdserver: too large lease TTL"));
    }
    let wanted = unsigned(request.id);
    let id = api.store.grant_as(wanted, Duration::from_secs(ttl)).await.map_err(refusal)?;
    let header = api.header().await?;
    Ok(m::LeaseGrantResponse { header, id: signed(id), ttl: signed(ttl), error: String::new() })
}

pub(crate) async fn revoke(api: Arc<Api>, request: m::LeaseNamed) -> Result<m::HeaderOnly, Status> {
    api.store.revoke(unsigned(request.id)).await.map_err(refusal)?;
    Ok(m::HeaderOnly { header: api.header().await? })
}

/// Answers each renewal with the seconds from now; 0 says that there is no such lease.
pub(crate) async fn keep_alive(
    api: Arc<Api>,
    requests: Streaming<m::LeaseNamed>,
) -> Result<impl Stream<Item = Result<m::LeaseKeepAliveResponse, Status>> + Send + 'static, Status> {
    Ok(futures::stream::try_unfold((api, requests), |(api, mut requests)| async move {
        let Some(request) = requests.message().await? else { return Ok(None) };
        let ttl = match api.store.keep_alive(unsigned(request.id)).await {
            Ok(ttl) => seconds(ttl).max(1),
            Err(Error::LeaseNotFound(_)) => 0,
            Err(error) => return Err(refusal(error)),
        };
        let answer = m::LeaseKeepAliveResponse { header: api.header().await?, id: request.id, ttl };
        Ok(Some((answer, (api, requests))))
    }))
}

pub(crate) async fn time_to_live(
    api: Arc<Api>,
    request: m::LeaseTimeToLiveRequest,
) -> Result<m::LeaseTimeToLiveResponse, Status> {
    let header = api.header().await?;
    let gone = m::LeaseTimeToLiveResponse { header, id: request.id, ttl: -1, ..Default::default() };
    Ok(match api.store.lease(unsigned(request.id)).await {
        Ok(lease) => m::LeaseTimeToLiveResponse {
            ttl: seconds(lease.remaining),
            granted_ttl: seconds(lease.ttl),
            keys: if request.keys { lease.keys.iter().map(bytes).collect() } else { Vec::new() },
            ..gone
        },
        Err(Error::LeaseNotFound(_)) => gone,
        Err(error) => return Err(refusal(error)),
    })
}

pub(crate) async fn leases(api: Arc<Api>, _: m::Nothing) -> Result<m::LeaseLeasesResponse, Status> {
    let ids = api.store.leases().await.map_err(refusal)?;
    let leases = ids.into_iter().map(|id| m::LeaseNamed { id: signed(id) }).collect();
    Ok(m::LeaseLeasesResponse { header: header(api.store.revision().await.map_err(refusal)?), leases })
}

fn seconds(time: Duration) -> i64 {
    signed(time.as_secs())
}
