//! Node life cycle: silent nodes become Unknown, sick ones are tainted, their pods told not ready.
//!
//! - A node's sign of life is its Lease or its own report, counted from when we saw it, by our clock: a controller that
//!   was away, or a clock that is wrong, condemns nobody.
//! - One timer per node, set for when its grace period would end; heartbeats only move a mark in memory.
//! - Pods leave lost nodes no faster than the state of their [`zones`] allows.
//!
//! [`evict`] is the second half: pods leave nodes whose taints they do not tolerate.

pub(crate) mod evict;
#[cfg(test)]
mod tests;
pub(crate) mod view;
mod zones;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod};
use parking_lot::Mutex;
use tiphys_api::{Meta, Object, Status, Value, json};
use tiphys_client::typed::{Kind, reference};
use tiphys_client::{Client, Informer, PatchKind, Recorder, Target, WorkQueue, WriteOptions};
use tokio::time::Instant;

use crate::context::{Context, Key, Outcome, ignore_not_found};
use crate::pods::{Facts, Pods};
use view::NodeView;
use zones::{Count, Turn, Zones};

const LEASES: &str = "kube-node-lease";
/// A node that has not reported yet gets this much more time.
const STARTUP_GRACE: Duration = Duration::from_secs(60);
const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";

/// What we know of a node's life.
#[derive(Debug)]
struct Mark {
    zone: String,
    seen: Instant,
    heartbeat: Option<String>,
    ready: bool,
}

struct Controller {
    client: Arc<dyn Client>,
    recorder: Recorder,
    nodes: Arc<Informer>,
    pods: Arc<Pods>,
    marks: Marks,
    zones: Mutex<Zones>,
    grace: Duration,
}

#[derive(Clone, Default)]
struct Marks(Arc<Mutex<HashMap<Box<str>, Mark>>>);

impl Marks {
    /// Notes a node's report. Returns whether its readiness changed.
    fn report(&self, meta: &Meta, node: &NodeView) -> bool {
        let name = &*meta.name;
        let label = |key: &str| meta.labels.get(key).unwrap_or_default();
        let zone = format!("{}/{}", label(REGION), label(ZONE));
        let (heartbeat, ready) = (node.heartbeat(), node.ready() == "True");
        let mut marks = self.0.lock();
        let Some(mark) = marks.get_mut(name) else {
            marks.insert(name.into(), Mark { zone, seen: Instant::now(), heartbeat, ready });
            return true;
        };
        mark.zone = zone;
        if mark.heartbeat != heartbeat {
            mark.seen = Instant::now();
            mark.heartbeat = heartbeat;
        }
        std::mem::replace(&mut mark.ready, ready) != ready
    }

    fn renewed(&self, name: &str) {
        if let Some(mark) = self.0.lock().get_mut(name) {
            mark.seen = Instant::now();
        }
    }

    fn forget(&self, name: &str) {
        self.0.lock().remove(name);
    }

    fn seen(&self, name: &str) -> Instant {
        self.0.lock().get(name).map_or_else(Instant::now, |mark| mark.seen)
    }

    /// Whether a known node is not ready.
    fn is_lost(&self, name: &str) -> bool {
        self.0.lock().get(name).is_some_and(|mark| !mark.ready)
    }

    /// The zone of a node, and how all zones are.
    fn zones(&self, name: &str) -> (String, HashMap<String, Count>) {
        let marks = self.0.lock();
        let mut counts: HashMap<String, Count> = HashMap::new();
        for mark in marks.values() {
            let count = counts.entry(mark.zone.clone()).or_default();
            *(if mark.ready { &mut count.ready } else { &mut count.lost }) += 1;
        }
        (marks.get(name).map(|mark| mark.zone.clone()).unwrap_or_default(), counts)
    }

    fn not_ready(&self) -> Vec<Box<str>> {
        self.0.lock().iter().filter(|(_, mark)| !mark.ready).map(|(name, _)| name.clone()).collect()
    }
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let client = context.client("node-controller");
    let recorder = context.recorder(&client, "node-controller");
    let nodes = context.informer(&Node::GVR);
    let leases = context.informer(&Lease::GVR);
    let queue = WorkQueue::named("node_lifecycle_controller");
    let marks = Marks::default();
    follow_nodes(&nodes, &queue, &marks, &recorder);
    let renewed = marks.clone();
    leases.on_change(Box::new(move |_, new| {
        if let Some(lease) = new.filter(|lease| *lease.meta().namespace == *LEASES) {
            renewed.renewed(&lease.meta().name);
        }
    }));
    follow_pods(&context.pods, &marks, &queue);
    let controller = Arc::new(Controller {
        client,
        recorder,
        nodes: nodes.clone(),
        pods: context.pods.clone(),
        marks,
        zones: Mutex::default(),
        grace: context.config.node_monitor_grace_period,
    });
    let reconcile = move |key: Key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key.name).await }
    };
    context.work(queue, context.config.workers, &[&nodes, &leases, context.pods.informer()], reconcile).await;
}

fn follow_nodes(nodes: &Informer, queue: &Arc<WorkQueue<Key>>, marks: &Marks, recorder: &Recorder) {
    let (queue, marks, recorder) = (queue.clone(), marks.clone(), recorder.clone());
    nodes.on_change(Box::new(move |old, new| {
        let Some(object) = new else {
            if let Some(gone) = old {
                marks.forget(&gone.meta().name);
                let message = format!("Node {0} event: Removing Node {0} from Controller", gone.meta().name);
                recorder.event(&reference(&Node::GVK, gone), "Normal", "RemovingNode", message);
            }
            return;
        };
        if old.is_none() {
            let message = format!("Node {0} event: Registered Node {0} in Controller", object.meta().name);
            recorder.event(&reference(&Node::GVK, object), "Normal", "RegisteredNode", message);
        }
        let Ok(node) = object.decode::<NodeView>() else { return };
        if marks.report(object.meta(), &node) {
            // One node's recovery decides about the others' pods.
            marks.not_ready().iter().for_each(|name| queue.add(Key::new("", name)));
        }
        queue.add(Key::of(object));
    }));
}

/// A pod that becomes ready on a node that is not (its last report was late) must be looked at.
fn follow_pods(pods: &Arc<Pods>, marks: &Marks, queue: &Arc<WorkQueue<Key>>) {
    let (weak, marks, queue) = (Arc::downgrade(pods), marks.clone(), queue.clone());
    pods.informer().on_change(Box::new(move |_, new| {
        let (Some(pod), Some(pods)) = (new, weak.upgrade()) else { return };
        let facts = pods.get(&pod.meta().namespace, &pod.meta().name);
        if let Some(facts) = facts.filter(|facts| facts.ready() && marks.is_lost(&facts.node)) {
            queue.add(Key::new("", &facts.node));
        }
    }));
}

impl Controller {
    async fn reconcile(&self, name: &str) -> Outcome {
        let Some(object) = self.nodes.get("", name) else { return Ok(None) };
        let node: NodeView = object.decode().map_err(Status::internal)?;
        let grace = if node.heartbeat().is_some() { self.grace } else { STARTUP_GRACE.max(self.grace) };
        let left = (self.marks.seen(name) + grace).saturating_duration_since(Instant::now());
        let now = Timestamp::now();
        if left.is_zero()
            && let Some(conditions) = node.silenced(now)
        {
            let was_ready = node.ready() == "True";
            self.patch(&object, "status", "conditions", json!(conditions)).await?;
            if was_ready {
                let message = format!("Node {name} status is now: NodeNotReady");
                self.recorder.event(&reference(&Node::GVK, &object), "Normal", "NodeNotReady", message);
            }
            // Our own change brings the key back.
            return Ok(None);
        }
        let turn = self.turn(name, &node);
        if let Some(taints) = node.tainted(turn == Turn::Now, now) {
            self.patch(&object, "", "taints", json!(taints)).await?;
        }
        if node.ready() != "True" {
            self.mark_pods(name, now).await?;
        }
        let again = match turn {
            Turn::In(pause) if left.is_zero() => pause,
            Turn::In(pause) => left.min(pause),
            _ => left,
        };
        Ok(Some(again).filter(|pause| !pause.is_zero()))
    }

    /// Whether the pods of a node, if it is lost, shall leave it now.
    fn turn(&self, name: &str, node: &NodeView) -> Turn {
        if node.ready() == "True" {
            return Turn::Stay;
        }
        let (zone, counts) = self.marks.zones(name);
        let mut zones = self.zones.lock();
        match (node.is_left(), counts.values().all(|count| count.ready == 0)) {
            // Once begun, it goes on, unless we ourselves are cut off.
            (true, false) => Turn::Now,
            _ => zones.turn(&zone, &counts, Instant::now()),
        }
    }

    async fn patch(
        &self,
        object: &Object,
        subresource: &'static str,
        field: &str,
        value: Value,
    ) -> Result<(), Status> {
        let part = if subresource.is_empty() { "spec" } else { subresource };
        let value = if value.as_array().is_some_and(Vec::is_empty) { Value::Null } else { value };
        let patch = json!({
            "metadata": {"resourceVersion": object.meta().resource_version.to_string()},
            part: {field: value},
        });
        let target = Target::new(&Node::GVR, "", &object.meta().name).sub(subresource);
        let options = WriteOptions::default();
        let patched = self.client.patch(&target, PatchKind::Merge, patch.to_string().into(), &options).await;
        ignore_not_found(patched.map(drop))
    }

    /// Tells that the ready pods of a node that is not ready are not, so that Services leave them out.
    async fn mark_pods(&self, node: &str, now: Timestamp) -> Result<(), Status> {
        for pod in self.pods.on_node(node).iter().filter(|pod| pod.ready()) {
            self.recorder.event(&pod_reference(pod), "Warning", "NodeNotReady", "Node is not ready");
            set_condition(self.client.as_ref(), pod, &json!({"type": "Ready", "status": "False"}), None, now)
                .await?;
        }
        Ok(())
    }
}

pub(crate) fn pod_reference(pod: &Facts) -> ObjectReference {
    reference(&Pod::GVK, &pod.object)
}

/// Gives a pod a condition, and perhaps a phase. What the condition does not name stays as it was.
pub(crate) async fn set_condition(
    client: &dyn Client,
    pod: &Facts,
    condition: &Value,
    phase: Option<&str>,
    now: Timestamp,
) -> Result<(), Status> {
    let tree = pod.object.value().map_err(Status::internal)?;
    let mut conditions = tree["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let place = conditions.iter().position(|known| known["type"] == condition["type"]);
    let at = place.unwrap_or_else(|| {
        conditions.push(json!({}));
        conditions.len() - 1
    });
    if conditions[at]["status"] != condition["status"] {
        conditions[at]["lastTransitionTime"] = view::seconds(now);
    }
    for (key, value) in condition.as_object().into_iter().flatten() {
        conditions[at][key] = value.clone();
    }
    let meta = pod.meta();
    let mut patch = json!({
        "metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version.to_string()},
        "status": {"conditions": conditions},
    });
    if let Some(phase) = phase {
        patch["status"]["phase"] = phase.into();
    }
    let target = Target::new(&Pod::GVR, &meta.namespace, &meta.name).sub("status");
    let options = WriteOptions::default();
    let patched = client.patch(&target, PatchKind::Merge, patch.to_string().into(), &options).await;
    ignore_not_found(patched.map(drop))
}
