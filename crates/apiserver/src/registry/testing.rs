//! A registry over a store in memory, for tests.

use std::sync::Arc;

use async_trait::async_trait;
use tiphys_store::{Embedded, Store, embedded};
use tokio_util::sync::CancellationToken;

use super::{Config, Registry};
use crate::admission::Plugin;
use crate::auth::{Attributes, Authorizer, Decision, Lister};
use crate::cache::{Caches, Options};
use crate::hook::Hooks;

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
    admitting(store, options, |_| Vec::new()).await
}

/// A registry with the plugins that are made for its caches.
pub(crate) async fn fixture_with(plugins: impl FnOnce(Arc<dyn Lister>) -> Vec<Arc<dyn Plugin>>) -> Fixture {
    let store = Arc::new(Embedded::in_memory(&embedded::Options::default()).unwrap());
    admitting(store, Options::default(), plugins).await
}

async fn admitting(
    store: Arc<dyn Store>,
    options: Options,
    plugins: impl FnOnce(Arc<dyn Lister>) -> Vec<Arc<dyn Plugin>>,
) -> Fixture {
    let stop = CancellationToken::new();
    let caches = Caches::builtin_with(store, options, stop.clone()).await.unwrap();
    let admission = plugins(caches.clone());
    let registry = Registry::new(Config {
        hooks: Arc::new(Hooks::new(caches.clone())),
        caches,
        kinds: Arc::default(),
        admission,
        computed: Vec::new(),
    });
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
