//! The etcd v3 API's messages for keys, transactions and watches, by hand: only what is used, with the field numbers of
//! etcd's `rpc.proto` and `kv.proto`. No `.proto` file, no `protoc`, no build script. Enumerations travel as plain
//! numbers, which is the same on the wire; fields left out are skipped when others send them.
//!
//! Both directions speak these: the engine that is a client of etcd, and the server that answers etcd's clients. Those
//! of leases, maintenance and authentication are in [`super::admin_messages`].

use bytes::Bytes;
use prost::{Message, Oneof};

/// What every answer begins with.
#[derive(Clone, PartialEq, Message)]
pub struct ResponseHeader {
    /// The cluster that answered.
    #[prost(uint64, tag = "1")]
    pub cluster_id: u64,
    /// Its member.
    #[prost(uint64, tag = "2")]
    pub member_id: u64,
    /// The store's revision when it answered.
    #[prost(int64, tag = "3")]
    pub revision: i64,
    /// The term of its leader.
    #[prost(uint64, tag = "4")]
    pub raft_term: u64,
}

/// A key's state.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// Its name.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// The revision that made it.
    #[prost(int64, tag = "2")]
    pub create_revision: i64,
    /// The revision that wrote it last.
    #[prost(int64, tag = "3")]
    pub mod_revision: i64,
    /// Writes since it exists.
    #[prost(int64, tag = "4")]
    pub version: i64,
    /// Its value.
    #[prost(bytes = "bytes", tag = "5")]
    pub value: Bytes,
    /// Its lease; 0 = none.
    #[prost(int64, tag = "6")]
    pub lease: i64,
}

/// [`Event::r#type`] of a write.
pub const EVENT_PUT: i32 = 0;
/// [`Event::r#type`] of a deletion.
pub const EVENT_DELETE: i32 = 1;

/// One change.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// [`EVENT_PUT`] or [`EVENT_DELETE`].
    #[prost(int32, tag = "1")]
    pub r#type: i32,
    /// The new state; of a deletion, its key and revision.
    #[prost(message, optional, tag = "2")]
    pub kv: Option<KeyValue>,
    /// The state before, if asked for.
    #[prost(message, optional, tag = "3")]
    pub prev_kv: Option<KeyValue>,
}

/// [`RangeRequest::sort_order`], highest first.
pub const DESCEND: i32 = 2;

/// Asks for keys.
#[derive(Clone, PartialEq, Message)]
pub struct RangeRequest {
    /// The first key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// The first key after the range; empty = `key` alone; one zero byte = to the end.
    #[prost(bytes = "bytes", tag = "2")]
    pub range_end: Bytes,
    /// At most so many; 0 = all.
    #[prost(int64, tag = "3")]
    pub limit: i64,
    /// At which revision; 0 = now.
    #[prost(int64, tag = "4")]
    pub revision: i64,
    /// 0 none, 1 ascending, [`DESCEND`].
    #[prost(int32, tag = "5")]
    pub sort_order: i32,
    /// By 0 key, 1 version, 2 create revision, 3 mod revision, 4 value.
    #[prost(int32, tag = "6")]
    pub sort_target: i32,
    /// Without asking the leader.
    #[prost(bool, tag = "7")]
    pub serializable: bool,
    /// Without values.
    #[prost(bool, tag = "8")]
    pub keys_only: bool,
    /// The number alone.
    #[prost(bool, tag = "9")]
    pub count_only: bool,
    /// Leaves out what was written earlier; 0 = nothing.
    #[prost(int64, tag = "10")]
    pub min_mod_revision: i64,
    /// Leaves out what was written later; 0 = nothing.
    #[prost(int64, tag = "11")]
    pub max_mod_revision: i64,
    /// Leaves out what was made earlier; 0 = nothing.
    #[prost(int64, tag = "12")]
    pub min_create_revision: i64,
    /// Leaves out what was made later; 0 = nothing.
    #[prost(int64, tag = "13")]
    pub max_create_revision: i64,
}

/// Keys found.
#[derive(Clone, PartialEq, Message)]
pub struct RangeResponse {
    /// See there.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// In order.
    #[prost(message, repeated, tag = "2")]
    pub kvs: Vec<KeyValue>,
    /// The limit left some out.
    #[prost(bool, tag = "3")]
    pub more: bool,
    /// How many keys the range has.
    #[prost(int64, tag = "4")]
    pub count: i64,
}

/// Writes a key.
#[derive(Clone, PartialEq, Message)]
pub struct PutRequest {
    /// Which.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// What.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
    /// Its lease; 0 = none.
    #[prost(int64, tag = "3")]
    pub lease: i64,
    /// Tell what it replaced.
    #[prost(bool, tag = "4")]
    pub prev_kv: bool,
    /// Keep the value.
    #[prost(bool, tag = "5")]
    pub ignore_value: bool,
    /// Keep the lease.
    #[prost(bool, tag = "6")]
    pub ignore_lease: bool,
}

/// A key written.
#[derive(Clone, PartialEq, Message)]
pub struct PutResponse {
    /// See there.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// What it replaced, if asked for.
    #[prost(message, optional, tag = "2")]
    pub prev_kv: Option<KeyValue>,
}

/// Deletes keys.
#[derive(Clone, PartialEq, Message)]
pub struct DeleteRangeRequest {
    /// As in [`RangeRequest`].
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// As in [`RangeRequest`].
    #[prost(bytes = "bytes", tag = "2")]
    pub range_end: Bytes,
    /// Tell what is gone.
    #[prost(bool, tag = "3")]
    pub prev_kv: bool,
}

/// Keys deleted.
#[derive(Clone, PartialEq, Message)]
pub struct DeleteRangeResponse {
    /// See there.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// How many.
    #[prost(int64, tag = "2")]
    pub deleted: i64,
    /// What they were, if asked for.
    #[prost(message, repeated, tag = "3")]
    pub prev_kvs: Vec<KeyValue>,
}

/// One step of a transaction.
#[derive(Clone, PartialEq, Message)]
pub struct RequestOp {
    /// Which.
    #[prost(oneof = "Request", tags = "1, 2, 3, 4")]
    pub request: Option<Request>,
}

/// The kinds of [`RequestOp`].
#[derive(Clone, PartialEq, Oneof)]
pub enum Request {
    /// A read.
    #[prost(message, tag = "1")]
    Range(RangeRequest),
    /// A write.
    #[prost(message, tag = "2")]
    Put(PutRequest),
    /// A deletion.
    #[prost(message, tag = "3")]
    DeleteRange(DeleteRangeRequest),
    /// A transaction within.
    #[prost(message, tag = "4")]
    Txn(TxnRequest),
}

/// What one step of a transaction did.
#[derive(Clone, PartialEq, Message)]
pub struct ResponseOp {
    /// Which.
    #[prost(oneof = "Response", tags = "1, 2, 3, 4")]
    pub response: Option<Response>,
}

/// The kinds of [`ResponseOp`].
#[derive(Clone, PartialEq, Oneof)]
pub enum Response {
    /// A read.
    #[prost(message, tag = "1")]
    Range(RangeResponse),
    /// A write.
    #[prost(message, tag = "2")]
    Put(PutResponse),
    /// A deletion.
    #[prost(message, tag = "3")]
    DeleteRange(DeleteRangeResponse),
    /// A transaction within.
    #[prost(message, tag = "4")]
    Txn(TxnResponse),
}

/// [`Compare::target`]: the mod revision.
pub const TARGET_MOD: i32 = 2;

/// A condition.
#[derive(Clone, PartialEq, Message)]
pub struct Compare {
    /// What is found must be 0 equal to, 1 greater than, 2 less than, 3 other than what is given.
    #[prost(int32, tag = "1")]
    pub result: i32,
    /// What is compared: 0 version, 1 create revision, 2 mod revision, 3 value, 4 lease.
    #[prost(int32, tag = "2")]
    pub target: i32,
    /// Whose.
    #[prost(bytes = "bytes", tag = "3")]
    pub key: Bytes,
    /// With what.
    #[prost(oneof = "Target", tags = "4, 5, 6, 7, 8")]
    pub target_union: Option<Target>,
    /// Holds for every key of the range.
    #[prost(bytes = "bytes", tag = "64")]
    pub range_end: Bytes,
}

/// What a [`Compare`] is given.
#[derive(Clone, PartialEq, Oneof)]
pub enum Target {
    /// A version.
    #[prost(int64, tag = "4")]
    Version(i64),
    /// A create revision.
    #[prost(int64, tag = "5")]
    CreateRevision(i64),
    /// A mod revision.
    #[prost(int64, tag = "6")]
    ModRevision(i64),
    /// A value.
    #[prost(bytes = "bytes", tag = "7")]
    Value(Bytes),
    /// A lease.
    #[prost(int64, tag = "8")]
    Lease(i64),
}

/// A transaction.
#[derive(Clone, PartialEq, Message)]
pub struct TxnRequest {
    /// All must hold ...
    #[prost(message, repeated, tag = "1")]
    pub compare: Vec<Compare>,
    /// ... for these steps, ...
    #[prost(message, repeated, tag = "2")]
    pub success: Vec<RequestOp>,
    /// ... or these are taken.
    #[prost(message, repeated, tag = "3")]
    pub failure: Vec<RequestOp>,
}

/// How a transaction ended.
#[derive(Clone, PartialEq, Message)]
pub struct TxnResponse {
    /// See there.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// Whether all conditions held.
    #[prost(bool, tag = "2")]
    pub succeeded: bool,
    /// What the steps did.
    #[prost(message, repeated, tag = "3")]
    pub responses: Vec<ResponseOp>,
}

/// Forgets the past.
#[derive(Clone, PartialEq, Message)]
pub struct CompactionRequest {
    /// Before this revision.
    #[prost(int64, tag = "1")]
    pub revision: i64,
    /// Answer when it is off the disk.
    #[prost(bool, tag = "2")]
    pub physical: bool,
}

/// The past is forgotten.
#[derive(Clone, PartialEq, Message)]
pub struct CompactionResponse {
    /// See there.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
}

/// What a client says on a stream of watches.
#[derive(Clone, PartialEq, Message)]
pub struct WatchRequest {
    /// Which.
    #[prost(oneof = "WatchAsk", tags = "1, 2, 3")]
    pub request_union: Option<WatchAsk>,
}

/// The kinds of [`WatchRequest`].
#[derive(Clone, PartialEq, Oneof)]
pub enum WatchAsk {
    /// Begin one.
    #[prost(message, tag = "1")]
    Create(WatchCreateRequest),
    /// End one.
    #[prost(message, tag = "2")]
    Cancel(WatchCancelRequest),
    /// Tell how far all have come.
    #[prost(message, tag = "3")]
    Progress(WatchProgressRequest),
}

/// Begins a watch.
#[derive(Clone, PartialEq, Message)]
pub struct WatchCreateRequest {
    /// As in [`RangeRequest`].
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// As in [`RangeRequest`].
    #[prost(bytes = "bytes", tag = "2")]
    pub range_end: Bytes,
    /// The first revision wanted; 0 = the next one.
    #[prost(int64, tag = "3")]
    pub start_revision: i64,
    /// Tell from time to time how far it has come.
    #[prost(bool, tag = "4")]
    pub progress_notify: bool,
    /// Leave out: 0 writes, 1 deletions.
    #[prost(int32, repeated, tag = "5")]
    pub filters: Vec<i32>,
    /// Tell what is replaced.
    #[prost(bool, tag = "6")]
    pub prev_kv: bool,
    /// Its number; 0 = choose one.
    #[prost(int64, tag = "7")]
    pub watch_id: i64,
    /// A large answer may be split.
    #[prost(bool, tag = "8")]
    pub fragment: bool,
}

/// Ends a watch.
#[derive(Clone, PartialEq, Message)]
pub struct WatchCancelRequest {
    /// Which.
    #[prost(int64, tag = "1")]
    pub watch_id: i64,
}

/// Asks how far the watches of a stream have come.
#[derive(Clone, PartialEq, Message)]
pub struct WatchProgressRequest {}

/// What a server says on a stream of watches.
#[derive(Clone, PartialEq, Message)]
pub struct WatchResponse {
    /// See there.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// Of which watch; -1 = of all.
    #[prost(int64, tag = "2")]
    pub watch_id: i64,
    /// It begins.
    #[prost(bool, tag = "3")]
    pub created: bool,
    /// It ended.
    #[prost(bool, tag = "4")]
    pub canceled: bool,
    /// It ended because its past is forgotten before this revision.
    #[prost(int64, tag = "5")]
    pub compact_revision: i64,
    /// Why it ended.
    #[prost(string, tag = "6")]
    pub cancel_reason: String,
    /// More of the same revision follows.
    #[prost(bool, tag = "7")]
    pub fragment: bool,
    /// What happened, in order.
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<Event>,
}
