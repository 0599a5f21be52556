//! Which method answers which path.

use std::future::Future;
use std::sync::Arc;

use futures::{Stream, TryFutureExt};
use http::{Request, Response};
use hyper::body::Incoming;
use prost::Message;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::{Api, kv, lease, maintenance, snapshot, watch};

/// A request may be as large as the store takes, and a little more for what is around it.
const MESSAGE_MOST: usize = 16 << 20;

/// Answers one request of a client that may do everything, or nothing.
pub(crate) async fn answer(api: Arc<Api>, admitted: bool, request: Request<Incoming>) -> Response<Body> {
    if !admitted {
        return Status::permission_denied("etcdserver: permission denied").into_http();
    }
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/etcdserverpb.KV/Range" => unary(api, request, kv::range).await,
        "/etcdserverpb.KV/Put" => unary(api, request, kv::put).await,
        "/etcdserverpb.KV/DeleteRange" => unary(api, request, kv::delete_range).await,
        "/etcdserverpb.KV/Txn" => unary(api, request, kv::txn).await,
        "/etcdserverpb.KV/Compact" => unary(api, request, kv::compact).await,
        "/etcdserverpb.Watch/Watch" => streaming(api, request, watch::watch).await,
        "/etcdserverpb.Lease/LeaseGrant" => unary(api, request, lease::grant).await,
        "/etcdserverpb.Lease/LeaseRevoke" => unary(api, request, lease::revoke).await,
        "/etcdserverpb.Lease/LeaseKeepAlive" => streaming(api, request, lease::keep_alive).await,
        "/etcdserverpb.Lease/LeaseTimeToLive" => unary(api, request, lease::time_to_live).await,
        "/etcdserverpb.Lease/LeaseLeases" => unary(api, request, lease::leases).await,
        "/etcdserverpb.Maintenance/Alarm" => unary(api, request, maintenance::alarm).await,
        "/etcdserverpb.Maintenance/Status" => unary(api, request, maintenance::status).await,
        "/etcdserverpb.Maintenance/Defragment" => unary(api, request, maintenance::defragment).await,
        "/etcdserverpb.Maintenance/Hash" => unary(api, request, maintenance::hash).await,
        "/etcdserverpb.Maintenance/HashKV" => unary(api, request, maintenance::hash_kv).await,
        "/etcdserverpb.Maintenance/Snapshot" => server_streaming(api, request, snapshot::snapshot).await,
        "/etcdserverpb.Cluster/MemberList" => unary(api, request, maintenance::members).await,
        "/etcdserverpb.Auth/Authenticate" => {
            Status::failed_precondition("etcdserver: authentication is not enabled").into_http()
        }
        _ => Status::unimplemented(format!("{path} is not part of Tiphys: it is one member, without users"))
            .into_http(),
    }
}

fn grpc<Q, A>() -> Grpc<ProstCodec<A, Q>>
where
    Q: Message + Default + 'static,
    A: Message + 'static,
{
    Grpc::new(ProstCodec::default()).max_decoding_message_size(MESSAGE_MOST)
}

async fn unary<Q, A, F, R>(api: Arc<Api>, request: Request<Incoming>, method: F) -> Response<Body>
where
    Q: Message + Default + 'static,
    A: Message + 'static,
    F: Fn(Arc<Api>, Q) -> R + Sync,
    R: Future<Output = Result<A, Status>> + Send,
{
    let service = service_fn(|request: tonic::Request<Q>| {
        method(api.clone(), request.into_inner()).map_ok(tonic::Response::new)
    });
    grpc().unary(service, request).await
}

async fn server_streaming<Q, A, F, R, S>(
    api: Arc<Api>,
    request: Request<Incoming>,
    method: F,
) -> Response<Body>
where
    Q: Message + Default + 'static,
    A: Message + 'static,
    F: Fn(Arc<Api>, Q) -> R + Sync,
    R: Future<Output = Result<S, Status>> + Send,
    S: Stream<Item = Result<A, Status>> + Send + 'static,
{
    let service = service_fn(|request: tonic::Request<Q>| {
        method(api.clone(), request.into_inner()).map_ok(tonic::Response::new)
    });
    grpc().server_streaming(service, request).await
}

async fn streaming<Q, A, F, R, S>(api: Arc<Api>, request: Request<Incoming>, method: F) -> Response<Body>
where
    Q: Message + Default + 'static,
    A: Message + 'static,
    F: Fn(Arc<Api>, Streaming<Q>) -> R + Sync,
    R: Future<Output = Result<S, Status>> + Send,
    S: Stream<Item = Result<A, Status>> + Send + 'static,
{
    let service = service_fn(|request: tonic::Request<Streaming<Q>>| {
        method(api.clone(), request.into_inner()).map_ok(tonic::Response::new)
    });
    grpc().streaming(service, request).await
}
