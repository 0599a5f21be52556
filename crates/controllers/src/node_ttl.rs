//! How long kubelets may keep what they read of Secrets and ConfigMaps: the longer, the larger the cluster. Each node is
//! told in an annotation.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::core::v1::Node;
use tiphys_api::json;
use tiphys_client::typed::Kind;
use tiphys_client::{PatchKind, Target, WorkQueue, WriteOptions};

use crate::context::{Context, Key, ignore_not_found};

const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";

/// Clusters of so many nodes (from, to) get so many seconds. The spans overlap, so that a cluster at the edge of one does
/// not change all its nodes with each that comes or goes.
const STEPS: [(usize, usize, u32); 6] = [
    (0, 100, 0),
    (90, 500, 15),
    (450, 1000, 30),
    (900, 2000, 60),
    (1800, 10_000, 300),
    (9000, usize::MAX, 600),
];

/// The step of a cluster of this size that was on another.
fn next(mut step: usize, nodes: usize) -> usize {
    while STEPS.get(step).is_some_and(|(_, most, _)| nodes > *most) {
        step += 1;
    }
    while step > 0 && STEPS.get(step).is_none_or(|(least, ..)| nodes < *least) {
        step -= 1;
    }
    step
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let nodes = context.informer(&Node::GVR);
    let client = context.client("ttl-controller");
    let queue = Arc::new(WorkQueue::new());
    let step = Arc::new(AtomicUsize::new(0));
    let (weak, to, now) = (Arc::downgrade(&nodes), queue.clone(), step.clone());
    nodes.on_change(Box::new(move |old, new| {
        let (Some(nodes), true) = (weak.upgrade(), old.is_none() || new.is_none()) else { return };
        let before = now.load(Ordering::Relaxed);
        let after = next(before, nodes.len());
        if before != after {
            now.store(after, Ordering::Relaxed);
            nodes.list("").iter().for_each(|node| to.add(Key::of(node)));
        }
        if let Some(node) = new {
            to.add(Key::of(node));
        }
    }));
    let informer = nodes.clone();
    let reconcile = move |key: Key| {
        let (client, nodes, step) = (client.clone(), informer.clone(), step.clone());
        async move {
            let Some(node) = nodes.get("", &key.name) else { return Ok(None) };
            let seconds = STEPS.get(step.load(Ordering::Relaxed)).map_or(0, |(.., seconds)| *seconds);
            let value = node.value().unwrap_or_default();
            if value["metadata"]["annotations"][ANNOTATION] == seconds.to_string().as_str() {
                return Ok(None);
            }
            let patch = json!({"metadata": {"annotations": {(ANNOTATION): seconds.to_string()}}});
            let target = Target::new(&Node::GVR, "", &key.name);
            let body = patch.to_string().into();
            let patched = client.patch(&target, PatchKind::Merge, body, &WriteOptions::default()).await;
            ignore_not_found(patched.map(drop)).map(|()| None)
        }
    };
    context.work(queue, context.config.workers, &[&nodes], reconcile).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_no_sharp_edges() {
        let walk = |sizes: &[usize]| {
            sizes.iter().fold((0, vec![]), |(step, mut seen), size| {
                let step = next(step, *size);
                seen.push(step);
                (step, seen)
            })
        };
        assert_eq!(walk(&[1, 100, 101, 95, 89, 501, 20_000, 0]).1, [0, 0, 1, 1, 0, 2, 5, 0]);
    }
}
