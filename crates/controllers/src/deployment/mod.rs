//! Deployments: a template rolled out through ReplicaSets, one per revision.
//!
//! - [`plan`] decides one step; this file carries it out. Every write carries the revision it was decided on, so that a
//!   stale decision is refused, and no step is taken before the cache shows the last one's writes ([`Recent`]).
//! - A rollback needs nothing here: `kubectl rollout undo` gives the Deployment an old template, whose set is found again
//!   and becomes the newest revision.

#[cfg(test)]
mod laws;
mod plan;
mod revision;
mod scale;
mod status;
#[cfg(test)]
mod tests;
pub(crate) mod view;
mod work;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use tiphys_api::selector::LabelSelector;
use tiphys_api::{Object, Status};
use tiphys_client::typed::{Kind, decode, encode};
use tiphys_client::{Api, Client, DeleteOptions, Informer, Recorder, Target, WorkQueue, WriteOptions};

use crate::claim::{Claim, adopt, claim, release};
use crate::context::{Context, Key, Outcome, enqueue_all, enqueue_owners, ignore_not_found};
use crate::pods::Pods;
use crate::recent::Recent;
use work::{Change, Plan};

const STALE_PAUSE: Duration = Duration::from_secs(1);

struct Controller {
    client: Arc<dyn Client>,
    recorder: Recorder,
    deployments: Arc<Informer>,
    sets: Arc<Informer>,
    pods: Arc<Pods>,
    recent: Recent,
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let client = context.client("deployment-controller");
    let recorder = context.recorder(&client, "deployment-controller");
    let deployments = context.informer(&Deployment::GVR);
    let sets = context.informer(&ReplicaSet::GVR);
    let queue = WorkQueue::named("deployment");
    let pods = context.pods.clone();
    enqueue_all(&deployments, &queue);
    enqueue_owners(&sets, "Deployment", &queue);
    enqueue_adopters(&sets, &deployments, &queue);
    enqueue_recreators(pods.informer(), &sets, &queue);
    let informers = [deployments.clone(), sets.clone(), pods.informer().clone()];
    let controller =
        Arc::new(Controller { client, recorder, deployments, sets, pods, recent: Recent::default() });
    let reconcile = move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    };
    context.work(queue, context.config.workers, &informers.each_ref(), reconcile).await;
}

/// A set without a controller wakes the deployments of its namespace that select it.
fn enqueue_adopters(sets: &Informer, deployments: &Arc<Informer>, queue: &Arc<WorkQueue<Key>>) {
    let (deployments, queue) = (Arc::downgrade(deployments), queue.clone());
    sets.on_change(Box::new(move |_, new| {
        let Some(set) = new.filter(|set| set.meta().controller().is_none()) else { return };
        let Some(deployments) = deployments.upgrade() else { return };
        for deployment in deployments.list(&set.meta().namespace) {
            if selector(&deployment).is_some_and(|selector| selector.matches(&set.meta().labels)) {
                queue.add(Key::of(&deployment));
            }
        }
    }));
}

/// The end of a pod wakes its set's deployment: recreation waits for it.
fn enqueue_recreators(pods: &Informer, sets: &Arc<Informer>, queue: &Arc<WorkQueue<Key>>) {
    let (sets, queue) = (Arc::downgrade(sets), queue.clone());
    pods.on_change(Box::new(move |old, new| {
        let (Some(gone), None, Some(sets)) = (old, new, sets.upgrade()) else { return };
        let meta = gone.meta();
        let Some(set) = meta.controller().and_then(|owner| sets.get(&meta.namespace, &owner.name)) else {
            return;
        };
        if let Some(owner) = set.meta().controller().filter(|owner| *owner.kind == *"Deployment") {
            queue.add(Key::new(&meta.namespace, &owner.name));
        }
    }));
}

/// The selector of a deployment; `None` if it is empty or broken: such a one selects nothing.
fn selector(deployment: &Object) -> Option<LabelSelector> {
    let value = deployment.value().ok()?;
    let selector = LabelSelector::from_value(value.get("spec")?.get("selector")?).ok()?;
    Some(selector).filter(|selector| !selector.is_everything())
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        let Some(object) = self.deployments.get(&key.namespace, &key.name) else { return Ok(None) };
        let deployment: Deployment = decode(&object).map_err(Status::internal)?;
        let Some(selector) = selector(&object) else {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            self.recorder.event(&deployment.reference(), "Warning", "SelectingAll", message);
            return Ok(None);
        };
        if !self.recent.fresh(deployment.uid(), self.sets.revision()) {
            return Ok(Some(STALE_PAUSE));
        }
        let sets = self.claim(&deployment, &selector).await?;
        let running = |uid: &str| self.pods.controlled_by(uid).iter().filter(|pod| !pod.ended()).count();
        let plan = plan::plan(&deployment, sets, running, Timestamp::now());
        let again = plan.again;
        self.carry_out(&deployment, plan).await?;
        Ok(again)
    }

    /// The deployment's sets, after adopting and releasing.
    async fn claim(
        &self,
        deployment: &Deployment,
        selector: &LabelSelector,
    ) -> Result<Vec<ReplicaSet>, Status> {
        let deleting = deployment.metadata.deletion_timestamp.is_some();
        let mut ours = Vec::new();
        let orphan = |set: &Object| set.meta().controller().is_none() && selector.matches(&set.meta().labels);
        let orphans = self.sets.filter(deployment.namespace(), orphan);
        for set in self.sets.by_owner(deployment.uid()).into_iter().chain(orphans) {
            match claim(deployment.uid(), deleting, selector, &set) {
                Claim::Ours => ours.push(decode(&set).map_err(Status::internal)?),
                Claim::Adopt => {
                    let adopted = adopt::<ReplicaSet, _>(self.client.as_ref(), deployment, &set).await?;
                    ours.push(decode(&adopted).map_err(Status::internal)?);
                }
                Claim::Release => {
                    let released = release::<ReplicaSet>(self.client.as_ref(), deployment.uid(), &set).await;
                    ignore_not_found(released.map(drop))?;
                }
                Claim::Ignore => {}
            }
        }
        Ok(ours)
    }

    async fn carry_out(&self, deployment: &Deployment, plan: Plan) -> Result<(), Status> {
        let Plan { create, update, delete, revision, status, .. } = plan;
        if let Some(change) = create {
            self.create(deployment, &change, &status).await?;
        }
        for change in update {
            self.update(deployment, &change).await?;
        }
        for set in delete {
            let options = DeleteOptions { uid: set.metadata.uid.clone(), ..DeleteOptions::default() };
            ignore_not_found(self.sets_api(deployment).delete(set.name(), &options).await)?;
        }
        self.report(deployment, revision, status).await
    }

    async fn create(
        &self,
        deployment: &Deployment,
        change: &Change,
        status: &DeploymentStatus,
    ) -> Result<(), Status> {
        let set = &change.set;
        let target = Target::new(&ReplicaSet::GVR, set.namespace(), set.name());
        let body = encode(set).map_err(Status::internal)?;
        let refused = match self.client.create(&target, body, &WriteOptions::default()).await {
            Ok(made) => {
                self.recent.wrote(deployment.uid(), &made);
                self.tell(deployment, change);
                return Ok(());
            }
            Err(refused) => refused,
        };
        let mut failed = DeploymentStatus { ..deployment.status.clone().unwrap_or_default() };
        if refused.is("AlreadyExists") {
            let live = self.client.get(&target).await?;
            let set: ReplicaSet = decode(&live).map_err(Status::internal)?;
            let ours = live.meta().controller().is_some_and(|owner| *owner.uid == *deployment.uid());
            if ours && revision::same_template(deployment, &set) {
                // Made before, not seen yet.
                self.recent.wrote(deployment.uid(), &live);
                return Err(refused);
            }
            failed.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        } else {
            status::create_failed(&mut failed, set.name(), &refused.message, Timestamp::now());
            let message = format!("Failed to create new replica set {:?}: {refused}", set.name());
            self.recorder.event(&deployment.reference(), "Warning", "ReplicaSetCreateError", message);
        }
        self.report(deployment, None, failed).await?;
        Err(refused)
    }

    async fn update(&self, deployment: &Deployment, change: &Change) -> Result<(), Status> {
        let set = &change.set;
        let target = Target::new(&ReplicaSet::GVR, set.namespace(), set.name());
        let body = encode(set).map_err(Status::internal)?;
        let written = self.client.update(&target, body, &WriteOptions::default()).await?;
        self.recent.wrote(deployment.uid(), &written);
        self.tell(deployment, change);
        Ok(())
    }

    fn tell(&self, deployment: &Deployment, change: &Change) {
        if let Some(message) = &change.event {
            self.recorder.event(&deployment.reference(), "Normal", "ScalingReplicaSet", message.clone());
        }
    }

    /// Notes the revision and writes the status, each only if it changed.
    async fn report(
        &self,
        deployment: &Deployment,
        revision: Option<String>,
        status: DeploymentStatus,
    ) -> Result<(), Status> {
        let api = Api::<Deployment>::new(self.client.clone(), deployment.namespace());
        let mut current = deployment.clone();
        if let Some(revision) = revision {
            current.metadata.annotations.get_or_insert_default().insert(view::REVISION.to_owned(), revision);
            current = api.update(&current).await?;
        }
        if deployment.status.as_ref() == Some(&status) {
            return Ok(());
        }
        // The status tells of the generation it was computed from; a newer one is looked at next.
        current.status = Some(status);
        ignore_not_found(api.update_status(&current).await.map(drop))
    }

    fn sets_api(&self, deployment: &Deployment) -> Api<ReplicaSet> {
        Api::new(self.client.clone(), deployment.namespace())
    }
}
