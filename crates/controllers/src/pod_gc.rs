//! Removes pods that nobody else will: those of nodes that are gone or out of service, those under deletion that never came
//! to a node, and the oldest ended ones when there are too many.
//!
//! A node that vanishes gets a quarantine (it may come back at once, as when it is registered anew), and its absence is
//! asked of the API server before its pods go. There are no scans: a deleted node, a pod bound to an unknown node and an
//! ended pod each cause one look.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use tiphys_api::{Object, Status, Value, json};
use tiphys_client::typed::Kind;
use tiphys_client::{Client, DeleteOptions, Informer, PatchKind, Target, WorkQueue, WriteOptions};

use crate::context::{Context, Outcome, ignore_not_found};
use crate::node::set_condition;
use crate::node::view::NodeView;
use crate::pods::{Facts, Phase, Pods};

/// Taint by which an operator says that a node is off for good.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
const QUARANTINE: Duration = Duration::from_secs(40);
/// Ended pods are counted at most this often.
const COUNT_EVERY: Duration = Duration::from_secs(20);

/// Something to look into.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Look {
    /// Whether the node exists.
    Node(Box<str>),
    /// Whether the node is out of service.
    OutOfService(Box<str>),
    /// Whether the pod (namespace and name) is under deletion without ever having come to a node.
    Unbound(Box<str>, Box<str>),
    /// Whether too many pods have ended.
    Ended,
}

struct Controller {
    client: Arc<dyn Client>,
    nodes: Arc<Informer>,
    pods: Arc<Pods>,
    threshold: usize,
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let nodes = context.informer(&Node::GVR);
    let queue = WorkQueue::named("orphaned_pods_nodes");
    let threshold = context.config.terminated_pod_threshold;
    let to = queue.clone();
    nodes.on_change(Box::new(move |old, new| match (old, new) {
        (Some(gone), None) => to.add_after(Look::Node(gone.meta().name.clone()), QUARANTINE),
        (_, Some(node)) if is_out_of_service(node) => {
            to.add(Look::OutOfService(node.meta().name.clone()));
        }
        _ => {}
    }));
    follow_pods(&context.pods, &nodes, &queue, threshold);
    let controller = Arc::new(Controller {
        client: context.client("pod-garbage-collector"),
        nodes: nodes.clone(),
        pods: context.pods.clone(),
        threshold,
    });
    let reconcile = move |look| {
        let controller = controller.clone();
        async move { controller.reconcile(look).await }
    };
    context.work(queue, 1, &[&nodes, context.pods.informer()], reconcile).await;
}

fn follow_pods(pods: &Arc<Pods>, nodes: &Arc<Informer>, queue: &Arc<WorkQueue<Look>>, threshold: usize) {
    let (weak, nodes, queue) = (Arc::downgrade(pods), Arc::downgrade(nodes), queue.clone());
    pods.informer().on_change(Box::new(move |_, new| {
        let (Some(pod), Some(pods), Some(nodes)) = (new, weak.upgrade(), nodes.upgrade()) else { return };
        let Some(facts) = pods.get(&pod.meta().namespace, &pod.meta().name) else { return };
        if !facts.node.is_empty() && nodes.get("", &facts.node).is_none() {
            queue.add_after(Look::Node(facts.node.clone()), QUARANTINE);
        }
        let (namespace, name) = (&facts.meta().namespace, &facts.meta().name);
        if facts.deleting() && facts.node.is_empty() {
            queue.add(Look::Unbound(namespace.clone(), name.clone()));
        } else if facts.deleting() && nodes.get("", &facts.node).is_some_and(|node| is_out_of_service(&node))
        {
            queue.add(Look::OutOfService(facts.node.clone()));
        }
        if facts.ended() && threshold > 0 && pods.informer().len() > threshold {
            queue.add_after(Look::Ended, COUNT_EVERY);
        }
    }));
}

fn is_out_of_service(node: &Object) -> bool {
    // Hardly any node is: its bytes are searched before they are read.
    if !node.json().windows(OUT_OF_SERVICE.len()).any(|part| part == OUT_OF_SERVICE.as_bytes()) {
        return false;
    }
    let view = node.decode::<NodeView>().ok();
    let taints = view.as_ref().and_then(|view| view.spec.taints.as_ref());
    let tainted = taints.is_some_and(|taints| taints.iter().any(|taint| taint.key == OUT_OF_SERVICE));
    tainted && view.is_some_and(|view| view.ready() != "True")
}

fn is_evicted(pod: &Facts) -> bool {
    let reason = pod.object.value().ok().map(|value| value["status"]["reason"] == "Evicted");
    pod.phase == Phase::Failed && reason == Some(true)
}

impl Controller {
    async fn reconcile(&self, look: Look) -> Outcome {
        match look {
            Look::Node(name) => self.remove_of_node(&name).await?,
            Look::OutOfService(name) => self.remove_lost(&name).await?,
            Look::Unbound(namespace, name) => self.remove_unbound(&namespace, &name).await?,
            Look::Ended => self.remove_ended().await?,
        }
        Ok(None)
    }

    async fn remove_of_node(&self, name: &str) -> Result<(), Status> {
        if self.nodes.get("", name).is_some() {
            return Ok(());
        }
        match self.client.get(&Target::new(&Node::GVR, "", name)).await {
            Err(status) if status.is("NotFound") => {}
            other => return other.map(drop),
        }
        for pod in self.pods.on_node(name) {
            self.disrupt(&pod, "PodGC: node no longer exists").await?;
        }
        Ok(())
    }

    /// The pods under deletion of a node whose kubelet will never end them.
    async fn remove_lost(&self, node: &str) -> Result<(), Status> {
        if !self.nodes.get("", node).is_some_and(|node| is_out_of_service(&node)) {
            return Ok(());
        }
        for pod in self.pods.on_node(node).iter().filter(|pod| pod.deleting()) {
            self.disrupt(pod, "PodGC: node is out of service").await?;
        }
        Ok(())
    }

    async fn remove_unbound(&self, namespace: &str, name: &str) -> Result<(), Status> {
        let Some(pod) = self.pods.get(namespace, name).filter(|pod| pod.deleting() && pod.node.is_empty())
        else {
            return Ok(());
        };
        if !pod.ended() {
            self.fail(&pod, None).await?;
        }
        self.delete(&pod).await
    }

    /// Ends a pod for a reason that is not its own, then deletes it.
    async fn disrupt(&self, pod: &Facts, message: &str) -> Result<(), Status> {
        if !pod.ended() {
            let condition = json!({
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "DeletionByPodGC",
                "message": message,
            });
            self.fail(pod, Some(&condition)).await?;
        }
        self.delete(pod).await
    }

    async fn fail(&self, pod: &Facts, condition: Option<&Value>) -> Result<(), Status> {
        if let Some(condition) = condition {
            let now = Timestamp::now();
            return set_condition(self.client.as_ref(), pod, condition, Some("Failed"), now).await;
        }
        let meta = pod.meta();
        let patch = json!({"metadata": {"uid": meta.uid}, "status": {"phase": "Failed"}}).to_string();
        let target = Target::new(&Pod::GVR, &meta.namespace, &meta.name).sub("status");
        let options = WriteOptions::default();
        let patched = self.client.patch(&target, PatchKind::Merge, patch.into(), &options).await;
        ignore_not_found(patched.map(drop))
    }

    async fn remove_ended(&self) -> Result<(), Status> {
        let mut ended: Vec<Arc<Facts>> =
            self.pods.all().into_iter().filter(|pod| pod.ended() && !pod.deleting()).collect();
        // Evicted ones first: they tell of a node's trouble, not of work that was done.
        ended.sort_by_key(|pod| (!is_evicted(pod), pod.meta().created));
        let surplus = ended.len().saturating_sub(self.threshold);
        for pod in ended.iter().take(surplus) {
            self.delete(pod).await?;
        }
        Ok(())
    }

    async fn delete(&self, pod: &Facts) -> Result<(), Status> {
        let meta = pod.meta();
        let target = Target::new(&Pod::GVR, &meta.namespace, &meta.name);
        ignore_not_found(self.client.delete(&target, &DeleteOptions::of(meta).at_once()).await.map(drop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::testing::{Cluster, typed};
    use tiphys_client::fake::FakeClient;

    fn pod(name: &str, node: &str, phase: &str, second: u32) -> Pod {
        typed(json!({
            "metadata": {"name": name, "namespace": "n", "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")},
            "spec": {"nodeName": node, "containers": []}, "status": {"phase": phase}}))
    }

    #[tokio::test(start_paused = true)]
    async fn pods_of_vanished_nodes_go_after_a_while() {
        let client = FakeClient::new();
        client.put::<Node>(&typed(json!({"metadata": {"name": "here"}})));
        client.put(&pod("stays", "here", "Running", 0));
        client.put(&pod("goes", "away", "Running", 0));
        let _cluster = Cluster::start(client.clone());
        tokio::time::sleep(QUARANTINE - Duration::from_secs(1)).await;
        assert!(client.find::<Pod>("n", "goes").is_some());
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(client.find::<Pod>("n", "goes").is_none());
        assert!(client.find::<Pod>("n", "stays").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn pods_that_no_kubelet_will_end_are_ended() {
        let client = FakeClient::new();
        client.put::<Node>(&typed(json!({"metadata": {"name": "off"}, "spec": {"taints": [
            {"key": OUT_OF_SERVICE, "effect": "NoExecute"}]}, "status": {"conditions": [
            {"type": "Ready", "status": "Unknown", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]}})));
        // A finalizer shows what they are before they go.
        for (name, node) in [("lost", "off"), ("unbound", ""), ("stays", "off")] {
            let mut pod = pod(name, node, "Running", 0);
            if node.is_empty() {
                pod.spec.as_mut().unwrap().node_name = None;
            }
            pod.metadata.finalizers = Some(vec!["test/keep".into()]);
            let deleted = (name != "stays").then(|| typed(json!("2026-01-01T00:00:00Z")));
            pod.metadata.deletion_timestamp = deleted;
            client.put(&pod);
        }
        let cluster = Cluster::start_with(
            client.clone(),
            Config { disabled: vec!["taint-eviction".into(), "node-lifecycle".into()], ..Config::default() },
        );
        cluster.settle().await;
        let phase = |name| client.find::<Pod>("n", name).unwrap().status.unwrap().phase.unwrap();
        assert_eq!([phase("lost"), phase("unbound"), phase("stays")], ["Failed", "Failed", "Running"]);
        let told = client.find::<Pod>("n", "lost").unwrap().status.unwrap().conditions.unwrap().remove(0);
        assert_eq!(told.message.as_deref(), Some("PodGC: node is out of service"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_ended_pods_go_first() {
        let client = FakeClient::new();
        client.put::<Node>(&typed(json!({"metadata": {"name": "here"}})));
        for second in 0..5 {
            client.put(&pod(&format!("p{second}"), "here", "Succeeded", second));
        }
        client.put(&pod("runs", "here", "Running", 0));
        let config = Config { terminated_pod_threshold: 2, ..Config::default() };
        let _cluster = Cluster::start_with(client.clone(), config);
        tokio::time::sleep(COUNT_EVERY * 2).await;
        let names: Vec<_> = client.all::<Pod>("n").iter().map(|pod| pod.name().to_owned()).collect();
        assert_eq!(names, ["p3", "p4", "runs"]);
    }
}
