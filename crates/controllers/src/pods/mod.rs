//! The facts about pods that controllers decide on, decoded once per change and shared by all of them.
//!
//! A pod's bytes are parsed when they change, not when somebody looks: a ReplicaSet of 5,000 reads 5,000 small structs.
//! The index is the first handler of the pod informer, so a controller's handler finds it already up to date.

mod facts;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use k8s_openapi::api::core::v1::Pod;
use parking_lot::RwLock;
use tiphys_api::Object;
use tiphys_client::typed::Kind;
use tiphys_client::{Informer, Informers};

pub(crate) use facts::{Condition, Facts, Phase, Port};

type ByName = HashMap<Box<str>, Arc<Facts>>;

/// All pods' facts.
pub(crate) struct Pods {
    informer: Arc<Informer>,
    index: RwLock<Index>,
    revision: AtomicU64,
}

#[derive(Default)]
struct Index {
    namespaces: HashMap<Box<str>, ByName>,
    /// By the controlling owner's uid; pods without one by namespace under `orphans`.
    controlled: HashMap<Box<str>, ByName>,
    orphans: HashMap<Box<str>, ByName>,
    /// By node; unbound pods are under the empty name.
    nodes: HashMap<Box<str>, ByName>,
}

impl Pods {
    pub(crate) fn new(informers: &Informers) -> Arc<Self> {
        let informer = informers.of(&Pod::GVR);
        let pods = Arc::new(Self { informer, index: RwLock::default(), revision: AtomicU64::new(0) });
        let weak = Arc::downgrade(&pods);
        pods.informer.on_change(Box::new(move |old, new| {
            if let Some(pods) = weak.upgrade() {
                pods.change(old, new);
            }
        }));
        pods
    }

    fn change(&self, old: Option<&Object>, new: Option<&Object>) {
        // Parsed outside of the lock.
        let facts = new.and_then(|object| Facts::of(object).map(Arc::new));
        let mut index = self.index.write();
        if let Some(old) = old {
            index.remove(old);
        }
        if let Some(facts) = facts {
            index.insert(&facts);
        }
        drop(index);
        let seen = new.or(old).map_or(0, |object| object.meta().resource_version);
        self.revision.fetch_max(seen, Ordering::Release);
    }

    /// The informer behind the facts.
    pub(crate) fn informer(&self) -> &Arc<Informer> {
        &self.informer
    }

    /// The facts hold all changes of pods up to here.
    pub(crate) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire).max(self.informer.told_revision())
    }

    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<Facts>> {
        self.index.read().namespaces.get(namespace)?.get(name).cloned()
    }

    /// All pods of a namespace.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Vec<Arc<Facts>> {
        values(&self.index.read().namespaces, namespace)
    }

    /// The pods that a controller of this uid owns.
    pub(crate) fn controlled_by(&self, uid: &str) -> Vec<Arc<Facts>> {
        values(&self.index.read().controlled, uid)
    }

    /// The pods of a namespace that no controller owns.
    pub(crate) fn orphans(&self, namespace: &str) -> Vec<Arc<Facts>> {
        values(&self.index.read().orphans, namespace)
    }

    /// The pods bound to a node; those bound to none for an empty name.
    pub(crate) fn on_node(&self, node: &str) -> Vec<Arc<Facts>> {
        values(&self.index.read().nodes, node)
    }

    /// All pods.
    pub(crate) fn all(&self) -> Vec<Arc<Facts>> {
        self.index.read().namespaces.values().flat_map(HashMap::values).cloned().collect()
    }
}

fn values(map: &HashMap<Box<str>, ByName>, key: &str) -> Vec<Arc<Facts>> {
    map.get(key).map(|names| names.values().cloned().collect()).unwrap_or_default()
}

impl Index {
    fn insert(&mut self, facts: &Arc<Facts>) {
        let meta = facts.meta();
        let key = format!("{}/{}", meta.namespace, meta.name).into_boxed_str();
        let put = |map: &mut HashMap<Box<str>, ByName>, under: &str, name: Box<str>| {
            map.entry(under.into()).or_default().insert(name, facts.clone());
        };
        put(&mut self.namespaces, &meta.namespace, meta.name.clone());
        put(&mut self.nodes, &facts.node, key);
        match meta.controller() {
            Some(owner) => put(&mut self.controlled, &owner.uid, meta.name.clone()),
            None => put(&mut self.orphans, &meta.namespace, meta.name.clone()),
        }
    }

    /// Takes out what the index holds for this object, whatever version of it.
    fn remove(&mut self, object: &Object) {
        let meta = object.meta();
        let Some(facts) = take(&mut self.namespaces, &meta.namespace, &meta.name) else { return };
        let meta = facts.meta();
        take(&mut self.nodes, &facts.node, &format!("{}/{}", meta.namespace, meta.name));
        match meta.controller() {
            Some(owner) => take(&mut self.controlled, &owner.uid, &meta.name),
            None => take(&mut self.orphans, &meta.namespace, &meta.name),
        };
    }
}

fn take(map: &mut HashMap<Box<str>, ByName>, under: &str, name: &str) -> Option<Arc<Facts>> {
    let names = map.get_mut(under)?;
    let taken = names.remove(name);
    if names.is_empty() {
        map.remove(under);
    }
    taken
}
