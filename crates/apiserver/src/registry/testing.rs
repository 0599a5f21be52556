//! A registry over a store in memory, for tests.

use std::sync::Arc;

use async_trait::async_trait;
use tiphys_store::{Embedded, Store, embedded};
use tokio_util::sync::CancellationToken;

use super::{Config, Registry};
use crate::auth::{Attributes, Authorizer, Decision};
use crate::cache::{Caches, Options};

/// What a test needs. Dropping it ends the feed.
pub(crate) struct Fixture {
    pub registry: Arc<Registry>,
    pub _stop: tokio_util::sync::DropGuard,
}

/// A registry without admission.
pub(crate) async fn fixture() -> Fixture {
    fixture_over(Arc::new(Embedded::in_memory(&embedded::Options::default()).unwrap()), Options::default())
        .await
}

/// The same over a given store.
pub(crate) async fn fixture_over(store: Arc<dyn Store>, options: Options) -> Fixture {
    let stop = CancellationToken::new();
    let caches = Caches::builtin_with(store, options, stop.clone()).await.unwrap();
    let registry = Registry::new(Config { caches, admission: Vec::new(), computed: Vec::new() });
    Fixture { registry, _stop: stop.drop_guard() }
}

/// Allows everything.
pub(crate) struct AllowAll;

#[async_trait]
impl Authorizer for AllowAll {
    async fn authorize(&self, _attributes: &Attributes<'_>) -> Decision {
        Decision::Allow
    }
}
