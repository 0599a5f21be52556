//! Which volumes are free, which are reserved, and which claims wait: what a change asks for without a scan.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use tiphys_api::Object;

use crate::context::Key;
use crate::storage::OLD_CLASS;

/// Volumes and claims, by what is asked of them.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// What is known of each volume, by name.
    volumes: HashMap<Box<str>, Entry>,
    /// Names of volumes without a claim, by class.
    free: HashMap<Box<str>, HashSet<Box<str>>>,
    /// Names of volumes that refer to a claim.
    reserved: HashMap<Key, HashSet<Box<str>>>,
    /// Claims that nothing suits yet, by class.
    waiting: HashMap<Box<str>, HashSet<Key>>,
}

#[derive(Clone, Debug)]
struct Entry {
    class: Box<str>,
    claim: Option<Key>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct View {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    annotations: Option<HashMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    storage_class_name: Box<str>,
    claim_ref: Option<Claim>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Claim {
    namespace: Box<str>,
    name: Box<str>,
}

impl Index {
    /// Takes a volume's change in. Returns the claims that it may concern.
    pub(super) fn volume(&mut self, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        let Some(object) = new.or(old) else { return Vec::new() };
        let name = object.meta().name.clone();
        let before = self.volumes.remove(&name);
        if let Some(before) = &before {
            let names = match &before.claim {
                Some(claim) => self.reserved.get_mut(claim),
                None => self.free.get_mut(&before.class),
            };
            names.map(|names| names.remove(&name));
        }
        let mut claims: Vec<Key> = before.and_then(|before| before.claim).into_iter().collect();
        let Some(view) = new.and_then(|new| new.decode::<View>().ok()) else { return claims };
        let old_class = view.metadata.annotations.and_then(|mut all| all.remove(OLD_CLASS));
        let class = old_class.map_or(view.spec.storage_class_name, Into::into);
        let claim = view.spec.claim_ref.map(|claim| Key { namespace: claim.namespace, name: claim.name });
        match &claim {
            Some(claim) => {
                self.reserved.entry(claim.clone()).or_default().insert(name.clone());
                claims.push(claim.clone());
            }
            None => {
                self.free.entry(class.clone()).or_default().insert(name.clone());
                claims.extend(self.waiting_for(&class));
            }
        }
        self.volumes.insert(name, Entry { class, claim });
        claims.dedup();
        claims
    }

    /// Names of volumes of a class that no claim has.
    pub(super) fn free(&self, class: &str) -> Vec<Box<str>> {
        self.free.get(class).into_iter().flatten().cloned().collect()
    }

    /// Names of volumes that refer to a claim.
    pub(super) fn reserved(&self, claim: &Key) -> Vec<Box<str>> {
        let mut names: Vec<_> = self.reserved.get(claim).into_iter().flatten().cloned().collect();
        names.sort();
        names
    }

    /// Notes that a claim waits for a volume of a class, or that it does not any more.
    pub(super) fn wait(&mut self, claim: &Key, class: &str, waits: bool) {
        if waits {
            self.waiting.entry(class.into()).or_default().insert(claim.clone());
        } else if let Some(claims) = self.waiting.get_mut(class) {
            claims.remove(claim);
        }
    }

    /// The claim is gone.
    pub(super) fn forget(&mut self, claim: &Key) {
        for claims in self.waiting.values_mut() {
            claims.remove(claim);
        }
        if self.reserved.get(claim).is_some_and(HashSet::is_empty) {
            self.reserved.remove(claim);
        }
    }

    /// Claims that wait for a volume of a class.
    pub(super) fn waiting_for(&self, class: &str) -> Vec<Key> {
        self.waiting.get(class).into_iter().flatten().cloned().collect()
    }
}
