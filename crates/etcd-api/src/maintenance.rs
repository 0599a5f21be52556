//! `Maintenance` and the list of members: how the one member is.

use std::sync::Arc;

use tiphys_store::Revision;
use tiphys_store::etcd::admin_messages as m;
use tiphys_store::etcd::convert::{signed, unsigned};
use tonic::Status;

use crate::Api;
use crate::answer::{MEMBER, TERM, header, refusal};

/// The version of etcd whose API this is: what clients decide by which requests they may make. Progress reports are right
/// from 3.5.8 on, which kube-apiserver looks for.
const VERSION: &str = "3.5.21";

pub(crate) async fn status(api: Arc<Api>, _: m::Nothing) -> Result<m::StatusResponse, Status> {
    let status = api.store.status().await.map_err(refusal)?;
    let errors = if status.no_space { vec![format!("memberID:{MEMBER} alarm:NOSPACE ")] } else { Vec::new() };
    Ok(m::StatusResponse {
        header: header(status.revision),
        version: VERSION.into(),
        db_size: signed(status.disk_bytes),
        leader: MEMBER,
        raft_index: status.revision,
        raft_term: TERM,
        raft_applied_index: status.revision,
        errors,
        db_size_in_use: signed(status.used_bytes),
    })
}

/// The alarm goes by itself when there is space again, so that to end it is only to ask for it.
pub(crate) async fn alarm(api: Arc<Api>, _: m::AlarmRequest) -> Result<m::AlarmResponse, Status> {
    let status = api.store.status().await.map_err(refusal)?;
    let alarm = m::AlarmMember { member_id: MEMBER, alarm: m::ALARM_NOSPACE };
    let alarms = if status.no_space { vec![alarm] } else { Vec::new() };
    Ok(m::AlarmResponse { header: header(status.revision), alarms })
}

pub(crate) async fn defragment(api: Arc<Api>, _: m::Nothing) -> Result<m::HeaderOnly, Status> {
    api.store.defragment().await.map_err(refusal)?;
    Ok(m::HeaderOnly { header: api.header().await? })
}

pub(crate) async fn hash(api: Arc<Api>, _: m::Nothing) -> Result<m::HashKvResponse, Status> {
    hash_at(&api, 0).await
}

pub(crate) async fn hash_kv(api: Arc<Api>, request: m::HashKvRequest) -> Result<m::HashKvResponse, Status> {
    hash_at(&api, unsigned(request.revision)).await
}

async fn hash_at(api: &Api, revision: Revision) -> Result<m::HashKvResponse, Status> {
    let hash = api.store.hash(revision).await.map_err(refusal)?;
    let status = api.store.status().await.map_err(refusal)?;
    let compact_revision = signed(status.compacted);
    Ok(m::HashKvResponse { header: header(status.revision), hash: hash.hash, compact_revision })
}

pub(crate) async fn members(api: Arc<Api>, _: m::Nothing) -> Result<m::MemberListResponse, Status> {
    let url = vec![api.url.clone()];
    let member = m::Member { id: MEMBER, name: api.name.clone(), peer_urls: url.clone(), client_urls: url };
    Ok(m::MemberListResponse { header: api.header().await?, members: vec![member] })
}
