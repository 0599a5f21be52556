//! DaemonSets: one pod on every node that fits.
//!
//! Each pod is bound to its node by a node affinity on the node's name, so that the scheduler places it; [`plan`] decides
//! where pods belong and how a new template is rolled out.

mod backoff;
#[cfg(test)]
mod laws;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, PodTemplateSpec};
use tiphys_api::{Object, Status, Value, json};
use tiphys_client::typed::{Kind, decode};
use tiphys_client::{Api, Informer, WorkQueue};

use crate::context::{Context, Key, Outcome, enqueue_all, enqueue_owners, ignore_not_found, until};
use crate::history::{self, History, REVISION_LABEL};
use crate::node::view::NodeView;
use crate::pod_control::{PodControl, enqueue_adopters, pod_body, selector};
use crate::pods::Facts;
use crate::recent::forget_gone;
use backoff::Backoff;
use plan::{Place, Plan, Snapshot};

/// Number of the template, which the API server keeps; tools of long ago look for it on pods.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
const STALE_PAUSE: Duration = Duration::from_secs(1);

struct Controller {
    control: PodControl,
    sets: Arc<Informer>,
    nodes: Arc<Informer>,
    revisions: Arc<Informer>,
    backoff: Backoff,
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let control = PodControl::new(&context, "daemon-set-controller", "daemonset-controller");
    let sets = context.informer(&DaemonSet::GVR);
    let nodes = context.informer(&Node::GVR);
    let revisions = context.informer(&ControllerRevision::GVR);
    let pods = context.pods.informer();
    let queue = WorkQueue::named("daemonset");
    let informers = [sets.clone(), nodes.clone(), revisions.clone(), pods.clone()];
    let controller = Arc::new(Controller { control, sets, nodes, revisions, backoff: Backoff::default() });
    forget_gone(&controller.sets, &controller, |controller| &controller.control.recent);
    enqueue_all(&controller.sets, &queue);
    enqueue_owners(pods, "DaemonSet", &queue);
    enqueue_adopters(pods, &controller.sets, &queue);
    follow_nodes(&controller, &queue);
    let weak = Arc::downgrade(&controller);
    controller.sets.on_change(Box::new(move |old, new| {
        if let (Some(gone), None, Some(controller)) = (old, new, weak.upgrade()) {
            controller.backoff.forget(&gone.meta().uid);
        }
    }));
    let reconcile = move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    };
    context.work(queue, context.config.workers, &informers.each_ref(), reconcile).await;
}

/// A node's labels and taints concern all sets; its heartbeats concern none.
fn follow_nodes(controller: &Arc<Controller>, queue: &Arc<WorkQueue<Key>>) {
    let (sets, queue) = (Arc::downgrade(&controller.sets), queue.clone());
    let matters = |node: &Object| {
        let taints = node.decode::<NodeView>().ok().and_then(|view| view.spec.taints);
        (node.meta().labels.clone(), taints)
    };
    controller.nodes.on_change(Box::new(move |old, new| {
        if old.map(matters) == new.map(matters) {
            return;
        }
        let Some(sets) = sets.upgrade() else { return };
        sets.list("").iter().for_each(|set| queue.add(Key::of(set)));
    }));
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        let Some(object) = self.sets.get(&key.namespace, &key.name) else { return Ok(None) };
        let set: DaemonSet = decode(&object).map_err(Status::internal)?;
        let Some(selector) = selector(&object).filter(|selector| !selector.is_everything()) else {
            let message = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.control.tell(&set, "Warning", "SelectingAll", message.into());
            return Ok(None);
        };
        let fresh = self.control.fresh(&set, &selector).await?;
        let claimed = self.control.claim(&set, &selector).await?;
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let history = self.history(&object, &set).await?;
        let hash = history.newest.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION_LABEL));
        let hash = hash.cloned().unwrap_or_default();
        let places = self.places(&set);
        let now = Timestamp::now();
        let (pods, resting) = (by_node(&claimed), self.backoff.of(set.uid()));
        let snapshot = Snapshot { set: &set, pods, places: &places, hash: &hash, resting: &resting, now };
        let collided = history.collisions != set.status.as_ref().and_then(|status| status.collision_count);
        let mut again = look_again(&set, &claimed, now);
        if fresh && !collided {
            let plan = plan::plan(&snapshot);
            again = again.into_iter().chain(plan.again.map(|at| until(at, now))).min();
            self.carry_out(&set, &hash, plan, now).await?;
            let used = |revision: &ControllerRevision| is_used(revision, &claimed);
            let limit = set.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
            history::prune(&self.control.client, &set, &history, limit, used).await?;
        }
        self.report(&set, plan::status(&snapshot, history.collisions)).await?;
        if collided || !fresh {
            return Ok(Some(STALE_PAUSE));
        }
        Ok(again)
    }

    async fn history(&self, object: &Object, set: &DaemonSet) -> Result<History, Status> {
        let revisions = history::owned(&self.revisions, set.uid())?;
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        let data = history::data(object)?;
        history::sync(&self.control.client, set, data, revisions, REVISION_LABEL, collisions).await
    }

    fn places(&self, set: &DaemonSet) -> HashMap<Box<str>, Place> {
        let spec = set.spec.as_ref().and_then(|spec| spec.template.spec.clone()).unwrap_or_default();
        let given = Value::of(&spec.tolerations).and_then(|given| given.to::<Option<Vec<_>>>());
        let mut tolerations = given.ok().flatten().unwrap_or_default();
        tolerations.extend(plan::tolerations(&spec));
        let nodes = self.nodes.list("");
        nodes.iter().map(|node| (node.meta().name.clone(), plan::place(&spec, &tolerations, node))).collect()
    }

    async fn carry_out(&self, set: &DaemonSet, hash: &str, plan: Plan, now: Timestamp) -> Result<(), Status> {
        for (pod, reason) in &plan.ended {
            let what = if *reason == "FailedDaemonPod" { "failed" } else { "succeeded" };
            let Key { namespace, name } = Key::of(&pod.object);
            let message = format!(
                "Found {what} daemon pod {namespace}/{name} on node {}, will try to {} it",
                pod.node,
                if what == "failed" { "kill" } else { "delete" }
            );
            let kind = if what == "failed" { "Warning" } else { "Normal" };
            if what == "failed" {
                self.backoff.removed(set.uid(), &pod.node, now);
            }
            self.control.tell(set, kind, reason, message);
        }
        let ended: Vec<_> = plan.ended.into_iter().map(|(pod, _)| pod).collect();
        self.control.delete_all(set, &ended).await?;
        self.control.delete_all(set, &plan.delete).await?;
        let bodies: Result<Vec<Bytes>, Status> =
            plan.create.iter().map(|node| body(set, hash, node)).collect();
        self.control.create_all(set, &bodies?).await
    }

    async fn report(
        &self,
        set: &DaemonSet,
        status: k8s_openapi::api::apps::v1::DaemonSetStatus,
    ) -> Result<(), Status> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let changed = DaemonSet { status: Some(status), ..set.clone() };
        let api = Api::<DaemonSet>::new(self.control.client.clone(), set.namespace());
        ignore_not_found(api.update_status(&changed).await.map(drop))
    }
}

fn by_node(pods: &[Arc<Facts>]) -> BTreeMap<String, Vec<Arc<Facts>>> {
    let mut nodes: BTreeMap<String, Vec<Arc<Facts>>> = BTreeMap::new();
    for pod in pods {
        if let Some(node) = plan::target(pod) {
            nodes.entry(node).or_default().push(pod.clone());
        }
    }
    nodes
}

fn is_used(revision: &ControllerRevision, pods: &[Arc<Facts>]) -> bool {
    let hash = revision.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION_LABEL));
    pods.iter().any(|pod| pod.meta().labels.get(REVISION_LABEL) == hash.map(String::as_str))
}

/// When a pod becomes available by time alone.
fn look_again(set: &DaemonSet, pods: &[Arc<Facts>], now: Timestamp) -> Option<Duration> {
    let min_ready = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let moments = pods.iter().filter_map(|pod| pod.available_at(min_ready)).filter(|at| *at > now);
    moments.min().map(|at| until(at, now))
}

/// A pod for one node.
fn body(set: &DaemonSet, hash: &str, node: &str) -> Result<Bytes, Status> {
    let mut template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(REVISION_LABEL.into(), hash.to_owned());
    if let Some(number) = set.metadata.annotations.as_ref().and_then(|all| all.get(TEMPLATE_GENERATION)) {
        labels.insert("pod-template-generation".into(), number.clone());
    }
    let spec = template.spec.take().unwrap_or_default();
    let extra = plan::tolerations(&spec);
    let mut spec: Value = Value::of(spec).map_err(Status::internal)?;
    let given: Vec<Value> = spec["tolerations"].as_array().cloned().unwrap_or_default();
    let extra = extra.into_iter().map(|toleration| json!(toleration)).filter(|t| !given.contains(t));
    spec["tolerations"] = given.iter().cloned().chain(extra).collect();
    let by_name = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
        json!({"nodeSelectorTerms": [{"matchFields": [by_name]}]});
    let spec = spec.to().map_err(Status::internal)?;
    pod_body(set, PodTemplateSpec { spec: Some(spec), ..template }, None)
}
