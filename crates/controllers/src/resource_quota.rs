//! ResourceQuotas: counts what a namespace holds, so that what is gone can be used again.
//!
//! - The API server charges a quota in the transaction that writes an object; this controller only counts anew: for a new
//!   quota, for a changed one, and after something was released.
//! - The count reads the quota first, then what is counted, both consistently, and writes with the quota's revision: a
//!   charge in between makes the write fail and the count begin again. So what is used is never told too low.
//! - Resources are followed while a quota names them. One object's share is kept by its version, so that counting ten
//!   thousand pods again costs a sum, not ten thousand parses.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceQuota;
use parking_lot::Mutex;
use tiphys_api::quota::{self, Quota, Usage};
use tiphys_api::{Gvr, Object, Status, Value, json};
use tiphys_client::typed::Kind;
use tiphys_client::{Client, Informer, ListOptions, Target, WorkQueue, WriteOptions};

use crate::context::{Context, Key, Outcome, ignore_not_found};

/// Releases come in masses: they are counted together.
const RELEASE_PAUSE: Duration = Duration::from_millis(50);
/// No more than one part in so many of the time is spent on counting.
const COUNTING_SHARE: u32 = 10;
/// When a resource that a quota names is not served (yet).
const NOT_SERVED_PAUSE: Duration = Duration::from_secs(30);

/// Shares of objects by uid, with the version they were read from.
type Known = HashMap<Box<str>, (u64, Arc<Usage>)>;

struct Controller {
    context: Arc<Context>,
    client: Arc<dyn Client>,
    quotas: Arc<Informer>,
    queue: Arc<WorkQueue<Key>>,
    followed: Mutex<HashSet<Gvr>>,
    /// By namespace and resource.
    known: Mutex<HashMap<(Box<str>, Gvr), Known>>,
    /// Microseconds of the last count.
    cost: AtomicU64,
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let quotas = context.informer(&ResourceQuota::GVR);
    let queue = WorkQueue::named("resourcequota_primary");
    let controller = Arc::new(Controller {
        context: context.clone(),
        client: context.client("resourcequota-controller"),
        quotas: quotas.clone(),
        queue: queue.clone(),
        followed: Mutex::default(),
        known: Mutex::default(),
        cost: AtomicU64::new(0),
    });
    let to = queue.clone();
    quotas.on_change(Box::new(move |old, new| {
        if let Some(quota) = new.filter(|new| needs_count(old, new)) {
            to.add(Key::of(quota));
        }
    }));
    let reconcile = move |key: Key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    };
    context.resources.ready().await;
    context.work(queue, context.config.workers, &[&quotas], reconcile).await;
}

/// Charges, which change only what is used, are no reason to count.
fn needs_count(old: Option<&Object>, new: &Object) -> bool {
    let Ok(now) = new.value() else { return false };
    let before = old.and_then(|old| old.value().ok());
    before.is_none_or(|before| before["spec"] != now["spec"]) || now["status"]["hard"] != now["spec"]["hard"]
}

impl Controller {
    async fn reconcile(self: &Arc<Self>, key: &Key) -> Outcome {
        let begun = Instant::now();
        let target = Target::new(&ResourceQuota::GVR, &key.namespace, &key.name);
        // A list, for this is what the controller's role allows; and one that is not from a cache.
        let named = ListOptions { fields: format!("metadata.name={}", key.name), ..ListOptions::default() };
        let found = self.client.list(&ResourceQuota::GVR, &key.namespace, &named).await?.items;
        let Some(object) = found.into_iter().next() else {
            self.known.lock().retain(|(namespace, _), _| *namespace != key.namespace);
            return Ok(None);
        };
        let mut value = object.value().map_err(Status::internal)?;
        let read = Quota::read(&value);
        let resources: BTreeSet<(&str, &str)> =
            read.hard.0.keys().map(|name| quota::resource_of(name)).collect();
        let (mut usages, mut missing) = (Vec::new(), false);
        for (group, resource) in resources {
            match self.served(group, resource) {
                Some(gvr) => {
                    self.follow(&gvr);
                    usages.extend(self.usages(&gvr, &key.namespace).await?);
                }
                None => missing = true,
            }
        }
        let status = read.counted(usages.iter().map(AsRef::as_ref));
        self.cost.store(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if value["status"] != status {
            value["status"] = status;
            self.write(target, &value).await?;
        }
        Ok(missing.then_some(NOT_SERVED_PAUSE))
    }

    fn served(&self, group: &str, resource: &str) -> Option<Gvr> {
        let found = self.context.resources.now();
        let named = |gvr: &Gvr| gvr.group == group && gvr.resource == resource;
        let served = found.served.iter().find(|served| served.namespaced && named(&served.gvr))?;
        Some(served.gvr.clone())
    }

    /// What the objects of a resource in a namespace take, as they are now.
    async fn usages(&self, gvr: &Gvr, namespace: &str) -> Result<Vec<Arc<Usage>>, Status> {
        let objects = self.client.list(gvr, namespace, &ListOptions::default()).await?.items;
        if !quota::is_measured(&gvr.group, &gvr.resource) {
            let each = Arc::new(quota::usage(&gvr.group, &gvr.resource, &Value::Null, Timestamp::now()));
            return Ok(vec![each; objects.len()]);
        }
        let place = (Box::from(namespace), gvr.clone());
        let known = self.known.lock().remove(&place).unwrap_or_default();
        let mut now = Known::with_capacity(objects.len());
        for object in &objects {
            let usage = share(&known, gvr, object)?;
            now.insert(object.meta().uid.clone(), (object.meta().resource_version, usage));
        }
        let usages = now.values().map(|(_, usage)| usage.clone()).collect();
        self.known.lock().insert(place, now);
        Ok(usages)
    }

    async fn write(&self, target: Target, value: &Value) -> Result<(), Status> {
        let body = value.to_string().into();
        let written = self.client.update(&target.sub("status"), body, &WriteOptions::default()).await;
        ignore_not_found(written.map(drop))
    }

    /// From now on, what is released of a resource makes its namespace's quotas be counted.
    fn follow(self: &Arc<Self>, gvr: &Gvr) {
        if !self.followed.lock().insert(gvr.clone()) {
            return;
        }
        let (weak, of) = (Arc::downgrade(self), gvr.clone());
        let informer = self.context.informer(gvr);
        informer.on_change(Box::new(move |old, new| released(&weak, &of, old, new)));
    }
}

/// One object's share, read anew if the object has changed.
fn share(known: &Known, gvr: &Gvr, object: &Object) -> Result<Arc<Usage>, Status> {
    let (uid, version) = (&object.meta().uid, object.meta().resource_version);
    if let Some((_, usage)) = known.get(uid).filter(|(at, _)| *at == version) {
        return Ok(usage.clone());
    }
    let value = object.value().map_err(Status::internal)?;
    Ok(Arc::new(quota::usage(&gvr.group, &gvr.resource, &value, Timestamp::now())))
}

/// Looks whether a change gives something back.
fn released(controller: &Weak<Controller>, gvr: &Gvr, old: Option<&Object>, new: Option<&Object>) {
    let (Some(controller), Some(old)) = (controller.upgrade(), old) else { return };
    let quotas = controller.quotas.list(&old.meta().namespace);
    if quotas.is_empty()
        || new.is_some_and(|new| !quota::is_measured(&gvr.group, &gvr.resource) || same(gvr, old, new))
    {
        return;
    }
    let cost = Duration::from_micros(controller.cost.load(Ordering::Relaxed));
    let pause = RELEASE_PAUSE.max(cost * COUNTING_SHARE);
    quotas.iter().for_each(|quota| controller.queue.add_after(Key::of(quota), pause));
}

/// Whether two versions take the same.
fn same(gvr: &Gvr, old: &Object, new: &Object) -> bool {
    let now = Timestamp::now();
    let usage = |object: &Object| {
        let value = object.value().unwrap_or_else(|_| json!({}));
        quota::usage(&gvr.group, &gvr.resource, &value, now)
    };
    usage(old) == usage(new)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use tiphys_client::fake::FakeClient;

    use super::*;
    use crate::testing::{Cluster, serve_discovery, typed};

    fn used(client: &FakeClient) -> Value {
        let quota = client.find::<ResourceQuota>("n", "q").unwrap();
        Value::of(quota.status.unwrap_or_default().used).unwrap()
    }

    fn pod(name: &str, cpu: &str) -> Value {
        let container = json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
        json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"containers": [container]}})
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_there_is_counted_and_what_goes_is_released() {
        let client = FakeClient::new();
        serve_discovery(&client);
        client.put_value(&Pod::GVR, &pod("a", "500m"));
        client.put_value(&Pod::GVR, &pod("b", "1"));
        client.put_value(&ConfigMap::GVR, &json!({"metadata": {"name": "m", "namespace": "n"}}));
        let hard = json!({"pods": "10", "requests.cpu": "4", "count/configmaps": "3"});
        let quota = json!({"metadata": {"name": "q", "namespace": "n"}, "spec": {"hard": hard}});
        client.put(&typed::<ResourceQuota>(quota));
        let cluster = Cluster::start(client.clone());
        cluster.settle().await;
        assert_eq!(used(&client), json!({"pods": "2", "requests.cpu": "1500m", "count/configmaps": "1"}));
        let status = client.find::<ResourceQuota>("n", "q").unwrap().status.unwrap();
        assert_eq!(Value::of(status.hard).unwrap(), hard);
        // A pod that has ended, and a map that is gone.
        let mut ended = pod("b", "1");
        ended["status"] = json!({"phase": "Failed"});
        client.put_value(&Pod::GVR, &ended);
        client.remove(&ConfigMap::GVR, "n", "m");
        cluster.settle().await;
        assert_eq!(used(&client), json!({"pods": "1", "requests.cpu": "500m", "count/configmaps": "0"}));
        let writes = client.writes();
        cluster.settle().await;
        assert_eq!(client.writes(), writes);
    }
}
