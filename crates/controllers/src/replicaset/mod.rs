//! ReplicaSets and ReplicationControllers: as many pods of a template as asked for.
//!
//! - One engine works for both; [`kinds`] holds what differs.
//! - [`plan`] decides; this file brings in pods (own, adopted, released), carries out and reports.
//! - A pass that cannot be sure to see all its own creations creates and deletes nothing ([`crate::recent`]); the event
//!   that it waits for wakes it.

mod kinds;
mod plan;
pub(crate) mod rank;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;
use tiphys_api::{Object, Status};
use tiphys_client::typed::decode;
use tiphys_client::{Api, Informer, WorkQueue};

use crate::context::{Context, Key, Outcome, enqueue_all, enqueue_owners, ignore_not_found};
use crate::pod_control::{PodControl, enqueue_adopters, pod_body, selector};
use crate::pods::Facts;
use crate::recent::forget_gone;
use kinds::Replicated;
use plan::{Failure, Plan, Snapshot};

/// How long a pass waits for its cache when no event is sure to come (a creation that was deleted by others).
const STALE_PAUSE: Duration = Duration::from_secs(1);

struct Controller {
    control: PodControl,
    sets: Arc<Informer>,
}

/// Runs the controller of ReplicaSets until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    run_kind::<ReplicaSet>(context).await;
}

/// Runs the controller of ReplicationControllers until the context stops.
pub(crate) async fn run_replication_controllers(context: Arc<Context>) {
    run_kind::<ReplicationController>(context).await;
}

async fn run_kind<S: Replicated>(context: Arc<Context>) {
    let control = PodControl::new(&context, S::CONTROLLER, S::CONTROLLER);
    let sets = context.informer(&S::GVR);
    let pods = context.pods.informer();
    let name = if S::KIND == "ReplicaSet" { "replicaset" } else { "replicationmanager" };
    let queue = WorkQueue::named(name);
    let controller = Arc::new(Controller { control, sets: sets.clone() });
    forget_gone(&sets, &controller, |controller| &controller.control.recent);
    enqueue_all(&sets, &queue);
    enqueue_owners(pods, S::KIND, &queue);
    enqueue_adopters(pods, &sets, &queue);
    let reconcile = move |key| {
        let controller = controller.clone();
        async move { controller.reconcile::<S>(&key).await }
    };
    context.work(queue, context.config.workers, &[&sets, pods], reconcile).await;
}

impl Controller {
    async fn reconcile<S: Replicated>(&self, key: &Key) -> Outcome {
        let Some(object) = self.sets.get(&key.namespace, &key.name) else {
            return Ok(None);
        };
        let set: S = decode(&object).map_err(Status::internal)?;
        let Some(selector) = selector(&object) else { return Ok(None) };
        let fresh = self.control.fresh(&set, &selector).await?;
        let pods = self.control.claim(&set, &selector).await?;
        let per_node = if plan::has_surplus(&set, &pods) { self.neighbours(&object) } else { HashMap::new() };
        let snapshot = Snapshot { set: &set, pods: &pods, per_node: &per_node, fresh };
        let now = Timestamp::now();
        let result = self.carry_out(&set, plan::plan(&snapshot, now)).await;
        let failure = result.as_ref().err().map(|(reason, status)| (*reason, status.message.clone()));
        self.report(&set, &pods, failure.as_ref(), now).await?;
        match result {
            Err((_, status)) => Err(status),
            Ok(()) if !fresh => Ok(Some(STALE_PAUSE)),
            Ok(()) => Ok(plan::look_again(&set, &pods, now)),
        }
    }

    /// Active pods by node of all sets with the same controlling owner as this one.
    fn neighbours(&self, set: &Object) -> HashMap<Box<str>, usize> {
        let siblings = match set.meta().controller() {
            Some(owner) => self.sets.by_owner(&owner.uid),
            None => vec![set.clone()],
        };
        let mut per_node = HashMap::new();
        for sibling in siblings {
            let pods = self.control.pods.controlled_by(&sibling.meta().uid);
            for pod in pods.iter().filter(|pod| pod.active()) {
                *per_node.entry(pod.node.clone()).or_default() += 1;
            }
        }
        per_node
    }

    async fn carry_out<S: Replicated>(&self, set: &S, plan: Plan) -> Result<(), (&'static str, Status)> {
        if plan.create > 0 {
            let template = set.template().cloned().unwrap_or_default();
            let body = pod_body(set, template, None).map_err(|e| ("FailedCreate", e))?;
            let bodies = vec![body; plan.create];
            return self.control.create_all(set, &bodies).await.map_err(|e| ("FailedCreate", e));
        }
        self.control.delete_all(set, &plan.delete).await.map_err(|e| ("FailedDelete", e))
    }

    /// Writes the status if it changed.
    async fn report<S: Replicated>(
        &self,
        set: &S,
        pods: &[Arc<Facts>],
        failure: Option<&Failure>,
        now: Timestamp,
    ) -> Result<(), Status> {
        let status = plan::status(set, pods, failure, now);
        let Some(changed) = set.with_status(status) else { return Ok(()) };
        let api = Api::<S>::new(self.control.client.clone(), set.namespace());
        ignore_not_found(api.update_status(&changed).await.map(drop))
    }
}
