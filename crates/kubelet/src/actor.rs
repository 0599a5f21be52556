//! One pod: a task that reads news, updates what it knows, plans, starts the plan's actions, and pushes the status.
//!
//! - It is the only writer of its [`State`]; actions run beside it and tell it their outcomes.
//! - News come from the API (the newest version of the object, older ones are skipped), the runtime's events, its own
//!   actions, and changed sources of volumes. Between them it sleeps until the next due time of the plan.
//! - It ends when the pod is gone and nothing of it is left. Dropping it drops its actions; containers run on.

mod outcome;
mod report;
mod resize;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use tiphys_api::Object;
use tiphys_client::typed;
use tiphys_runtime::{Container, ContainerState, Event, Filter, Sandbox};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::eviction::local;
use crate::ops::{Job, News};
use crate::plan::{self, Task};
use crate::state::{Image, State, Stopping, Verdict, Volumes};
use crate::{admit, allocation, pod, sandbox, shutdown, volumes};
use report::Report;

const NEWS: usize = 64;

/// How the outside reaches an actor.
pub(crate) struct Handle {
    /// The newest version of the object; `None` while the API has none.
    pub(crate) pod: watch::Sender<Option<Object>>,
    /// Cancelled once the object, or the file, has gone for good.
    pub(crate) gone: CancellationToken,
    pub(crate) events: mpsc::Sender<Event>,
    /// Events may have been missed: read everything from the runtime again.
    pub(crate) resync: Arc<Notify>,
    pub(crate) tell: mpsc::Sender<News>,
    /// Whether its containers have limits for what they have on the disk.
    pub(crate) limited: bool,
    /// The pod's priority.
    pub(crate) priority: i32,
    /// Cancelled once nothing of the pod runs any more nor will, and the API knows.
    pub(crate) ended: CancellationToken,
}

/// What the runtime has of a pod when its actor begins.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) sandboxes: Vec<Sandbox>,
    pub(crate) containers: Vec<Container>,
}

pub(crate) struct Actor {
    ctx: Arc<Context>,
    pod: Arc<Pod>,
    state: State,
    /// A kubelet before this process had taken the pod already.
    admitted: bool,
    report: Report,
    inbox: watch::Receiver<Option<Object>>,
    gone: CancellationToken,
    ended: CancellationToken,
    events: mpsc::Receiver<Event>,
    resync: Arc<Notify>,
    sources: Arc<Notify>,
    /// Changes of what the node has left for other sizes.
    room: watch::Receiver<u64>,
    news: mpsc::Receiver<News>,
    tell: mpsc::Sender<News>,
    jobs: JoinSet<()>,
    /// Kills under way, by container, to be cut short if it ends during its preStop hook.
    kills: HashMap<String, (Task, AbortHandle)>,
}

/// Starts the actor of a pod. The future ends when nothing is left of the pod.
pub(crate) fn start(
    ctx: Arc<Context>,
    mut pod: Pod,
    object: Option<Object>,
    found: Found,
) -> (Handle, impl Future<Output = ()> + Send + 'static) {
    let gone = object.is_none() && !pod::is_static(&pod);
    let report = Report::new(object.as_ref());
    let (pod_tx, inbox) = watch::channel(object);
    let (events_tx, events) = mpsc::channel(NEWS);
    let (tell, news) = mpsc::channel(NEWS);
    let resync = Arc::new(Notify::new());
    let (is_gone, has_ended) = (CancellationToken::new(), CancellationToken::new());
    let handle = Handle {
        pod: pod_tx,
        gone: is_gone.clone(),
        ended: has_ended.clone(),
        priority: pod::spec(&pod).priority.unwrap_or_default(),
        events: events_tx,
        resync: resync.clone(),
        tell: tell.clone(),
        limited: local::is_limited(&pod),
    };
    let kept = was_there(&pod, &found).then(|| allocation::kept(&ctx.pod_dir(pod::uid(&pod)))).flatten();
    let (promised, asked) = allocation::begin(&mut pod, kept.as_ref());
    let forgettable = pod::is_static(&pod) || allocation::is_nothing(&promised);
    let remembered = if forgettable { promised.clone() } else { kept.unwrap_or_default() };
    let mut actor = Actor {
        state: State { gone, promised, asked, remembered, ..State::default() },
        admitted: false,
        room: ctx.room.subscribe(),
        report,
        ctx,
        pod: Arc::new(pod),
        inbox,
        gone: is_gone,
        ended: has_ended,
        events,
        resync,
        sources: Arc::default(),
        news,
        tell,
        jobs: JoinSet::new(),
        kills: HashMap::new(),
    };
    actor.adopt(found);
    actor.keep_place();
    (handle, Box::pin(actor.run()))
}

/// Whether a kubelet before this process may have known the pod. Few new pods, and none of many, are looked up on disk.
fn was_there(pod: &Pod, found: &Found) -> bool {
    let started = pod.status.as_ref().is_some_and(|status| status.start_time.is_some());
    !pod::is_static(pod) && (started || !found.sandboxes.is_empty())
}

impl Actor {
    async fn run(mut self) {
        if !self.admitted && !pod::is_static(&self.pod) {
            // Those that ran before have their places first.
            let _ = self.ctx.admitting.subscribe().wait_for(|admitting| *admitting).await;
        }
        self.judge_admission();
        loop {
            let now = Timestamp::now();
            self.settle(now);
            let plan = plan::plan(&self.pod, &self.state, now);
            for task in plan.actions {
                self.begin(task, now);
            }
            self.push(now);
            if self.has_ended() {
                self.ended.cancel();
            }
            if self.state.purged {
                return;
            }
            let wake = plan.wake.into_iter().chain(self.report.retry).min();
            self.wait(wake).await;
        }
    }

    async fn wait(&mut self, wake: Option<Timestamp>) {
        tokio::select! {
            changed = self.inbox.changed() => {
                match changed {
                    Ok(()) => self.take_object(),
                    // The manager is gone: the process is ending.
                    Err(_) => std::future::pending().await,
                }
            }
            () = self.gone.cancelled(), if !self.state.gone => self.state.gone = true,
            Some(event) = self.events.recv() => self.take_event(&event),
            Some(news) = self.news.recv() => self.take_news(news),
            () = self.sources.notified() => self.sources_changed(Timestamp::now()),
            Ok(()) = self.room.changed(), if self.state.pending.is_some() => {}
            () = self.resync.notified() => self.read_runtime().await,
            Some(_) = self.jobs.join_next() => {}
            () = sleep_until(wake) => {}
        }
    }

    fn sources_changed(&mut self, now: Timestamp) {
        match &mut self.state.volumes {
            Volumes::Failed(failure) => failure.retry = now,
            _ => self.state.refresh = Some(now),
        }
    }

    /// Takes over what runs already: after a restart of this process nothing is started twice.
    fn adopt(&mut self, found: Found) {
        if !found.sandboxes.is_empty() {
            self.ctx.weights.adopt(&self.pod);
        }
        for id in found.sandboxes.iter().map(|s| &s.id).chain(found.containers.iter().map(|c| &c.id)) {
            self.ctx.own(id, pod::uid(&self.pod));
        }
        let status = self.pod.status.as_ref();
        let lists = status
            .map(|s| [&s.init_container_statuses, &s.container_statuses, &s.ephemeral_container_statuses]);
        let known: Vec<_> = lists.into_iter().flatten().flatten().flatten().collect();
        for container in found.containers.iter().filter(|c| c.state == ContainerState::Running) {
            self.state.hooked.insert(container.id.clone());
            let same = |id: &str| id.rsplit('/').next() == Some(container.id.as_str());
            let promised = self.state.promised.get(&container.name).cloned().unwrap_or_default();
            self.state.sized.entry(container.id.clone()).or_insert(promised);
            let before = known.iter().find(|s| s.container_id.as_deref().is_some_and(same));
            if let Some(before) = before {
                self.state.probes.seed(&container.id, before.started == Some(true), before.ready);
            }
        }
        self.state.started = status.and_then(|s| s.start_time.as_ref()).map(|time| time.0);
        found.containers.iter().for_each(|container| self.mend_log(container));
        self.state.resync(found.sandboxes, found.containers);
        let ended: Vec<Container> =
            self.state.containers.iter().filter(|c| c.state == ContainerState::Exited).cloned().collect();
        ended.iter().for_each(|container| self.ask_last_words(container));
    }

    /// Has a running container's log begun anew if it is not there: a kill between its being put aside and that left the
    /// container writing to the old file, which is read no more.
    fn mend_log(&mut self, container: &Container) {
        if container.state != ContainerState::Running || container.log_path.is_empty() {
            return;
        }
        let (runtime, id, log) = (self.ctx.runtime.clone(), container.id.clone(), container.log_path.clone());
        self.jobs.spawn(async move {
            let there = tokio::fs::try_exists(&log).await.unwrap_or(true);
            if !there && let Err(error) = runtime.reopen_log(&id).await {
                tracing::warn!(log, %error, "cannot have a lost log begun anew");
            }
        });
    }

    /// Brings decisions up to date that follow from the time and the object alone.
    fn settle(&mut self, now: Timestamp) {
        let removing = self.pod.metadata.deletion_timestamp.is_some() || self.state.gone;
        self.state.epoch = plan::epoch(&self.pod, &self.state);
        self.state.started.get_or_insert(now);
        if self.state.stopping.is_none() && (removing || plan::end(&self.pod, &self.state).is_some()) {
            self.state.stopping = Some(Stopping { since: now, grace: None });
        }
        self.judge_deadline(now);
        self.leave_place();
        self.judge_resize();
        self.back_off_pulls(now);
    }

    fn judge_admission(&mut self) {
        if plan::end(&self.pod, &self.state).is_some() {
            return;
        }
        if self.state.gone {
            return;
        }
        if self.admitted {
            return;
        }
        let refused = admit::refused(&self.pod).or_else(|| self.take_place());
        let Some(Verdict { reason, message, .. }) = refused else { return };
        let told = format!("Pod was rejected: {message}");
        self.ctx.event(&self.pod, None, "Warning", &reason, message);
        self.state.verdict = Some(Verdict::new(reason, told));
    }

    fn judge_deadline(&mut self, now: Timestamp) {
        let (Some(seconds), Some(started)) =
            (pod::spec(&self.pod).active_deadline_seconds, self.state.started)
        else {
            return;
        };
        let late = now.duration_since(started) >= SignedDuration::from_secs(seconds);
        if late && self.state.verdict.is_none() && plan::end(&self.pod, &self.state).is_none() {
            let message = "Pod was active on the node longer than the specified deadline".to_owned();
            self.ctx.event(&self.pod, None, "Normal", "DeadlineExceeded", message.clone());
            self.state.verdict = Some(Verdict::new("DeadlineExceeded", message));
            self.state.stopping = Some(Stopping { since: now, grace: None });
        }
    }

    /// Ends the pod for what it uses, with so many seconds of grace. Pods that the node needs stay.
    fn evict(&mut self, message: String, grace: i64, now: Timestamp) {
        if pod::is_critical(&self.pod) || self.is_over() || self.hurry(grace, now) {
            return;
        }
        self.ctx.event(&self.pod, None, "Warning", "Evicted", message.clone());
        self.state.verdict = Some(Verdict::disruption("Evicted", message));
        self.state.stopping = Some(Stopping { since: now, grace: Some(grace) });
    }

    /// Ends the pod because the machine goes down, within so many seconds.
    fn shut_down(&mut self, grace: i64, now: Timestamp) {
        if self.is_over() || self.hurry(grace, now) {
            return;
        }
        let grace = grace.min(pod::grace_seconds(&self.pod));
        self.state.verdict = Some(Verdict::disruption("Terminated", shutdown::MESSAGE));
        self.state.stopping = Some(Stopping { since: now, grace: Some(grace) });
    }

    fn is_over(&self) -> bool {
        self.state.verdict.is_some() || plan::end(&self.pod, &self.state).is_some()
    }

    /// Lets a pod that ends for another reason, maybe in an hour, end sooner. Whether it is such a one.
    fn hurry(&mut self, grace: i64, now: Timestamp) -> bool {
        let own = pod::grace_seconds(&self.pod);
        let Some(stopping) = &mut self.state.stopping else { return false };
        let left = now.duration_since(stopping.since).as_secs() + grace;
        stopping.grace = Some(stopping.grace.unwrap_or(own).min(left));
        true
    }

    /// Whether the pod has ended, and the API knows it where it knows the pod at all.
    fn has_ended(&self) -> bool {
        let starting = self.state.busy.iter().any(|task| matches!(task, Task::Start { .. }));
        let ends = self.state.stopping.is_some() && !starting && self.state.running().next().is_none();
        ends && (self.state.gone || self.state.reported || self.inbox.borrow().is_none())
    }

    /// A failed pull is first told as such, then as a pause until the next try.
    fn back_off_pulls(&mut self, now: Timestamp) {
        let mut told = Vec::new();
        for (name, image) in &mut self.state.images {
            let Image::Failed(failure) = image else { continue };
            if failure.retry > now || failure.reason != "ErrImagePull" {
                continue;
            }
            let backoff = self.state.image_backoff.get(name);
            let Some(until) = backoff.and_then(|backoff| backoff.until(failure.retry)) else { continue };
            let container = pod::container(&self.pod, name);
            let spec = container.and_then(|c| c.image.clone()).unwrap_or_default();
            failure.message =
                format!("Back-off pulling image {spec:?}: {}: {}", failure.reason, failure.message);
            failure.reason = "ImagePullBackOff".into();
            failure.retry = until;
            told.push((name.clone(), spec));
        }
        for (name, spec) in told {
            let message = format!("Back-off pulling image {spec:?}");
            self.ctx.event(&self.pod, Some(&name), "Normal", "BackOff", message);
            self.ctx.event(&self.pod, Some(&name), "Warning", "Failed", "Error: ImagePullBackOff".into());
        }
    }

    /// Starts an action.
    fn begin(&mut self, task: Task, now: Timestamp) {
        let mut stale = None;
        let mut target = None;
        match &task {
            Task::Volumes => self.state.refresh = None,
            Task::Start { container, .. } => {
                self.state.images.remove(container);
                target = self.target_of(container);
                let newest = self.state.newest(container);
                stale = newest.filter(|c| c.state == ContainerState::Created).map(|c| c.id.clone());
                let ended = newest.filter(|c| c.state == ContainerState::Exited);
                if let Some(ended) = ended.map(|c| crate::state::time(c.finished_at)) {
                    self.state.crash_backoff.entry(container.clone()).or_default().next(ended, now);
                }
            }
            _ => {}
        }
        let job = Job {
            ctx: self.ctx.clone(),
            pod: self.pod.clone(),
            news: self.tell.clone(),
            sandbox: self.state.sandbox().cloned(),
            mounts: self.state.mounts.clone(),
            stale,
            target,
        };
        self.state.busy.insert(task.clone());
        let abort = self.jobs.spawn(job.run(task.clone()));
        if let Task::Kill { id, .. } = &task {
            self.kills.insert(id.clone(), (task, abort));
        }
    }

    /// Whose processes an ephemeral container is to see.
    fn target_of(&self, name: &str) -> Option<Result<String, String>> {
        let ephemeral = pod::ephemeral_containers(&self.pod).iter().find(|c| c.name == name)?;
        let target = ephemeral.target_container_name.as_deref().filter(|target| !target.is_empty())?;
        let running = self.state.current(target).filter(|c| c.state == ContainerState::Running);
        Some(running.map(|c| c.id.clone()).ok_or_else(|| target.to_owned()))
    }

    fn take_object(&mut self) {
        let object = self.inbox.borrow_and_update().clone();
        let Some(object) = object else { return };
        if pod::is_static(&self.pod) {
            // The file says what the pod is; the API's picture of it only takes the status.
            self.report.seen(&object);
            return;
        }
        match typed::decode::<Pod>(&object) {
            Ok(mut pod) => {
                self.state.asked = allocation::hold(&mut pod, &self.state.promised);
                let pod = self.report.merged(pod);
                if volumes::show_change(&self.pod, &pod) {
                    self.state.refresh = Some(Timestamp::now());
                }
                self.pod = Arc::new(pod);
                self.report.seen(&object);
            }
            Err(error) => tracing::warn!(pod = object.meta().key(), %error, "cannot read a pod"),
        }
    }

    fn take_event(&mut self, event: &Event) {
        let Some(id) = self.state.apply(event) else { return };
        let ended = self.state.containers.iter().find(|c| c.id == id).cloned();
        if !self.state.signalled.contains(&id)
            && let Some((task, abort)) = self.kills.remove(&id)
        {
            abort.abort();
            self.state.busy.remove(&task);
        }
        if let Some(ended) = ended {
            self.ask_last_words(&ended);
            self.tell_back_off(&ended);
        }
        self.state.tidy();
    }

    /// Reads the message an ended container left. It comes as news, a moment after the end itself.
    fn ask_last_words(&mut self, ended: &Container) {
        let (ctx, pod, tell, ended) = (self.ctx.clone(), self.pod.clone(), self.tell.clone(), ended.clone());
        self.jobs.spawn(async move {
            if let Some(words) = crate::ops::last_words(&ctx, &pod, &ended).await {
                let _ = tell.send(News::Words(ended.id, words)).await;
            }
        });
    }

    fn tell_back_off(&self, ended: &Container) {
        let backoff = self.state.crash_backoff.get(&ended.name);
        let waits = backoff.and_then(|b| b.until(crate::state::time(ended.finished_at))).is_some();
        let stays = self.pod.metadata.deletion_timestamp.is_none() && !self.state.gone;
        if waits && stays && plan::end(&self.pod, &self.state).is_none() {
            let full = pod::full_name(&self.pod);
            let message = format!("Back-off restarting failed container {} in pod {full}", ended.name);
            self.ctx.event(&self.pod, Some(&ended.name), "Warning", "BackOff", message);
        }
    }

    /// Lists the pod's sandboxes and containers anew.
    async fn read_runtime(&mut self) {
        match read(&self.ctx, &self.pod).await {
            Ok(found) => self.adopt(found),
            Err(error) => {
                tracing::warn!(pod = pod::full_name(&self.pod), %error, "cannot read the runtime's state");
                let (resync, pause) = (self.resync.clone(), Duration::from_secs(1));
                self.jobs.spawn(async move {
                    tokio::time::sleep(pause).await;
                    resync.notify_one();
                });
            }
        }
    }
}

/// Everything the runtime has of a pod.
pub(crate) async fn read(ctx: &Context, pod: &Pod) -> tiphys_runtime::Result<Found> {
    let labels = [(sandbox::POD_UID.to_owned(), pod::uid(pod).to_owned())].into();
    let filter = Filter { labels, ..Filter::default() };
    let sandboxes = ctx.runtime.list_sandboxes(&filter).await?;
    let containers = ctx.runtime.list_containers(&filter).await?;
    details(ctx, sandboxes, containers).await
}

/// Completes what lists leave out.
pub(crate) async fn details(
    ctx: &Context,
    sandboxes: Vec<Sandbox>,
    containers: Vec<Container>,
) -> tiphys_runtime::Result<Found> {
    let mut found = Found::default();
    for sandbox in sandboxes {
        match ctx.runtime.sandbox_status(&sandbox.id).await {
            Ok(sandbox) => found.sandboxes.push(sandbox),
            Err(tiphys_runtime::Error::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    for listed in containers {
        match ctx.runtime.container_status(&listed.id).await {
            Ok(mut container) => {
                container.sandbox = listed.sandbox;
                found.containers.push(container);
            }
            Err(tiphys_runtime::Error::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

async fn sleep_until(at: Option<Timestamp>) {
    let Some(at) = at else { return std::future::pending().await };
    let left = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
    tokio::time::sleep(left).await;
}
