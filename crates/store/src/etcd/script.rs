//! Scripts as etcd's transactions, which have the same meaning: field by field, no decisions.

use super::convert::{ends, key_value, range_request, range_result, request_op, revision, signed, unsigned};
use super::messages as m;
use crate::{Condition, Done, Is, Key, LeaseId, Operand, Put, Revision, Script, ScriptResult, Step};

pub(super) fn request(script: &Script) -> m::TxnRequest {
    let steps = |steps: &[Step]| steps.iter().map(|step| request_op(step_request(step))).collect();
    m::TxnRequest {
        compare: script.conditions.iter().map(compare).collect(),
        success: steps(&script.then),
        failure: steps(&script.otherwise),
    }
}

fn compare(condition: &Condition) -> m::Compare {
    let (key, range_end) = ends(&condition.span);
    let (target, operand) = match &condition.to {
        Operand::Version(n) => (0, m::Target::Version(signed(*n))),
        Operand::CreateRevision(n) => (1, m::Target::CreateRevision(signed(*n))),
        Operand::ModRevision(n) => (m::TARGET_MOD, m::Target::ModRevision(signed(*n))),
        Operand::Value(value) => (3, m::Target::Value(value.clone())),
        Operand::Lease(n) => (4, m::Target::Lease(signed(*n))),
    };
    let result = match condition.is {
        Is::Equal => 0,
        Is::Greater => 1,
        Is::Less => 2,
        Is::NotEqual => 3,
    };
    m::Compare { result, target, key, target_union: Some(operand), range_end }
}

fn step_request(step: &Step) -> m::Request {
    match step {
        Step::Range(range) => m::Request::Range(range_request(range)),
        Step::Put(put) => m::Request::Put(put_request(put)),
        Step::Delete { span, previous } => {
            let (key, range_end) = ends(span);
            m::Request::DeleteRange(m::DeleteRangeRequest { key, range_end, prev_kv: *previous })
        }
        Step::Script(script) => m::Request::Txn(request(script)),
    }
}

fn put_request(put: &Put) -> m::PutRequest {
    m::PutRequest {
        key: super::convert::bytes(&put.key),
        value: put.value.clone().unwrap_or_default(),
        lease: signed(put.lease.unwrap_or_default()),
        prev_kv: put.previous,
        ignore_value: put.value.is_none(),
        ignore_lease: put.lease.is_none(),
    }
}

/// What a script did; `outer` is the revision of the script that it is part of, if of any.
pub(super) fn result(script: &Script, answer: m::TxnResponse, outer: Option<Revision>) -> ScriptResult {
    let revision = outer.unwrap_or_else(|| revision(answer.header.as_ref()));
    let steps = if answer.succeeded { &script.then } else { &script.otherwise };
    let done = steps.iter().zip(answer.responses);
    let steps = done.filter_map(|(step, op)| Some(step_done(step, op.response?, revision))).collect();
    ScriptResult { revision, held: answer.succeeded, steps }
}

fn step_done(step: &Step, response: m::Response, revision: Revision) -> Done {
    match (step, response) {
        (Step::Range(range), m::Response::Range(answer)) => {
            let mut result = range_result(answer, range.revision);
            if result.revision == 0 {
                result.revision = revision;
            }
            Done::Range(result)
        }
        (Step::Script(script), m::Response::Txn(answer)) => {
            Done::Script(self::result(script, answer, Some(revision)))
        }
        (_, m::Response::DeleteRange(answer)) => Done::Delete {
            deleted: unsigned(answer.deleted),
            previous: answer.prev_kvs.into_iter().map(key_value).collect(),
        },
        (_, m::Response::Put(answer)) => Done::Put { previous: answer.prev_kv.map(key_value) },
        // A server that answers another question than was asked: nothing was read.
        (_, m::Response::Range(_) | m::Response::Txn(_)) => Done::Put { previous: None },
    }
}

/// What a script names, of each the first: what etcd's refusal is about, which does not say.
#[derive(Default)]
pub(super) struct Named {
    /// The lease that a key is put to.
    pub lease: Option<LeaseId>,
    /// The key that must be there.
    pub key: Option<Key>,
    /// The revision of the past that is read.
    pub revision: Option<Revision>,
}

pub(super) fn named(script: &Script) -> Named {
    let mut found = Named::default();
    for step in script.then.iter().chain(&script.otherwise) {
        let here = match step {
            Step::Put(put) => Named {
                lease: put.lease.filter(|lease| *lease != 0),
                key: (put.value.is_none() || put.lease.is_none()).then(|| put.key.clone()),
                revision: None,
            },
            Step::Range(range) => {
                Named { revision: (range.revision != 0).then_some(range.revision), ..Named::default() }
            }
            Step::Script(inner) => named(inner),
            Step::Delete { .. } => Named::default(),
        };
        found.lease = found.lease.or(here.lease);
        found.key = found.key.or(here.key);
        found.revision = found.revision.or(here.revision);
    }
    found
}
