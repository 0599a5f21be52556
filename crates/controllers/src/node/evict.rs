//! Taint eviction: pods leave a node whose `NoExecute` taints they do not tolerate, or not for so long.
//!
//! A pod's time runs from when the taint was added, but not from before this controller started: what happened while
//! nobody watched gets its full time again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;
use serde::Deserialize;
use tiphys_api::{Object, Status, json};
use tiphys_client::typed::Kind;
use tiphys_client::{Client, DeleteOptions, Informer, Recorder, Target, WorkQueue};

use super::view::NodeView;
use super::{pod_reference, set_condition};
use crate::context::{Context, Key, Outcome, ignore_not_found, until};
use crate::pods::{Facts, Pods};
use crate::taints::{Taint, Toleration};

#[derive(Deserialize)]
struct PodView {
    #[serde(default)]
    spec: Spec,
}

#[derive(Default, Deserialize)]
struct Spec {
    tolerations: Option<Vec<Toleration>>,
}

/// When a pod must leave a node with these taints; `None` if it may stay. `start` is when watching began.
fn leaves_at(taints: &[Taint], tolerations: &[Toleration], start: Timestamp) -> Option<Timestamp> {
    let mut earliest = None;
    for taint in taints {
        let tolerated: Vec<_> = tolerations.iter().filter(|toleration| toleration.tolerates(taint)).collect();
        let since = taint.time_added.unwrap_or(start).max(start);
        let limits = tolerated.iter().filter_map(|toleration| toleration.toleration_seconds);
        let moment = match (tolerated.is_empty(), limits.min()) {
            (true, _) => since,
            (false, None) => continue,
            (false, Some(seconds)) => since.saturating_add(SignedDuration::from_secs(seconds.max(0))).ok()?,
        };
        earliest = Some(earliest.map_or(moment, |known: Timestamp| known.min(moment)));
    }
    earliest
}

/// Names of nodes with `NoExecute` taints: asked for every pod's change, so kept apart from the nodes.
type Tainted = Arc<Mutex<HashSet<Box<str>>>>;

struct Controller {
    client: Arc<dyn Client>,
    recorder: Recorder,
    nodes: Arc<Informer>,
    pods: Arc<Pods>,
    start: Timestamp,
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let client = context.client("node-controller");
    let recorder = context.recorder(&client, "taint-eviction-controller");
    let nodes = context.informer(&Node::GVR);
    let queue = WorkQueue::named("noexec_taint_node");
    let tainted = Tainted::default();
    follow_nodes(&nodes, &context.pods, &tainted, &queue);
    follow_pods(&context.pods, &tainted, &queue);
    let pods = context.pods.clone();
    let controller =
        Arc::new(Controller { client, recorder, nodes: nodes.clone(), pods, start: Timestamp::now() });
    let reconcile = move |key: Key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    };
    context.work(queue, context.config.workers, &[&nodes, context.pods.informer()], reconcile).await;
}

fn taints(node: &Object) -> Vec<Taint> {
    node.decode::<NodeView>().map(|node| node.no_execute()).unwrap_or_default()
}

fn follow_nodes(nodes: &Informer, pods: &Arc<Pods>, tainted: &Tainted, queue: &Arc<WorkQueue<Key>>) {
    let (pods, tainted, queue) = (Arc::downgrade(pods), tainted.clone(), queue.clone());
    nodes.on_change(Box::new(move |old, new| {
        let (before, now) = (old.map(taints).unwrap_or_default(), new.map(taints).unwrap_or_default());
        let (Some(node), Some(pods)) = (new.or(old), pods.upgrade()) else { return };
        if before != now {
            let name = &node.meta().name;
            let mut tainted = tainted.lock();
            if now.is_empty() {
                tainted.remove(name)
            } else {
                tainted.insert(name.clone())
            };
            drop(tainted);
            pods.on_node(&node.meta().name).iter().for_each(|pod| queue.add(Key::of(&pod.object)));
        }
    }));
}

fn follow_pods(pods: &Arc<Pods>, tainted: &Tainted, queue: &Arc<WorkQueue<Key>>) {
    let (weak, tainted, queue) = (Arc::downgrade(pods), tainted.clone(), queue.clone());
    pods.informer().on_change(Box::new(move |_, new| {
        let (Some(pod), Some(pods)) = (new, weak.upgrade()) else { return };
        let Some(facts) = pods.get(&pod.meta().namespace, &pod.meta().name) else { return };
        if tainted.lock().contains(&facts.node) {
            queue.add(Key::of(pod));
        }
    }));
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        let Some(pod) = self.pods.get(&key.namespace, &key.name).filter(|pod| !pod.deleting()) else {
            return Ok(None);
        };
        let Some(node) = self.nodes.get("", &pod.node) else { return Ok(None) };
        let view: PodView = pod.object.decode().map_err(Status::internal)?;
        let tolerations = view.spec.tolerations.unwrap_or_default();
        let Some(at) = leaves_at(&taints(&node), &tolerations, self.start) else { return Ok(None) };
        let left = until(at, Timestamp::now());
        if left > Duration::ZERO {
            return Ok(Some(left));
        }
        self.evict(&pod).await.map(|()| None)
    }

    async fn evict(&self, pod: &Facts) -> Result<(), Status> {
        let meta = pod.meta();
        let message = format!("Marking for deletion Pod {}/{}", meta.namespace, meta.name);
        self.recorder.event(&pod_reference(pod), "Normal", "TaintManagerEviction", message);
        let condition = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
        });
        set_condition(self.client.as_ref(), pod, &condition, None, Timestamp::now()).await?;
        let options = DeleteOptions::of(meta);
        let target = Target::new(&Pod::GVR, &meta.namespace, &meta.name);
        ignore_not_found(self.client.delete(&target, &options).await.map(drop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn taint(added: i64) -> Taint {
        let key = crate::taints::NOT_READY.into();
        Taint { key, effect: "NoExecute".into(), time_added: Some(at(added)), ..Taint::default() }
    }

    #[test]
    fn time_is_given_as_tolerated() {
        let toleration = |key: &str, seconds| Toleration {
            key: key.into(),
            operator: "Exists".into(),
            toleration_seconds: seconds,
            ..Toleration::default()
        };
        let ours = crate::taints::NOT_READY;
        let leaves = |tolerations: &[Toleration]| leaves_at(&[taint(100)], tolerations, at(50));
        assert_eq!(leaves(&[]), Some(at(100)));
        assert_eq!(leaves(&[toleration(ours, Some(300))]), Some(at(400)));
        assert_eq!(leaves(&[toleration(ours, Some(300)), toleration("", Some(30))]), Some(at(130)));
        assert_eq!(leaves(&[toleration("", None)]), None);
        assert_eq!(leaves(&[toleration("other", None)]), Some(at(100)));
        let late = leaves_at(&[taint(100)], &[toleration(ours, Some(300))], at(1000));
        assert_eq!(late, Some(at(1300)), "time before we watched does not count");
    }
}
