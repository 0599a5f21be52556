//! What all controllers share: informers, the pods' facts, clients by identity, and the way they run.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tiphys_api::{Gvr, Meta, Object, Status};
use tiphys_client::{Client, Informer, Informers, Recorder, WorkQueue, run_workers};
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::pod_control::namespace_terminating;
use crate::pods::Pods;
use crate::resources::Resources;

/// Name of an object in its resource: what queues hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Empty for cluster-scoped objects.
    pub namespace: Box<str>,
    /// The object's name.
    pub name: Box<str>,
}

impl Key {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    pub(crate) fn of(object: &Object) -> Self {
        Self::from(object.meta())
    }
}

impl From<&Meta> for Key {
    fn from(meta: &Meta) -> Self {
        Self { namespace: meta.namespace.clone(), name: meta.name.clone() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_ref() {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

/// What a reconciliation ends with: perhaps a time to look again, or the refusal that stopped it.
pub(crate) type Outcome = Result<Option<Duration>, Status>;

/// The controllers' common ground.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) informers: Arc<Informers>,
    pub(crate) pods: Arc<Pods>,
    pub(crate) resources: Resources,
    pub(crate) stop: CancellationToken,
}

impl Context {
    pub(crate) fn new(config: Config, client: Arc<dyn Client>, stop: CancellationToken) -> Arc<Self> {
        let informers = Informers::new(client);
        let pods = Pods::new(&informers);
        let resources = Resources::start(&informers, stop.clone());
        Arc::new(Self { config, informers, pods, resources, stop })
    }

    /// The client of one controller, with its own identity where the configuration gives it one.
    pub(crate) fn client(&self, controller: &str) -> Arc<dyn Client> {
        match &self.config.identities {
            Some(identities) => identities(controller),
            None => self.informers.client().clone(),
        }
    }

    pub(crate) fn recorder(&self, client: &Arc<dyn Client>, component: &str) -> Recorder {
        Recorder::new(client.clone(), component, "")
    }

    pub(crate) fn informer(&self, gvr: &Gvr) -> Arc<Informer> {
        self.informers.of(gvr)
    }

    /// Works on a queue until the controllers stop, once the informers it reads are complete.
    pub(crate) async fn work<K, F, Fut>(
        &self,
        queue: Arc<WorkQueue<K>>,
        workers: usize,
        informers: &[&Arc<Informer>],
        reconcile: F,
    ) where
        K: tiphys_client::Key,
        F: Fn(K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        let reconcile = move |key| {
            let work = reconcile(key);
            // A namespace on its way out takes nothing in: what was to be made there is settled.
            async move {
                work.await
                    .or_else(|status| if namespace_terminating(&status) { Ok(None) } else { Err(status) })
            }
        };
        let work = async {
            for informer in informers {
                informer.synced().await;
            }
            run_workers(queue.clone(), workers, reconcile).await;
        };
        tokio::select! { () = work => {}, () = self.stop.cancelled() => queue.shut_down() }
    }
}

/// Enqueues the key of every object that changes.
pub(crate) fn enqueue_all(informer: &Informer, queue: &Arc<WorkQueue<Key>>) {
    let queue = queue.clone();
    informer.on_change(Box::new(move |old, new| {
        if let Some(object) = new.or(old) {
            queue.add(Key::of(object));
        }
    }));
}

/// Enqueues the controlling owner, of the given kind, of every object that changes.
pub(crate) fn enqueue_owners(informer: &Informer, kind: &'static str, queue: &Arc<WorkQueue<Key>>) {
    let queue = queue.clone();
    informer.on_change(Box::new(move |old, new| {
        for object in [old, new].into_iter().flatten() {
            if let Some(owner) = object.meta().controller().filter(|owner| *owner.kind == *kind) {
                queue.add(Key::new(&object.meta().namespace, &owner.name));
            }
        }
    }));
}

/// The time from now until a moment; zero when it has passed.
pub(crate) fn until(moment: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(moment.duration_since(now)).unwrap_or_default()
}

/// `NotFound` is a success of what wanted the object gone.
pub(crate) fn ignore_not_found<T: Default>(result: Result<T, Status>) -> Result<T, Status> {
    match result {
        Err(status) if status.is("NotFound") => Ok(T::default()),
        other => other,
    }
}
