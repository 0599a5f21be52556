//! StatefulSets: pods with a name and storage of their own, made, replaced and removed in order.
//!
//! [`plan`] decides about pods, [`claims`] about their storage; this file brings in what they look at and carries out.

mod claims;
mod identity;
#[cfg(test)]
mod laws;
mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use tiphys_api::{Object, Status};
use tiphys_client::typed::{Kind, decode};
use tiphys_client::{Api, Informer, WorkQueue};

use crate::context::{Context, Key, Outcome, enqueue_all, enqueue_owners, ignore_not_found, until};
use crate::history::{self, History};
use crate::pod_control::{PodControl, enqueue_adopters, namespace_terminating, selector};
use crate::pods::{Facts, Phase};
use crate::recent::forget_gone;
use plan::Snapshot;

const STALE_PAUSE: Duration = Duration::from_secs(1);
const HASH_LABEL: &str = "controller.kubernetes.io/hash";

struct Controller {
    control: PodControl,
    sets: Arc<Informer>,
    revisions: Arc<Informer>,
    claims: Arc<Informer>,
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let control = PodControl::new(&context, "statefulset-controller", "statefulset-controller");
    let sets = context.informer(&StatefulSet::GVR);
    let revisions = context.informer(&ControllerRevision::GVR);
    let claims = context.informer(&PersistentVolumeClaim::GVR);
    let pods = context.pods.informer();
    let queue = WorkQueue::named("statefulset");
    let informers = [sets.clone(), revisions.clone(), claims.clone(), pods.clone()];
    let controller = Arc::new(Controller { control, sets, revisions, claims });
    forget_gone(&controller.sets, &controller, |controller| &controller.control.recent);
    enqueue_all(&controller.sets, &queue);
    enqueue_owners(pods, "StatefulSet", &queue);
    enqueue_adopters(pods, &controller.sets, &queue);
    let reconcile = move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    };
    context.work(queue, context.config.workers, &informers.each_ref(), reconcile).await;
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        let Some(object) = self.sets.get(&key.namespace, &key.name) else { return Ok(None) };
        let set: StatefulSet = decode(&object).map_err(Status::internal)?;
        let Some(selector) = selector(&object) else { return Ok(None) };
        let fresh = self.control.fresh(&set, &selector).await?;
        let mut pods = self.control.claim(&set, &selector).await?;
        pods.retain(|pod| identity::ordinal(&set, pod).is_some());
        let history = self.history(&object, &set).await?;
        let known = set.status.clone().unwrap_or_default();
        let collided = history.collisions.unwrap_or(0) != known.collision_count.unwrap_or(0);
        let current = self.current(&history, &known);
        let now = Timestamp::now();
        let (stale, update) = (self.stale(&set, &pods), history.newest.name());
        let snapshot =
            Snapshot { set: &set, pods: &pods, current: current.name(), update, stale: &stale, now };
        let acted = match fresh && !collided {
            true => self.act(&snapshot, &current, &history).await,
            false => Ok(()),
        };
        self.report(&set, plan::status(&snapshot, history.collisions)).await?;
        acted?;
        if !fresh || collided || !stale.is_empty() {
            return Ok(Some(STALE_PAUSE));
        }
        self.prune(&set, &history, &current, &pods).await?;
        Ok(look_again(&set, &pods, now))
    }

    async fn history(&self, object: &Object, set: &StatefulSet) -> Result<History, Status> {
        let revisions = history::owned(&self.revisions, set.uid())?;
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        let data = history::data(object)?;
        history::sync(&self.control.client, set, data, revisions, HASH_LABEL, collisions).await
    }

    /// The revision the set comes from: the one its status names while that exists.
    fn current(&self, history: &History, status: &StatefulSetStatus) -> ControllerRevision {
        let named = status.current_revision.as_deref().unwrap_or_default();
        let known = history.revisions.iter().find(|revision| revision.name() == named);
        known.unwrap_or(&history.newest).clone()
    }

    async fn act(
        &self,
        snapshot: &Snapshot<'_>,
        current: &ControllerRevision,
        history: &History,
    ) -> Result<(), Status> {
        let (set, pods) = (snapshot.set, snapshot.pods);
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        // Before a pod is deleted: its claims may have to go with it.
        self.fix_claims(set, pods).await?;
        self.replace_claims(set, pods).await?;
        let plan = plan::plan(snapshot);
        for (ordinal, new) in plan.create {
            let revision = if new { &history.newest } else { current };
            self.create(set, ordinal, revision).await?;
        }
        for pod in &plan.recreate {
            self.tell_recreation(set, pod);
            self.delete(set, pod).await?;
        }
        for pod in &plan.delete {
            self.delete(set, pod).await?;
        }
        Ok(())
    }

    fn tell_recreation(&self, set: &StatefulSet, pod: &Facts) {
        let (kind, reason, how) = match pod.phase {
            Phase::Failed => ("Warning", "RecreatingFailedPod", "failed"),
            _ => ("Normal", "RecreatingTerminatedPod", "terminated"),
        };
        let Key { namespace, name } = Key::of(&pod.object);
        let message = format!("StatefulSet {namespace}/{} is recreating {how} Pod {name}", set.name());
        self.control.tell(set, kind, reason, message);
    }

    async fn create(
        &self,
        set: &StatefulSet,
        ordinal: i32,
        revision: &ControllerRevision,
    ) -> Result<(), Status> {
        let name = identity::name(set, ordinal);
        let outcome = match self.create_claims(set, ordinal).await {
            Ok(()) => {
                let body = identity::pod(set, ordinal, revision)?;
                self.control.create_silently(set, &name, body).await.map(drop)
            }
            Err(status) => Err(status),
        };
        self.tell("create", "Create", set, &name, outcome.as_ref().err());
        match outcome {
            // A cache that is late: the pod is there, its event is on the way. A pod of somebody else's is in the way.
            Err(status) if status.is("AlreadyExists") => {
                let strange = self.control.pods.get(set.namespace(), &name).is_some();
                if strange { Err(status) } else { Ok(()) }
            }
            Err(status) if namespace_terminating(&status) => Ok(()),
            outcome => outcome,
        }
    }

    async fn delete(&self, set: &StatefulSet, pod: &Facts) -> Result<(), Status> {
        let outcome = self.control.delete_silently(set, pod).await;
        self.tell("delete", "Delete", set, &pod.meta().name, outcome.as_ref().err());
        outcome.map(drop)
    }

    fn tell(&self, verb: &str, reason: &str, set: &StatefulSet, pod: &str, error: Option<&Status>) {
        let of = format!("{verb} Pod {pod} in StatefulSet {}", set.name());
        match error {
            None => {
                self.control.tell(set, "Normal", &format!("Successful{reason}"), format!("{of} successful"))
            }
            Some(status) if status.is("AlreadyExists") || namespace_terminating(status) => {}
            Some(status) => {
                let message = format!("{of} failed error: {status}");
                self.control.tell(set, "Warning", &format!("Failed{reason}"), message);
            }
        }
    }

    async fn prune(
        &self,
        set: &StatefulSet,
        history: &History,
        current: &ControllerRevision,
        pods: &[Arc<Facts>],
    ) -> Result<(), Status> {
        let used = |revision: &ControllerRevision| {
            revision.name() == current.name()
                || pods.iter().any(|pod| identity::revision(pod) == revision.name())
        };
        let limit = identity::spec(set).revision_history_limit.unwrap_or(10);
        history::prune(&self.control.client, set, history, limit, used).await
    }

    async fn report(&self, set: &StatefulSet, status: StatefulSetStatus) -> Result<(), Status> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let changed = StatefulSet { status: Some(status), ..set.clone() };
        let api = Api::<StatefulSet>::new(self.control.client.clone(), set.namespace());
        ignore_not_found(api.update_status(&changed).await.map(drop))
    }
}

/// When a pod becomes available by time alone.
fn look_again(set: &StatefulSet, pods: &[Arc<Facts>], now: Timestamp) -> Option<Duration> {
    let min_ready = identity::spec(set).min_ready_seconds.unwrap_or(0);
    let moments = pods.iter().filter_map(|pod| pod.available_at(min_ready)).filter(|at| *at > now);
    moments.min().map(|at| until(at, now))
}
