//! Jobs: pods that run to their end, counted exactly.
//!
//! [`plan`] decides; this file brings in pods and carries out, in an order that a crash at any point may cut off: create,
//! write the status, take finalizers off, delete.

mod count;
mod indexes;
#[cfg(test)]
mod laws;
mod per_index;
mod plan;
mod pods;
#[cfg(test)]
mod tests;
pub(crate) mod ttl;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use tiphys_api::{Status, Value, json};
use tiphys_client::typed::{Kind, decode, encode};
use tiphys_client::{Informer, PatchKind, Target, WorkQueue, WriteOptions};

use crate::context::{Context, Key, Outcome, enqueue_all, enqueue_owners, ignore_not_found};
use crate::pod_control::{PodControl, enqueue_adopters, pod_body, selector};
use crate::pods::Facts;
use crate::recent::{Recent, forget_gone};
use plan::{NewPod, Plan};
use pods::{FAILURES, FINALIZER, IGNORED, INDEX, JobPod};

const STALE_PAUSE: Duration = Duration::from_secs(1);
const OURS: &str = "kubernetes.io/job-controller";

struct Controller {
    control: PodControl,
    jobs: Arc<Informer>,
    /// Our own writes of jobs: an old status must not be counted on.
    written: Recent,
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let control = PodControl::new(&context, "job-controller", "job-controller");
    let jobs = context.informer(&Job::GVR);
    let pods = context.pods.informer();
    let queue = WorkQueue::named("job");
    let controller = Arc::new(Controller { control, jobs: jobs.clone(), written: Recent::default() });
    forget_gone(&jobs, &controller, |controller| &controller.control.recent);
    forget_gone(&jobs, &controller, |controller| &controller.written);
    enqueue_all(&jobs, &queue);
    enqueue_owners(pods, "Job", &queue);
    enqueue_adopters(pods, &jobs, &queue);
    let reconcile = move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    };
    context.work(queue, context.config.workers, &[&jobs, pods], reconcile).await;
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        // Before the job: what is read afterwards is no older. The other way round an old status could pass for the one
        // that we wrote, and its failed indexes would be tried again.
        let revision = self.jobs.revision();
        let Some(object) = self.jobs.get(&key.namespace, &key.name) else {
            self.release_orphans(key).await?;
            return Ok(None);
        };
        let job: Job = decode(&object).map_err(Status::internal)?;
        let spec = job.spec.as_ref();
        let foreign = spec.and_then(|spec| spec.managed_by.as_deref()).is_some_and(|by| by != OURS);
        let Some(selector) = selector(&object).filter(|_| !foreign) else { return Ok(None) };
        if !self.written.fresh(job.uid(), revision) || !self.control.fresh(&job, &selector).await? {
            return Ok(Some(STALE_PAUSE));
        }
        let pods: Vec<JobPod> = self.control.claim(&job, &selector).await?.iter().map(JobPod::of).collect();
        if job.metadata.deletion_timestamp.is_some() {
            return self.release(&pods).await.map(|()| None);
        }
        let plan = plan::plan(&job, &pods, Timestamp::now());
        let again = plan.again;
        self.carry_out(&job, plan).await?;
        Ok(again)
    }

    /// The status comes before the finalizers: what it does not tell may not be forgotten by taking one off.
    async fn carry_out(&self, job: &Job, plan: Plan) -> Result<(), Status> {
        let Plan { mut status, create, delete, release, events, .. } = plan;
        let bodies: Result<Vec<Bytes>, Status> = create.iter().map(|pod| body(job, pod)).collect();
        let (created, outcome) = self.control.create_counted(job, &bodies?).await;
        status.active = Some(status.active.unwrap_or(0) + created as i32).filter(|n| *n > 0);
        self.report(job, status).await?;
        for (kind, reason, message) in events {
            self.control.tell(job, kind, &reason, message);
        }
        self.release(&release).await?;
        self.control.delete_all(job, &delete).await?;
        outcome
    }

    /// Writes the status if it changed.
    async fn report(&self, job: &Job, status: JobStatus) -> Result<(), Status> {
        if job.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let changed = Job { status: Some(status), ..job.clone() };
        let target = Target::new(&Job::GVR, job.namespace(), job.name()).sub("status");
        let body = encode(&changed).map_err(Status::internal)?;
        let written = self.control.client.update(&target, body, &WriteOptions::default()).await?;
        self.written.wrote(job.uid(), &written);
        Ok(())
    }

    async fn release(&self, pods: &[JobPod]) -> Result<(), Status> {
        let released = pods.iter().filter(|pod| pod.tracked).map(|pod| self.release_one(&pod.facts));
        futures::future::join_all(released).await.into_iter().collect()
    }

    /// Takes our finalizer off a pod.
    async fn release_one(&self, pod: &Facts) -> Result<(), Status> {
        let meta = pod.meta();
        let left: Vec<&str> = meta.finalizers.iter().map(AsRef::as_ref).filter(|f| *f != FINALIZER).collect();
        let patch = json!({"metadata": {
            "finalizers": if left.is_empty() { Value::Null } else { json!(left) },
            "resourceVersion": meta.resource_version.to_string(),
            "uid": meta.uid,
        }});
        let target = Target::new(&Pod::GVR, &meta.namespace, &meta.name);
        let options = WriteOptions::default();
        let patched =
            self.control.client.patch(&target, PatchKind::Merge, patch.to_string().into(), &options).await;
        ignore_not_found(patched.map(drop))
    }

    /// Lets the pods go whose job is gone.
    async fn release_orphans(&self, key: &Key) -> Result<(), Status> {
        for pod in self.control.pods.in_namespace(&key.namespace) {
            let owner = pod.meta().controller();
            let ours = owner.is_some_and(|owner| *owner.kind == *"Job" && owner.name == key.name);
            let pod = JobPod::of(&pod);
            if ours && pod.tracked {
                self.release_one(&pod.facts).await?;
            }
        }
        Ok(())
    }
}

/// The pod of a job, or of one of its indexes.
fn body(job: &Job, pod: &NewPod) -> Result<Bytes, Status> {
    let mut template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let metadata = template.metadata.get_or_insert_default();
    metadata.finalizers.get_or_insert_default().push(FINALIZER.into());
    let Some(index) = pod.index else { return pod_body(job, template, None) };
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.into(), index.to_string());
    if let Some((failures, ignored)) = pod.before {
        annotations.insert(FAILURES.into(), failures.to_string());
        if ignored > 0 {
            annotations.insert(IGNORED.into(), ignored.to_string());
        }
    }
    metadata.labels.get_or_insert_default().insert(INDEX.into(), index.to_string());
    let spec = template.spec.get_or_insert_default();
    spec.hostname.get_or_insert_with(|| format!("{}-{index}", job.name()));
    let field =
        ObjectFieldSelector { field_path: format!("metadata.labels['{INDEX}']"), ..Default::default() };
    let variable = EnvVar {
        name: "JOB_COMPLETION_INDEX".into(),
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
        ..EnvVar::default()
    };
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        let env = container.env.get_or_insert_default();
        if !env.iter().any(|known| known.name == variable.name) {
            env.push(variable.clone());
        }
    }
    let mut body: Value =
        serde_json::from_slice(&pod_body(job, template, None)?).map_err(Status::internal)?;
    body["metadata"]["generateName"] = format!("{}-{index}-", job.name()).into();
    Ok(body.to_string().into())
}
