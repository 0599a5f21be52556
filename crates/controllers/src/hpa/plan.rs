//! What an autoscaler does next: the size its metrics call for, its conditions and its status. Pure.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerSpec,
    HorizontalPodAutoscalerStatus, MetricSpec, MetricStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::limits::{self, History, Rules, Wish};
use super::metrics::Reading;
use super::pods::PodView;
use super::proposal;
use super::replicas::Ground;

/// An autoscaler, its target, and what was read.
pub(super) struct Snapshot<'a> {
    pub(super) hpa: &'a HorizontalPodAutoscaler,
    pub(super) scale: &'a Scale,
    pub(super) pods: &'a [PodView],
    /// One for each metric, in order; empty when [`needs_metrics`] said no.
    pub(super) readings: &'a [Result<Reading, String>],
    pub(super) now: Timestamp,
}

/// What to do.
#[derive(Debug)]
pub(super) struct Plan {
    /// The status, as far as it is true whether or not the target takes its new size.
    pub(super) status: HorizontalPodAutoscalerStatus,
    /// A new size, and why.
    pub(super) rescale: Option<(i32, String)>,
    /// Kind, reason and message.
    pub(super) events: Vec<(&'static str, &'static str, String)>,
}

/// What the target's size alone decides.
enum First {
    /// It was set to zero by hand: no autoscaling.
    Disabled,
    Above(i32),
    Below(i32),
    Metrics,
}

/// The size that the target's spec asks for.
pub(super) fn wanted(scale: &Scale) -> i32 {
    scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0)
}

fn actual(scale: &Scale) -> i32 {
    scale.status.as_ref().map_or(0, |status| status.replicas)
}

fn first(hpa: &HorizontalPodAutoscaler, scale: &Scale) -> First {
    let spec = &hpa.spec;
    let (size, min) = (wanted(scale), spec.min_replicas.unwrap_or(1));
    match size {
        0 if !was_scaled_to_zero(hpa) => First::Disabled,
        size if size > spec.max_replicas => First::Above(spec.max_replicas),
        size if size < min => First::Below(min),
        _ => First::Metrics,
    }
}

/// Whether the metrics matter: the target is neither switched off nor outside of its bounds.
pub(super) fn needs_metrics(hpa: &HorizontalPodAutoscaler, scale: &Scale) -> bool {
    matches!(first(hpa, scale), First::Metrics)
}

/// Whether the target has no replicas because its autoscaler wanted none; what people set to zero stays at zero.
fn was_scaled_to_zero(hpa: &HorizontalPodAutoscaler) -> bool {
    let conditions = hpa.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == SCALED_TO_ZERO && condition.status == "True")
}

pub(super) fn plan(snapshot: &Snapshot<'_>, history: &mut History) -> Plan {
    let spec = &snapshot.hpa.spec;
    let size = wanted(snapshot.scale);
    history.start(size, snapshot.now);
    let mut work = Work::new(snapshot, spec);
    work.set("AbleToScale", true, "SucceededGetScale", ABLE);
    match first(snapshot.hpa, snapshot.scale) {
        First::Disabled => {
            let why = "scaling is disabled since the replica count of the target is zero";
            work.set("ScalingActive", false, "ScalingDisabled", why);
        }
        First::Above(most) => {
            work.rescale = Some((most, "Current number of replicas above Spec.MaxReplicas".into()));
        }
        First::Below(least) => {
            work.rescale = Some((least, "Current number of replicas below Spec.MinReplicas".into()));
        }
        First::Metrics => work.by_metrics(history),
    }
    work.done()
}

const SCALED_TO_ZERO: &str = "ScaledToZero";
const ABLE: &str = "the HPA controller was able to get the target's current scale";

struct Work<'a> {
    snapshot: &'a Snapshot<'a>,
    spec: &'a HorizontalPodAutoscalerSpec,
    rules: Rules,
    conditions: Vec<HorizontalPodAutoscalerCondition>,
    measured: Vec<MetricStatus>,
    rescale: Option<(i32, String)>,
    events: Vec<(&'static str, &'static str, String)>,
    /// No size could be told.
    failed: bool,
}

impl<'a> Work<'a> {
    fn new(snapshot: &'a Snapshot<'a>, spec: &'a HorizontalPodAutoscalerSpec) -> Self {
        let status = snapshot.hpa.status.as_ref();
        Self {
            snapshot,
            spec,
            rules: Rules::of(spec),
            conditions: status.and_then(|status| status.conditions.clone()).unwrap_or_default(),
            measured: Vec::new(),
            rescale: None,
            events: Vec::new(),
            failed: false,
        }
    }

    fn set(&mut self, kind: &str, status: bool, reason: &str, message: &str) {
        set(&mut self.conditions, kind, status, reason, message, self.snapshot.now);
    }

    /// Takes the highest proposal; one that fails stops a smaller size, but not a larger one.
    fn by_metrics(&mut self, history: &mut History) {
        let size = wanted(self.snapshot.scale);
        let (mut best, mut failed) = (None::<(i32, String)>, Vec::new());
        let metrics = self.spec.metrics.clone().unwrap_or_default();
        for (metric, reading) in metrics.iter().zip(self.snapshot.readings) {
            match self.propose(metric, reading) {
                Ok((replicas, name, measured)) => {
                    self.measured.push(measured);
                    if best.as_ref().is_none_or(|(most, _)| replicas > *most) {
                        best = Some((replicas, name));
                    }
                }
                Err(why) => failed.push((proposal::failure(metric), why)),
            }
        }
        for (reason, why) in &failed {
            self.events.push(("Warning", reason, why.clone()));
        }
        let summary = failed.first().map(|(_, why)| {
            format!(
                "invalid metrics ({} invalid out of {}), first error is: {why}",
                failed.len(),
                metrics.len()
            )
        });
        let stops = |replicas: i32| !failed.is_empty() && replicas < size;
        let Some((desired, name)) = best.filter(|(replicas, _)| !stops(*replicas)) else {
            if let Some((reason, why)) = failed.first() {
                let message = format!("the HPA was unable to compute the replica count: {why}");
                self.set("ScalingActive", false, reason, &message);
            }
            self.failed = true;
            let summary = summary.unwrap_or_default();
            self.events.push(("Warning", "FailedComputeMetricsReplicas", summary));
            return;
        };
        let message = format!("the HPA was able to successfully calculate a replica count from {name}");
        self.set("ScalingActive", true, "ValidMetricFound", &message);
        self.bound(size, desired, &name, history);
    }

    fn propose(
        &self,
        metric: &MetricSpec,
        reading: &Result<Reading, String>,
    ) -> Result<(i32, String, MetricStatus), String> {
        let ground = Ground {
            pods: self.snapshot.pods,
            wanted: wanted(self.snapshot.scale),
            actual: actual(self.snapshot.scale),
            rules: &self.rules,
            now: self.snapshot.now,
        };
        proposal::of(metric, reading.as_ref().map_err(Clone::clone)?, &ground)
    }

    fn bound(&mut self, current: i32, desired: i32, name: &str, history: &mut History) {
        let (min, max) = (self.spec.min_replicas.unwrap_or(1), self.spec.max_replicas);
        let why = match desired {
            more if more > current => format!("{name} above target"),
            less if less < current => "All metrics below target".to_owned(),
            _ => String::new(),
        };
        let wish = Wish { current, desired, min, max };
        let bounded = limits::bound(wish, &self.rules, history, self.snapshot.now);
        self.set("AbleToScale", true, bounded.able.0, bounded.able.1);
        self.set("ScalingLimited", bounded.limited, bounded.why.0, bounded.why.1);
        self.rescale = Some((bounded.desired, why)).filter(|(replicas, _)| *replicas != current);
    }

    fn done(self) -> Plan {
        let old = self.snapshot.hpa.status.as_ref();
        let current = wanted(self.snapshot.scale);
        let known = old.map_or(0, |status| status.desired_replicas);
        let status = HorizontalPodAutoscalerStatus {
            conditions: Some(self.conditions),
            current_metrics: Some(self.measured).filter(|all| !all.is_empty()),
            current_replicas: Some(current),
            desired_replicas: if self.failed { known } else { current },
            last_scale_time: old.and_then(|status| status.last_scale_time.clone()),
            observed_generation: self.snapshot.hpa.metadata.generation,
        };
        Plan { status, rescale: self.rescale, events: self.events }
    }
}

/// Sets a condition; its time changes with its status.
pub(super) fn set(
    conditions: &mut Vec<HorizontalPodAutoscalerCondition>,
    kind: &str,
    status: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let status = if status { "True" } else { "False" };
    let known = conditions.iter().position(|condition| condition.type_ == kind);
    let same = known.and_then(|at| conditions.get(at)).filter(|condition| condition.status == status);
    let since = same.and_then(|condition| condition.last_transition_time.clone());
    let condition = HorizontalPodAutoscalerCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_transition_time: since.or(Some(Time(now))),
    };
    match known.and_then(|at| conditions.get_mut(at)) {
        Some(place) => *place = condition,
        None => conditions.push(condition),
    }
}

/// The status once the target has taken a new size, or has refused it.
pub(super) fn rescaled(
    status: &mut HorizontalPodAutoscalerStatus,
    replicas: i32,
    outcome: Result<(), String>,
    now: Timestamp,
) {
    let conditions = status.conditions.get_or_insert_default();
    match outcome {
        Ok(()) => {
            if replicas == 0 {
                let message = "the HPA controller scaled the workload to zero";
                set(conditions, SCALED_TO_ZERO, true, "ScaledToZero", message, now);
            } else if conditions.iter().any(|condition| condition.type_ == SCALED_TO_ZERO) {
                let message = "the HPA controller did not scale the workload to zero";
                set(conditions, SCALED_TO_ZERO, false, "NotScaledToZero", message, now);
            }
            let message = format!("the HPA controller was able to update the target scale to {replicas}");
            set(conditions, "AbleToScale", true, "SucceededRescale", &message, now);
            status.desired_replicas = replicas;
            status.last_scale_time = Some(Time(now));
        }
        Err(why) => {
            let message = format!("the HPA controller was unable to update the target scale: {why}");
            set(conditions, "AbleToScale", false, "FailedUpdateScale", &message, now);
        }
    }
}
