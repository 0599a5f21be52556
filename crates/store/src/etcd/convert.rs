//! Between the contract's words and etcd's messages: field by field, no decisions.

use bytes::Bytes;

use super::messages as m;
use crate::{Compare, Event, Key, KeyValue, Op, Range, RangeResult, Revision, Span, Txn};

/// What etcd takes for "to the end of all keys", and, since no key is empty, for the first key.
const ALL: &[u8] = b"\0";

/// A revision or lease in etcd's sign. None is ever that large.
pub fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A revision, version or lease from etcd's sign. None is ever negative.
pub fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// A key's bytes.
pub fn bytes(key: &Key) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

/// A span as etcd's `key` and `range_end`.
pub fn ends(span: &Span) -> (Bytes, Bytes) {
    if let Some(key) = span.only() {
        return (bytes(key), Bytes::new());
    }
    let start = if span.start.as_bytes().is_empty() { Bytes::from_static(ALL) } else { bytes(&span.start) };
    (start, span.end.as_ref().map_or(Bytes::from_static(ALL), bytes))
}

/// A span from etcd's `key` and `range_end`.
pub fn span(key: &[u8], range_end: &[u8]) -> Span {
    match range_end {
        b"" => Span::key(key),
        ALL => Span { start: key.into(), end: None },
        end => Span { start: key.into(), end: Some(end.into()) },
    }
}

/// A key's state from etcd's.
pub fn key_value(kv: m::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key.as_ref().into(),
        value: kv.value,
        create_revision: unsigned(kv.create_revision),
        mod_revision: unsigned(kv.mod_revision),
        version: unsigned(kv.version),
        lease: unsigned(kv.lease),
    }
}

/// A key's state as etcd's.
pub fn key_value_message(kv: KeyValue) -> m::KeyValue {
    m::KeyValue {
        key: bytes(&kv.key),
        create_revision: signed(kv.create_revision),
        mod_revision: signed(kv.mod_revision),
        version: signed(kv.version),
        value: kv.value,
        lease: signed(kv.lease),
    }
}

/// A read as etcd's.
pub(super) fn range_request(range: &Range) -> m::RangeRequest {
    let (key, range_end) = ends(&range.span);
    m::RangeRequest {
        key,
        range_end,
        limit: i64::try_from(range.limit).unwrap_or_default(),
        revision: signed(range.revision),
        keys_only: range.keys_only,
        ..m::RangeRequest::default()
    }
}

/// The answer to a read at `asked` (0 = the present).
pub(super) fn range_result(answer: m::RangeResponse, asked: Revision) -> RangeResult {
    let current = revision(answer.header.as_ref());
    let remaining = unsigned(answer.count).saturating_sub(answer.kvs.len() as u64);
    RangeResult {
        revision: if asked == 0 { current } else { asked },
        items: answer.kvs.into_iter().map(key_value).collect(),
        remaining,
    }
}

/// The revision that an answer tells.
pub(super) fn revision(header: Option<&m::ResponseHeader>) -> Revision {
    header.map_or(0, |header| unsigned(header.revision))
}

/// A transaction as etcd's: if it is refused, it reads what was found instead.
pub(super) fn txn_request(txn: &Txn) -> m::TxnRequest {
    m::TxnRequest {
        compare: txn.compares.iter().map(compare).collect(),
        success: txn.ops.iter().map(|op| request_op(change(op))).collect(),
        failure: txn.compares.iter().map(|compare| request_op(found(&compare.key))).collect(),
    }
}

fn compare(compare: &Compare) -> m::Compare {
    m::Compare {
        target: m::TARGET_MOD,
        key: bytes(&compare.key),
        target_union: Some(m::Target::ModRevision(signed(compare.mod_revision))),
        ..m::Compare::default()
    }
}

fn change(op: &Op) -> m::Request {
    match op {
        Op::Put { key, value, lease } => m::Request::Put(m::PutRequest {
            key: bytes(key),
            value: value.clone(),
            lease: signed(*lease),
            ..m::PutRequest::default()
        }),
        Op::Delete { key } => m::Request::DeleteRange(m::DeleteRangeRequest {
            key: bytes(key),
            ..m::DeleteRangeRequest::default()
        }),
    }
}

fn found(key: &Key) -> m::Request {
    m::Request::Range(m::RangeRequest { key: bytes(key), keys_only: true, ..m::RangeRequest::default() })
}

/// A step of a transaction.
pub(super) fn request_op(request: m::Request) -> m::RequestOp {
    m::RequestOp { request: Some(request) }
}

/// The mod revisions that a refused transaction read.
pub(super) fn found_revisions(responses: Vec<m::ResponseOp>) -> Vec<Revision> {
    let of = |op: m::ResponseOp| match op.response {
        Some(m::Response::Range(range)) => range.kvs.first().map_or(0, |kv| unsigned(kv.mod_revision)),
        _ => 0,
    };
    responses.into_iter().map(of).collect()
}

/// An event from etcd's; none of one without a key, which there is not. What was there before is known only of a watch
/// that asked for it.
pub(super) fn event(event: m::Event) -> Option<Event> {
    let kv = event.kv?;
    let previous = event.prev_kv.map(key_value);
    let previous_revision = previous.as_ref().map_or(0, |kv| kv.mod_revision);
    Some(match event.r#type {
        m::EVENT_DELETE => Event::Delete {
            key: kv.key.as_ref().into(),
            revision: unsigned(kv.mod_revision),
            previous_revision,
            previous,
        },
        _ => Event::Put { kv: key_value(kv), previous_revision, previous },
    })
}

/// An event as etcd's.
pub fn event_message(event: Event) -> m::Event {
    match event {
        Event::Put { kv, previous, .. } => m::Event {
            r#type: m::EVENT_PUT,
            kv: Some(key_value_message(kv)),
            prev_kv: previous.map(key_value_message),
        },
        Event::Delete { key, revision, previous, .. } => m::Event {
            r#type: m::EVENT_DELETE,
            kv: Some(m::KeyValue {
                key: bytes(&key),
                mod_revision: signed(revision),
                ..m::KeyValue::default()
            }),
            prev_kv: previous.map(key_value_message),
        },
    }
}
