//! Namespaces under deletion: empties them of everything that discovery finds, then lets them go.
//!
//! - Pods go first and the rest waits for their end: what a pod may need in order to stop (its Secrets, its
//!   NetworkPolicies) stays for as long.
//! - Every pass lists from the API server, not from a cache: "empty" must be true. Passes are caused by deletions in the
//!   namespace, which the informers tell, and by a timer only where no informer follows the resource.
//! - The conditions name what remains.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::iter;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};
use parking_lot::Mutex;
use tiphys_api::{Gvr, Object, Status};
use tiphys_client::typed::{Kind, decode, encode};
use tiphys_client::{Api, Client, DeleteOptions, Informer, ListOptions, Target, WorkQueue, WriteOptions};

use crate::context::{Context, Key, Outcome, ignore_not_found};
use crate::resources::{Found, Resources, Served};
use plan::Remains;

/// Deletions under way at once.
const PARALLEL: usize = 32;
/// The last word when nothing told that something went.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// Deletions come in crowds; one pass for many.
const GATHER: Duration = Duration::from_millis(50);
const PODS: Gvr = Gvr::new("", "v1", "pods");

struct Controller {
    client: Arc<dyn Client>,
    namespaces: Arc<Informer>,
    resources: Resources,
    /// Names of namespaces that wait for their content to go.
    waiting: Arc<Mutex<HashSet<Box<str>>>>,
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let namespaces = context.informer(&Namespace::GVR);
    let queue = WorkQueue::named("namespace");
    let to = queue.clone();
    namespaces.on_change(Box::new(move |_, new| {
        if let Some(namespace) = new.filter(|namespace| namespace.meta().deleted.is_some()) {
            to.add(Key::of(namespace));
        }
    }));
    let waiting: Arc<Mutex<HashSet<Box<str>>>> = Arc::default();
    let listening = listen(context.clone(), queue.clone(), waiting.clone());
    let controller = Arc::new(Controller {
        client: context.client("namespace-controller"),
        namespaces: namespaces.clone(),
        resources: context.resources.clone(),
        waiting,
    });
    let reconcile = move |key: Key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key.name).await }
    };
    let informers = [&namespaces];
    let working = context.work(queue, context.config.workers, &informers, reconcile);
    tokio::select! { () = listening => {}, () = working => {} }
}

/// Wakes a waiting namespace when something in it is gone. The informers are those that the garbage collector keeps.
async fn listen(context: Arc<Context>, queue: Arc<WorkQueue<Key>>, waiting: Arc<Mutex<HashSet<Box<str>>>>) {
    let mut resources = context.resources.clone();
    let mut heard: HashSet<Gvr> = HashSet::new();
    let mut found = resources.now();
    loop {
        let served: HashSet<Gvr> =
            found.served.iter().filter(|s| s.collectable && s.namespaced).map(|s| s.gvr.clone()).collect();
        for gvr in served.difference(&heard).filter(|gvr| gvr.resource != "events") {
            let (queue, waiting) = (queue.clone(), waiting.clone());
            context.informers.of(gvr).on_change(Box::new(move |old, new| {
                let Some(gone) = old.filter(|_| new.is_none()) else { return };
                if waiting.lock().contains(&gone.meta().namespace) {
                    queue.add_after(Key::new("", &gone.meta().namespace), GATHER);
                }
            }));
        }
        heard = served;
        found = resources.changed().await;
    }
}

impl Controller {
    async fn reconcile(&self, name: &str) -> Outcome {
        let Some(object) = self.namespaces.get("", name) else {
            self.waiting.lock().remove(name);
            return Ok(None);
        };
        let namespace: Namespace = decode(&object).map_err(Status::internal)?;
        if object.meta().deleted.is_none() || !holds(&namespace) {
            return Ok(None);
        }
        self.resources.ready().await;
        // From here on, deletions are heard.
        self.waiting.lock().insert(name.into());
        let remains = self.empty(name).await;
        if !remains.is_empty() {
            self.report(namespace, &remains).await?;
            return Ok(Some(LOOK_AGAIN));
        }
        self.waiting.lock().remove(name);
        self.report(namespace, &remains).await?;
        self.finalize(name).await?;
        Ok(None)
    }

    /// Deletes what is in the namespace; returns what remains.
    async fn empty(&self, namespace: &str) -> Remains {
        let found = self.resources.now();
        let mut remains = Remains { undiscovered: undiscovered(&found), ..Remains::default() };
        let in_namespaces = |s: &&Arc<Served>| s.namespaced && s.deletable;
        let (pods, others): (Vec<_>, Vec<_>) =
            found.served.iter().filter(in_namespaces).partition(|served| served.gvr == PODS);
        for served in pods {
            self.empty_of(served, namespace, &mut remains).await;
        }
        if remains.objects.is_empty() {
            for served in others {
                self.empty_of(served, namespace, &mut remains).await;
            }
        }
        remains
    }

    async fn empty_of(&self, served: &Served, namespace: &str, remains: &mut Remains) {
        let list = match self.client.list(&served.gvr, namespace, &ListOptions::default()).await {
            Ok(list) => list,
            Err(status) if status.code == 404 || status.code == 405 => return,
            Err(status) => return remains.failures.push(status.message),
        };
        let mut deletions =
            iter(list.items).map(|object| self.delete(&served.gvr, object)).buffer_unordered(PARALLEL);
        while let Some(outcome) = deletions.next().await {
            match outcome {
                Ok(None) => {}
                Ok(Some(left)) => {
                    let resource = format!("{}.{}", served.gvr.resource, served.gvr.group);
                    *remains.objects.entry(resource).or_default() += 1;
                    for finalizer in &left.meta().finalizers {
                        *remains.finalizers.entry(finalizer.to_string()).or_default() += 1;
                    }
                }
                Err(status) => remains.failures.push(status.message),
            }
        }
    }

    /// Asks for an object's deletion unless that was done; returns it if it lives on.
    async fn delete(&self, gvr: &Gvr, object: Object) -> Result<Option<Object>, Status> {
        let meta = object.meta();
        if meta.deleted.is_some() {
            return Ok(Some(object));
        }
        let options = DeleteOptions { propagation: Some("Background"), ..DeleteOptions::of(meta) };
        let target = Target::new(gvr, &meta.namespace, &meta.name);
        ignore_not_found(self.client.delete(&target, &options).await)
    }

    async fn report(&self, mut namespace: Namespace, remains: &Remains) -> Result<(), Status> {
        let old = namespace.status.clone().unwrap_or_default();
        let before = old.conditions.clone().unwrap_or_default();
        // A namespace that emptied at once never had anything to tell.
        if before.is_empty() && remains.is_empty() {
            return Ok(());
        }
        let conditions = plan::conditions(remains, &before, Timestamp::now());
        let status = NamespaceStatus { phase: Some("Terminating".into()), conditions: Some(conditions) };
        if status == old {
            return Ok(());
        }
        namespace.status = Some(status);
        namespace.metadata.resource_version = None;
        let api = Api::<Namespace>::new(self.client.clone(), "");
        ignore_not_found(api.update_status(&namespace).await.map(drop))
    }

    /// Takes our finalizer off, which ends the namespace.
    async fn finalize(&self, name: &str) -> Result<(), Status> {
        let target = Target::new(&Namespace::GVR, "", name);
        let Some(live) = ignore_not_found(self.client.get(&target).await.map(Some))? else { return Ok(()) };
        let mut namespace: Namespace = decode(&live).map_err(Status::internal)?;
        let finalizers = namespace.spec.get_or_insert_default().finalizers.get_or_insert_default();
        finalizers.retain(|finalizer| finalizer != "kubernetes");
        let body = encode(&namespace).map_err(Status::internal)?;
        let ended = self.client.update(&target.sub("finalize"), body, &WriteOptions::default()).await;
        ignore_not_found(ended.map(drop))
    }
}

fn undiscovered(found: &Found) -> Vec<String> {
    found.failed.iter().map(|(group_version, why)| format!("{group_version}: {why}")).collect()
}

/// Whether we still hold the namespace.
fn holds(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
    finalizers.into_iter().flatten().any(|finalizer| finalizer == "kubernetes")
}
