//! What to do next for a pod: a pure function of the pod, what is known of it, and the time.
//!
//! - A plan names every action that can go on now and is not under way; the actor starts them all at once. So volumes,
//!   image pulls and the sandbox are prepared side by side, and nothing waits for a tick.
//! - It is level-triggered: a restarted kubelet that reads the same state from the runtime makes the same plan.
//! - Containers start in the order of the spec, one after another, postStart hooks included, as users rely on it.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use tiphys_runtime::{Container as Seen, ContainerState};

use crate::allocation;
use crate::pod::{self, Role};
use crate::probe::Probing;
use crate::state::{Condemned, Image, State, Volumes, time};
use crate::volumes::usage;

const SIDECAR_GRACE_SECONDS: i64 = 2;

static NO_RESOURCES: ResourceRequirements =
    ResourceRequirements { claims: None, limits: None, requests: None };

/// One action. Equal tasks are the same action, so that none runs twice at once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Task {
    /// Set up all volumes and directories of the pod.
    Volumes,
    /// Count what the volumes hold that have a limit.
    Measure,
    /// Write down which sizes are promised.
    Remember,
    /// Make the sandbox of this attempt.
    Sandbox { attempt: u32 },
    /// Make sure of the image of a container.
    Image { container: String },
    /// Make and start a container, and run its postStart hook.
    Start { container: String, attempt: u32, image: String },
    /// Run the preStop hook, then stop the container; killed at the deadline.
    Kill { id: String, container: String, deadline: Timestamp, why: String },
    /// Give a running container the size that is promised to it.
    Resize { id: String, container: String },
    /// Run a probe once.
    Probe { id: String, container: String, kind: Probing },
    /// End a sandbox and free its addresses.
    StopSandbox { id: String },
    /// Take volumes and control groups down.
    CleanUp,
    /// Remove the API object, for good.
    Delete,
    /// Remove an old container.
    RemoveContainer { id: String },
    /// Remove a sandbox and what is in it.
    RemoveSandbox { id: String },
    /// Remove the pod's directories and logs.
    Purge,
}

/// What to do now, and when to look again if nothing happens before.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Task>,
    pub(crate) wake: Option<Timestamp>,
}

/// How a pod ended, if it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Succeeded,
    Failed,
}

/// Plans the next actions.
pub(crate) fn plan(pod: &Pod, state: &State, now: Timestamp) -> Plan {
    let mut planner = Planner { pod, state, now, plan: Plan::default() };
    let removing = pod.metadata.deletion_timestamp.is_some() || state.gone;
    let ending = removing || end(pod, state).is_some();
    if ending {
        planner.finish(removing);
    } else {
        planner.run();
    }
    planner.probe(ending);
    planner.collect_garbage();
    planner.plan
}

/// Whether all is done that the pod was made for, and how it went.
pub(crate) fn end(pod: &Pod, state: &State) -> Option<End> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    match phase {
        Some("Succeeded") => return Some(End::Succeeded),
        Some("Failed") => return Some(End::Failed),
        _ => {}
    }
    if state.verdict.is_some() || init_failed(pod, state) {
        return Some(End::Failed);
    }
    let mut failed = false;
    for container in pod::app_containers(pod) {
        let seen = state.newest(&container.name).filter(|c| c.state == ContainerState::Exited)?;
        if pod::restarts(pod, container, seen.exit_code) {
            return None;
        }
        failed |= seen.exit_code != 0;
    }
    Some(if failed { End::Failed } else { End::Succeeded })
}

fn init_failed(pod: &Pod, state: &State) -> bool {
    pod::init_containers(pod).iter().filter(|c| !pod::is_sidecar(c)).any(|container| {
        let seen = state.current(&container.name).filter(|c| c.state == ContainerState::Exited);
        seen.is_some_and(|c| c.exit_code != 0 && !pod::restarts(pod, container, c.exit_code))
    })
}

/// When a container last ended in a way for which all containers are started again; 0: never. Those made before are past.
pub(crate) fn epoch(pod: &Pod, state: &State) -> i64 {
    let ended = |seen: &&Seen| {
        let container = pod::containers(pod).find(|c| c.name == seen.name);
        seen.state == ContainerState::Exited
            && container.is_some_and(|c| pod::restarts_all(c, seen.exit_code))
    };
    state.containers.iter().filter(ended).map(|seen| seen.finished_at).max().unwrap_or(0)
}

/// Whether a sidecar has come so far that what follows it may start.
pub(crate) fn has_started(container: &Container, state: &State) -> bool {
    let seen = state.current(&container.name).filter(|c| c.state == ContainerState::Running);
    seen.is_some_and(|seen| state.hooked.contains(&seen.id) && state.probes.started(container, &seen.id))
}

/// Whether every init container is done, and every sidecar among them has started once.
pub(crate) fn initialized(pod: &Pod, state: &State) -> bool {
    let any_app = pod::app_containers(pod).iter().any(|c| state.current(&c.name).is_some());
    any_app || pod::init_containers(pod).iter().all(|c| init_done(c, state))
}

fn init_done(container: &Container, state: &State) -> bool {
    if pod::is_sidecar(container) {
        return has_started(container, state);
    }
    state.current(&container.name).is_some_and(|c| c.state == ContainerState::Exited && c.exit_code == 0)
}

/// Whether a running container has another size than the one that is promised to it.
fn is_resizing(pod: &Pod, state: &State, seen: &Seen) -> bool {
    let container = pod::containers(pod).find(|c| c.name == seen.name);
    let promised = container.and_then(|c| c.resources.as_ref()).unwrap_or(&NO_RESOURCES);
    container.is_some() && state.sized.get(&seen.id).is_some_and(|size| !allocation::same(size, promised))
}

/// Whether some running container is on its way to another size.
pub(crate) fn resizing(pod: &Pod, state: &State) -> bool {
    state.running().any(|seen| is_resizing(pod, state, seen))
}

/// Until when a container that ended (or failed to start) has to wait.
pub(crate) fn held_until(state: &State, name: &str) -> Option<Timestamp> {
    let failure = state.failures.get(name).map(|failure| failure.retry);
    let exited = state.newest(name).filter(|c| c.state == ContainerState::Exited);
    let crashed = exited.and_then(|c| state.crash_backoff.get(name)?.until(time(c.finished_at)));
    failure.max(crashed)
}

struct Planner<'a> {
    pod: &'a Pod,
    state: &'a State,
    now: Timestamp,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn act(&mut self, task: Task) {
        if !self.state.is_busy(&task) && !self.plan.actions.contains(&task) {
            self.plan.actions.push(task);
        }
    }

    fn wake(&mut self, at: Timestamp) {
        self.plan.wake = Some(self.plan.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Whether something held back until then may go on; else looks again then.
    fn due(&mut self, at: Option<Timestamp>) -> bool {
        match at {
            Some(at) if at > self.now => {
                self.wake(at);
                false
            }
            _ => true,
        }
    }

    fn run(&mut self) {
        self.kill_unwanted();
        let remembered = self.remember();
        if remembered {
            self.resize();
        }
        self.wake_at_deadline();
        self.prepare_volumes();
        let mut wanted = self.wanted();
        wanted.extend(self.wanted_ephemeral());
        if wanted.is_empty() {
            return;
        }
        let sandbox = self.prepare_sandbox();
        let ready = sandbox && remembered && self.state.volumes == Volumes::Ready;
        let mut starting = self.state.busy.iter().any(|task| matches!(task, Task::Start { .. }));
        for container in wanted {
            let Some(image) = self.prepare_image(&container) else {
                // One whose image is on its way keeps its place before those that follow.
                let task = Task::Image { container: container.name.clone() };
                starting |= self.state.is_busy(&task) || self.plan.actions.contains(&task);
                continue;
            };
            if ready && !starting {
                starting = true;
                let attempt = self.next_attempt(&container.name);
                self.act(Task::Start { container: container.name.clone(), attempt, image });
            }
        }
    }

    /// A container that was made but never started is replaced under its own number.
    fn next_attempt(&self, name: &str) -> u32 {
        match self.state.newest(name) {
            None => 0,
            Some(c) if c.state == ContainerState::Created => c.attempt,
            Some(c) => c.attempt.saturating_add(1),
        }
    }

    /// Whether what is promised is written down; else has it written. Nothing is given before that.
    fn remember(&mut self) -> bool {
        let remembered = self.state.remembered == self.state.promised;
        if !remembered && self.due(self.state.retries.get("remember").copied()) {
            self.act(Task::Remember);
        }
        remembered
    }

    fn wake_at_deadline(&mut self) {
        if let (Some(seconds), Some(started)) =
            (pod::spec(self.pod).active_deadline_seconds, self.state.started)
        {
            let at = started.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
            self.due(Some(at));
        }
    }

    fn prepare_volumes(&mut self) {
        match &self.state.volumes {
            Volumes::Ready => {
                // A changed source or an ageing token: written anew beside what is in use.
                if self.state.refresh.is_some() && self.due(self.state.refresh) {
                    self.act(Task::Volumes);
                }
                if usage::limited(self.pod) && self.due(self.state.measure) {
                    self.act(Task::Measure);
                }
            }
            Volumes::Unprepared => self.act(Task::Volumes),
            Volumes::Failed(failure) => {
                if self.state.is_busy(&Task::Volumes) || self.due(Some(failure.retry)) {
                    self.act(Task::Volumes);
                }
            }
        }
    }

    /// Whether the sandbox is there; else works towards it.
    fn prepare_sandbox(&mut self) -> bool {
        if self.state.sandbox().is_some() {
            return true;
        }
        let newest = self.state.newest_sandbox();
        if let Some(dead) = newest.filter(|dead| !self.state.stopped.contains(&dead.id)) {
            self.act(Task::StopSandbox { id: dead.id.clone() });
            return false;
        }
        let attempt = newest.map_or(0, |dead| dead.attempt.saturating_add(1));
        if self.due(self.state.sandbox_failure.as_ref().map(|failure| failure.retry)) {
            self.act(Task::Sandbox { attempt });
        }
        false
    }

    /// The image to start a container with, if it may start now.
    fn prepare_image(&mut self, container: &Container) -> Option<String> {
        if !self.due(held_until(self.state, &container.name)) {
            return None;
        }
        let retry = match self.state.images.get(&container.name) {
            Some(Image::Ready(id)) => return Some(id.clone()),
            Some(Image::Failed(failure)) => Some(failure.retry),
            None => None,
        };
        let task = Task::Image { container: container.name.clone() };
        if self.state.is_busy(&task) || self.due(retry) {
            self.act(task);
        }
        None
    }

    /// The containers that should run and do not, in the order to start them.
    fn wanted(&self) -> Vec<Cow<'a, Container>> {
        let mut wanted = Vec::new();
        if self.state.running().any(|seen| self.state.is_past(seen)) {
            return wanted;
        }
        let any_app = pod::app_containers(self.pod).iter().any(|c| self.state.current(&c.name).is_some());
        for container in pod::init_containers(self.pod) {
            let sidecar = pod::is_sidecar(container);
            if any_app && !sidecar {
                continue;
            }
            if self.wants(container) {
                wanted.push(Cow::Borrowed(container));
            }
            if !any_app && !init_done(container, self.state) {
                return wanted;
            }
        }
        wanted.extend(pod::app_containers(self.pod).iter().filter(|c| self.wants(c)).map(Cow::Borrowed));
        wanted
    }

    /// Ephemeral containers never run twice; they look into a pod that is there, however far it has come.
    fn wanted_ephemeral(&self) -> Vec<Cow<'a, Container>> {
        let all = if self.state.sandbox().is_some() { pod::ephemeral_containers(self.pod) } else { &[] };
        let new = all.iter().filter(|c| {
            self.state.newest(&c.name).is_none_or(|seen| seen.state == ContainerState::Created)
                && !self.state.is_starting(&c.name)
        });
        new.map(|c| Cow::Owned(pod::plain(c))).collect()
    }

    /// Whether a container should be started, now or after a pause.
    fn wants(&self, container: &Container) -> bool {
        if self.state.is_starting(&container.name) {
            return false;
        }
        let init = pod::role(self.pod, &container.name) != Role::App;
        let again = |seen: &Seen| pod::restarts(self.pod, container, seen.exit_code);
        match (self.state.current(&container.name), self.state.newest(&container.name)) {
            (Some(seen), _) => match seen.state {
                ContainerState::Running | ContainerState::Unknown => false,
                ContainerState::Created => true,
                ContainerState::Exited => again(seen),
            },
            // Its sandbox was stopped, so it has ended; how, is on its way to be told.
            (None, Some(before)) if before.state == ContainerState::Running => false,
            (None, Some(before)) if !init => self.state.is_past(before) || again(before),
            (None, _) => true,
        }
    }

    /// Running containers that failed a probe, or are not the ones of the spec any more.
    fn kill_unwanted(&mut self) {
        let grace = pod::spec(self.pod).termination_grace_period_seconds.unwrap_or(30);
        for seen in self.state.running() {
            let Some(Condemned { why, grace: own }) = self.unwanted(seen) else { continue };
            if self.kill_deadline(&seen.id).is_none() && self.may_kill(&seen.id) {
                self.kill(seen, add_seconds(self.now, own.unwrap_or(grace)), why);
            }
        }
        // One that the runtime has lost sight of may run still, so that another would be the second.
        let lost = |c: &&Seen| c.state == ContainerState::Unknown;
        for seen in self.state.containers.iter().filter(lost) {
            if self.kill_deadline(&seen.id).is_none() && self.may_kill(&seen.id) {
                let why = "Container is in unknown state, try killing it before starting a new one";
                self.kill(seen, add_seconds(self.now, grace), why.into());
            }
        }
    }

    fn resize(&mut self) {
        for seen in self.state.running().filter(|seen| is_resizing(self.pod, self.state, seen)) {
            let restarts = self.unwanted(seen).is_some();
            if !restarts && self.due(self.state.retries.get(&format!("resize {}", seen.id)).copied()) {
                self.act(Task::Resize { id: seen.id.clone(), container: seen.name.clone() });
            }
        }
    }

    fn unwanted(&self, seen: &Seen) -> Option<Condemned> {
        if let Some(condemned) = self.state.condemned.get(&seen.id) {
            return Some(condemned.clone());
        }
        if self.state.is_past(seen) {
            return Some(Condemned::new(format!("Stopping container {}", seen.name)));
        }
        let container = pod::containers(self.pod).find(|c| c.name == seen.name)?;
        if self.state.sized.get(&seen.id).is_some_and(|size| allocation::needs_restart(container, size)) {
            return Some(Condemned::new(format!("Container {} resize requires restart", seen.name)));
        }
        let hash = seen.annotations.get(crate::container::HASH)?;
        let changed = *hash != pod::hash(container);
        let why = || format!("Container {} definition changed, will be restarted", seen.name);
        changed.then(|| Condemned::new(why()))
    }

    fn kill(&mut self, seen: &Seen, deadline: Timestamp, why: String) {
        self.act(Task::Kill { id: seen.id.clone(), container: seen.name.clone(), deadline, why });
    }

    /// The deadline of the kill that is under way for a container.
    fn kill_deadline(&self, id: &str) -> Option<Timestamp> {
        let of = |task: &Task| match task {
            Task::Kill { id: other, deadline, .. } if other == id => Some(*deadline),
            _ => None,
        };
        self.state.busy.iter().filter_map(of).min()
    }

    fn may_kill(&mut self, id: &str) -> bool {
        self.due(self.state.retries.get(id).copied())
    }

    /// A pod that is ending is still asked whether it can serve, and nothing else.
    fn probe(&mut self, ending: bool) {
        for seen in self.state.running() {
            let Some(container) = pod::containers(self.pod).find(|c| c.name == seen.name) else { continue };
            for (kind, at) in self.state.probes.next(container, &seen.id, time(seen.started_at)) {
                if ending && kind != Probing::Readiness {
                    continue;
                }
                let task = Task::Probe { id: seen.id.clone(), container: seen.name.clone(), kind };
                if !self.state.is_busy(&task) && self.due(Some(at)) {
                    self.act(task);
                }
            }
        }
    }

    /// Ends everything; `removing` when the API object goes too.
    fn finish(&mut self, removing: bool) {
        // A kill under way is not done before the runtime has put the container away.
        let making = |task: &Task| {
            matches!(task, Task::Sandbox { .. } | Task::Volumes | Task::Remember | Task::Kill { .. })
        };
        if self.stop_containers() || self.state.busy.iter().any(making) {
            return;
        }
        let mut down = true;
        for sandbox in self.state.sandboxes.iter().filter(|s| s.ready || !self.state.stopped.contains(&s.id))
        {
            down = false;
            if self.due(self.state.retries.get(&sandbox.id).copied()) {
                self.act(Task::StopSandbox { id: sandbox.id.clone() });
            }
        }
        if !self.state.cleaned && self.due(self.state.retries.get("clean").copied()) {
            self.act(Task::CleanUp);
        }
        let claims =
            pod::spec(self.pod).volumes.iter().flatten().any(|v| v.persistent_volume_claim.is_some());
        if removing && down && (self.state.cleaned || !claims) {
            self.remove();
        }
    }

    fn remove(&mut self) {
        if !self.state.gone {
            if self.state.reported && self.due(self.state.delete_retry) {
                self.act(Task::Delete);
            }
            return;
        }
        if !self.state.cleaned {
            return;
        }
        for sandbox in &self.state.sandboxes {
            if self.due(self.state.retries.get(&sandbox.id).copied()) {
                self.act(Task::RemoveSandbox { id: sandbox.id.clone() });
            }
        }
        let due = self.state.sandboxes.is_empty() && self.due(self.state.retries.get("clean").copied());
        if due && !self.state.purged {
            self.act(Task::Purge);
        }
    }

    /// Stops what runs: sidecars last and in reverse order. Whether something still runs or may come to run.
    fn stop_containers(&mut self) -> bool {
        let since = self.state.stopping.as_ref().map_or(self.now, |stopping| stopping.since);
        let grace = self.state.stopping.as_ref().and_then(|stopping| stopping.grace);
        let mut deadline = add_seconds(since, grace.unwrap_or_else(|| pod::grace_seconds(self.pod)));
        let sidecar = |c: &&Seen| pod::role(self.pod, &c.name) == Role::Sidecar;
        let mut next: Vec<&Seen> = self.state.running().filter(|c| !sidecar(c)).collect();
        if next.is_empty() {
            let position =
                |c: &&Seen| pod::init_containers(self.pod).iter().position(|init| init.name == c.name);
            next = self.state.running().filter(sidecar).max_by_key(position).into_iter().collect();
            // However late it is, a sidecar gets a moment to end well.
            deadline = deadline.max(add_seconds(self.now, SIDECAR_GRACE_SECONDS));
        }
        for seen in &next {
            let sooner = self.kill_deadline(&seen.id).is_none_or(|under_way| deadline < under_way);
            if sooner && self.may_kill(&seen.id) {
                self.kill(seen, deadline, format!("Stopping container {}", seen.name));
            }
        }
        !next.is_empty() || self.state.busy.iter().any(|task| matches!(task, Task::Start { .. }))
    }

    /// Keeps of each container the newest and the one before it, and no sandbox that only held older ones.
    fn collect_garbage(&mut self) {
        let names: BTreeSet<&str> = self.state.containers.iter().map(|c| c.name.as_str()).collect();
        for name in names {
            let Some(previous) = self.state.previous(name) else { continue };
            let oldest_kept = previous.attempt;
            let old =
                |c: &&Seen| c.name == name && c.attempt < oldest_kept && c.state == ContainerState::Exited;
            for c in self.state.containers.iter().filter(old) {
                if self.due(self.state.retries.get(&c.id).copied()) {
                    self.act(Task::RemoveContainer { id: c.id.clone() });
                }
            }
        }
        let newest = self.state.newest_sandbox().map(|s| s.id.clone());
        for old in self.state.sandboxes.iter().filter(|s| !s.ready && Some(&s.id) != newest.as_ref()) {
            let used = self.state.containers.iter().any(|c| c.sandbox == old.id);
            if !used && self.due(self.state.retries.get(&old.id).copied()) {
                self.act(Task::RemoveSandbox { id: old.id.clone() });
            }
        }
    }
}

fn add_seconds(at: Timestamp, seconds: i64) -> Timestamp {
    at.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}
