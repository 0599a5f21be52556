//! An informer's objects by namespace and name, and on demand by owner. Plain data, no locks, no I/O.

use std::collections::HashMap;

use tiphys_api::Object;

type ByName = HashMap<Box<str>, Object>;

/// A change of the cache: old and new version.
pub(super) type Change = (Option<Object>, Option<Object>);

#[derive(Debug, Default)]
pub(super) struct Cache {
    namespaces: HashMap<Box<str>, ByName>,
    count: usize,
    /// By owner's uid, then the object's own uid. `None` until somebody asks by owner.
    owners: Option<HashMap<Box<str>, ByName>>,
}

impl Cache {
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<&Object> {
        self.namespaces.get(namespace)?.get(name)
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The objects of a namespace, or all when it is empty (where cluster-scoped objects are, too).
    pub(super) fn iter(&self, namespace: &str) -> impl Iterator<Item = &Object> {
        let one = self.namespaces.get(namespace).filter(|_| !namespace.is_empty());
        let all = namespace.is_empty().then(|| self.namespaces.values());
        one.into_iter().chain(all.into_iter().flatten()).flat_map(HashMap::values)
    }

    /// Returns the version that was there.
    pub(super) fn insert(&mut self, object: &Object) -> Option<Object> {
        let meta = object.meta();
        let old = match self.namespaces.get_mut(&meta.namespace) {
            Some(names) => names.insert(meta.name.clone(), object.clone()),
            None => {
                let names = HashMap::from([(meta.name.clone(), object.clone())]);
                self.namespaces.insert(meta.namespace.clone(), names);
                None
            }
        };
        match &old {
            Some(old) => self.unindex(old),
            None => self.count += 1,
        }
        self.index(object);
        old
    }

    /// Removes the object of this namespace and name, and returns it.
    pub(super) fn remove(&mut self, object: &Object) -> Option<Object> {
        let meta = object.meta();
        let names = self.namespaces.get_mut(&meta.namespace)?;
        let old = names.remove(&meta.name)?;
        if names.is_empty() {
            self.namespaces.remove(&meta.namespace);
        }
        self.count -= 1;
        self.unindex(&old);
        Some(old)
    }

    /// Holds exactly these objects from now on; returns what changed, deletions first.
    pub(super) fn replace(&mut self, objects: Vec<Object>) -> Vec<Change> {
        let owners = self.owners.is_some();
        let mut before = std::mem::take(self);
        if owners {
            self.owners = Some(HashMap::new());
        }
        let mut kept = Vec::with_capacity(objects.len());
        for object in objects {
            kept.push((before.remove(&object), Some(object.clone())));
            self.insert(&object);
        }
        let gone = before.iter("").map(|old| (Some(old.clone()), None));
        gone.chain(kept).collect()
    }

    /// The objects of an owner; `None` when there is no index yet.
    pub(super) fn owned(&self, uid: &str) -> Option<impl Iterator<Item = Object> + '_> {
        let owners = self.owners.as_ref()?;
        Some(owners.get(uid).into_iter().flat_map(HashMap::values).cloned())
    }

    /// Builds the index by owner, unless there is one.
    pub(super) fn index_owners(&mut self) {
        if self.owners.is_some() {
            return;
        }
        self.owners = Some(HashMap::new());
        let all: Vec<Object> = self.iter("").cloned().collect();
        all.iter().for_each(|object| self.index(object));
    }

    fn index(&mut self, object: &Object) {
        let Some(owners) = &mut self.owners else { return };
        for owner in &object.meta().owners {
            owners.entry(owner.uid.clone()).or_default().insert(object.meta().uid.clone(), object.clone());
        }
    }

    fn unindex(&mut self, object: &Object) {
        let Some(owners) = &mut self.owners else { return };
        for owner in &object.meta().owners {
            let Some(owned) = owners.get_mut(&owner.uid) else { continue };
            owned.remove(&object.meta().uid);
            if owned.is_empty() {
                owners.remove(&owner.uid);
            }
        }
    }
}
