//! A load whose traces show whether anything acknowledged was lost or anything was half done.
//!
//! Each of some writers counts. Its `n`th transaction writes `n` into two keys, adds an entry to its log and drops
//! an old one: four keys, together or not at all.

use std::sync::Arc;

use crate::{Op, Range, Store, Txn};

/// How many write at once.
pub(super) const WRITERS: u64 = 8;
/// How many log entries each keeps.
const KEPT: u64 = 20;

/// What each writer was told is durable.
pub(super) type Acknowledged = [u64; WRITERS as usize];

fn transaction(writer: u64, n: u64) -> Txn {
    let number = n.to_string();
    let txn = Txn::new(Op::put(format!("/w/{writer}/a"), number.clone()))
        .and(Op::put(format!("/w/{writer}/b"), number))
        .and(Op::put(format!("/log/{writer}/{n:08}"), vec![b'x'; 700]));
    match n.checked_sub(KEPT) {
        Some(old) => txn.and(Op::delete(format!("/log/{writer}/{old:08}"))),
        None => txn,
    }
}

/// One writer: goes on from where it was until a write fails; calls `acknowledged` after each one.
pub(super) async fn write(store: Arc<dyn Store>, writer: u64, acknowledged: impl Fn(u64, u64)) {
    let mut n = counter(&*store, &format!("/w/{writer}/a")).await;
    loop {
        n += 1;
        match store.txn(transaction(writer, n)).await {
            Ok(_) => acknowledged(writer, n),
            Err(_) => return,
        }
    }
}

async fn counter(store: &dyn Store, key: &str) -> u64 {
    let found = store.get(key.into()).await.unwrap();
    found.map_or(0, |kv| String::from_utf8_lossy(&kv.value).parse().unwrap())
}

/// Whether everything acknowledged is there, and everything there is whole.
pub(super) async fn check(store: &dyn Store, acknowledged: &Acknowledged) {
    for (writer, acknowledged) in (0..).zip(acknowledged) {
        let (a, b) = tokio::join!(async { counter(store, &format!("/w/{writer}/a")).await }, async {
            counter(store, &format!("/w/{writer}/b")).await
        });
        assert!(a >= *acknowledged, "writer {writer}: {acknowledged} was acknowledged, {a} is there");
        assert_eq!(a, b, "writer {writer}: half a transaction");
        let log = store.range(Range::prefix(format!("/log/{writer}/"))).await.unwrap();
        let kept: Vec<_> = log.items.iter().map(|kv| kv.key.to_string()).collect();
        let first = if a >= KEPT { a - KEPT + 1 } else { 1 };
        let expected: Vec<_> = (first..=a).map(|n| format!("/log/{writer}/{n:08}")).collect();
        assert_eq!(kept, expected, "writer {writer}: its log");
    }
}
