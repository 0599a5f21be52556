//! The kinds of metrics: how each turns what was read into a number of replicas, and how its status shows it. Pure.

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricStatus, MetricSpec, MetricStatus, MetricTarget,
    MetricValueStatus, ObjectMetricStatus, PodsMetricStatus, ResourceMetricStatus,
};

use super::metrics::{Reading, milli, quantity};
use super::replicas::{Ground, Proposal};

/// The reason that conditions and events give when a metric fails.
pub(super) fn failure(metric: &MetricSpec) -> &'static str {
    match metric.type_.as_str() {
        "Resource" => "FailedGetResourceMetric",
        "ContainerResource" => "FailedGetContainerResourceMetric",
        "Pods" => "FailedGetPodsMetric",
        "Object" => "FailedGetObjectMetric",
        "External" => "FailedGetExternalMetric",
        _ => "InvalidMetricSourceType",
    }
}

/// Replicas, the metric's name in messages, and its status.
pub(super) fn of(
    metric: &MetricSpec,
    reading: &Reading,
    ground: &Ground<'_>,
) -> Result<(i32, String, MetricStatus), String> {
    let mut status = MetricStatus { type_: metric.type_.clone(), ..MetricStatus::default() };
    if let Some(source) = &metric.resource {
        let (proposal, name, current) = resource(&source.name, None, &source.target, reading, ground)?;
        status.resource = Some(ResourceMetricStatus { name: source.name.clone(), current });
        return Ok((proposal.replicas, name, status));
    }
    if let Some(source) = &metric.container_resource {
        let container = Some(source.container.as_str());
        let (proposal, name, current) = resource(&source.name, container, &source.target, reading, ground)?;
        let (name_of, container) = (source.name.clone(), source.container.clone());
        status.container_resource = Some(ContainerResourceMetricStatus { name: name_of, container, current });
        return Ok((proposal.replicas, name, status));
    }
    if let Some(source) = &metric.pods {
        let (Reading::Pods(samples), Some(target)) = (reading, average(&source.target)) else {
            return Err(NO_TARGET.into());
        };
        let proposal = ground.by_average(samples, target, false)?;
        let current = shown(&proposal, true);
        status.pods = Some(PodsMetricStatus { metric: source.metric.clone(), current });
        return Ok((proposal.replicas, format!("pods metric {}", source.metric.name), status));
    }
    if let Some(source) = &metric.object {
        let (proposal, current) = total(&source.target, reading, ground)?;
        let (metric, about) = (source.metric.clone(), source.described_object.clone());
        let name = format!("{} metric {}", about.kind, metric.name);
        status.object = Some(ObjectMetricStatus { metric, described_object: about, current });
        return Ok((proposal.replicas, name, status));
    }
    if let Some(source) = &metric.external {
        let (proposal, current) = total(&source.target, reading, ground)?;
        let name = format!("external metric {}", source.metric.name);
        status.external = Some(ExternalMetricStatus { metric: source.metric.clone(), current });
        return Ok((proposal.replicas, name, status));
    }
    Err(format!("unknown metric source type {:?}", metric.type_))
}

const NO_TARGET: &str = "invalid metric source: it has no target that fits its type";

fn average(target: &MetricTarget) -> Option<i64> {
    target.average_value.as_ref().and_then(milli).filter(|value| *value > 0)
}

fn shown(proposal: &Proposal, average: bool) -> MetricValueStatus {
    let value = Some(quantity(proposal.value));
    MetricValueStatus {
        average_utilization: proposal.utilization,
        average_value: value.clone().filter(|_| average),
        value: value.filter(|_| !average),
    }
}

fn resource(
    name: &str,
    container: Option<&str>,
    target: &MetricTarget,
    reading: &Reading,
    ground: &Ground<'_>,
) -> Result<(Proposal, String, MetricValueStatus), String> {
    let Reading::Pods(samples) = reading else { return Err(NO_TARGET.into()) };
    let what = if container.is_some() { "container resource" } else { "resource" };
    let (proposal, named) = match (average(target), target.average_utilization) {
        (Some(target), _) => {
            let proposal = ground.by_average(samples, target, name == "cpu");
            (proposal.map_err(|why| format!("failed to get {name} usage: {why}"))?, format!("{name} {what}"))
        }
        (None, Some(target)) => {
            let proposal = ground.by_utilization(samples, target, name, container);
            let proposal = proposal.map_err(|why| format!("failed to get {name} utilization: {why}"))?;
            (proposal, format!("{name} {what} utilization (percentage of request)"))
        }
        (None, None) => return Err(NO_TARGET.into()),
    };
    let current = shown(&proposal, true);
    Ok((proposal, named, current))
}

/// A value that stands for all pods, or that they share.
fn total(
    target: &MetricTarget,
    reading: &Reading,
    ground: &Ground<'_>,
) -> Result<(Proposal, MetricValueStatus), String> {
    let Reading::Total(value) = reading else { return Err(NO_TARGET.into()) };
    if target.type_ == "AverageValue" {
        let proposal = ground.by_share(*value, average(target).ok_or(NO_TARGET)?);
        return Ok((proposal, shown(&proposal, true)));
    }
    let wanted = target.value.as_ref().and_then(milli).filter(|value| *value > 0).ok_or(NO_TARGET)?;
    let proposal = ground.by_value(*value, wanted)?;
    Ok((proposal, shown(&proposal, false)))
}
