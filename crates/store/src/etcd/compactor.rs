//! Forgets etcd's past as Kubernetes does: every five minutes, what was the present five minutes before.
//!
//! API servers that share an etcd, Tiphys' and kube-apiserver's alike, agree on who does it through the version of one
//! key: whoever moves it on compacts, the others see that it has moved and wait for the next time.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Inner;
use super::members::Kind;
use super::messages::TxnResponse;
use super::{COMPACT, TXN, convert, messages, script};
use crate::{Condition, Done, Error, Is, Operand, Put, Range, Revision, Script, Step};

/// The key, under kube-apiserver's name.
const KEY: &str = "compact_rev_key";

/// Runs until the store is gone.
pub(super) async fn run(inner: Weak<Inner>, interval: Duration) {
    let (mut turn, mut revision) = (0, 0);
    loop {
        let Some(store) = inner.upgrade() else { return };
        match once(&store, turn, revision).await {
            Ok(next) => (turn, revision) = next,
            Err(error) => {
                tracing::warn!(%error, "etcd's past could not be compacted; it grows until that succeeds")
            }
        }
        drop(store);
        // The interval is what compaction means: how long the past is kept.
        tokio::time::sleep(interval).await;
    }
}

/// Takes turn number `turn`, if nobody has, and compacts to `revision` (0 = it is the first time here). Tells the next
/// turn, and the present revision.
async fn once(inner: &Arc<Inner>, turn: u64, revision: Revision) -> Result<(u64, Revision), Error> {
    let moved = Script {
        conditions: vec![Condition::key(KEY, Is::Equal, Operand::Version(turn))],
        then: vec![Step::Put(Put::new(KEY, revision.to_string()))],
        otherwise: vec![Step::Range(Range::key(KEY).keys_only())],
    };
    let answer: TxnResponse = inner.members.call(TXN, script::request(&moved), Kind::Write).await?;
    let done = script::result(&moved, answer, None);
    if !done.held {
        let taken = done.steps.into_iter().find_map(|step| match step {
            Done::Range(found) => found.items.first().map(|kv| kv.version),
            _ => None,
        });
        return Ok((taken.unwrap_or_default(), done.revision));
    }
    if revision != 0 {
        let request = messages::CompactionRequest { revision: convert::signed(revision), physical: false };
        let _: messages::CompactionResponse = inner.members.call(COMPACT, request, Kind::Read).await?;
    }
    Ok((turn + 1, done.revision))
}
