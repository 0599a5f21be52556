//! A node full of pods: a Deployment of 50 made and deleted, 110 pods (the most that a node takes), and what the process
//! costs while they run and nothing happens.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::cluster::{Ground, Site};
use crate::load::namespace;
use crate::process::{Process, megabytes};
use crate::report::Row;
use crate::wire::{Lines, Wire};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/bench/deployments";
const PODS: &str = "/api/v1/namespaces/bench/pods";
const SOME: usize = 50;
const FULL: usize = 110;
const READY_WITHIN: Duration = Duration::from_secs(10);
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// After so many starts, events are written and caches dropped.
const SETTLE: Duration = Duration::from_secs(60);
const WINDOW: Duration = Duration::from_secs(60);
const CPU_LIMIT_PERCENT: f64 = 2.0;
const RSS_LIMIT_KIB: u64 = 120_000_000 / 1024;

pub async fn run(ground: &Ground) -> Result<Vec<Row>> {
    let site = Site::new(ground)?;
    let running = site.start_ready().await?;
    let wires = namespace(&site, "bench").await?;
    let wire = &wires[0];
    let mut pods = wire.watch(&format!("{PODS}?watch=1")).await?;
    let (ready, names) = started(wire, &mut pods, "some", SOME).await?;
    let gone = deleted(wire, &mut pods, "some", names).await?;
    let (full, names) = started(wire, &mut pods, "full", FULL).await?;
    let mut rows = vec![
        Row::new("a Deployment of 50 pods: all Ready", seconds(ready))
            .within(ready, READY_WITHIN)
            .reference("40 s"),
        Row::new("the same deleted: all gone", seconds(gone)).within(gone, GONE_WITHIN).reference("41 s"),
        Row::new("a Deployment of 110 pods: all Ready", seconds(full)),
    ];
    rows.extend(at_rest(&Process::new(running.pid()?)).await?);
    let emptied = deleted(wire, &mut pods, "full", names).await?;
    rows.push(Row::new("the 110 deleted: all gone", seconds(emptied)));
    site.stop(running).await?;
    Ok(rows)
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// Makes a Deployment; the time until all of its pods are Ready, and their names.
async fn started(
    wire: &Wire,
    pods: &mut Lines,
    name: &str,
    count: usize,
) -> Result<(Duration, HashSet<String>)> {
    let begin = Instant::now();
    wire.post(DEPLOYMENTS, deployment(name, count)).await?;
    let mut ready = HashSet::new();
    pods.until(|_, pod| {
        if pod["metadata"]["labels"]["app"] == name && is_ready(pod) {
            ready.insert(pod["metadata"]["name"].to_string());
        }
        ready.len() == count
    })
    .await?;
    Ok((begin.elapsed(), ready))
}

/// Deletes it; the time until the last of its pods is gone.
async fn deleted(wire: &Wire, pods: &mut Lines, name: &str, mut left: HashSet<String>) -> Result<Duration> {
    let begin = Instant::now();
    wire.send(Method::DELETE, &format!("{DEPLOYMENTS}/{name}"), Bytes::new()).await?;
    pods.until(|event, pod| {
        if event == "DELETED" {
            left.remove(&pod["metadata"]["name"].to_string());
        }
        left.is_empty()
    })
    .await?;
    Ok(begin.elapsed())
}

async fn at_rest(process: &Process) -> Result<Vec<Row>> {
    tokio::time::sleep(SETTLE).await;
    let (cpu, wakeups) = (process.cpu()?, process.wakeups()?);
    tokio::time::sleep(WINDOW).await;
    let percent = (process.cpu()? - cpu).as_secs_f64() / WINDOW.as_secs_f64() * 100.0;
    let wakeups = process.wakeups()?.saturating_sub(wakeups) as f64 / WINDOW.as_secs_f64();
    let memory = process.memory()?;
    let text = format!("{} ({} anonymous)", megabytes(memory.rss), megabytes(memory.anonymous));
    let mut rows = vec![
        Row::new(
            "110 pods at rest: CPU over 60 s",
            format!("{percent:.2} % of a core, {wakeups:.0} wake-ups/s"),
        )
        .mark("≤ 2 %", percent <= CPU_LIMIT_PERCENT),
        Row::new("110 pods at rest: resident memory", text).mark("≤ 120 MB", memory.rss <= RSS_LIMIT_KIB),
    ];
    if let Some(containerd) = process.child("containerd") {
        rows.push(Row::new("110 pods at rest: containerd beside it", megabytes(containerd.memory()?.rss)));
    }
    Ok(rows)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn deployment(name: &str, replicas: usize) -> String {
    let labels = json!({"app": name});
    let container = json!({"name": "main", "image": "tiphys.local/hello:1"});
    json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    })
    .to_string()
}
