//! A cluster state for tests: the objects, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use parking_lot::RwLock;
use tiphys_api::{Gvr, Object, Value, json};
use tokio::sync::Notify;

use super::Lister;

/// Objects by resource. With `versioned`, it numbers its changes as the real cache does.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) objects: RwLock<Vec<(Gvr, Object)>>,
    pub(crate) changes: AtomicU64,
    pub(crate) notify: Arc<Notify>,
    pub(crate) versioned: bool,
}

impl Fake {
    /// Adds or replaces an object.
    pub(crate) fn put(&self, gvr: &Gvr, value: &Value) -> Object {
        let object = Object::from_value(value).unwrap();
        self.delete(gvr, &object.meta().namespace, &object.meta().name);
        self.objects.write().push((gvr.clone(), object.clone()));
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.notify.notify_waiters();
        object
    }

    /// Adds an object of which only metadata matter.
    pub(crate) fn put_named(&self, gvr: &Gvr, namespace: &str, name: &str, uid: &str) -> Object {
        self.put(gvr, &json!({"metadata": {"namespace": namespace, "name": name, "uid": uid}}))
    }

    /// Removes an object.
    pub(crate) fn delete(&self, gvr: &Gvr, namespace: &str, name: &str) {
        self.objects.write().retain(|(g, o)| {
            g != gvr || o.meta().namespace.as_ref() != namespace || o.meta().name.as_ref() != name
        });
        self.changes.fetch_add(1, Ordering::Relaxed);
    }
}

impl Lister for Fake {
    fn get(&self, gvr: &Gvr, namespace: &str, name: &str) -> Option<Object> {
        let objects = self.objects.read();
        let found = objects.iter().find(|(g, o)| {
            g == gvr && o.meta().namespace.as_ref() == namespace && o.meta().name.as_ref() == name
        });
        found.map(|(_, object)| object.clone())
    }

    fn list(&self, gvr: &Gvr, namespace: &str) -> Vec<Object> {
        let objects = self.objects.read();
        let inside = |object: &Object| namespace.is_empty() || object.meta().namespace.as_ref() == namespace;
        objects.iter().filter(|(g, o)| g == gvr && inside(o)).map(|(_, o)| o.clone()).collect()
    }

    fn version(&self, _gvr: &Gvr) -> Option<u64> {
        self.versioned.then(|| self.changes.load(Ordering::Relaxed))
    }
    fn next_change(&self) -> BoxFuture<'static, ()> {
        let notified = self.notify.clone().notified_owned();
        Box::pin(notified)
    }
}
