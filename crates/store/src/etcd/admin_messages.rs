//! The etcd v3 API's messages for leases, maintenance, members and authentication; see [`super::messages`].

use bytes::Bytes;
use prost::Message;

use super::messages::ResponseHeader;

/// An answer that says nothing more: `LeaseRevokeResponse`, `DefragmentResponse` and others.
#[derive(Clone, PartialEq, Message)]
pub struct HeaderOnly {
    /// See there.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
}

/// A request without fields: `StatusRequest`, `SnapshotRequest` and others.
#[derive(Clone, PartialEq, Message)]
pub struct Nothing {}

/// Makes a lease.
#[derive(Clone, PartialEq, Message)]
pub struct LeaseGrantRequest {
    /// Seconds.
    #[prost(int64, tag = "1")]
    pub ttl: i64,
    /// Its number; 0 = choose one.
    #[prost(int64, tag = "2")]
    pub id: i64,
}

/// A lease made.
#[derive(Clone, PartialEq, Message)]
pub struct LeaseGrantResponse {
    /// See there.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// Its number.
    #[prost(int64, tag = "2")]
    pub id: i64,
    /// Seconds, as the server chose.
    #[prost(int64, tag = "3")]
    pub ttl: i64,
    /// Why not.
    #[prost(string, tag = "4")]
    pub error: String,
}

/// A request that names a lease: `LeaseRevokeRequest` and `LeaseKeepAliveRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct LeaseNamed {
    /// Its number.
    #[prost(int64, tag = "1")]
    pub id: i64,
}

/// A lease renewed.
#[derive(Clone, PartialEq, Message)]
pub struct LeaseKeepAliveResponse {
    /// See there.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// Its number.
    #[prost(int64, tag = "2")]
    pub id: i64,
    /// Seconds from now; 0 = there is no such lease.
    #[prost(int64, tag = "3")]
    pub ttl: i64,
}

/// Asks about a lease.
#[derive(Clone, PartialEq, Message)]
pub struct LeaseTimeToLiveRequest {
    /// Its number.
    #[prost(int64, tag = "1")]
    pub id: i64,
    /// Tell its keys.
    #[prost(bool, tag = "2")]
    pub keys: bool,
}

/// A lease's state.
#[derive(Clone, PartialEq, Message)]
pub struct LeaseTimeToLiveResponse {
    /// See there.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// Its number.
    #[prost(int64, tag = "2")]
    pub id: i64,
    /// Seconds left; -1 = there is no such lease.
    #[prost(int64, tag = "3")]
    pub ttl: i64,
    /// Seconds it was made with.
    #[prost(int64, tag = "4")]
    pub granted_ttl: i64,
    /// Its keys, if asked for.
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub keys: Vec<Bytes>,
}

/// All leases.
#[derive(Clone, PartialEq, Message)]
pub struct LeaseLeasesResponse {
    /// See there.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// Their numbers.
    #[prost(message, repeated, tag = "2")]
    pub leases: Vec<LeaseNamed>,
}

/// How a member is.
#[derive(Clone, PartialEq, Message)]
pub struct StatusResponse {
    /// See there.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// Of the program.
    #[prost(string, tag = "2")]
    pub version: String,
    /// Bytes on the disk.
    #[prost(int64, tag = "3")]
    pub db_size: i64,
    /// The leader's number; 0 = none.
    #[prost(uint64, tag = "4")]
    pub leader: u64,
    /// The log's end.
    #[prost(uint64, tag = "5")]
    pub raft_index: u64,
    /// The leader's term.
    #[prost(uint64, tag = "6")]
    pub raft_term: u64,
    /// How far the log is applied.
    #[prost(uint64, tag = "7")]
    pub raft_applied_index: u64,
    /// What is wrong.
    #[prost(string, repeated, tag = "8")]
    pub errors: Vec<String>,
    /// Bytes in use.
    #[prost(int64, tag = "9")]
    pub db_size_in_use: i64,
}

/// Asks for a hash of the state.
#[derive(Clone, PartialEq, Message)]
pub struct HashKvRequest {
    /// At which revision; 0 = now.
    #[prost(int64, tag = "1")]
    pub revision: i64,
}

/// A hash of the state; `HashResponse` is the same without the last field.
#[derive(Clone, PartialEq, Message)]
pub struct HashKvResponse {
    /// See there.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// The hash.
    #[prost(uint32, tag = "2")]
    pub hash: u32,
    /// Compacted to here.
    #[prost(int64, tag = "3")]
    pub compact_revision: i64,
}

/// A part of a snapshot.
#[derive(Clone, PartialEq, Message)]
pub struct SnapshotResponse {
    /// See there.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// What follows after this.
    #[prost(uint64, tag = "2")]
    pub remaining_bytes: u64,
    /// The part.
    #[prost(bytes = "bytes", tag = "3")]
    pub blob: Bytes,
}

/// [`AlarmMember::alarm`]: the size quota is used up.
pub const ALARM_NOSPACE: i32 = 1;

/// Asks for alarms, or ends one.
#[derive(Clone, PartialEq, Message)]
pub struct AlarmRequest {
    /// 0 get, 1 activate, 2 deactivate.
    #[prost(int32, tag = "1")]
    pub action: i32,
    /// Whose; 0 = all.
    #[prost(uint64, tag = "2")]
    pub member_id: u64,
    /// Which; 0 = all.
    #[prost(int32, tag = "3")]
    pub alarm: i32,
}

/// An alarm that is on.
#[derive(Clone, PartialEq, Message)]
pub struct AlarmMember {
    /// Whose.
    #[prost(uint64, tag = "1")]
    pub member_id: u64,
    /// 1 no space, 2 corrupt.
    #[prost(int32, tag = "2")]
    pub alarm: i32,
}

/// All alarms.
#[derive(Clone, PartialEq, Message)]
pub struct AlarmResponse {
    /// See there.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// Those that are on.
    #[prost(message, repeated, tag = "2")]
    pub alarms: Vec<AlarmMember>,
}

/// A member of the cluster.
#[derive(Clone, PartialEq, Message)]
pub struct Member {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Where members reach it.
    #[prost(string, repeated, tag = "3")]
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    #[prost(string, repeated, tag = "4")]
    pub client_urls: Vec<String>,
}

/// All members.
#[derive(Clone, PartialEq, Message)]
pub struct MemberListResponse {
    /// See there.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// In no order.
    #[prost(message, repeated, tag = "2")]
    pub members: Vec<Member>,
}

/// Who asks.
#[derive(Clone, PartialEq, Message)]
pub struct AuthenticateRequest {
    /// User.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Password.
    #[prost(string, tag = "2")]
    pub password: String,
}

/// What to show with every call.
#[derive(Clone, PartialEq, Message)]
pub struct AuthenticateResponse {
    /// See there.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// The token.
    #[prost(string, tag = "2")]
    pub token: String,
}
