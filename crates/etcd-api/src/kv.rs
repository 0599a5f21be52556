//! `KV`: reads, writes, transactions, compaction.
//!
//! A write of any kind is a [`Script`]: etcd's `Put` and `DeleteRange` are transactions of one step.

use std::cmp::Ordering;
use std::sync::Arc;

use tiphys_store::etcd::convert::{key_value_message, signed, span, unsigned};
use tiphys_store::etcd::messages as m;
use tiphys_store::{
    Condition, Done, Is, KeyValue, Operand, Put, Range, RangeResult, Revision, Script, ScriptResult, Step,
};
use tonic::Status;

use crate::Api;
use crate::answer::{header, invalid, refusal};

/// etcd's limit for the steps of one transaction.
const STEPS_MOST: usize = 128;
/// Transactions within transactions.
const DEPTH_MOST: usize = 8;

pub(crate) async fn range(api: Arc<Api>, request: m::RangeRequest) -> Result<m::RangeResponse, Status> {
    let range = to_range(&request)?;
    let result = api.store.range(range).await.map_err(refusal)?;
    // The header tells the present even of a read of the past.
    let present =
        if request.revision == 0 { result.revision } else { api.store.revision().await.map_err(refusal)? };
    Ok(range_response(&request, result, present))
}

pub(crate) async fn put(api: Arc<Api>, request: m::PutRequest) -> Result<m::PutResponse, Status> {
    match one(&api, m::Request::Put(request)).await? {
        m::Response::Put(response) => Ok(response),
        _ => Err(Status::internal("a write was answered as something else")),
    }
}

pub(crate) async fn delete_range(
    api: Arc<Api>,
    request: m::DeleteRangeRequest,
) -> Result<m::DeleteRangeResponse, Status> {
    match one(&api, m::Request::DeleteRange(request)).await? {
        m::Response::DeleteRange(response) => Ok(response),
        _ => Err(Status::internal("a deletion was answered as something else")),
    }
}

/// A transaction of one step, and what that did.
async fn one(api: &Api, request: m::Request) -> Result<m::Response, Status> {
    let step = m::RequestOp { request: Some(request) };
    let steps = std::slice::from_ref(&step);
    let script = Script { then: to_steps(steps, 0)?, ..Script::default() };
    let result = api.store.run(script).await.map_err(refusal)?;
    let done = responses(steps, result.steps, result.revision);
    let response = done.into_iter().next().and_then(|op| op.response);
    response.ok_or_else(|| Status::internal("a step was not answered"))
}

pub(crate) async fn txn(api: Arc<Api>, request: m::TxnRequest) -> Result<m::TxnResponse, Status> {
    let script = to_script(&request, 0)?;
    let result = api.store.run(script).await.map_err(refusal)?;
    Ok(txn_response(&request, result))
}

pub(crate) async fn compact(
    api: Arc<Api>,
    request: m::CompactionRequest,
) -> Result<m::CompactionResponse, Status> {
    let revision = unsigned(request.revision);
    let compacted = api.store.status().await.map_err(refusal)?.compacted;
    if revision <= compacted {
        return Err(refusal(tiphys_store::Error::Compacted { requested: revision, at: compacted }));
    }
    api.store.compact(revision).await.map_err(refusal)?;
    Ok(m::CompactionResponse { header: api.header().await? })
}

/// A read as the store takes it. What the store cannot do (filters, other orders) is done afterwards, on all keys.
fn to_range(request: &m::RangeRequest) -> Result<Range, Status> {
    if request.key.is_empty() {
        return Err(invalid("key is not provided"));
    }
    let range = Range::from(span(&request.key, &request.range_end)).at(unsigned(request.revision));
    Ok(if request.count_only {
        range.keys_only().limit(1)
    } else if is_refined(request) {
        range
    } else {
        let range = range.limit(usize::try_from(request.limit).unwrap_or_default());
        if request.keys_only { range.keys_only() } else { range }
    })
}

fn is_refined(request: &m::RangeRequest) -> bool {
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    request.sort_order == m::DESCEND || request.sort_target != 0 || bounds.iter().any(|bound| *bound != 0)
}

fn range_response(request: &m::RangeRequest, result: RangeResult, present: Revision) -> m::RangeResponse {
    let count = result.items.len() as u64 + result.remaining;
    let (mut items, mut more) = (result.items, result.remaining > 0);
    if is_refined(request) {
        more = refine(request, &mut items);
    }
    if request.count_only {
        (items, more) = (Vec::new(), false);
    }
    let kvs = items.into_iter().map(|mut kv| {
        if request.keys_only {
            kv.value = bytes::Bytes::new();
        }
        key_value_message(kv)
    });
    m::RangeResponse { header: header(present), kvs: kvs.collect(), more, count: signed(count) }
}

/// Filters, sorts and cuts; tells whether something was cut off.
fn refine(request: &m::RangeRequest, items: &mut Vec<KeyValue>) -> bool {
    let above = |bound: i64, revision: u64| bound == 0 || signed(revision) >= bound;
    let below = |bound: i64, revision: u64| bound == 0 || signed(revision) <= bound;
    items.retain(|kv| {
        above(request.min_mod_revision, kv.mod_revision)
            && below(request.max_mod_revision, kv.mod_revision)
            && above(request.min_create_revision, kv.create_revision)
            && below(request.max_create_revision, kv.create_revision)
    });
    items.sort_by(|a, b| compare(request.sort_target, a, b));
    if request.sort_order == m::DESCEND {
        items.reverse();
    }
    let limit = usize::try_from(request.limit).unwrap_or_default();
    let more = limit != 0 && items.len() > limit;
    if more {
        items.truncate(limit);
    }
    more
}

fn compare(target: i32, a: &KeyValue, b: &KeyValue) -> Ordering {
    match target {
        1 => a.version.cmp(&b.version),
        2 => a.create_revision.cmp(&b.create_revision),
        3 => a.mod_revision.cmp(&b.mod_revision),
        4 => a.value.cmp(&b.value),
        _ => a.key.cmp(&b.key),
    }
}

fn to_script(request: &m::TxnRequest, depth: usize) -> Result<Script, Status> {
    let longest = request.compare.len().max(request.success.len()).max(request.failure.len());
    if longest > STEPS_MOST || depth > DEPTH_MOST {
        return Err(invalid("too many operations in txn request"));
    }
    Ok(Script {
        conditions: request.compare.iter().map(condition).collect::<Result<_, _>>()?,
        then: to_steps(&request.success, depth)?,
        otherwise: to_steps(&request.failure, depth)?,
    })
}

fn condition(compare: &m::Compare) -> Result<Condition, Status> {
    if compare.key.is_empty() {
        return Err(invalid("key is not provided"));
    }
    let number = |number: &i64| unsigned(*number);
    let to = match (compare.target, &compare.target_union) {
        (0, Some(m::Target::Version(n))) => Operand::Version(number(n)),
        (1, Some(m::Target::CreateRevision(n))) => Operand::CreateRevision(number(n)),
        (m::TARGET_MOD, Some(m::Target::ModRevision(n))) => Operand::ModRevision(number(n)),
        (3, Some(m::Target::Value(value))) => Operand::Value(value.clone()),
        (4, Some(m::Target::Lease(n))) => Operand::Lease(number(n)),
        // What is left out of a message is zero.
        (0, None) => Operand::Version(0),
        (1, None) => Operand::CreateRevision(0),
        (m::TARGET_MOD, None) => Operand::ModRevision(0),
        (3, None) => Operand::Value(bytes::Bytes::new()),
        (4, None) => Operand::Lease(0),
        _ => return Err(invalid("a comparison's target and value do not fit")),
    };
    let is = match compare.result {
        0 => Is::Equal,
        1 => Is::Greater,
        2 => Is::Less,
        3 => Is::NotEqual,
        _ => return Err(invalid("unknown comparison")),
    };
    Ok(Condition { span: span(&compare.key, &compare.range_end), is, to })
}

fn to_steps(steps: &[m::RequestOp], depth: usize) -> Result<Vec<Step>, Status> {
    steps.iter().map(|step| to_step(step, depth)).collect()
}

fn to_step(step: &m::RequestOp, depth: usize) -> Result<Step, Status> {
    match &step.request {
        Some(m::Request::Range(range)) => Ok(Step::Range(to_range(range)?)),
        Some(m::Request::Put(put)) => Ok(Step::Put(to_put(put)?)),
        Some(m::Request::DeleteRange(delete)) if delete.key.is_empty() => Err(invalid("key is not provided")),
        Some(m::Request::DeleteRange(delete)) => {
            Ok(Step::Delete { span: span(&delete.key, &delete.range_end), previous: delete.prev_kv })
        }
        Some(m::Request::Txn(txn)) => Ok(Step::Script(to_script(txn, depth + 1)?)),
        None => Err(invalid("an operation without a request")),
    }
}

fn to_put(put: &m::PutRequest) -> Result<Put, Status> {
    if put.key.is_empty() {
        return Err(invalid("key is not provided"));
    }
    if put.ignore_value && !put.value.is_empty() {
        return Err(invalid("value is provided"));
    }
    if put.ignore_lease && put.lease != 0 {
        return Err(invalid("lease is provided"));
    }
    Ok(Put {
        key: put.key.as_ref().into(),
        value: (!put.ignore_value).then(|| put.value.clone()),
        lease: (!put.ignore_lease).then(|| unsigned(put.lease)),
        previous: put.prev_kv,
    })
}

fn txn_response(request: &m::TxnRequest, result: ScriptResult) -> m::TxnResponse {
    let steps = if result.held { &request.success } else { &request.failure };
    m::TxnResponse {
        header: header(result.revision),
        succeeded: result.held,
        responses: responses(steps, result.steps, result.revision),
    }
}

fn responses(steps: &[m::RequestOp], done: Vec<Done>, revision: Revision) -> Vec<m::ResponseOp> {
    let pairs = steps.iter().zip(done);
    let answer = |(step, done)| m::ResponseOp { response: response(step, done, revision) };
    pairs.map(answer).collect()
}

/// What a step did; none if the store did another one, which it does not.
fn response(step: &m::RequestOp, done: Done, revision: Revision) -> Option<m::Response> {
    Some(match (step.request.as_ref()?, done) {
        (m::Request::Range(range), Done::Range(result)) => {
            m::Response::Range(range_response(range, result, revision))
        }
        (m::Request::Put(_), Done::Put { previous }) => m::Response::Put(m::PutResponse {
            header: header(revision),
            prev_kv: previous.map(key_value_message),
        }),
        (m::Request::DeleteRange(_), Done::Delete { deleted, previous }) => {
            m::Response::DeleteRange(m::DeleteRangeResponse {
                header: header(revision),
                deleted: signed(deleted),
                prev_kvs: previous.into_iter().map(key_value_message).collect(),
            })
        }
        (m::Request::Txn(txn), Done::Script(result)) => m::Response::Txn(txn_response(txn, result)),
        _ => return None,
    })
}
