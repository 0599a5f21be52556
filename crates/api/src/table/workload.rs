//! Cells of workloads: replicas, jobs, autoscalers, revisions, and their pod templates.

use crate::Value;
use jiff::Timestamp;

use super::access::{
    NONE, UNKNOWN, at, condition, flag, is_deleted, joined, labels, list, number, quantity_text, scalar,
    selector, text, time,
};
use super::duration::{human_duration, human_seconds};
use crate::gvr::Gvk;

pub(super) fn ready_of_desired(object: &Value, _now: Timestamp) -> Value {
    format!("{}/{}", number(object, "status.readyReplicas"), number(object, "spec.replicas")).into()
}

pub(super) fn containers(object: &Value, _now: Timestamp) -> Value {
    joined(object, &format!("{}.spec.containers", template(object)), "name").into()
}

pub(super) fn images(object: &Value, _now: Timestamp) -> Value {
    joined(object, &format!("{}.spec.containers", template(object)), "image").into()
}

/// Where a workload keeps its pod template.
fn template(object: &Value) -> &'static str {
    let places = ["spec.template", "spec.jobTemplate.spec.template", "template"];
    places.into_iter().find(|path| at(object, path).is_some()).unwrap_or("spec.template")
}

pub(super) fn template_labels(object: &Value, _now: Timestamp) -> Value {
    labels(object, "template.metadata.labels").into()
}

pub(super) fn label_selector(object: &Value, _now: Timestamp) -> Value {
    selector(object, "spec.selector").into()
}

pub(super) fn job_template_selector(object: &Value, _now: Timestamp) -> Value {
    selector(object, "spec.jobTemplate.spec.selector").into()
}

pub(super) fn map_selector(object: &Value, _now: Timestamp) -> Value {
    labels(object, "spec.selector").into()
}

pub(super) fn node_selector(object: &Value, _now: Timestamp) -> Value {
    labels(object, "spec.template.spec.nodeSelector").into()
}

pub(super) fn job_status(job: &Value, _now: Timestamp) -> Value {
    let holds = |kind| condition(job, kind) == "True";
    let status = match () {
        () if holds("Complete") => "Complete",
        () if holds("Failed") => "Failed",
        () if is_deleted(job) => "Terminating",
        () if holds("Suspended") => "Suspended",
        () if holds("FailureTarget") => "FailureTarget",
        () => "Running",
    };
    status.into()
}

pub(super) fn job_completions(job: &Value, _now: Timestamp) -> Value {
    let (done, parallel) = (number(job, "status.succeeded"), number(job, "spec.parallelism"));
    match at(job, "spec.completions") {
        Some(wanted) => format!("{done}/{wanted}").into(),
        None if parallel > 1 => format!("{done}/1 of {parallel}").into(),
        None => format!("{done}/1").into(),
    }
}

pub(super) fn job_duration(job: &Value, now: Timestamp) -> Value {
    let Some(start) = time(job, "status.startTime") else { return "".into() };
    human_duration(time(job, "status.completionTime").unwrap_or(now), start).into()
}

pub(super) fn suspend(object: &Value, _now: Timestamp) -> Value {
    match at(object, "spec.suspend") {
        None => "<unset>".into(),
        Some(_) if flag(object, "spec.suspend") => "True".into(),
        Some(_) => "False".into(),
    }
}

pub(super) fn last_schedule(object: &Value, now: Timestamp) -> Value {
    time(object, "status.lastScheduleTime").map_or(NONE.into(), |time| human_duration(now, time).into())
}

pub(super) fn owner(object: &Value, _now: Timestamp) -> Value {
    let controller = list(object, "metadata.ownerReferences").iter().find(|o| flag(o, "controller"));
    controller.map_or(NONE.into(), |owner| {
        let gvk = Gvk::from_api_version(text(owner, "apiVersion"), text(owner, "kind"));
        format!("{}/{}", gvk.group_kind().to_lowercase(), text(owner, "name")).into()
    })
}

pub(super) fn min_available(object: &Value, _now: Timestamp) -> Value {
    at(object, "spec.minAvailable").map_or("N/A".into(), |v| scalar(v).into())
}

pub(super) fn max_unavailable(object: &Value, _now: Timestamp) -> Value {
    at(object, "spec.maxUnavailable").map_or("N/A".into(), |v| scalar(v).into())
}

pub(super) fn requested_duration(csr: &Value, _now: Timestamp) -> Value {
    let seconds = at(csr, "spec.expirationSeconds").and_then(Value::as_i64);
    seconds.map_or(NONE.into(), |seconds| human_seconds(seconds).into())
}

pub(super) fn scale_target(hpa: &Value, _now: Timestamp) -> Value {
    format!("{}/{}", text(hpa, "spec.scaleTargetRef.kind"), text(hpa, "spec.scaleTargetRef.name")).into()
}

pub(super) fn min_pods(hpa: &Value, _now: Timestamp) -> Value {
    at(hpa, "spec.minReplicas").map_or("<unset>".into(), |n| n.to_string().into())
}

/// Current and wanted values of the first metrics.
pub(super) fn metrics(hpa: &Value, _now: Timestamp) -> Value {
    if let Some(target) = at(hpa, "spec.targetCPUUtilizationPercentage") {
        let current = percent(at(hpa, "status.currentCPUUtilizationPercentage"), UNKNOWN);
        return format!("cpu: {current}/{target}%").into();
    }
    let current = list(hpa, "status.currentMetrics");
    let specs = list(hpa, "spec.metrics").iter().enumerate();
    let all: Vec<String> =
        specs.map(|(i, spec)| metric(spec, current.get(i).unwrap_or(&Value::Null))).collect();
    match all.as_slice() {
        [] => NONE.into(),
        [a, b, rest @ ..] if !rest.is_empty() => format!("{a}, {b} + {} more...", rest.len()).into(),
        few => few.join(", ").into(),
    }
}

fn metric(spec: &Value, status: &Value) -> String {
    let (source, prefix) = match text(spec, "type") {
        "External" => ("external", String::new()),
        "Pods" => ("pods", String::new()),
        "Object" => ("object", String::new()),
        "Resource" => ("resource", format!("{}: ", text(spec, "resource.name"))),
        "ContainerResource" => ("containerResource", format!("{}: ", text(spec, "containerResource.name"))),
        _ => return "<unknown type>".into(),
    };
    let target = |field: &str| at(spec, &format!("{source}.target.{field}"));
    let current = |field: &str| at(status, &format!("{source}.current.{field}"));
    let value = |field: &str| current(field).map_or(UNKNOWN.into(), scalar);
    if let Some(average) = target("averageValue") {
        let note = if ["external", "object"].contains(&source) { " (avg)" } else { "" };
        return format!("{prefix}{}/{}{note}", value("averageValue"), scalar(average));
    }
    if ["external", "object"].contains(&source) {
        return format!("{prefix}{}/{}", value("value"), quantity_text(target("value")));
    }
    let current = percent(current("averageUtilization"), UNKNOWN);
    format!("{prefix}{current}/{}", percent(target("averageUtilization"), "<auto>"))
}

fn percent(value: Option<&Value>, absent: &str) -> String {
    value.map_or_else(|| absent.to_owned(), |n| format!("{n}%"))
}
