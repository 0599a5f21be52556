//! A state at one revision, as a stream of keys.

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use crate::{Error, KeyValue, Lease, Revision, StateHash, Store};
use crate::{Range, Span};

/// Keys read at a time by [`Snapshot::by_pages`].
const PAGE: usize = 1000;

/// What the store held at one revision. Reading it slowly holds up nobody; it ends with [`Error::Compacted`] on an engine
/// that could not keep that revision for so long.
pub struct Snapshot {
    /// The revision of the state.
    pub revision: Revision,
    /// The leases there are; without their keys, which name their leases themselves.
    pub leases: Vec<Lease>,
    /// All keys, in order, some at a time.
    pub items: BoxStream<'static, Result<Vec<KeyValue>, Error>>,
}

impl Snapshot {
    /// Reads `store` in pages at one revision (0 = the present one): for an engine that can do no better.
    pub async fn by_pages(
        store: impl Store + Clone,
        revision: Revision,
        leases: Vec<Lease>,
    ) -> Result<Self, Error> {
        let first = store.range(Range::from(Span::prefix("")).at(revision).limit(PAGE)).await?;
        let revision = first.revision;
        let rest = futures::stream::try_unfold(Some(first), move |page| {
            let store = store.clone();
            async move {
                let Some(page) = page else { return Ok(None) };
                let following = match page.items.last() {
                    Some(last) if page.remaining > 0 => {
                        let range = Range::from(Span::prefix("").after(&last.key)).at(revision).limit(PAGE);
                        Some(store.range(range).await?)
                    }
                    _ => None,
                };
                Ok(Some((page.items, following)))
            }
        });
        Ok(Self { revision, leases, items: rest.boxed() })
    }

    /// Reads it to the end and makes a hash of it.
    pub async fn hash(mut self) -> Result<StateHash, Error> {
        let (mut hasher, mut keys) = (crc32fast::Hasher::new(), 0);
        while let Some(items) = self.items.try_next().await? {
            keys += items.len() as u64;
            items.iter().for_each(|kv| take(&mut hasher, kv));
        }
        Ok(StateHash { revision: self.revision, keys, hash: hasher.finalize() })
    }
}

/// The lengths are part of it, so that a byte cannot move from a key to its value unnoticed.
fn take(hasher: &mut crc32fast::Hasher, kv: &KeyValue) {
    let lengths = [kv.key.as_bytes().len() as u64, kv.value.len() as u64];
    for number in lengths.into_iter().chain([kv.create_revision, kv.mod_revision, kv.version, kv.lease]) {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(kv.key.as_bytes());
    hasher.update(&kv.value);
}
