//! Which Services select a pod: their selectors by namespace, so that a pod's change costs no parsing of Services.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use serde::Deserialize;
use tiphys_api::object::Labels;
use tiphys_api::{Meta, Object};
use tiphys_client::Informer;

type Selector = Vec<(Box<str>, Box<str>)>;
type ByName = HashMap<Box<str>, Selector>;

#[derive(Default)]
pub(super) struct Selectors {
    namespaces: RwLock<HashMap<Box<str>, ByName>>,
}

#[derive(Deserialize)]
struct RawService {
    #[serde(default)]
    spec: RawSpec,
}

#[derive(Default, Deserialize)]
struct RawSpec {
    selector: Option<HashMap<Box<str>, Box<str>>>,
}

impl Selectors {
    /// The selectors of the services in an informer, kept up to date.
    pub(super) fn new(services: &Informer) -> Arc<Self> {
        let selectors = Arc::new(Self::default());
        let weak = Arc::downgrade(&selectors);
        services.on_change(Box::new(move |old, new| {
            if let (Some(selectors), Some(object)) = (weak.upgrade(), new.or(old)) {
                selectors.change(object.meta(), new.and_then(selector));
            }
        }));
        selectors
    }

    fn change(&self, meta: &Meta, selector: Option<Selector>) {
        let mut namespaces = self.namespaces.write();
        let names = namespaces.entry(meta.namespace.clone()).or_default();
        match selector {
            Some(selector) => drop(names.insert(meta.name.clone(), selector)),
            None => drop(names.remove(&meta.name)),
        }
        if names.is_empty() {
            namespaces.remove(&meta.namespace);
        }
    }

    /// Names of the services that select these labels.
    pub(super) fn of(&self, namespace: &str, labels: &Labels) -> Vec<Box<str>> {
        let namespaces = self.namespaces.read();
        let Some(names) = namespaces.get(namespace) else { return Vec::new() };
        let matching = names.iter().filter(|(_, selector)| matches(selector, labels));
        matching.map(|(name, _)| name.clone()).collect()
    }
}

fn matches(selector: &Selector, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The selector of a service that has one.
fn selector(service: &Object) -> Option<Selector> {
    let raw: RawService = service.decode().ok()?;
    let selector: Selector = raw.spec.selector?.into_iter().collect();
    Some(selector).filter(|selector| !selector.is_empty())
}
