//! All a pod's actor knows beside the pod's object: what the runtime has, what is under way, what failed and when to
//! try again. Decisions ([`crate::plan`]) and the status ([`crate::status`]) are functions of this.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceRequirements;
use tiphys_runtime::{Container, ContainerState, Event, Sandbox};

use crate::allocation::Sizes;
use crate::backoff::Backoff;
use crate::plan::Task;
use crate::probe::Probes;
use crate::volumes::Places;

/// Something that did not work, to be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// CamelCase word shown as the waiting reason.
    pub(crate) reason: String,
    /// What people read.
    pub(crate) message: String,
    /// When to try again.
    pub(crate) retry: Timestamp,
}

/// What is known of the image a container needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    /// Present under this identifier.
    Ready(String),
    /// Not to be had now.
    Failed(Failure),
}

/// Where the pod's volumes are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Volumes {
    #[default]
    Unprepared,
    Ready,
    Failed(Failure),
}

/// The pod is to end, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stopping {
    /// When it began to be stopped.
    pub(crate) since: Timestamp,
    /// Seconds until its containers are killed, where they are not the pod's own.
    pub(crate) grace: Option<i64>,
}

/// A running container that is to be killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condemned {
    /// What the event says.
    pub(crate) why: String,
    /// Seconds to end in, where they are not the pod's own.
    pub(crate) grace: Option<i64>,
}

impl Condemned {
    pub(crate) fn new(why: String) -> Self {
        Self { why, grace: None }
    }
}

/// Why a pod's containers do not get other sizes, or not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Pending {
    pub(crate) fn infeasible(message: String) -> Self {
        Self { reason: "Infeasible", message }
    }
}

/// The kubelet decided that the pod failed, whatever its containers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) reason: String,
    pub(crate) message: String,
    /// The node ended a pod that it had taken: its controller need not count that as a failure of the pod's own.
    pub(crate) disrupts: bool,
}

impl Verdict {
    pub(crate) fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into(), disrupts: false }
    }

    /// The same of a pod that the node had taken.
    pub(crate) fn disruption(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { disrupts: true, ..Self::new(reason, message) }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) sandboxes: Vec<Sandbox>,
    /// Containers of every attempt and sandbox that the runtime still has.
    pub(crate) containers: Vec<Container>,
    /// Actions under way.
    pub(crate) busy: BTreeSet<Task>,
    pub(crate) volumes: Volumes,
    pub(crate) volume_failures: u32,
    /// Where each volume is on the node.
    pub(crate) mounts: Places,
    /// When the contents of the volumes are to be written anew.
    pub(crate) refresh: Option<Timestamp>,
    /// When to count next what the volumes hold.
    pub(crate) measure: Option<Timestamp>,
    pub(crate) images: BTreeMap<String, Image>,
    pub(crate) image_backoff: BTreeMap<String, Backoff>,
    /// Why the last start of a container failed before it ran.
    pub(crate) failures: BTreeMap<String, Failure>,
    pub(crate) sandbox_failure: Option<Failure>,
    pub(crate) crash_backoff: BTreeMap<String, Backoff>,
    /// Containers, by identifier, whose postStart hook ended well (or that have none).
    pub(crate) hooked: BTreeSet<String>,
    /// Containers, by identifier, to be killed.
    pub(crate) condemned: BTreeMap<String, Condemned>,
    /// Containers made before this, in the runtime's time, are past: all were to start again. See [`crate::plan::epoch`].
    pub(crate) epoch: i64,
    /// Containers, by identifier, that were sent their stop signal: preStop hooks are over.
    pub(crate) signalled: BTreeSet<String>,
    /// How often in a row what is in [`State::retries`] has failed.
    pub(crate) retry_counts: BTreeMap<String, u32>,
    /// Messages that containers left when they ended, by identifier.
    pub(crate) last_words: BTreeMap<String, String>,
    /// The sizes that the node has promised to the pod's containers: those of the pod's spec as this actor holds it.
    pub(crate) promised: Sizes,
    /// What of that is written down, for a kubelet after this process.
    pub(crate) remembered: Sizes,
    /// What the API asks for instead.
    pub(crate) asked: Sizes,
    pub(crate) pending: Option<Pending>,
    /// The sizes that containers, by identifier, were made with or were given since.
    pub(crate) sized: BTreeMap<String, ResourceRequirements>,
    /// Why the last attempt to give a running container another size failed.
    pub(crate) resize_failure: Option<String>,
    pub(crate) probes: Probes,
    pub(crate) started: Option<Timestamp>,
    pub(crate) stopping: Option<Stopping>,
    pub(crate) verdict: Option<Verdict>,
    /// The API object does not exist (any more).
    pub(crate) gone: bool,
    /// Sandboxes, by identifier, that were stopped to the end, networks freed.
    pub(crate) stopped: BTreeSet<String>,
    /// When to try again what failed: by the identifier of a container or sandbox, or `clean`.
    pub(crate) retries: BTreeMap<String, Timestamp>,
    /// The pod's directories are removed: nothing is left of it.
    pub(crate) purged: bool,
    /// Volumes and control groups are taken down.
    pub(crate) cleaned: bool,
    /// The final status was accepted by the API.
    pub(crate) reported: bool,
    pub(crate) delete_retry: Option<Timestamp>,
}

impl State {
    /// The newest sandbox, whatever its state.
    pub(crate) fn newest_sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.iter().max_by_key(|sandbox| (sandbox.attempt, sandbox.created_at))
    }

    /// The newest sandbox when it runs.
    pub(crate) fn sandbox(&self) -> Option<&Sandbox> {
        self.newest_sandbox().filter(|sandbox| sandbox.ready)
    }

    /// The newest container of a name.
    pub(crate) fn newest(&self, name: &str) -> Option<&Container> {
        self.named(name).max_by_key(|c| (c.attempt, c.created_at))
    }

    /// The container of a name before the newest one.
    pub(crate) fn previous(&self, name: &str) -> Option<&Container> {
        let newest = self.newest(name)?;
        self.named(name).filter(|c| c.attempt < newest.attempt).max_by_key(|c| c.attempt)
    }

    /// The newest container of a name in the newest sandbox, unless all were to start again since.
    pub(crate) fn current(&self, name: &str) -> Option<&Container> {
        let sandbox = self.newest_sandbox()?;
        self.newest(name).filter(|c| c.sandbox == sandbox.id && !self.is_past(c))
    }

    pub(crate) fn is_past(&self, seen: &Container) -> bool {
        seen.created_at < self.epoch
    }

    /// Whether a container of this name is being started.
    pub(crate) fn is_starting(&self, name: &str) -> bool {
        self.busy.iter().any(|task| matches!(task, Task::Start { container, .. } if container == name))
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(move |c| c.name == name)
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|c| c.state == ContainerState::Running)
    }

    pub(crate) fn is_busy(&self, task: &Task) -> bool {
        self.busy.contains(task)
    }

    /// Takes in what the runtime says of a container. A container only moves forward: a late answer never revives one
    /// whose end an event has told.
    pub(crate) fn observe(&mut self, mut seen: Container) {
        let Some(known) = self.containers.iter_mut().find(|c| c.id == seen.id) else {
            self.containers.push(seen);
            return;
        };
        if seen.sandbox.is_empty() {
            seen.sandbox.clone_from(&known.sandbox);
        }
        let lost = (seen.state, known.state) == (ContainerState::Unknown, ContainerState::Running);
        if seen.state < known.state && !lost {
            // What an event did not tell of its end stays right.
            seen.state = known.state;
            seen.exit_code = known.exit_code;
            seen.finished_at = known.finished_at;
            seen.reason.clone_from(&known.reason);
        }
        *known = seen;
    }

    pub(crate) fn observe_sandbox(&mut self, seen: Sandbox) {
        match self.sandboxes.iter_mut().find(|sandbox| sandbox.id == seen.id) {
            Some(known) => *known = seen,
            None => self.sandboxes.push(seen),
        }
    }

    /// Holds exactly what the runtime lists, after events may have been missed.
    pub(crate) fn resync(&mut self, sandboxes: Vec<Sandbox>, containers: Vec<Container>) {
        self.containers.retain(|known| containers.iter().any(|c| c.id == known.id));
        containers.into_iter().for_each(|c| self.observe(c));
        self.sandboxes = sandboxes;
    }

    /// Takes in an event of the runtime. Returns the container that ended with it, if one did.
    pub(crate) fn apply(&mut self, event: &Event) -> Option<String> {
        let id = event.id();
        if let Some(sandbox) = self.sandboxes.iter_mut().find(|sandbox| sandbox.id == id) {
            match event {
                Event::Exited { .. } => sandbox.ready = false,
                Event::Deleted { .. } => self.sandboxes.retain(|sandbox| sandbox.id != event.id()),
                _ => {}
            }
            return None;
        }
        let container = self.containers.iter_mut().find(|c| c.id == id)?;
        match event {
            Event::Exited { code, at, .. } => return exited(container, *code, *at).then(|| id.to_owned()),
            Event::OutOfMemory { .. } => container.reason = "OOMKilled".into(),
            Event::Deleted { .. } => self.containers.retain(|c| c.id != event.id()),
            Event::Started { .. } => {}
        }
        None
    }

    /// Forgets what no longer exists, so that the state of a long-lived pod stays small.
    pub(crate) fn tidy(&mut self) {
        let alive: BTreeSet<&str> = self.containers.iter().map(|c| c.id.as_str()).collect();
        self.hooked.retain(|id| alive.contains(id.as_str()));
        self.signalled.retain(|id| alive.contains(id.as_str()));
        self.condemned.retain(|id, _| alive.contains(id.as_str()));
        self.sized.retain(|id, _| alive.contains(id.as_str()));
        self.last_words.retain(|id, _| alive.contains(id.as_str()));
        self.probes.retain(|id| alive.contains(id));
    }
}

fn exited(container: &mut Container, code: i32, at: i64) -> bool {
    if container.state == ContainerState::Exited {
        return false;
    }
    container.state = ContainerState::Exited;
    container.exit_code = code;
    container.finished_at = at;
    if container.reason.is_empty() {
        container.reason = if code == 0 { "Completed".into() } else { "Error".into() };
    }
    true
}

/// A runtime's time as a timestamp; the epoch when not known.
pub(crate) fn time(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default()
}
