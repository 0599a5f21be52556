//! Services with their EndpointSlices: which of them changed, and what one of them is now.
//!
//! Whoever makes something of Services (packet rules, names) makes it anew for those that changed and no other. Slices know
//! their Service by a label only, so an index from Services to slices is kept here, from the informers' own changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tiphys_api::{Gvr, Object};
use tokio::sync::Notify;

use crate::{Informer, Informers};

const SERVICES: Gvr = Gvr::new("", "v1", "services");
const SLICES: Gvr = Gvr::new("discovery.k8s.io", "v1", "endpointslices");
/// Label that says which Service a slice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// `namespace/name` of a Service.
pub type ServiceKey = Box<str>;

/// Services and slices, followed.
pub struct Services {
    services: Arc<Informer>,
    slices: Arc<Informer>,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    marked: Mutex<BTreeSet<ServiceKey>>,
    /// Names of the slices of a Service.
    slices: Mutex<BTreeMap<ServiceKey, BTreeSet<Box<str>>>>,
    changed: Notify,
}

impl Services {
    /// Starts to follow. Each Service is marked at first.
    pub fn follow(informers: &Informers) -> Self {
        let (services, slices) = (informers.of(&SERVICES), informers.of(&SLICES));
        let seen = Arc::new(Seen::default());
        let (of_services, of_slices) = (seen.clone(), seen.clone());
        services.on_change(Box::new(move |old, new| {
            let changed = new.or(old).map(|service| key(service, &service.meta().name));
            of_services.mark(changed);
        }));
        slices.on_change(Box::new(move |old, new| of_slices.slice(old, new)));
        Self { services, slices, seen }
    }

    /// Waits until all is known.
    pub async fn synced(&self) {
        self.services.synced().await;
        self.slices.synced().await;
    }

    /// Waits until a Service is marked. One waiter at a time.
    pub async fn changed(&self) {
        self.seen.changed.notified().await;
    }

    /// The Services marked since this was last asked, gone ones too.
    pub fn take(&self) -> BTreeSet<ServiceKey> {
        std::mem::take(&mut *self.seen.marked.lock())
    }

    /// Marks every Service.
    pub fn mark_all(&self) {
        self.seen.mark(self.services.list("").iter().map(|service| key(service, &service.meta().name)));
    }

    /// A Service as it is now.
    pub fn get(&self, key: &str) -> Option<Object> {
        let (namespace, name) = key.split_once('/')?;
        self.services.get(namespace, name)
    }

    /// The slices of a Service, in order of their names.
    pub fn slices(&self, key: &str) -> Vec<Object> {
        let namespace = key.split_once('/').map_or("", |(namespace, _)| namespace);
        let names = self.seen.slices.lock().get(key).cloned().unwrap_or_default();
        names.iter().filter_map(|name| self.slices.get(namespace, name)).collect()
    }
}

impl Seen {
    fn mark(&self, keys: impl IntoIterator<Item = ServiceKey>) {
        self.marked.lock().extend(keys);
        self.changed.notify_one();
    }

    fn slice(&self, old: Option<&Object>, new: Option<&Object>) {
        let (before, after) = (old.and_then(service_of), new.and_then(service_of));
        let Some(name) = new.or(old).map(|slice| slice.meta().name.clone()) else { return };
        let mut slices = self.slices.lock();
        if let Some(service) = before.as_ref().filter(|service| after.as_ref() != Some(service))
            && let Some(names) = slices.get_mut(service)
        {
            names.remove(&name);
            if names.is_empty() {
                slices.remove(service);
            }
        }
        if let Some(service) = &after {
            slices.entry(service.clone()).or_default().insert(name);
        }
        drop(slices);
        self.mark(before.into_iter().chain(after));
    }
}

fn service_of(slice: &Object) -> Option<ServiceKey> {
    Some(key(slice, slice.meta().labels.get(SERVICE_NAME)?))
}

fn key(object: &Object, name: &str) -> ServiceKey {
    format!("{}/{name}", object.meta().namespace).into()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::discovery::v1::EndpointSlice;

    use super::*;
    use crate::fake::FakeClient;

    fn slice(name: &str, service: &str) -> EndpointSlice {
        let value = tiphys_api::json!({"addressType": "IPv4", "endpoints": [], "metadata":
            {"namespace": "n", "name": name, "labels": {"kubernetes.io/service-name": service}}});
        value.to().unwrap()
    }

    async fn wait(services: &Services, keys: &[&str]) {
        let mut marked = BTreeSet::new();
        while !keys.iter().all(|key| marked.contains(*key)) {
            services.changed().await;
            marked.extend(services.take());
        }
    }

    fn names(services: &Services, key: &str) -> Vec<String> {
        services.slices(key).iter().map(|slice| slice.meta().name.to_string()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_slice_marks_the_services_it_left_and_joined() {
        let client = FakeClient::new();
        let services = Services::follow(&Informers::new(Arc::new(client.clone())));
        services.synced().await;
        client.put(&slice("x", "a"));
        wait(&services, &["n/a"]).await;
        assert_eq!(names(&services, "n/a"), ["x"]);
        client.put(&slice("x", "b"));
        wait(&services, &["n/a", "n/b"]).await;
        assert_eq!((names(&services, "n/a"), names(&services, "n/b")), (vec![], vec!["x".to_owned()]));
    }
}
