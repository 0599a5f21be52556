//! The pods of the simulated nodes: watched all at once, each taken from step to step when its time has come.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tiphys_api::{Object, Status, json};
use tiphys_client::typed::Kind;
use tiphys_client::{
    Client, DeleteOptions, Informer, Informers, PatchKind, Target, WorkQueue, WriteOptions, run_workers,
};
use tokio::time::Instant;

use crate::Config;
use crate::address::Addresses;
use crate::node::address;
use crate::pod::{Step, View};

/// Pods that are written at the same time.
const WORKERS: usize = 64;

/// A pod's place: namespace and name.
type Key = (Box<str>, Box<str>);

struct Shell {
    client: Arc<dyn Client>,
    config: Arc<Config>,
    pods: Arc<Informer>,
    /// Numbers of the nodes by name.
    nodes: HashMap<Box<str>, usize>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    addresses: Addresses,
    /// The step that a pod waits for, by uid, and when it is due.
    due: HashMap<Box<str>, (Step, Instant)>,
}

/// Runs the pods for ever.
pub(crate) async fn run(
    client: &Arc<dyn Client>,
    config: &Arc<Config>,
    names: &Arc<[Box<str>]>,
    informers: &Informers,
) {
    // Only bound pods are of interest, whatever their node: one watch serves all nodes.
    let pods = informers.scoped(&Pod::GVR, "", "spec.nodeName!=");
    let nodes = names.iter().enumerate().map(|(index, name)| (name.clone(), index)).collect();
    let shell = Arc::new(Shell {
        client: client.clone(),
        config: config.clone(),
        pods: pods.clone(),
        nodes,
        memory: Mutex::default(),
    });
    let queue = WorkQueue::named("simulated_pods");
    let (seen, to) = (shell.clone(), queue.clone());
    pods.on_change(Box::new(move |old, new| {
        if let Some(key) = seen.changed(old, new) {
            to.add(key);
        }
    }));
    pods.synced().await;
    let work = move |key: Key| {
        let shell = shell.clone();
        async move { shell.work(&key).await }
    };
    run_workers(queue, WORKERS, work).await;
}

impl Shell {
    /// Notes a change; the key of a pod that is to be looked at.
    fn changed(&self, old: Option<&Object>, new: Option<&Object>) -> Option<Key> {
        let Some(new) = new else {
            let uid = &old?.meta().uid;
            let mut memory = self.memory.lock();
            memory.addresses.free(uid);
            memory.due.remove(uid);
            return None;
        };
        let view: View = new.decode().ok()?;
        self.nodes.get(&*view.spec.node_name)?;
        let meta = new.meta();
        if let Ok(address) = view.status.pod_ip.parse() {
            self.memory.lock().addresses.keep(&meta.uid, address);
        }
        Some((meta.namespace.clone(), meta.name.clone()))
    }

    async fn work(&self, key: &Key) -> Result<Option<Duration>, Status> {
        let Some(pod) = self.pods.get(&key.0, &key.1) else { return Ok(None) };
        let view: View = pod.decode().map_err(Status::internal)?;
        let Some((step, after)) = view.next(&pod, &self.config) else { return Ok(None) };
        let left = self.left(&pod.meta().uid, step, after);
        if !left.is_zero() {
            return Ok(Some(left));
        }
        let done = match step {
            Step::Stop => self.remove(&pod).await,
            _ => self.report(&pod, &view, step).await,
        };
        match done {
            // Somebody was faster; what comes of it is on its way to us.
            Err(status) if status.is("NotFound") || status.is("Conflict") => Ok(None),
            other => other.map(|()| None),
        }
    }

    /// How long a pod still waits for a step; the wait begins when the step is first seen.
    fn left(&self, uid: &str, step: Step, after: Duration) -> Duration {
        if after.is_zero() {
            return after;
        }
        let mut memory = self.memory.lock();
        let now = Instant::now();
        let due = match memory.due.get(uid) {
            Some((known, due)) if *known == step => *due,
            _ => {
                memory.due.insert(uid.into(), (step, now + after));
                now + after
            }
        };
        due.saturating_duration_since(now)
    }

    async fn report(&self, pod: &Object, view: &View, step: Step) -> Result<(), Status> {
        let meta = pod.meta();
        let host = address(self.nodes.get(&*view.spec.node_name).copied().unwrap_or_default());
        let ip = self.memory.lock().addresses.take(&meta.uid).to_string();
        let status = view.status(step, &ip, &host, Timestamp::now());
        let patch = json!({"metadata": {"uid": meta.uid}, "status": status});
        let target = Target::new(&Pod::GVR, &meta.namespace, &meta.name).sub("status");
        let body = patch.to_string().into();
        self.client.patch(&target, PatchKind::Strategic, body, &WriteOptions::default()).await.map(drop)
    }

    async fn remove(&self, pod: &Object) -> Result<(), Status> {
        let meta = pod.meta();
        let target = Target::new(&Pod::GVR, &meta.namespace, &meta.name);
        self.client.delete(&target, &DeleteOptions::of(meta).at_once()).await.map(drop)
    }
}
