//! Who owns whom: identities and references only, no objects. Pure.
//!
//! An object is in the graph while it has owners, is named as an owner, or waits for its dependents; all others cost
//! nothing. An owner that was never seen stands as a node without dependents' knowledge of its life: whoever depends on
//! it is checked against the API before anything is deleted.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tiphys_api::Meta;

use crate::resources::Served;

pub(super) const ORPHAN: &str = "orphan";
pub(super) const FOREGROUND: &str = "foregroundDeletion";

/// An object's identity.
pub(super) type Uid = Arc<str>;

/// Where an object is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) resource: Arc<Served>,
    pub(super) namespace: Box<str>,
    pub(super) name: Box<str>,
}

/// Something to look into.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Work {
    /// Whether the object must go.
    Delete(Uid),
    /// The object goes and leaves its dependents behind.
    Orphan(Uid),
}

/// One object, as far as the graph knows it.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// `None` for an owner that was named but not seen.
    pub(super) place: Option<Place>,
    /// Uids of the owners, and whether the owner's foreground deletion waits for us.
    pub(super) owners: Vec<(Uid, bool)>,
    pub(super) dependents: HashSet<Uid>,
    pub(super) deleting: bool,
    /// Under deletion, and waiting for its dependents to go first.
    pub(super) foreground: bool,
    orphaning: bool,
}

#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<Uid, Node>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// Whether a change of this object can matter to the graph. Cheap: asked for every change in the cluster.
    pub(super) fn concerns(&self, meta: &Meta) -> bool {
        !meta.owners.is_empty() || waits(meta) || self.nodes.contains_key(&*meta.uid)
    }

    /// Takes an object in as it is now. `known` tells whether an owner exists for certain.
    pub(super) fn observe(
        &mut self,
        place: impl FnOnce() -> Place,
        meta: &Meta,
        known: impl Fn(usize) -> bool,
    ) -> Vec<Work> {
        let uid: Uid = Arc::from(&*meta.uid);
        let mut work = Vec::new();
        let node = self.nodes.entry(uid.clone()).or_default();
        if node.place.is_none() {
            node.place = Some(place());
        }
        let owners: Vec<(Uid, bool)> =
            meta.owners.iter().map(|o| (Arc::from(&*o.uid), o.block_owner_deletion)).collect();
        let before = std::mem::replace(&mut node.owners, owners.clone());
        let (deleting, foreground) = (meta.deleted.is_some(), has(meta, FOREGROUND));
        let orphaning = deleting && has(meta, ORPHAN);
        if orphaning && !std::mem::replace(&mut node.orphaning, true) {
            work.push(Work::Orphan(uid.clone()));
        }
        node.deleting = deleting;
        if deleting && foreground && !std::mem::replace(&mut node.foreground, true) {
            work.extend(node.dependents.iter().cloned().map(Work::Delete));
            work.push(Work::Delete(uid.clone()));
        }
        self.relink(&uid, &before, &owners, known, &mut work);
        self.tidy(&uid, meta);
        work
    }

    /// Brings the owners' lists of dependents in line with an object's references.
    fn relink(
        &mut self,
        uid: &Uid,
        before: &[(Uid, bool)],
        owners: &[(Uid, bool)],
        known: impl Fn(usize) -> bool,
        work: &mut Vec<Work>,
    ) {
        if before == owners {
            return;
        }
        for (owner, _) in before.iter().filter(|(owner, _)| !owners.iter().any(|(o, _)| o == owner)) {
            self.unlink(owner, uid, work);
        }
        for (at, (owner, blocks)) in owners.iter().enumerate() {
            let node = self.nodes.entry(owner.clone()).or_default();
            node.dependents.insert(uid.clone());
            if node.foreground {
                let waited = before.iter().any(|(o, blocked)| o == owner && *blocked);
                let freed = waited && !blocks;
                work.push(Work::Delete(if freed { owner.clone() } else { uid.clone() }));
            } else if node.place.is_none() && !known(at) {
                work.push(Work::Delete(uid.clone()));
            }
        }
        if !before.is_empty() {
            // What was lost may have been the last owner.
            work.push(Work::Delete(uid.clone()));
        }
    }

    fn unlink(&mut self, owner: &Uid, uid: &Uid, work: &mut Vec<Work>) {
        let Some(node) = self.nodes.get_mut(owner) else { return };
        node.dependents.remove(uid);
        if node.foreground {
            work.push(Work::Delete(owner.clone()));
        } else if node.dependents.is_empty() && node.owners.is_empty() && !node.orphaning {
            self.nodes.remove(owner);
        }
    }

    /// Drops a node that no longer says anything.
    fn tidy(&mut self, uid: &Uid, meta: &Meta) {
        let idle = |node: &Node| node.dependents.is_empty() && node.owners.is_empty();
        if !waits(meta) && self.nodes.get(uid).is_some_and(idle) {
            self.nodes.remove(uid);
        }
    }

    /// Takes an object out that is gone: its dependents may have to follow, its owners may have waited for it.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<Work> {
        let Some((uid, node)) = self.nodes.remove_entry(uid) else { return Vec::new() };
        let mut work: Vec<Work> = node.dependents.into_iter().map(Work::Delete).collect();
        for (owner, _) in node.owners {
            self.unlink(&owner, &uid, &mut work);
        }
        work
    }

    /// Dependents that an owner's foreground deletion waits for.
    pub(super) fn blockers(&self, uid: &str) -> Vec<Uid> {
        let Some(node) = self.nodes.get(uid) else { return Vec::new() };
        let blocks = |dependent: &&Uid| {
            let owners = self.nodes.get(*dependent).map(|node| &node.owners);
            owners.into_iter().flatten().any(|(owner, blocks)| **owner == *uid && *blocks)
        };
        node.dependents.iter().filter(blocks).cloned().collect()
    }

    /// Identities of the objects of a resource that are in the graph.
    pub(super) fn of_resource(&self, resource: &Served) -> Vec<Uid> {
        let ours = |node: &Node| node.place.as_ref().is_some_and(|place| place.resource.gvr == resource.gvr);
        self.nodes.iter().filter(|(_, node)| ours(node)).map(|(uid, _)| uid.clone()).collect()
    }
}

fn has(meta: &Meta, finalizer: &str) -> bool {
    meta.finalizers.iter().any(|f| **f == *finalizer)
}

/// Whether an object under deletion waits for the collector.
fn waits(meta: &Meta) -> bool {
    meta.deleted.is_some() && (has(meta, ORPHAN) || has(meta, FOREGROUND))
}
