//! What there is to ask for: Kubernetes' own kinds, as far as they are served, and custom resources as they come and go.
//!
//! - A look-up of a built-in kind touches only the table; custom ones are one more pointer.
//! - Whoever keeps something made of all kinds (discovery, OpenAPI) compares [`Kinds::generation`].

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tiphys_api::schema::{Resource, builtin};
use tiphys_api::{Gvk, Gvr, discovery};
use tokio::sync::watch;

use crate::served::Served;

/// All kinds of a server.
#[derive(Default)]
pub struct Kinds {
    served: Served,
    custom: ArcSwap<Custom>,
    changes: watch::Sender<()>,
}

/// Custom resources.
#[derive(Default)]
struct Custom {
    generation: u64,
    /// In discovery's order: by group, version and name.
    list: Vec<Arc<Resource>>,
    by_gvr: HashMap<Gvr, Arc<Resource>>,
}

impl Kinds {
    /// The built-in kinds that a configuration turns on, and no custom resource yet.
    pub fn new(served: Served) -> Self {
        Self { served, ..Self::default() }
    }

    /// A kind that requests from outside may name.
    pub fn served(&self, gvr: &Gvr) -> Option<Arc<Resource>> {
        match builtin().get(gvr) {
            Some(own) => self.served.has(gvr).then(|| own.clone()),
            None => self.custom(gvr),
        }
    }

    /// Any kind: components of this process may use what is not served outside.
    pub fn any(&self, gvr: &Gvr) -> Option<Arc<Resource>> {
        builtin().get(gvr).cloned().or_else(|| self.custom(gvr))
    }

    fn custom(&self, gvr: &Gvr) -> Option<Arc<Resource>> {
        self.custom.load().by_gvr.get(gvr).cloned()
    }

    /// The resources that serve the same objects as this one, itself included: its other versions, mostly.
    pub fn versions_of(&self, resource: &Arc<Resource>) -> Vec<Arc<Resource>> {
        let gvr = &resource.gvr;
        let catalog = builtin();
        if catalog.get(gvr).is_some() {
            let stored = catalog.storage(gvr);
            let same = |other: &&Arc<Resource>| Arc::ptr_eq(catalog.storage(&other.gvr), stored);
            return catalog.iter().filter(same).cloned().collect();
        }
        let custom = self.custom.load();
        let same =
            |other: &&Arc<Resource>| other.gvr.group == gvr.group && other.gvr.resource == gvr.resource;
        custom.list.iter().filter(same).cloned().collect()
    }

    /// The resource whose objects are of a kind.
    pub fn of_kind(&self, gvk: &Gvk) -> Option<Arc<Resource>> {
        let custom = || self.custom.load().list.iter().find(|resource| resource.gvk == *gvk).cloned();
        builtin().by_kind(gvk).cloned().or_else(custom)
    }

    /// All that is served, in discovery's order: Kubernetes' own first.
    pub fn all(&self) -> Vec<Arc<Resource>> {
        self.served.resources().cloned().chain(self.custom.load().list.iter().cloned()).collect()
    }

    /// Group and version of all that is served, in discovery's order.
    pub fn group_versions(&self) -> Vec<(String, String)> {
        discovery::group_versions(&self.all())
    }

    /// Tells when other kinds are served.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Changes with what is served.
    pub fn generation(&self) -> u64 {
        self.custom.load().generation
    }

    /// Puts others in the place of the present custom resources.
    pub fn set_custom(&self, mut list: Vec<Arc<Resource>>) {
        list.sort_by(|a, b| a.gvr.cmp(&b.gvr));
        let present = self.custom.load();
        // Most are the very same: their schemas are not compared.
        let same = |(a, b): (&Arc<Resource>, &Arc<Resource>)| Arc::ptr_eq(a, b) || a == b;
        if present.list.len() == list.len() && present.list.iter().zip(&list).all(same) {
            return;
        }
        let by_gvr = list.iter().map(|resource| (resource.gvr.clone(), resource.clone())).collect();
        self.custom.store(Arc::new(Custom { generation: present.generation + 1, list, by_gvr }));
        self.changes.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn custom_resources_come_after_kubernetes_own() {
        let kinds = Kinds::default();
        let definition = tiphys_api::json!({"spec": {
            "group": "example.com", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        }});
        let widgets = || tiphys_api::structural::versions(&definition, &|_| None).remove(0).resource;
        let gvr = Gvr::new("example.com", "v1", "widgets");
        assert!(kinds.served(&gvr).is_none());
        kinds.set_custom(vec![widgets()]);
        assert!(kinds.served(&gvr).is_some() && kinds.all().last().is_some_and(|last| last.gvr == gvr));
        kinds.set_custom(vec![widgets()]);
        assert_eq!(kinds.generation(), 1, "nothing changed");
        assert!(kinds.served(&Gvr::new("resource.k8s.io", "v1beta1", "resourceclaims")).is_none());
        assert!(kinds.any(&Gvr::new("resource.k8s.io", "v1beta1", "resourceclaims")).is_some());
    }
}
