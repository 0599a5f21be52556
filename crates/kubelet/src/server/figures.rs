//! What the node tells about itself and its pods: lists, statistics, metrics, its configuration.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tiphys_client::ListOptions;
use tiphys_client::metrics::header;
use tiphys_client::typed::Kind;
use tiphys_runtime::{ContainerState, Filter};

use super::find::Refusal;
use super::routes::{Answer, json, text};
use crate::context::Context;
use crate::stats::sample::{self, Detail};
use crate::stats::text::{cadvisor, resource};
use crate::stats::{self, machine};
use crate::{container, sandbox};

/// The runtime's answer, or its error as a refusal.
async fn told<T>(answer: impl Future<Output = tiphys_runtime::Result<T>>) -> Result<T, Refusal> {
    answer.await.map_err(|error| (500, error.to_string()))
}

/// Answers one path.
pub(super) async fn answer(ctx: &Context, parts: &[&str]) -> Answer {
    match *parts {
        ["pods"] => pods(ctx).await,
        ["runningpods"] => running_pods(ctx).await,
        ["configz"] => Ok(json(&json!({"kubeletconfig": ctx.config.settings.told()}))),
        ["stats", "summary"] => Ok(json(&told(stats::summary(ctx)).await?)),
        ["metrics"] => Ok(text(200, told(own(ctx)).await?)),
        ["metrics", "probes"] => Ok(text(200, ctx.stats.probes.render())),
        ["metrics", "resource"] => {
            Ok(text(200, resource(&told(sample::take(ctx, Detail::Resources)).await?)))
        }
        ["metrics", "cadvisor"] => {
            let sample = told(sample::take(ctx, Detail::All)).await?;
            let node = machine::interfaces(std::process::id());
            Ok(text(200, cadvisor(&sample, &node, &ctx.machine)))
        }
        _ => Err((404, "404 page not found".into())),
    }
}

async fn pods(ctx: &Context) -> Answer {
    let fields = format!("spec.nodeName={}", ctx.config.node_name);
    let options = ListOptions { fields, ..ListOptions::default() };
    let list =
        ctx.client.list(&Pod::GVR, "", &options).await.map_err(|status| (status.code, status.message))?;
    let items: Vec<tiphys_api::Value> = list.items.iter().filter_map(|object| object.value().ok()).collect();
    Ok(json(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})))
}

/// What the runtime has, whatever the API says.
async fn running_pods(ctx: &Context) -> Answer {
    let containers = told(ctx.runtime.list_containers(&Filter::default())).await?;
    let mut pods = BTreeMap::<String, (Value, Vec<Value>)>::new();
    for one in containers.into_iter().filter(|c| c.state == ContainerState::Running && ctx.owns(&c.id)) {
        let label = |key: &str| one.labels.get(key).cloned().unwrap_or_default();
        let uid = label(sandbox::POD_UID);
        let meta =
            json!({"name": label(sandbox::POD_NAME), "namespace": label(sandbox::POD_NAMESPACE), "uid": uid});
        let told = json!({"name": label(container::NAME), "image": one.image, "resources": {}});
        pods.entry(uid).or_insert_with(|| (meta, Vec::new())).1.push(told);
    }
    let item =
        |(meta, containers)| json!({"metadata": meta, "spec": {"containers": containers}, "status": {}});
    let items: Vec<Value> = pods.into_values().map(item).collect();
    Ok(json(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})))
}

/// The kubelet's own metrics.
async fn own(ctx: &Context) -> tiphys_runtime::Result<String> {
    let containers = ctx.runtime.list_containers(&Filter::default()).await?;
    let sandboxes = ctx.runtime.list_sandboxes(&Filter::default()).await?;
    let mut states = BTreeMap::<&str, usize>::new();
    for one in containers.iter().filter(|c| ctx.owns(&c.id)) {
        *states.entry(state(one.state)).or_default() += 1;
    }
    let ready = sandboxes.iter().filter(|s| s.ready && ctx.owns(&s.id)).count();
    let mut out = String::new();
    header(&mut out, "kubelet_node_name", "gauge", "The node's name. The count is always 1.");
    let _ = writeln!(out, "kubelet_node_name{{node=\"{}\"}} 1", stats::text::escaped(&ctx.config.node_name));
    header(&mut out, "kubelet_running_containers", "gauge", "Number of containers currently running");
    for (state, count) in states {
        let _ = writeln!(out, "kubelet_running_containers{{container_state=\"{state}\"}} {count}");
    }
    header(&mut out, "kubelet_running_pods", "gauge", "Number of pods that have a running pod sandbox");
    let _ = writeln!(out, "kubelet_running_pods {ready}");
    ctx.stats.evictions.render(&mut out);
    tiphys_client::metrics::process::render(&mut out);
    Ok(out)
}

fn state(state: ContainerState) -> &'static str {
    match state {
        ContainerState::Created => "created",
        ContainerState::Running => "running",
        ContainerState::Exited => "exited",
        _ => "unknown",
    }
}
