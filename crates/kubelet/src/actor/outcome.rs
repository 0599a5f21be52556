//! What outcomes of actions mean for the state.

use jiff::{SignedDuration, Timestamp};
use tiphys_api::Status;
use tiphys_runtime::{ContainerState, Sandbox};

use super::Actor;
use crate::images::Refused;
use crate::ops::{BEING_MADE, News, NotStarted, Outcome};
use crate::plan::Task;
use crate::pod;
use crate::probe::run::Fault;
use crate::probe::{Probing, Verdict};
use crate::state::{Condemned, Failure, Image, Volumes};
use crate::volumes::{Failed, Prepared, usage};

/// Pause before an action is tried again that has no back-off of its own.
const RETRY: SignedDuration = SignedDuration::from_secs(1);
/// Pauses between attempts to stop or remove something grow from this, in seven doublings, to about six seconds.
const FIRST_RETRY_MILLIS: i64 = 50;
const RETRY_DOUBLINGS: u32 = 7;
/// What is left to a pod whose volumes hold too much.
const EVICTION_GRACE_SECONDS: i64 = 1;
/// Pauses between attempts to mount grow from half a second to about two minutes.
const VOLUME_RETRY_MILLIS: i64 = 500;
const VOLUME_RETRY_DOUBLINGS: u32 = 8;
/// How long a failed pull is told as such before it is told as a pause.
const PULL_ERROR_SHOWN: SignedDuration = SignedDuration::from_secs(1);

fn after(now: Timestamp, pause: SignedDuration) -> Timestamp {
    now.saturating_add(pause).unwrap_or(Timestamp::MAX)
}

impl Actor {
    pub(super) fn take_news(&mut self, news: News) {
        let now = Timestamp::now();
        match news {
            News::Done(task, outcome) => {
                self.state.busy.remove(&task);
                self.done(task, outcome, now);
            }
            News::Seen(container) => self.state.observe(*container),
            News::Hooked(id) => {
                self.state.hooked.insert(id);
            }
            News::Signalled(id) => {
                self.state.signalled.insert(id);
            }
            News::Sized(id, size) => self.sized(id, size),
            News::Words(id, words) => {
                self.state.last_words.insert(id, words);
            }
            News::Evict(message, grace) => self.evict(message, grace, now),
            News::ShutDown(grace) => self.shut_down(grace, now),
            News::Reported(answer) => self.reported(answer, now),
        }
    }

    fn done(&mut self, task: Task, outcome: Outcome, now: Timestamp) {
        match (task, outcome) {
            (_, Outcome::Volumes(result)) => self.volumes_done(result, now),
            (_, Outcome::Measured(exceeded)) => self.measured(exceeded, now),
            (_, Outcome::Remembered(Ok(sizes))) => self.state.remembered = sizes,
            (task, Outcome::Remembered(Err(error))) => self.plain_done(task, Err(error), now),
            (_, Outcome::Sandbox(result)) => self.sandbox_done(result, now),
            (Task::Image { container }, Outcome::Image(result)) => self.image_done(container, result, now),
            (Task::Start { container, .. }, Outcome::Start(result)) => {
                self.start_done(&container, result, now)
            }
            (Task::Probe { id, container, kind }, Outcome::Probe(result)) => {
                self.probe_done(&id, &container, kind, result, now);
            }
            (_, Outcome::Deleted(result)) => self.delete_done(result, now),
            (task, Outcome::Plain(result)) => self.plain_done(task, result, now),
            _ => {}
        }
    }

    fn volumes_done(&mut self, result: Result<Prepared, Failed>, now: Timestamp) {
        let uid = pod::uid(&self.pod);
        match result {
            Ok(prepared) => {
                self.state.volumes = Volumes::Ready;
                self.state.volume_failures = 0;
                self.state.mounts = prepared.mounts;
                self.state.refresh = self.state.refresh.into_iter().chain(prepared.refresh).min();
                self.ctx.sources.subscribe(uid, prepared.shown, &self.sources);
            }
            Err(failed) => {
                for message in &failed.messages {
                    self.ctx.event(&self.pod, None, "Warning", "FailedMount", message.clone());
                }
                let doublings = self.state.volume_failures.min(VOLUME_RETRY_DOUBLINGS);
                let pause = SignedDuration::from_millis(VOLUME_RETRY_MILLIS << doublings);
                self.state.volume_failures += 1;
                self.ctx.sources.subscribe(uid, failed.shown, &self.sources);
                if self.state.volumes == Volumes::Ready {
                    self.state.refresh = Some(after(now, pause));
                    return;
                }
                let reason = "ContainerCreating".to_owned();
                let failure =
                    Failure { reason, message: failed.messages.join("; "), retry: after(now, pause) };
                self.state.volumes = Volumes::Failed(failure);
            }
        }
    }

    fn measured(&mut self, exceeded: Option<String>, now: Timestamp) {
        self.state.measure = Some(after(now, usage::PERIOD));
        if let Some(message) = exceeded {
            self.evict(message, EVICTION_GRACE_SECONDS, now);
        }
    }

    fn sandbox_done(&mut self, result: Result<Sandbox, String>, now: Timestamp) {
        match result {
            Ok(sandbox) => {
                self.state.sandbox_failure = None;
                self.state.failures.clear();
                self.state.observe_sandbox(sandbox);
            }
            Err(message) => {
                let reason = "ContainerCreating".to_owned();
                self.state.sandbox_failure = Some(Failure { reason, message, retry: after(now, RETRY) });
                // It may exist half-made: the runtime knows.
                self.resync.notify_one();
            }
        }
    }

    fn image_done(&mut self, container: String, result: Result<String, Refused>, now: Timestamp) {
        match result {
            Ok(id) => {
                self.state.image_backoff.remove(&container);
                self.state.images.insert(container, Image::Ready(id));
            }
            Err(refused) => {
                self.state.image_backoff.entry(container.clone()).or_default().next(now, now);
                let retry = match refused.reason {
                    "ErrImagePull" => after(now, PULL_ERROR_SHOWN),
                    _ => after(now, SignedDuration::from_secs(10)),
                };
                let failure = Failure { reason: refused.reason.into(), message: refused.message, retry };
                self.state.images.insert(container, Image::Failed(failure));
            }
        }
    }

    fn start_done(&mut self, name: &str, result: Result<(), NotStarted>, now: Timestamp) {
        let Err(failure) = result else {
            self.state.failures.remove(name);
            return;
        };
        // The sandbox itself may have ended: the runtime knows.
        self.resync.notify_one();
        let newest = self.state.newest(name).cloned();
        match newest.map(|c| (c.state, c.id)) {
            // It runs, but its hook failed: it is killed and started again like one that crashed.
            Some((ContainerState::Running, id)) if failure.reason == "PostStartHookError" => {
                self.state.condemned.insert(id, Condemned::new("FailedPostStartHook".into()));
            }
            // It ended already: the back-off of crashes applies.
            Some((ContainerState::Exited, _)) if failure.reason == "RunContainerError" => {
                let failure = Failure { reason: failure.reason.into(), message: failure.message, retry: now };
                self.state.failures.insert(name.to_owned(), failure);
            }
            Some((ContainerState::Exited, _)) if failure.reason == "PostStartHookError" => {}
            // It runs, but the runtime could not be asked how: nothing is to be done again.
            Some((ContainerState::Running, _)) => {}
            _ if failure.message.contains(BEING_MADE) => {}
            _ => {
                let retry = after(now, RETRY * 10);
                let failure = Failure { reason: failure.reason.into(), message: failure.message, retry };
                self.state.failures.insert(name.to_owned(), failure);
            }
        }
    }

    fn probe_done(&mut self, id: &str, name: &str, kind: Probing, result: Result<(), Fault>, now: Timestamp) {
        let Some(container) = pod::containers(&self.pod).find(|c| c.name == name).cloned() else { return };
        if !self.state.running().any(|c| c.id == id) {
            return;
        }
        let failure = match result {
            Err(Fault::Errored(why)) => {
                self.state.probes.errored(&container, id, kind, now);
                let message = format!("{} probe errored and resulted in unknown state: {why}", kind.name());
                return self.ctx.event(&self.pod, Some(name), "Warning", "Unhealthy", message);
            }
            Err(Fault::Failed(why)) => Some(why),
            Ok(()) => None,
        };
        let verdict = self.state.probes.record(&container, id, kind, failure.is_none(), now);
        let Some(why) = failure.filter(|_| verdict != Verdict::Ignored) else { return };
        let message = format!("{} probe failed: {why}", kind.name());
        self.ctx.event(&self.pod, Some(name), "Warning", "Unhealthy", message);
        if verdict == Verdict::Kill {
            let grace = kind.of(&container).and_then(|probe| probe.termination_grace_period_seconds);
            let kind = kind.name().to_lowercase();
            let why = format!("Container {name} failed {kind} probe, will be restarted");
            self.state.condemned.insert(id.to_owned(), Condemned { why, grace });
        }
    }

    fn delete_done(&mut self, result: Result<(), Status>, now: Timestamp) {
        match result {
            Ok(()) => self.state.gone = true,
            Err(status) => {
                tracing::warn!(pod = pod::full_name(&self.pod), %status, "cannot delete a pod that has ended");
                self.state.delete_retry = Some(after(now, RETRY));
            }
        }
    }

    fn plain_done(&mut self, task: Task, result: Result<(), String>, now: Timestamp) {
        let key = match &task {
            Task::Kill { id, .. } | Task::StopSandbox { id } => id.clone(),
            Task::RemoveSandbox { id } | Task::RemoveContainer { id } => id.clone(),
            Task::Resize { id, .. } => format!("resize {id}"),
            Task::Remember => "remember".into(),
            _ => "clean".into(),
        };
        if let Task::Resize { .. } = &task {
            self.state.resize_failure = result.as_ref().err().cloned();
        }
        if let Err(error) = result {
            let pod = pod::full_name(&self.pod);
            tracing::warn!(pod, ?task, error, "an action failed and is tried again");
            let count = self.state.retry_counts.entry(key.clone()).or_default();
            let pause = SignedDuration::from_millis(FIRST_RETRY_MILLIS << *count);
            *count = (*count + 1).min(RETRY_DOUBLINGS);
            self.state.retries.insert(key, after(now, pause));
            self.resync.notify_one();
            return;
        }
        self.state.retries.remove(&key);
        self.state.retry_counts.remove(&key);
        match task {
            Task::Kill { id, .. } => {
                self.kills.remove(&id);
            }
            Task::StopSandbox { id } => {
                if let Some(sandbox) = self.state.sandboxes.iter_mut().find(|sandbox| sandbox.id == id) {
                    sandbox.ready = false;
                }
                if self.state.running().any(|container| container.sandbox == id) {
                    // They have ended with it; how, the runtime knows.
                    self.resync.notify_one();
                }
                self.state.stopped.insert(id);
            }
            Task::RemoveSandbox { id } => {
                self.state.sandboxes.retain(|sandbox| sandbox.id != id);
                self.state.containers.retain(|container| container.sandbox != id);
                self.ctx.owners.lock().remove(&id);
            }
            Task::RemoveContainer { id } => {
                self.state.containers.retain(|container| container.id != id);
                self.ctx.owners.lock().remove(&id);
            }
            Task::CleanUp => self.state.cleaned = true,
            Task::Purge => self.state.purged = true,
            _ => {}
        }
        self.state.tidy();
    }
}
