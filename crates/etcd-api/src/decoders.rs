//! Whatever bytes a client sends: they are refused, or done as a whole, and nothing ends.
//!
//! Requests are made at random and then damaged a little, so that they get deep into what reads them. Each that can be
//! decoded is encoded again alike; each that is taken is put to a store, which must still work afterwards: a panic in
//! there would end its writer for good.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use tiphys_store::Embedded;
use tiphys_store::embedded::Options;
use tiphys_store::etcd::messages as m;

use crate::{Api, kv};

fn key() -> impl Strategy<Value = Bytes> {
    prop_oneof![Just(""), Just("\0"), Just("/a"), Just("/a\0"), Just("/b"), Just("/")]
        .prop_map(|text| Bytes::from_static(text.as_bytes()))
}

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![-1_i64..6, Just(i64::MAX), Just(i64::MIN)]
}

prop_compose! {
    fn range()(
        key in key(), range_end in key(), limit in number(), revision in number(), sort_order in -1..4,
        sort_target in -1..6, keys_only: bool, count_only: bool, bounds in prop::array::uniform4(number()),
    ) -> m::Request {
        let [min_mod_revision, max_mod_revision, min_create_revision, max_create_revision] = bounds;
        m::Request::Range(m::RangeRequest {
            key, range_end, limit, revision, sort_order, sort_target, serializable: false, keys_only, count_only,
            min_mod_revision, max_mod_revision, min_create_revision, max_create_revision,
        })
    }
}

prop_compose! {
    fn put()(
        key in key(), value in key(), lease in 0_i64..2, prev_kv: bool, ignore_value: bool, ignore_lease: bool,
    ) -> m::Request {
        m::Request::Put(m::PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease })
    }
}

prop_compose! {
    fn delete()(key in key(), range_end in key(), prev_kv: bool) -> m::Request {
        m::Request::DeleteRange(m::DeleteRangeRequest { key, range_end, prev_kv })
    }
}

prop_compose! {
    fn compare()(
        result in -1..5, target in -1..6, key in key(), range_end in key(), number in number(), which in 0..6, value in key(),
    ) -> m::Compare {
        let target_union = match which {
            0 => Some(m::Target::Version(number)),
            1 => Some(m::Target::CreateRevision(number)),
            2 => Some(m::Target::ModRevision(number)),
            3 => Some(m::Target::Value(value)),
            4 => Some(m::Target::Lease(number)),
            _ => None,
        };
        m::Compare { result, target, key, target_union, range_end }
    }
}

fn step() -> impl Strategy<Value = m::RequestOp> {
    let plain = prop_oneof![range(), put(), delete()];
    let some = |request| m::RequestOp { request: Some(request) };
    plain.prop_map(some).prop_recursive(3, 12, 3, move |inner| {
        let steps = prop::collection::vec(inner, 0..3);
        let txn = (prop::collection::vec(compare(), 0..2), steps.clone(), steps);
        txn.prop_map(move |(compare, success, failure)| {
            some(m::Request::Txn(m::TxnRequest { compare, success, failure }))
        })
    })
}

prop_compose! {
    fn txn()(
        compare in prop::collection::vec(compare(), 0..3),
        success in prop::collection::vec(step(), 0..4),
        failure in prop::collection::vec(step(), 0..4),
    ) -> m::TxnRequest {
        m::TxnRequest { compare, success, failure }
    }
}

fn api() -> Arc<Api> {
    let store = Arc::new(Embedded::in_memory(&Options::default()).unwrap());
    Arc::new(Api { store, name: String::new(), url: String::new(), scratch: std::env::temp_dir() })
}

/// Puts a request to the API, and looks whether the store still writes.
async fn ask(request: m::TxnRequest) {
    let api = api();
    for key in ["/a", "/b"] {
        api.store.txn(tiphys_store::Txn::create(key, "1")).await.unwrap();
    }
    let before = api.store.revision().await.unwrap();
    let steps = [&request.success, &request.failure].map(Vec::len);
    match kv::txn(api.clone(), request).await {
        Ok(answer) => assert_eq!(answer.responses.len(), steps[usize::from(!answer.succeeded)]),
        Err(_) => {
            assert_eq!(api.store.revision().await.unwrap(), before, "a refused transaction did something")
        }
    }
    api.store.txn(tiphys_store::Txn::create("/after", "")).await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_transaction_is_done_or_refused(
        request in txn(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = request.encode_to_vec();
        prop_assert_eq!(&m::TxnRequest::decode(&bytes[..]).unwrap(), &request);
        for (at, byte) in damage {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        // Damage may make it another request, or none of these.
        let _ = (m::WatchRequest::decode(&bytes[..]), m::RangeResponse::decode(&bytes[..]));
        if let Ok(found) = m::TxnRequest::decode(&bytes[..]) {
            prop_assert_eq!(&m::TxnRequest::decode(&found.encode_to_vec()[..]).unwrap(), &found);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(ask(found));
        }
    }
}
