//! Cells of pods: one line that sums up the states of all containers.

use crate::Value;
use jiff::Timestamp;

use crate::quantity::Quantity;

use super::access::{NONE, at, condition, flag, is_deleted, list, number, text, text_or, time};
use super::duration::human_duration;

pub(super) fn ready(pod: &Value, _now: Timestamp) -> Value {
    let summary = Summary::of(pod);
    format!("{}/{}", summary.ready, summary.total).into()
}

pub(super) fn status(pod: &Value, _now: Timestamp) -> Value {
    Summary::of(pod).reason.into()
}

pub(super) fn restarts(pod: &Value, now: Timestamp) -> Value {
    let Restarts { count, last } = Summary::of(pod).restarts;
    match last.filter(|_| count != 0) {
        Some(last) => format!("{count} ({} ago)", human_duration(now, last)).into(),
        None => count.to_string().into(),
    }
}

pub(super) fn ip(pod: &Value, _now: Timestamp) -> Value {
    list(pod, "status.podIPs").first().map_or(NONE, |first| text_or(first, "ip", NONE)).into()
}

pub(super) fn readiness_gates(pod: &Value, _now: Timestamp) -> Value {
    let gates = list(pod, "spec.readinessGates");
    let open = gates.iter().filter(|gate| condition(pod, text(gate, "conditionType")) == "True").count();
    match gates.len() {
        0 => NONE.into(),
        all => format!("{open}/{all}").into(),
    }
}

/// What all containers of a `PodMetrics` use.
pub(super) fn cpu(metrics: &Value, _now: Timestamp) -> Value {
    used(metrics, "usage.cpu")
}

pub(super) fn memory(metrics: &Value, _now: Timestamp) -> Value {
    used(metrics, "usage.memory")
}

fn used(metrics: &Value, path: &str) -> Value {
    let amounts = list(metrics, "containers").iter().filter_map(|c| text(c, path).parse::<Quantity>().ok());
    amounts.reduce(|sum, more| sum + more).unwrap_or_default().to_string().into()
}

/// Restarts and when the last one was.
#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, container: &Value) {
        self.count += number(container, "restartCount");
        self.last = self.last.max(time(container, "lastState.terminated.finishedAt"));
    }
}

struct Summary {
    ready: usize,
    total: usize,
    restarts: Restarts,
    reason: String,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let sidecars = list(pod, "spec.initContainers").iter().filter(|c| is_sidecar(c)).count();
        let mut summary = Self {
            ready: 0,
            total: list(pod, "spec.containers").len() + sidecars,
            restarts: Restarts::default(),
            reason: text_or(pod, "status.reason", text(pod, "status.phase")).to_owned(),
        };
        let gated = |c: &&Value| text(c, "type") == "PodScheduled" && text(c, "reason") == "SchedulingGated";
        if list(pod, "status.conditions").iter().any(|c| gated(&c)) {
            summary.reason = "SchedulingGated".into();
        }
        let mut of_sidecars = Restarts::default();
        let initializing = summary.init_containers(pod, &mut of_sidecars);
        if !initializing || condition(pod, "Initialized") == "True" {
            summary.restarts = of_sidecars;
            summary.containers(pod);
        }
        if is_deleted(pod) {
            summary.deleted(pod);
        }
        summary
    }

    /// Reads init containers up to the first that has not done its work; true if there is one.
    fn init_containers(&mut self, pod: &Value, of_sidecars: &mut Restarts) -> bool {
        let specs = list(pod, "spec.initContainers");
        for (i, container) in list(pod, "status.initContainerStatuses").iter().enumerate() {
            let name = text(container, "name");
            let sidecar = specs.iter().any(|spec| text(spec, "name") == name && is_sidecar(spec));
            self.restarts.add(container);
            if sidecar {
                of_sidecars.add(container);
            }
            let terminated = at(container, "state.terminated");
            if terminated.is_some_and(|t| number(t, "exitCode") == 0) {
                continue;
            }
            if sidecar && flag(container, "started") {
                self.ready += usize::from(flag(container, "ready"));
                continue;
            }
            let waiting = text(container, "state.waiting.reason");
            self.reason = match terminated {
                Some(terminated) => format!("Init:{}", end_reason(terminated)),
                None if !["", "PodInitializing"].contains(&waiting) => format!("Init:{waiting}"),
                None => format!("Init:{i}/{}", specs.len()),
            };
            return true;
        }
        false
    }

    fn containers(&mut self, pod: &Value) {
        let mut running = false;
        for container in list(pod, "status.containerStatuses").iter().rev() {
            self.restarts.add(container);
            let waiting = text(container, "state.waiting.reason");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(terminated) = at(container, "state.terminated") {
                self.reason = end_reason(terminated);
            } else if flag(container, "ready") && at(container, "state.running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            let ready = condition(pod, "Ready") == "True";
            self.reason = if ready { "Running".into() } else { "NotReady".into() };
        }
    }

    fn deleted(&mut self, pod: &Value) {
        if text(pod, "status.reason") == "NodeLost" {
            self.reason = "Unknown".into();
        } else if !["Succeeded", "Failed"].contains(&text(pod, "status.phase")) {
            self.reason = "Terminating".into();
        }
    }
}

fn is_sidecar(spec: &Value) -> bool {
    text(spec, "restartPolicy") == "Always"
}

fn end_reason(terminated: &Value) -> String {
    match (text(terminated, "reason"), number(terminated, "signal")) {
        ("", 0) => format!("ExitCode:{}", number(terminated, "exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}
