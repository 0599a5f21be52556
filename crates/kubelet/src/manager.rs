//! All pods of the node: an actor for each, and the routes by which news reach them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use parking_lot::Mutex;
use tiphys_api::Object;
use tiphys_client::{Informer, typed};
use tiphys_runtime::{Event, EventStream, Filter};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::actor::{self, Found, Handle};
use crate::context::Context;
use crate::ops::News;
use crate::{container, pod, sandbox};

const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// The actors, by the uid of their pods.
pub(crate) struct Manager {
    ctx: Arc<Context>,
    actors: Mutex<HashMap<String, Handle>>,
    /// What the runtime had when this process began, until its actor takes it over.
    found: Mutex<HashMap<String, Found>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// An actor has ended.
    ended: Notify,
    /// What the API shows of pods from files, by the uids of these.
    pictures: Mutex<HashMap<String, Object>>,
    /// One of these is gone, is to go, or shows a pod that is not there.
    mirrors: Notify,
}

impl Manager {
    pub(crate) fn new(ctx: Arc<Context>, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            ctx,
            actors: Mutex::default(),
            found: Mutex::default(),
            tasks: TaskTracker::new(),
            stop,
            ended: Notify::new(),
            pictures: Mutex::default(),
            mirrors: Notify::new(),
        })
    }

    /// What all pods share.
    pub(crate) fn context(&self) -> Arc<Context> {
        self.ctx.clone()
    }

    /// Subscribes to the runtime's events, then reads what it has: nothing falls between the two.
    pub(crate) async fn read_runtime(&self) -> EventStream {
        let mut pause = RETRY_FIRST;
        loop {
            match self.try_read().await {
                Ok(events) => return events,
                Err(error) => tracing::warn!(%error, "the container runtime does not answer"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    async fn try_read(&self) -> tiphys_runtime::Result<EventStream> {
        let runtime = &self.ctx.runtime;
        let events = runtime.events().await?;
        let config = &self.ctx.config;
        let mut found: HashMap<String, (Vec<_>, Vec<_>)> = HashMap::new();
        let mut owners = HashMap::new();
        for sandbox in runtime.list_sandboxes(&Filter::default()).await? {
            if sandbox::is_own(&sandbox.annotations, &config.node_name, &config.root_dir) {
                owners.insert(sandbox.id.clone(), sandbox.uid.clone());
                found.entry(sandbox.uid.clone()).or_default().0.push(sandbox);
            }
        }
        for container in runtime.list_containers(&Filter::default()).await? {
            if let Some(uid) = owners.get(&container.sandbox) {
                found.entry(uid.clone()).or_default().1.push(container);
            }
        }
        for (uid, (sandboxes, containers)) in found {
            let details = actor::details(&self.ctx, sandboxes, containers).await?;
            self.found.lock().insert(uid, details);
        }
        Ok(events)
    }

    /// Keeps actors for all pods of the informer from now on.
    pub(crate) fn follow(self: &Arc<Self>, pods: &Informer) {
        let manager = self.clone();
        pods.on_change(Box::new(move |old, new| match (old, new) {
            (_, Some(object)) => manager.changed(object),
            (Some(object), None) => {
                manager.picture_gone(object);
                manager.removed(&object.meta().uid);
            }
            (None, None) => {}
        }));
    }

    fn changed(self: &Arc<Self>, object: &Object) {
        if let Some(uid) = mirrored(object) {
            return self.pictured(&uid, object);
        }
        if let Some(handle) = self.actors.lock().get(&object.meta().uid as &str) {
            handle.pod.send_replace(Some(object.clone()));
            return;
        }
        match typed::decode::<Pod>(object) {
            Ok(pod) => self.start(pod, Some(object.clone())),
            Err(error) => tracing::warn!(pod = object.meta().key(), %error, "cannot read a pod"),
        }
    }

    /// Takes in the API's picture of a pod from a file: it is the file's pod that has the actor.
    fn pictured(&self, uid: &str, object: &Object) {
        let ends =
            std::str::from_utf8(object.json()).is_ok_and(|text| text.contains("\"deletionTimestamp\""));
        self.pictures.lock().insert(uid.to_owned(), object.clone());
        let actors = self.actors.lock();
        match actors.get(uid) {
            Some(handle) => drop(handle.pod.send_replace(Some(object.clone()))),
            None => self.mirrors.notify_one(),
        }
        if ends {
            self.mirrors.notify_one();
        }
    }

    fn picture_gone(&self, object: &Object) {
        let Some(uid) = mirrored(object) else { return };
        let mut pictures = self.pictures.lock();
        // A newer one may have come already.
        if pictures.get(&uid).is_some_and(|known| known.meta().uid == object.meta().uid) {
            pictures.remove(&uid);
        }
        self.mirrors.notify_one();
    }

    /// What the API shows of pods from files, by the uids of these.
    pub(crate) fn pictures(&self) -> Vec<(String, Object)> {
        self.pictures.lock().iter().map(|(uid, object)| (uid.clone(), object.clone())).collect()
    }

    /// The pod is to end: its object, or its file, has gone.
    pub(crate) fn removed(&self, uid: &str) {
        if let Some(handle) = self.actors.lock().get(uid) {
            handle.gone.cancel();
        }
    }

    /// The newest version of a pod.
    pub(crate) fn pod(&self, uid: &str) -> Option<Pod> {
        let object = self.actors.lock().get(uid)?.pod.borrow().clone()?;
        typed::decode(&object).ok()
    }

    /// Pods, by uid, that have limits of their own for what they have on the disk.
    pub(crate) fn limited(&self) -> Vec<String> {
        let actors = self.actors.lock();
        actors.iter().filter(|(_, handle)| handle.limited).map(|(uid, _)| uid.clone()).collect()
    }

    /// Ends a pod for what it uses, with so many seconds of grace. Whether there is one that can be told so.
    pub(crate) fn evict(&self, uid: &str, message: String, grace: i64) -> bool {
        let tell = self.actors.lock().get(uid).map(|handle| handle.tell.clone());
        tell.is_some_and(|tell| tell.try_send(News::Evict(message, grace)).is_ok())
    }

    /// All pods, by uid, and how important they are.
    pub(crate) fn priorities(&self) -> Vec<(String, i32)> {
        let actors = self.actors.lock();
        actors.iter().map(|(uid, handle)| (uid.clone(), handle.priority)).collect()
    }

    /// Ends a pod because the machine goes down, within so many seconds; returns when it has ended.
    pub(crate) async fn shut_down(&self, uid: &str, grace: i64) {
        let handle = self.actors.lock().get(uid).map(|handle| (handle.tell.clone(), handle.ended.clone()));
        let Some((tell, ended)) = handle else { return };
        if tell.send(News::ShutDown(grace)).await.is_ok() {
            ended.cancelled().await;
        }
    }

    /// Starts the actor of a pod, with what the runtime had of it.
    pub(crate) fn start(self: &Arc<Self>, pod: Pod, object: Option<Object>) {
        let uid = pod::uid(&pod).to_owned();
        let found = self.found.lock().remove(&uid).unwrap_or_default();
        let mut actors = self.actors.lock();
        if actors.contains_key(&uid) {
            return;
        }
        // The picture of a pod from a file may have been there before it.
        let picture = || self.pictures.lock().get(&uid).filter(|_| pod::is_static(&pod)).cloned();
        let object = object.or_else(picture);
        let (handle, future) = actor::start(self.ctx.clone(), pod, object, found);
        let (manager, stop, ended) = (self.clone(), self.stop.clone(), handle.ended.clone());
        actors.insert(uid.clone(), handle);
        self.tasks.spawn(async move {
            if stop.run_until_cancelled(future).await.is_some() {
                ended.cancel();
                manager.actors.lock().remove(&uid);
                manager.ended.notify_waiters();
            }
        });
    }

    /// Waits until nothing is left of a pod.
    pub(crate) async fn until_ended(&self, uid: &str) {
        loop {
            let ended = self.ended.notified();
            if !self.has(uid) {
                return;
            }
            ended.await;
        }
    }

    /// Waits until the picture of a pod from a file has to be made anew.
    pub(crate) async fn mirror_gone(&self) {
        self.mirrors.notified().await;
    }

    /// Whether a pod has an actor.
    pub(crate) fn has(&self, uid: &str) -> bool {
        self.actors.lock().contains_key(uid)
    }

    /// Ends what the runtime has of pods that no longer exist, and removes their directories.
    pub(crate) async fn end_orphans(self: &Arc<Self>) {
        let orphans: Vec<(String, Pod)> = {
            let found = self.found.lock();
            found.iter().map(|(uid, found)| (uid.clone(), remembered(uid, found))).collect()
        };
        for (uid, pod) in orphans {
            tracing::info!(pod = pod::full_name(&pod), uid, "ending a pod that no longer exists");
            self.start(pod, None);
        }
        let Ok(mut dirs) = tokio::fs::read_dir(self.ctx.config.root_dir.join("pods")).await else { return };
        while let Ok(Some(dir)) = dirs.next_entry().await {
            let uid = dir.file_name().to_string_lossy().into_owned();
            if !self.has(&uid) {
                let remains = Pod { metadata: meta("", "", &uid), ..Pod::default() };
                self.start(remains, None);
            }
        }
    }

    /// Routes the runtime's events until the process ends, over broken connections too.
    pub(crate) async fn route(&self, mut events: EventStream) {
        loop {
            while let Some(Ok(event)) = events.next().await {
                self.dispatch(&event);
            }
            tracing::warn!("the runtime's events ended; subscribing again");
            events = self.subscribe_again().await;
            for handle in self.actors.lock().values() {
                handle.resync.notify_one();
            }
        }
    }

    async fn subscribe_again(&self) -> EventStream {
        let mut pause = RETRY_FIRST;
        loop {
            tokio::time::sleep(pause).await;
            // A subscription may be made lazily: that the runtime answers tells that it is back.
            let alive = self.ctx.runtime.version().await.is_ok();
            if let (true, Ok(events)) = (alive, self.ctx.runtime.events().await) {
                return events;
            }
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    fn dispatch(&self, event: &Event) {
        let owner = match event {
            Event::Deleted { id } => self.ctx.owners.lock().remove(id),
            other => self.ctx.owners.lock().get(other.id()).cloned(),
        };
        let actors = self.actors.lock();
        let Some(handle) = owner.and_then(|uid| actors.get(&uid)) else { return };
        // A full queue loses nothing: the actor reads the runtime anew instead.
        if handle.events.try_send(event.clone()).is_err() {
            handle.resync.notify_one();
        }
    }

    /// Waits until all actors have ended, after the stop.
    pub(crate) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The uid of the pod from a file that an object pictures, if it is a mirror pod.
fn mirrored(object: &Object) -> Option<String> {
    // Most pods are not; their bytes tell without a parse.
    let text = std::str::from_utf8(object.json()).ok()?;
    if !text.contains(pod::MIRROR) {
        return None;
    }
    let pod = typed::decode::<Pod>(object).ok()?;
    pod::annotation(&pod, pod::MIRROR).map(str::to_owned)
}

fn meta(
    name: &str,
    namespace: &str,
    uid: &str,
) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
    k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
        name: Some(name.into()),
        namespace: Some(namespace.into()),
        uid: Some(uid.into()),
        ..Default::default()
    }
}

/// As much of a pod as its containers remember, enough to end it well.
fn remembered(uid: &str, found: &Found) -> Pod {
    let labels = found.sandboxes.first().map(|s| &s.labels).or(found.containers.first().map(|c| &c.labels));
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).cloned().unwrap_or_default();
    let grace =
        found.containers.iter().filter_map(|c| c.annotations.get(container::GRACE)?.parse().ok()).max();
    let containers =
        found.containers.iter().map(|c| Container { name: c.name.clone(), ..Container::default() });
    Pod {
        metadata: meta(&label(sandbox::POD_NAME), &label(sandbox::POD_NAMESPACE), uid),
        spec: Some(PodSpec {
            containers: containers.collect(),
            termination_grace_period_seconds: grace,
            ..PodSpec::default()
        }),
        status: None,
    }
}
