//! The three metrics APIs, read as any client reads them: `metrics.k8s.io`, `custom.metrics.k8s.io`,
//! `external.metrics.k8s.io`.
//!
//! All amounts are in milli-units. What cannot be read is told in words, as the conditions show them.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{CrossVersionObjectReference, MetricIdentifier, MetricSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tiphys_api::selector::LabelSelector;
use tiphys_api::{Status, json, quantity};
use tiphys_client::Client;

use crate::resources::Found;

/// One pod's metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    /// Milli-units.
    pub(super) value: i64,
    pub(super) at: Timestamp,
    /// Over which time it was measured.
    pub(super) window: SignedDuration,
}

/// What one metric of an autoscaler reads.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reading {
    /// Of each pod by name.
    Pods(BTreeMap<String, Sample>),
    /// One value for all, in milli-units.
    Total(i64),
}

/// What [`read`] asks about.
pub(super) struct Target<'a> {
    pub(super) namespace: &'a str,
    /// Label selector of the pods, as text.
    pub(super) selector: &'a str,
    pub(super) found: &'a Found,
}

/// Thousandths of an amount.
pub(super) fn milli(quantity: &Quantity) -> Option<i64> {
    amount(&quantity.0)
}

/// Thousandths of an amount in its text form.
pub(super) fn amount(text: &str) -> Option<i64> {
    text.parse::<quantity::Quantity>().ok().map(|quantity| quantity.milli_value())
}

/// An amount of thousandths.
pub(super) fn quantity(milli: i64) -> Quantity {
    Quantity(quantity::Quantity::from_milli(milli).to_string())
}

/// Reads a metric.
pub(super) async fn read(
    client: &dyn Client,
    spec: &MetricSpec,
    target: &Target<'_>,
) -> Result<Reading, String> {
    if let Some(source) = &spec.resource {
        return resource(client, &source.name, None, target).await.map(Reading::Pods);
    }
    if let Some(source) = &spec.container_resource {
        return resource(client, &source.name, Some(&source.container), target).await.map(Reading::Pods);
    }
    if let Some(source) = &spec.pods {
        return pods(client, &source.metric, target).await.map(Reading::Pods);
    }
    if let Some(source) = &spec.object {
        return object(client, &source.described_object, &source.metric, target).await.map(Reading::Total);
    }
    if let Some(source) = &spec.external {
        return external(client, &source.metric, target).await.map(Reading::Total);
    }
    Err(format!("unknown metric source type {:?}", spec.type_))
}

#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: Named,
    timestamp: Timestamp,
    #[serde(default)]
    window: Option<SignedDuration>,
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: String,
    usage: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetricValue {
    #[serde(default)]
    described_object: Option<Named>,
    timestamp: Timestamp,
    #[serde(default)]
    window_seconds: Option<i64>,
    value: String,
}

async fn fetch<T: DeserializeOwned>(client: &dyn Client, path: &str) -> Result<List<T>, Status> {
    serde_json::from_slice(&client.get_path(path).await?).map_err(Status::internal)
}

/// Usage of a resource by pod: of all containers, or of one.
async fn resource(
    client: &dyn Client,
    name: &str,
    container: Option<&str>,
    target: &Target<'_>,
) -> Result<BTreeMap<String, Sample>, String> {
    let base = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods", target.namespace);
    let path = with_query(base, &[("labelSelector", target.selector)]);
    let unable = |why: String| format!("unable to get metrics for resource {name}: {why}");
    let list: List<PodMetrics> = fetch(client, &path)
        .await
        .map_err(|status| unable(format!("unable to fetch metrics from resource metrics API: {status}")))?;
    if list.items.is_empty() {
        return Err(unable("no metrics returned from resource metrics API".into()));
    }
    Ok(list.items.iter().filter_map(|pod| usage(pod, name, container)).collect())
}

/// `None` if the resource of one container is missing: then nothing is known of the pod.
fn usage(pod: &PodMetrics, resource: &str, container: Option<&str>) -> Option<(String, Sample)> {
    let wanted = |one: &&ContainerMetrics| container.is_none_or(|name| name == one.name);
    let mut containers = pod.containers.iter().filter(wanted).peekable();
    containers.peek()?;
    let value = containers.map(|one| amount(one.usage.get(resource)?)).sum::<Option<i64>>()?;
    let window = pod.window.unwrap_or(SignedDuration::from_secs(60));
    Some((pod.metadata.name.clone(), Sample { value, at: pod.timestamp, window }))
}

/// A custom metric of every pod.
async fn pods(
    client: &dyn Client,
    metric: &MetricIdentifier,
    target: &Target<'_>,
) -> Result<BTreeMap<String, Sample>, String> {
    let place = format!("namespaces/{}/pods/*/{}", target.namespace, metric.name);
    let query = [("labelSelector", target.selector), ("metricLabelSelector", &selector(metric))];
    let values = custom(client, &place, &query)
        .await
        .map_err(|why| format!("unable to get metric {}: {why}", metric.name))?;
    let sample = |value: MetricValue| {
        let window = SignedDuration::from_secs(value.window_seconds.unwrap_or(60));
        let sample = Sample { value: amount(&value.value)?, at: value.timestamp, window };
        Some((value.described_object?.name, sample))
    };
    Ok(values.into_iter().filter_map(sample).collect())
}

/// A custom metric of one object.
async fn object(
    client: &dyn Client,
    about: &CrossVersionObjectReference,
    metric: &MetricIdentifier,
    target: &Target<'_>,
) -> Result<i64, String> {
    let (kind, name) = (&about.kind, &about.name);
    let unable = |why: String| {
        format!("unable to get metric {}: {kind} on {} {name}/{why}", metric.name, target.namespace)
    };
    let served = target.found.by_kind(about.api_version.as_deref().unwrap_or_default(), kind);
    let served = served.ok_or_else(|| unable(format!("no matches for kind {kind:?}")))?;
    let resource = match served.gvr.group.as_ref() {
        "" => served.gvr.resource.to_string(),
        group => format!("{}.{group}", served.gvr.resource),
    };
    let place = match (kind.as_str(), served.namespaced) {
        ("Namespace", _) => format!("namespaces/{name}/metrics/{}", metric.name),
        (_, true) => format!("namespaces/{}/{resource}/{name}/{}", target.namespace, metric.name),
        (_, false) => format!("{resource}/{name}/{}", metric.name),
    };
    let values = custom(client, &place, &[("metricLabelSelector", &selector(metric))]).await;
    let first = values.map_err(unable)?.into_iter().next();
    first.and_then(|value| amount(&value.value)).ok_or_else(|| unable("its value is no amount".into()))
}

/// Newer servers know the second version, older ones only the first.
async fn custom(
    client: &dyn Client,
    place: &str,
    query: &[(&str, &str)],
) -> Result<Vec<MetricValue>, String> {
    let path = |version: &str| with_query(format!("/apis/custom.metrics.k8s.io/{version}/{place}"), query);
    let list = match fetch::<MetricValue>(client, &path("v1beta2")).await {
        // Which of the two was not found, the version or the metric, is told by the version that the server has.
        Err(newer) if newer.is("NotFound") => {
            let older = fetch(client, &path("v1beta1")).await;
            older.map_err(|status| if status.is("NotFound") { newer } else { status })
        }
        other => other,
    };
    let list = list.map_err(|status| format!("unable to fetch metrics from custom metrics API: {status}"))?;
    if list.items.is_empty() {
        return Err("no metrics returned from custom metrics API".into());
    }
    Ok(list.items)
}

/// The sum of an external metric's values.
async fn external(
    client: &dyn Client,
    metric: &MetricIdentifier,
    target: &Target<'_>,
) -> Result<i64, String> {
    let base =
        format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/{}", target.namespace, metric.name);
    let labels = selector(metric);
    let unable = |why: String| {
        format!("unable to get external metric {}/{}/{labels}: {why}", target.namespace, metric.name)
    };
    let list: List<MetricValue> = fetch(client, &with_query(base, &[("labelSelector", &labels)]))
        .await
        .map_err(|status| unable(format!("unable to fetch metrics from external metrics API: {status}")))?;
    if list.items.is_empty() {
        return Err(unable("no metrics returned from external metrics API".into()));
    }
    let sum = list.items.iter().map(|value| amount(&value.value)).sum::<Option<i64>>();
    sum.ok_or_else(|| unable("its value is no amount".into()))
}

/// The selector of a metric as text; empty for all.
fn selector(metric: &MetricIdentifier) -> String {
    let Some(given) = &metric.selector else { return String::new() };
    LabelSelector::from_value(&json!(given)).map(|selector| selector.to_string()).unwrap_or_default()
}

/// A path with the parameters that are not empty.
fn with_query(mut path: String, parameters: &[(&str, &str)]) -> String {
    let mut mark = '?';
    for (name, value) in parameters.iter().filter(|(_, value)| !value.is_empty()) {
        path.push(mark);
        path.push_str(name);
        path.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => path.push(byte.into()),
                other => write!(path, "%{other:02X}").expect("a String takes all"),
            }
        }
        mark = '&';
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_escaped_and_empty_ones_left_out() {
        let path = with_query("/p".into(), &[("a", "x in (y,z)"), ("b", ""), ("c", "1")]);
        assert_eq!(path, "/p?a=x%20in%20%28y%2Cz%29&c=1");
    }
}
