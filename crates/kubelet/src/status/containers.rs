//! `containerStatuses`: what each container does, waits for, or ended with.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, Pod, ResourceRequirements, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tiphys_runtime::{Container as Seen, ContainerState as Life};

use super::{Node, whole_seconds};
use crate::backoff::go_duration;
use crate::plan;
use crate::pod::{self, Role};
use crate::state::{Image, State, time};

/// Room for the last words of all containers of a pod together, in bytes.
const WORDS_MAX: usize = 12 * 1024;

pub(super) fn statuses(
    pod: &Pod,
    containers: &[Container],
    state: &State,
    node: &Node,
    over: bool,
) -> Vec<ContainerStatus> {
    let view = View { pod, state, node, over };
    containers.iter().map(|container| view.status(container)).collect()
}

struct View<'a> {
    pod: &'a Pod,
    state: &'a State,
    node: &'a Node,
    /// Nothing runs any more nor will.
    over: bool,
}

impl View<'_> {
    fn status(&self, container: &Container) -> ContainerStatus {
        let newest = self.state.newest(&container.name);
        let (now, last) = self.states(container, newest);
        let running = now.running.is_some();
        let shown = newest.filter(|seen| seen.state > Life::Created).or(self.state.previous(&container.name));
        let started = running && self.has_started(container, newest);
        ContainerStatus {
            name: container.name.clone(),
            ready: self.ready(container, newest, &now),
            started: Some(started),
            restart_count: restarts(self.pod, container, newest),
            image: container.image.clone().unwrap_or_default(),
            image_id: shown.map(|seen| seen.image_ref.clone()).unwrap_or_default(),
            container_id: shown.map(|seen| self.container_id(seen)),
            state: Some(now),
            last_state: Some(last),
            allocated_resources: container.resources.as_ref().and_then(|r| r.requests.clone()),
            resources: self.size(container, newest).filter(|_| running),
            stop_signal: container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.clone()),
            volume_mounts: mounts(container),
            ..ContainerStatus::default()
        }
    }

    /// What a running container has, which may not be what is promised to it yet.
    fn size(&self, container: &Container, newest: Option<&Seen>) -> Option<ResourceRequirements> {
        let sized = newest.and_then(|seen| self.state.sized.get(&seen.id));
        sized.cloned().filter(|_| container.resources.is_some()).or_else(|| container.resources.clone())
    }

    /// The state now, and how the run before it ended.
    fn states(&self, container: &Container, newest: Option<&Seen>) -> (ContainerState, ContainerState) {
        let previous = self.state.previous(&container.name);
        let before = previous.filter(|seen| seen.state == Life::Exited).map(|seen| self.terminated(seen));
        match newest.map(|seen| (seen, seen.state)) {
            Some((seen, Life::Running)) => (running(seen), before.unwrap_or_default()),
            Some((seen, Life::Exited)) => match self.restart_waits(container) {
                Some(waiting) => (waiting, self.terminated(seen)),
                None => (self.terminated(seen), before.unwrap_or_default()),
            },
            _ if self.over => (vanished(), before.unwrap_or_default()),
            _ => (self.waiting(container), before.unwrap_or_default()),
        }
    }

    /// Why a container that ended does not run again yet; `None` while it just ended, or for good.
    fn restart_waits(&self, container: &Container) -> Option<ContainerState> {
        let name = &container.name;
        if self.over || plan::end(self.pod, self.state).is_some() {
            return None;
        }
        if let Some(Image::Failed(failure)) = self.state.images.get(name) {
            return Some(waiting(&failure.reason, &failure.message));
        }
        let seen = self.state.newest(name)?;
        let failed = self.state.failures.get(name);
        // Started and ended at once is a crash like any other, while there is a pause.
        if failed.is_none_or(|failure| failure.reason == "RunContainerError") && self.pauses(seen) {
            let delay = self.state.crash_backoff.get(name).map(|backoff| go_duration(backoff.delay()));
            return Some(crash_loop(self.pod, name, &delay.unwrap_or_default()));
        }
        failed.map(|failure| waiting(&failure.reason, &failure.message))
    }

    /// Whether a container that ended is held back by its back-off.
    fn pauses(&self, seen: &Seen) -> bool {
        let backoff = self.state.crash_backoff.get(&seen.name);
        let once = pod::role(self.pod, &seen.name) == Role::Init && seen.exit_code == 0;
        let until = backoff.and_then(|backoff| backoff.until(time(seen.finished_at)));
        until.is_some() && !once && !self.state.is_starting(&seen.name)
    }

    fn waiting(&self, container: &Container) -> ContainerState {
        let name = &container.name;
        if let Some(failure) = self.state.failures.get(name) {
            return waiting(&failure.reason, &failure.message);
        }
        if let Some(Image::Failed(failure)) = self.state.images.get(name) {
            return waiting(&failure.reason, &failure.message);
        }
        let has_init = !pod::init_containers(self.pod).is_empty();
        let initializing = match pod::role(self.pod, name) {
            Role::Init | Role::Sidecar => true,
            Role::App => has_init && !plan::initialized(self.pod, self.state),
            Role::Ephemeral => false,
        };
        waiting(if initializing { "PodInitializing" } else { "ContainerCreating" }, "")
    }

    fn has_started(&self, container: &Container, newest: Option<&Seen>) -> bool {
        newest.is_some_and(|seen| self.state.probes.started(container, &seen.id))
    }

    fn ready(&self, container: &Container, newest: Option<&Seen>, now: &ContainerState) -> bool {
        match pod::role(self.pod, &container.name) {
            Role::Ephemeral => false,
            Role::Init => now.terminated.as_ref().is_some_and(|end| end.exit_code == 0),
            Role::Sidecar | Role::App => {
                let passes = |seen: &Seen| self.state.probes.ready(container, &seen.id);
                now.running.is_some() && newest.is_some_and(passes)
            }
        }
    }

    /// How many containers share the room for last words.
    fn count(&self) -> usize {
        pod::containers(self.pod).count() + pod::ephemeral_containers(self.pod).len()
    }

    fn container_id(&self, seen: &Seen) -> String {
        format!("{}://{}", self.node.runtime, seen.id)
    }

    fn terminated(&self, seen: &Seen) -> ContainerState {
        let words = self.state.last_words.get(&seen.id).cloned();
        let mut message = words.or(Some(seen.message.clone())).filter(|text| !text.is_empty());
        if let Some(text) = &mut message {
            text.truncate(text.floor_char_boundary(WORDS_MAX / self.count().max(1)));
        }
        let reason = if seen.reason.is_empty() { "Error" } else { &seen.reason };
        let terminated = ContainerStateTerminated {
            container_id: Some(self.container_id(seen)),
            exit_code: seen.exit_code,
            finished_at: Some(when(seen.finished_at)),
            started_at: Some(when(seen.started_at)),
            message,
            reason: Some(reason.to_owned()),
            signal: None,
        };
        ContainerState { terminated: Some(terminated), ..ContainerState::default() }
    }
}

fn when(nanoseconds: i64) -> Time {
    Time(whole_seconds(time(nanoseconds)))
}

fn running(seen: &Seen) -> ContainerState {
    let running = ContainerStateRunning { started_at: Some(when(seen.started_at)) };
    ContainerState { running: Some(running), ..ContainerState::default() }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    let message = (!message.is_empty()).then(|| message.to_owned());
    let waiting = ContainerStateWaiting { reason: Some(reason.into()), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn crash_loop(pod: &Pod, name: &str, delay: &str) -> ContainerState {
    let full = pod::full_name(pod);
    waiting("CrashLoopBackOff", &format!("back-off {delay} restarting failed container={name} pod={full}"))
}

/// A container that never came to be in a pod that has ended.
fn vanished() -> ContainerState {
    let message = "The container could not be located when the pod was terminated";
    let terminated = ContainerStateTerminated {
        exit_code: 137,
        reason: Some("ContainerStatusUnknown".into()),
        message: Some(message.into()),
        ..ContainerStateTerminated::default()
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

/// Attempts are numbered over the life of the pod, so the number is the count of restarts; it never falls.
fn restarts(pod: &Pod, container: &Container, newest: Option<&Seen>) -> i32 {
    let status = pod.status.as_ref();
    let lists = status.map(|s| [&s.init_container_statuses, &s.container_statuses]);
    let known = lists.into_iter().flatten().flatten().flatten().find(|s| s.name == container.name);
    let seen = newest.map_or(0, |seen| i32::try_from(seen.attempt).unwrap_or(i32::MAX));
    seen.max(known.map_or(0, |status| status.restart_count))
}

fn mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let status = |mount: &k8s_openapi::api::core::v1::VolumeMount| VolumeMountStatus {
        mount_path: mount.mount_path.clone(),
        name: mount.name.clone(),
        read_only: mount.read_only.filter(|read_only| *read_only),
        recursive_read_only: mount.read_only.filter(|read_only| *read_only).map(|_| {
            if crate::container::recursively_read_only(mount) { "Enabled".into() } else { "Disabled".into() }
        }),
        ..VolumeMountStatus::default()
    };
    container.volume_mounts.as_ref().map(|mounts| mounts.iter().map(status).collect())
}
