//! Shared informers: one event-driven cache per resource, kept by list and watch.
//!
//! - The first use of a resource starts it; all users of one [`Informers`] share it. In process, it holds the API
//!   server's own reference-counted objects: a cached object costs a map entry, not a copy.
//! - Handlers are synchronous and cheap: they enqueue keys. They see every change in order, one at a time; what was
//!   missed while a watch was broken is made up by comparing with the next list, so deletions are never lost.
//! - An object that was deleted and created again under its name is told as a deletion and a creation.
//! - Nothing is told twice and nothing is told without a change: there is no periodic resync.

mod cache;
mod reflector;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tiphys_api::selector::LabelSelector;
use tiphys_api::{Gvr, Object};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::Client;
use cache::Cache;

/// Sees every change of a resource: `(None, new)` is a creation, `(old, None)` a deletion.
pub type Handler = Box<dyn Fn(Option<&Object>, Option<&Object>) + Send + Sync>;

/// What an informer follows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    pub(crate) gvr: Gvr,
    /// Empty for all.
    pub(crate) namespace: String,
    /// Field selector; empty for all.
    pub(crate) fields: String,
}

/// The shared informers of one identity. Dropping it (and every informer taken from it) ends them.
pub struct Informers {
    client: Arc<dyn Client>,
    started: Mutex<HashMap<Scope, Arc<Informer>>>,
}

/// A live copy of one resource's objects.
pub struct Informer {
    shared: Arc<Shared>,
    synced: watch::Receiver<bool>,
    _task: AbortOnDropHandle<()>,
}

/// What the informer and its task have in common.
struct Shared {
    cache: RwLock<Cache>,
    /// Locked while a change is applied and told, so that a new handler misses nothing and sees nothing twice.
    handlers: Mutex<Vec<Handler>>,
    cached: AtomicU64,
    told: AtomicU64,
}

impl Informers {
    /// Informers that see the cluster through this client.
    pub fn new(client: Arc<dyn Client>) -> Arc<Self> {
        Arc::new(Self { client, started: Mutex::default() })
    }

    /// The informer of all objects of a resource; started by its first use. Needs a tokio runtime.
    pub fn of(&self, gvr: &Gvr) -> Arc<Informer> {
        self.scoped(gvr, "", "")
    }

    /// The informer of a resource's objects in a namespace (empty: all) that match a field selector (empty: all), as
    /// `spec.nodeName=worker-1`.
    pub fn scoped(&self, gvr: &Gvr, namespace: &str, fields: &str) -> Arc<Informer> {
        let scope = Scope { gvr: gvr.clone(), namespace: namespace.into(), fields: fields.into() };
        let mut started = self.started.lock();
        let start = || Arc::new(Informer::start(self.client.clone(), scope.clone()));
        started.entry(scope.clone()).or_insert_with(start).clone()
    }

    /// Stops sharing the informers of a resource that is no longer served. They end with their last user.
    pub fn forget(&self, gvr: &Gvr) {
        self.started.lock().retain(|scope, _| scope.gvr != *gvr);
    }

    /// The client the informers use.
    pub fn client(&self) -> &Arc<dyn Client> {
        &self.client
    }
}

impl Informer {
    fn start(client: Arc<dyn Client>, scope: Scope) -> Self {
        let shared = Arc::new(Shared {
            cache: RwLock::default(),
            handlers: Mutex::default(),
            cached: AtomicU64::new(0),
            told: AtomicU64::new(0),
        });

        let (tell, synced) = watch::channel(false);
        let task = tokio::spawn(reflector::run(client, scope, shared.clone(), tell));
        Self { shared, synced, _task: AbortOnDropHandle::new(task) }
    }

    /// Waits until the first list is in the cache and was told to the handlers.
    pub async fn synced(&self) {
        // The sender lives as long as the task, which `self` keeps alive.
        let _ = self.synced.clone().wait_for(|synced| *synced).await;
    }

    /// Whether the first list is in the cache.
    pub fn has_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// All changes up to this revision are in the cache. A handler already finds its own change's.
    pub fn revision(&self) -> u64 {
        self.shared.cached.load(Ordering::Acquire)
    }

    /// All changes up to this revision were told to all handlers.
    pub fn told_revision(&self) -> u64 {
        self.shared.told.load(Ordering::Acquire)
    }

    /// One object. The namespace is empty for cluster-scoped resources.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Object> {
        self.shared.cache.read().get(namespace, name).cloned()
    }

    /// The objects of a namespace, or all when it is empty, in no particular order.
    pub fn list(&self, namespace: &str) -> Vec<Object> {
        self.filter(namespace, |_| true)
    }

    /// The objects of a namespace (empty: all) that a predicate on them picks.
    pub fn filter(&self, namespace: &str, pick: impl Fn(&Object) -> bool) -> Vec<Object> {
        let cache = self.shared.cache.read();
        cache.iter(namespace).filter(|object| pick(object)).cloned().collect()
    }

    /// The objects of a namespace (empty: all) that a label selector matches.
    pub fn select(&self, namespace: &str, selector: &LabelSelector) -> Vec<Object> {
        self.filter(namespace, |object| selector.matches(&object.meta().labels))
    }

    /// The objects with an owner of this uid. The index is built by the first call and kept from then on.
    pub fn by_owner(&self, uid: &str) -> Vec<Object> {
        let cache = self.shared.cache.read();
        if let Some(owned) = cache.owned(uid) {
            return owned.collect();
        }
        drop(cache);
        let mut cache = self.shared.cache.write();
        cache.index_owners();
        cache.owned(uid).map(Iterator::collect).unwrap_or_default()
    }

    /// How many objects are in the cache.
    pub fn len(&self) -> usize {
        self.shared.cache.read().len()
    }

    /// Whether the cache holds no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a handler. It first sees all present objects as `(None, Some)`, before this returns, then every change.
    /// A handler may read the informer but must not add handlers to it.
    pub fn on_change(&self, handler: Handler) {
        let mut handlers = self.shared.handlers.lock();
        for object in self.list("") {
            handler(None, Some(&object));
        }
        handlers.push(handler);
    }
}

impl Shared {
    /// All up to this revision was taken in and told.
    fn reached(&self, revision: u64) {
        self.cached.fetch_max(revision, Ordering::Release);
        self.told.fetch_max(revision, Ordering::Release);
    }

    /// Takes a created or changed object in, unless it is already there.
    fn upsert(&self, new: &Object) {
        let handlers = self.handlers.lock();
        let old = self.cache.write().insert(new);
        self.cached.fetch_max(new.meta().resource_version, Ordering::Release);
        tell(&handlers, old.as_ref(), Some(new));
    }

    /// Takes an object out. Handlers see its last version, as the event brought it.
    fn remove(&self, last: &Object) {
        let handlers = self.handlers.lock();
        let removed = self.cache.write().remove(last);
        self.cached.fetch_max(last.meta().resource_version, Ordering::Release);
        if removed.is_some() {
            tell(&handlers, Some(last), None);
        }
    }

    /// Makes the cache hold exactly these objects.
    fn replace(&self, objects: Vec<Object>) {
        let handlers = self.handlers.lock();
        let changes = self.cache.write().replace(objects);
        for (old, new) in changes {
            tell(&handlers, old.as_ref(), new.as_ref());
        }
    }
}

fn tell(handlers: &[Handler], old: Option<&Object>, new: Option<&Object>) {
    match (old, new) {
        (Some(old), Some(new)) if old.meta().uid != new.meta().uid => {
            tell(handlers, Some(old), None);
            tell(handlers, None, Some(new));
        }
        (Some(old), Some(new)) if old.meta().resource_version == new.meta().resource_version => {}
        _ => handlers.iter().for_each(|handler| handler(old, new)),
    }
}
