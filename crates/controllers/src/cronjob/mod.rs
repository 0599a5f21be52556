//! CronJobs: a Job at every time of a schedule.
//!
//! A Job's name holds its time, so that none is made twice. One timer per CronJob waits for its next time.

mod schedule;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use tiphys_api::Status;
use tiphys_client::typed::{Kind, decode, encode};
use tiphys_client::{Api, Client, DeleteOptions, Informer, Recorder, Target, WorkQueue, WriteOptions};

use crate::context::{Context, Key, Outcome, enqueue_all, enqueue_owners, ignore_not_found, until};
use crate::recent::{Recent, forget_gone};
use schedule::Schedule;

/// More missed times than this are told.
const MISSED_MANY: usize = 100;
const STALE_PAUSE: Duration = Duration::from_secs(1);
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

struct Controller {
    client: Arc<dyn Client>,
    recorder: Recorder,
    crons: Arc<Informer>,
    jobs: Arc<Informer>,
    /// Our own writes of jobs and of statuses: what the caches do not show yet must not be missed.
    made: Recent,
    written: Recent,
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let client = context.client("cronjob-controller");
    let recorder = context.recorder(&client, "cronjob-controller");
    let crons = context.informer(&CronJob::GVR);
    let jobs = context.informer(&Job::GVR);
    let queue = WorkQueue::named("cronjob");
    enqueue_all(&crons, &queue);
    enqueue_owners(&jobs, "CronJob", &queue);
    let informers = [crons.clone(), jobs.clone()];
    let (made, written) = (Recent::default(), Recent::default());
    let controller = Arc::new(Controller { client, recorder, crons: crons.clone(), jobs, made, written });
    forget_gone(&crons, &controller, |controller| &controller.made);
    forget_gone(&crons, &controller, |controller| &controller.written);
    let reconcile = move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    };
    context.work(queue, context.config.workers, &informers.each_ref(), reconcile).await;
}

/// `Complete` or `Failed`, if the job has ended.
fn ended(job: &Job) -> Option<&str> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ends = |kind: &str| ["Complete", "Failed"].contains(&kind);
    conditions.iter().find(|c| c.status == "True" && ends(&c.type_)).map(|c| c.type_.as_str())
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        // Before the object: what is read afterwards is no older.
        let revision = self.crons.revision();
        let Some(object) = self.crons.get(&key.namespace, &key.name) else { return Ok(None) };
        let cron: CronJob = decode(&object).map_err(Status::internal)?;
        let made = self.made.fresh(cron.uid(), self.jobs.revision());
        if !made || !self.written.fresh(cron.uid(), revision) {
            return Ok(Some(STALE_PAUSE));
        }
        let jobs: Vec<Job> = self
            .jobs
            .by_owner(cron.uid())
            .iter()
            .map(decode)
            .collect::<Result<_, _>>()
            .map_err(Status::internal)?;
        let spec = cron.spec.clone();
        let mut status = cron.status.clone().unwrap_or_default();
        self.account(&cron, &jobs, &mut status);
        self.clean_up(&cron, &spec, &jobs).await?;
        let alive = cron.metadata.deletion_timestamp.is_none() && spec.suspend != Some(true);
        let again = match alive {
            true => self.schedule(&cron, &spec, &jobs, &mut status).await,
            false => Ok(None),
        };
        if cron.status.as_ref() != Some(&status) {
            self.report(CronJob { status: Some(status), ..cron }).await?;
        }
        again
    }

    async fn report(&self, cron: CronJob) -> Result<(), Status> {
        let target = Target::new(&CronJob::GVR, cron.namespace(), cron.name()).sub("status");
        let body = encode(&cron).map_err(Status::internal)?;
        match self.client.update(&target, body, &WriteOptions::default()).await {
            Ok(written) => self.written.wrote(cron.uid(), &written),
            Err(status) if status.is("NotFound") => {}
            Err(status) => return Err(status),
        }
        Ok(())
    }

    fn tell(&self, cron: &CronJob, kind: &str, reason: &str, message: String) {
        self.recorder.event(&cron.reference(), kind, reason, message);
    }

    /// Takes note of the jobs that have ended or are gone.
    fn account(&self, cron: &CronJob, jobs: &[Job], status: &mut CronJobStatus) {
        let mut active = status.active.take().unwrap_or_default();
        for job in jobs {
            let listed = active.iter().any(|known| known.uid == job.metadata.uid);
            match ended(job) {
                None if !listed => {
                    // Made by hand, or by us just before a restart.
                    let message =
                        format!("Saw a job that the controller did not create or forgot: {}", job.name());
                    self.tell(cron, "Warning", "UnexpectedJob", message);
                    active.push(job.reference());
                }
                Some(how) if listed => {
                    let message = format!("Saw completed job: {}, condition: {how}", job.name());
                    self.tell(cron, "Normal", "SawCompletedJob", message);
                }
                _ => {}
            }
            let success = job.status.as_ref().and_then(|status| status.completion_time.clone());
            if ended(job) == Some("Complete") && success > status.last_successful_time {
                status.last_successful_time = success;
            }
        }
        active.retain(|known| match jobs.iter().find(|job| job.metadata.uid == known.uid) {
            Some(job) => ended(job).is_none(),
            None => {
                let name = known.name.as_deref().unwrap_or_default();
                self.tell(cron, "Normal", "MissingJob", format!("Active job went missing: {name}"));
                false
            }
        });
        // References name what does not change.
        active.iter_mut().for_each(|known| known.resource_version = None);
        status.active = Some(active).filter(|active| !active.is_empty());
    }

    /// Deletes the oldest ended jobs beyond the limits.
    async fn clean_up(&self, cron: &CronJob, spec: &CronJobSpec, jobs: &[Job]) -> Result<(), Status> {
        let limits = [
            ("Complete", spec.successful_jobs_history_limit.unwrap_or(3)),
            ("Failed", spec.failed_jobs_history_limit.unwrap_or(1)),
        ];
        for (how, limit) in limits {
            let mut old: Vec<&Job> = jobs.iter().filter(|job| ended(job) == Some(how)).collect();
            old.sort_by_key(|job| job.metadata.creation_timestamp.clone());
            let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
            for job in old.into_iter().take(surplus) {
                self.delete(cron, job).await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, cron: &CronJob, job: &Job) -> Result<(), Status> {
        if job.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let options = DeleteOptions {
            propagation: Some("Background"),
            uid: job.metadata.uid.clone(),
            ..DeleteOptions::default()
        };
        let api = Api::<Job>::new(self.client.clone(), job.namespace());
        match ignore_not_found(api.delete(job.name(), &options).await) {
            Ok(()) => {
                self.tell(cron, "Normal", "SuccessfulDelete", format!("Deleted job {}", job.name()));
                Ok(())
            }
            Err(status) => {
                self.tell(cron, "Warning", "FailedDelete", format!("Deleted job: {status}"));
                Err(status)
            }
        }
    }

    /// Starts the job whose time has come, and tells when the next one's comes.
    async fn schedule(
        &self,
        cron: &CronJob,
        spec: &CronJobSpec,
        jobs: &[Job],
        status: &mut CronJobStatus,
    ) -> Outcome {
        let zone = match spec.time_zone.as_deref().map(TimeZone::get) {
            None => TimeZone::UTC,
            Some(Ok(zone)) => zone,
            Some(Err(error)) => {
                self.tell(cron, "Warning", "UnknownTimeZone", format!("invalid timeZone: {error}"));
                return Ok(None);
            }
        };
        let schedule = match Schedule::parse(&spec.schedule) {
            Ok(schedule) => schedule,
            Err(why) => {
                let message = format!("unparseable schedule {:?}: {why}", spec.schedule);
                self.tell(cron, "Warning", "UnparseableSchedule", message);
                return Ok(None);
            }
        };
        let now = Timestamp::now();
        let since = status.last_schedule_time.as_ref().or(cron.metadata.creation_timestamp.as_ref());
        let since = since.map_or(now, |time| time.0);
        let next = schedule.next(since, now, &zone).map(|at| until(at, now) + Duration::from_millis(100));
        let Some(time) = schedule.last(since, now, &zone) else { return Ok(next) };
        self.tell_missed(cron, &schedule, since, now, &zone);
        let late =
            |seconds: i64| time.saturating_add(SignedDuration::from_secs(seconds)).is_ok_and(|at| at < now);
        if spec.starting_deadline_seconds.is_some_and(late) {
            let time = time.strftime("%a, %d %b %Y %H:%M:%S +0000");
            let message = format!("Missed scheduled time to start a job: {time}");
            self.tell(cron, "Warning", "MissSchedule", message);
            return Ok(next);
        }
        let busy = status.active.as_ref().is_some_and(|active| !active.is_empty());
        match spec.concurrency_policy.as_deref() {
            Some("Forbid") if busy => {
                let message =
                    "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.tell(cron, "Normal", "JobAlreadyActive", message.into());
                return Ok(next);
            }
            Some("Replace") => {
                for job in jobs.iter().filter(|job| ended(job).is_none()) {
                    self.delete(cron, job).await?;
                }
                status.active = None;
            }
            _ => {}
        }
        self.start(cron, spec, time, status).await?;
        Ok(next)
    }

    /// Many missed times tell of a clock that jumped or a controller that was away for long; only the last is made up.
    fn tell_missed(
        &self,
        cron: &CronJob,
        schedule: &Schedule,
        since: Timestamp,
        now: Timestamp,
        zone: &TimeZone,
    ) {
        let mut time = since;
        for _ in 0..=MISSED_MANY {
            match schedule.next(time, time, zone).filter(|next| *next <= now) {
                Some(next) => time = next,
                None => return,
            }
        }
        let message =
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        self.tell(cron, "Warning", "TooManyMissedTimes", message.into());
    }

    async fn start(
        &self,
        cron: &CronJob,
        spec: &CronJobSpec,
        time: Timestamp,
        status: &mut CronJobStatus,
    ) -> Result<(), Status> {
        let job = compose(cron, spec, time);
        let target = Target::new(&Job::GVR, job.namespace(), job.name());
        let body = encode(&job).map_err(Status::internal)?;
        match self.client.create(&target, body, &WriteOptions::default()).await {
            Ok(made) => {
                self.made.wrote(cron.uid(), &made);
                let job: Job = decode(&made).map_err(Status::internal)?;
                self.tell(cron, "Normal", "SuccessfulCreate", format!("Created job {}", job.name()));
                let reference = ObjectReference { resource_version: None, ..job.reference() };
                status.active.get_or_insert_default().push(reference);
            }
            // Made before, not seen yet.
            Err(status) if status.is("AlreadyExists") => {}
            Err(status) => {
                self.tell(cron, "Warning", "FailedCreate", format!("Error creating job: {status}"));
                return Err(status);
            }
        }
        status.last_schedule_time = Some(Time(time));
        Ok(())
    }
}

fn compose(cron: &CronJob, spec: &CronJobSpec, time: Timestamp) -> Job {
    let template = spec.job_template.clone();
    let given = template.metadata.unwrap_or_default();
    let mut annotations = given.annotations.unwrap_or_default();
    annotations.insert(SCHEDULED.into(), time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", cron.name(), time.as_second() / 60)),
            namespace: cron.metadata.namespace.clone(),
            labels: given.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![cron.controller_reference()]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}
