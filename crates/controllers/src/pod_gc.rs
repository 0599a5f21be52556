//! Removes pods that nobody else will: those of nodes that are gone, and the oldest ended ones when there are too many.
//!
//! A node that vanishes gets a quarantine (it may come back at once, as when it is registered anew), and its absence is
//! asked of the API server before its pods go. There are no scans: a deleted node, a pod bound to an unknown node and an
//! ended pod each cause one look.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;
use tiphys_api::Status;
use tiphys_client::typed::Kind;
use tiphys_client::{Client, DeleteOptions, Informer, Target, WorkQueue};

use crate::context::{Context, Outcome, ignore_not_found};
use crate::node::set_condition;
use crate::pods::{Facts, Pods};

const QUARANTINE: Duration = Duration::from_secs(40);
/// Ended pods are counted at most this often.
const COUNT_EVERY: Duration = Duration::from_secs(20);

/// Something to look into.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Look {
    /// Whether the node exists.
    Node(Box<str>),
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
    let queue = Arc::new(WorkQueue::new());
    let threshold = context.config.terminated_pod_threshold;
    let to = queue.clone();
    nodes.on_change(Box::new(move |old, new| {
        if let (Some(gone), None) = (old, new) {
            to.add_after(Look::Node(gone.meta().name.clone()), QUARANTINE);
        }
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
        if facts.ended() && threshold > 0 && pods.informer().len() > threshold {
            queue.add_after(Look::Ended, COUNT_EVERY);
        }
    }));
}

impl Controller {
    async fn reconcile(&self, look: Look) -> Outcome {
        match look {
            Look::Node(name) => self.remove_of_node(&name).await?,
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
            let condition = json!({
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "DeletionByPodGC",
                "message": "PodGC: node no longer exists",
            });
            if !pod.ended() {
                let now = Timestamp::now();
                set_condition(self.client.as_ref(), &pod, &condition, Some("Failed"), now).await?;
            }
            self.delete(&pod).await?;
        }
        Ok(())
    }

    async fn remove_ended(&self) -> Result<(), Status> {
        let mut ended: Vec<Arc<Facts>> =
            self.pods.all().into_iter().filter(|pod| pod.ended() && !pod.deleting()).collect();
        ended.sort_by_key(|pod| pod.meta().created);
        let surplus = ended.len().saturating_sub(self.threshold);
        for pod in ended.iter().take(surplus) {
            self.delete(pod).await?;
        }
        Ok(())
    }

    async fn delete(&self, pod: &Facts) -> Result<(), Status> {
        let meta = pod.meta();
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            uid: Some(meta.uid.to_string()),
            ..DeleteOptions::default()
        };
        let target = Target::new(&Pod::GVR, &meta.namespace, &meta.name);
        ignore_not_found(self.client.delete(&target, &options).await.map(drop))
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
