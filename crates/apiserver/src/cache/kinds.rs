//! Caches of custom resources: they come, change and go while the server runs.
//!
//! - A new one hears of changes before it reads the store, and keeps them until it has: it misses nothing.
//! - A changed one is filled in the same way, behind its predecessor, which tells it what it hears; the feed stands still
//!   while they change places. So nobody reads what is behind.
//! - Watchers of a cache that is gone end, and begin again with what is there then, as with kube-apiserver.

use std::sync::Arc;

use tiphys_api::Gvr;
use tiphys_api::schema::Resource;
use tiphys_store::{Error, Range};

use super::feed::PAGE;
use super::{Cache, Caches, Index, keys};

impl Caches {
    /// Serves a custom resource that is stored in this version, from now on. `true` if something had to be done.
    pub async fn put(&self, storage: &Arc<Resource>) -> Result<bool, Error> {
        match self.of(&storage.gvr) {
            Some(present) if Arc::ptr_eq(&present.resource, storage) => Ok(false),
            Some(present) if is_same(&present.resource, storage) => Ok(false),
            Some(present) => self.replace(&present, storage).await.map(|()| true),
            None => self.add(storage).await.map(|()| true),
        }
    }

    /// Serves it no longer. What is stored stays.
    pub fn remove(&self, gvr: &Gvr) {
        let Some(cache) = self.of(gvr) else { return };
        self.index.rcu(|index| index.without(&cache));
        cache.close();
    }

    /// The custom resources that have caches, each in the version it is stored in.
    pub fn custom(&self) -> Vec<Gvr> {
        let index = self.index.load();
        let custom = index.by_segment.values().filter(|cache| cache.resource.custom.is_some());
        custom.map(|cache| cache.resource.gvr.clone()).collect()
    }

    async fn add(&self, storage: &Arc<Resource>) -> Result<(), Error> {
        let cache = Arc::new(Cache::filling(storage.clone(), self.options.ring_bytes_max));
        // From here on it hears of changes; it is found once it is full.
        self.index.rcu(|index| index.hearing(&cache));
        if let Err(error) = self.fill_one(&cache).await {
            // What is never filled would keep what it hears for ever.
            self.index.rcu(|index| index.without(&cache));
            return Err(error);
        }
        self.index.rcu(|index| index.finding(&cache));
        Ok(())
    }

    async fn replace(&self, old: &Arc<Cache>, storage: &Arc<Resource>) -> Result<(), Error> {
        let next = Arc::new(Cache::filling(storage.clone(), self.options.ring_bytes_max));
        old.hand_on(&next);
        if let Err(error) = self.fill_one(&next).await {
            old.stay();
            return Err(error);
        }
        let source = self.source.load();
        // While this is held the feed takes nothing over.
        let still = source.as_ref().map(|source| source.hold());
        self.index.rcu(|index| index.without(old).hearing(&next).finding(&next));
        drop(still);
        old.close();
        Ok(())
    }

    /// Reads what the store has.
    async fn fill_one(&self, cache: &Cache) -> Result<(), Error> {
        let at = self.store.revision().await?;
        let mut found = Vec::new();
        let mut range = Range::prefix(cache.prefix.as_bytes()).at(at).limit(PAGE);
        loop {
            let page = self.store.range(range.clone()).await?;
            let Some(last) = page.items.last().map(|kv| kv.key.clone()) else { break };
            for kv in &page.items {
                match cache.object(&kv.value, kv.mod_revision) {
                    Ok(object) => found.push(object),
                    Err(error) => tracing::error!(%error, key = %kv.key, "skipped a value that is no object"),
                }
            }
            if page.remaining == 0 {
                break;
            }
            range = range.after(&last);
        }
        cache.fill(found, at);
        Ok(())
    }
}

/// Whether what is read from the store is the same under both.
fn is_same(a: &Resource, b: &Resource) -> bool {
    a.gvr == b.gvr && a.custom == b.custom && a.namespaced == b.namespaced && a.field_paths == b.field_paths
}

impl Index {
    fn hearing(&self, cache: &Arc<Cache>) -> Self {
        let mut next = self.clone();
        let segment = keys::segment(&cache.resource.gvr, true);
        next.by_segment.insert(segment.into(), cache.clone());
        next
    }

    fn finding(&self, cache: &Arc<Cache>) -> Self {
        let mut next = self.clone();
        let gvr = &cache.resource.gvr;
        let same_name = next.by_resource.entry(gvr.resource.as_ref().into()).or_default();
        same_name.push((gvr.group.as_ref().into(), cache.clone()));
        next
    }

    fn without(&self, cache: &Arc<Cache>) -> Self {
        let mut next = self.clone();
        next.by_segment.retain(|_, other| !Arc::ptr_eq(other, cache));
        for same_name in next.by_resource.values_mut() {
            same_name.retain(|(_, other)| !Arc::ptr_eq(other, cache));
        }
        next
    }
}
