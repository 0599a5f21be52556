//! Removes finished Jobs once their `ttlSecondsAfterFinished` is over.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use tiphys_api::Status;
use tiphys_client::typed::{Kind, decode};
use tiphys_client::{Api, DeleteOptions, WorkQueue};

use super::plan::is_finished;
use crate::context::{Context, Key, Outcome, enqueue_all, ignore_not_found, until};

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let client = context.client("ttl-after-finished-controller");
    let jobs = context.informer(&Job::GVR);
    let queue = WorkQueue::named("ttl_jobs_to_delete");
    enqueue_all(&jobs, &queue);
    let cached = jobs.clone();
    let reconcile = move |key: Key| {
        let (jobs, client) = (cached.clone(), client.clone());
        async move {
            let Some(object) = jobs.get(&key.namespace, &key.name) else { return Ok(None) };
            let job: Job = decode(&object).map_err(Status::internal)?;
            let Some(at) = expires(&job) else { return Ok(None) };
            let left = until(at, Timestamp::now());
            if !left.is_zero() {
                return Outcome::Ok(Some(left));
            }
            let options = DeleteOptions {
                propagation: Some("Foreground"),
                resource_version: Some(object.meta().resource_version),
                ..DeleteOptions::of(object.meta())
            };
            let api = Api::<Job>::new(client, &key.namespace);
            ignore_not_found(api.delete(&key.name, &options).await)?;
            Ok(None)
        }
    };
    context.work(queue, 1, &[&jobs], reconcile).await;
}

/// When a finished job's time is over.
fn expires(job: &Job) -> Option<Timestamp> {
    let status = job.status.as_ref().filter(|status| is_finished(status))?;
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let ended =
        |kind: &str| status.conditions.iter().flatten().find(|c| c.type_ == kind && c.status == "True");
    let ended = ended("Complete").or_else(|| ended("Failed"))?.last_transition_time.as_ref()?;
    job.metadata.deletion_timestamp.is_none().then_some(())?;
    ended.0.checked_add(SignedDuration::from_secs(seconds.into())).ok()
}
