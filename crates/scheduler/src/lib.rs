//! The scheduler: binds each waiting pod to the node that suits it best.
//!
//! - The picture of the cluster ([`cache`]) and the queue of waiting pods ([`queue`]) follow the API's events; nothing is
//!   listed or polled. The decision ([`decide`]) is a pure function over them, made of [`plugins`].
//! - One pod is decided at a time; its binding goes on beside the next decision, which counts it in already. What is
//!   under way ends with the scheduler: one that has lost its Lease binds nothing any more.
//! - Bindings go through `pods/binding`, as the real scheduler's do, so either can stand in for the other.

pub mod cache;
pub mod decide;
pub mod node;
pub mod plugins;
pub mod pod;
pub mod queue;
mod state;
pub mod volumes;

use std::sync::Arc;

use tiphys_api::{Gvr, Status, json};
use tiphys_client::{Api, Client, Informers, PatchKind, Recorder, Target, WriteOptions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::core::v1::ObjectReference;
use node::Facts;
use pod::Pod;
use state::{Attempt, State};
use volumes::{Needs, Volumes};

/// Bindings on their way at once.
const BINDINGS_MAX: usize = 64;
const PODS: Gvr = Gvr::new("", "v1", "pods");
const NODES: Gvr = Gvr::new("", "v1", "nodes");

/// What the scheduler is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pods that name this scheduler are its own.
    pub scheduler_name: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { scheduler_name: "default-scheduler".into() }
    }
}

/// Runs until `stop` is cancelled.
pub async fn run(config: Config, client: Arc<dyn Client>, stop: CancellationToken) {
    let informers = Informers::new(client.clone());
    let state = Arc::new(State::new(config.scheduler_name.clone()));
    let (pods, nodes) = (informers.of(&PODS), informers.of(&NODES));
    let of_nodes = state.clone();
    nodes.on_change(Box::new(move |old, new| of_nodes.node_changed(old, new)));
    nodes.synced().await;
    let of_pods = state.clone();
    pods.on_change(Box::new(move |old, new| of_pods.pod_changed(old, new)));
    pods.synced().await;
    let of_volumes = state.clone();
    let volumes = Volumes::new(&informers, move || of_volumes.cluster_changed());
    volumes.synced().await;
    let shell = Arc::new(Shell {
        recorder: Recorder::new(client.clone(), &config.scheduler_name, ""),
        client,
        state,
        volumes,
        bindings: Arc::new(Semaphore::new(BINDINGS_MAX)),
    });
    tokio::select! {
        () = shell.clone().work() => {}
        () = stop.cancelled() => {}
    }
}

struct Shell {
    client: Arc<dyn Client>,
    recorder: Recorder,
    state: Arc<State>,
    volumes: Volumes,
    bindings: Arc<Semaphore>,
}

impl Shell {
    async fn work(self: Arc<Self>) {
        let mut under_way = JoinSet::new();
        loop {
            while under_way.try_join_next().is_some() {}
            match self.state.next(Instant::now(), |pod| self.volumes.needs(pod)) {
                Some(Attempt::Chosen { pod, node }) if waits(&pod) => {
                    let needs = pod.wishes.as_ref().and_then(|wishes| wishes.volumes.clone());
                    let needs = needs.unwrap_or_default();
                    self.volumes.choose(&needs, &node.name);
                    under_way.spawn(self.clone().assign_with_volumes(pod, node, needs));
                }
                Some(Attempt::Chosen { pod, node }) => {
                    let Some(place) = self.place().await else { return };
                    under_way.spawn(self.clone().assign(pod, node, place));
                }
                Some(Attempt::Refused { pod, message, news }) => self.report(&pod, &message, news).await,
                None => self.state.wait().await,
            }
        }
    }

    /// A place among the bindings under way, once one is free.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.bindings.clone().acquire_owned().await.ok()
    }

    /// Binds the pod's volumes first. That may take long, so it holds no place among the bindings meanwhile.
    async fn assign_with_volumes(self: Arc<Self>, pod: Pod, node: Arc<Facts>, needs: Needs) {
        if let Err(status) = self.volumes.prepare(&needs, &node).await {
            let message = format!("running PreBind plugin \"VolumeBinding\": {status}");
            self.recorder.event(&reference(&pod), "Warning", "FailedScheduling", message);
            return self.state.not_bound(&pod, Instant::now());
        }
        if let Some(place) = self.place().await {
            self.assign(pod, node, place).await;
        }
    }

    async fn assign(self: Arc<Self>, pod: Pod, node: Arc<Facts>, _place: OwnedSemaphorePermit) {
        let (key, node) = (pod.key(), &node.name);
        match self.bind(&pod, node).await {
            Ok(()) => {
                self.state.bound(&key);
                let message = format!("Successfully assigned {key} to {node}");
                self.recorder.event(&reference(&pod), "Normal", "Scheduled", message);
            }
            Err(status) => {
                tracing::warn!(pod = key, %node, %status, "binding failed; trying again");
                self.state.not_bound(&pod, Instant::now());
            }
        }
    }

    async fn bind(&self, pod: &Pod, node: &str) -> Result<(), Status> {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let target = Target::new(&PODS, &pod.namespace, &pod.name).sub("binding");
        self.client.create(&target, binding.to_string().into(), &WriteOptions::default()).await.map(drop)
    }

    /// Tells the pod's people why it waits: an event each time, the condition when its words are new.
    async fn report(&self, pod: &Pod, message: &str, news: bool) {
        self.recorder.event(&reference(pod), "Warning", "FailedScheduling", message);
        if !news {
            return;
        }
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastTransitionTime": now, "lastProbeTime": null,
        });
        let patch = json!({ "metadata": {"uid": pod.uid}, "status": {"conditions": [condition]} });
        let api = Api::<core::Pod>::new(self.client.clone(), &pod.namespace);
        // A pod that is gone by now waits for nothing.
        if let Err(status) = api.patch_status(&pod.name, PatchKind::Strategic, &patch).await
            && !status.is("NotFound")
        {
            tracing::warn!(pod = pod.key(), %status, "cannot say why the pod waits");
        }
    }
}

/// Whether volumes are to be bound before the pod.
fn waits(pod: &Pod) -> bool {
    let needs = pod.wishes.as_ref().and_then(|wishes| wishes.volumes.as_ref());
    needs.is_some_and(|needs| !needs.unbound.is_empty())
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: Some(pod.name.to_string()),
        namespace: Some(pod.namespace.to_string()),
        uid: Some(pod.uid.to_string()),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests;
