//! Controllers at work: large Deployments and deletions, and what they cost when all is quiet. Pods run on simulated nodes,
//! so that nothing is measured but the control plane.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::cluster::{Ground, Running, Site};
use crate::load::{create, namespace, service_account};
use crate::objects::config_map;
use crate::process::{Process, megabytes};
use crate::report::Row;
use crate::wire::{Request, Wire};

const NODES: &str = "500";
/// More than a /16 has for so many nodes.
const PODS_RANGE: &[&str] = &["--cluster-cidr", "10.144.0.0/14"];
const MERGE_PATCH: &str = "application/merge-patch+json";

const SCALED: u64 = 5_000;
const OWNED: u64 = 1_000;
const OBJECTS: usize = 10_000;
const SCALED_WITHIN: Duration = Duration::from_secs(2);
const EMPTIED_WITHIN: Duration = Duration::from_secs(2);
const DELETED_WITHIN: Duration = Duration::from_secs(2);
const ROLLED_WITHIN: Duration = Duration::from_secs(5);

const DEPLOYMENTS: usize = 1_000;
const REPLICAS: u64 = 10;
/// After a storm, things settle: events are written, back-offs end.
const SETTLE: Duration = Duration::from_secs(60);
const WINDOW: Duration = Duration::from_secs(60);
const STEADY_PERCENT: f64 = 2.0;

/// Scaling, rolling, and deleting with dependents and contents.
pub async fn large(ground: &Ground) -> Result<Vec<Row>> {
    let site = Site::new(ground)?;
    let running = site.start_with(PODS_RANGE)?.ready().await?;
    let nodes = simulate(&site).await?;
    let wires = namespace(&site, "bench").await?;
    let wire = &wires[0];
    let mut rows = vec![scaled(wire).await?];
    remove(wire, "bench").await?;
    rows.push(rolled(wire).await?);
    rows.push(foreground(wire).await?);
    rows.push(emptied(&running, &wires).await?);
    drop(nodes);
    site.stop(running).await?;
    Ok(rows)
}

/// The controllers alone in a process, so that nobody else's time is counted in.
pub async fn steady(ground: &Ground) -> Result<Vec<Row>> {
    let site = Site::new(ground)?;
    let apart = [PODS_RANGE, &["--disable", "controller-manager"]].concat();
    let running = site.start_with(&apart)?.ready().await?;
    let controllers = site.beside(&["controller-manager"], "controller-manager")?;
    let nodes = simulate(&site).await?;
    let wires = namespace(&site, "bench").await?;
    let path = "/apis/apps/v1/namespaces/bench/deployments";
    let started = Instant::now();
    let mut watch = wires[0].watch(&format!("{path}?watch=1")).await?;
    create(&running, &wires, path, (DEPLOYMENTS, 16), |n| deployment(&format!("web-{n}"), REPLICAS)).await?;
    let mut available = std::collections::HashSet::new();
    watch
        .until(|_, deployment| {
            if deployment["status"]["availableReplicas"] == REPLICAS {
                available.insert(deployment["metadata"]["name"].to_string());
            }
            available.len() == DEPLOYMENTS
        })
        .await?;
    let made = started.elapsed();
    drop(watch);
    tokio::time::sleep(SETTLE).await;
    let (alone, whole) = (Process::new(controllers.pid()?), Process::new(running.pid()?));
    let (cpu, all) = (alone.cpu()?, whole.cpu()?);
    tokio::time::sleep(WINDOW).await;
    let percent = |time: Duration| time.as_secs_f64() / WINDOW.as_secs_f64() * 100.0;
    let (cpu, all) = (percent(alone.cpu()? - cpu), percent(whole.cpu()? - all));
    let rows = vec![
        Row::new("1,000 Deployments of 10 pods: all available", format!("{:.1} s", made.as_secs_f64())),
        Row::new("steady, 10,000 pods, 500 nodes: controllers", format!("{cpu:.2} % of a core"))
            .mark("≤ 2 %", cpu <= STEADY_PERCENT),
        Row::new("the same: API server, scheduler, a kubelet", format!("{all:.2} % of a core")),
        Row::new("the same: memory of the controllers", megabytes(alone.memory()?.rss)),
        Row::new("the same: memory of the rest", megabytes(whole.memory()?.rss)),
    ];
    drop((nodes, controllers));
    site.stop(running).await?;
    Ok(rows)
}

async fn simulate(site: &Site) -> Result<Running> {
    site.beside(&["simulate", "--nodes", NODES], "admin")?.ready().await
}

fn deployment(name: &str, replicas: u64) -> Bytes {
    let labels = json!({"app": name});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "nodeSelector": {"tiphys.io/simulated": "true"},
                    "containers": [{"name": "web", "image": "registry.example/web:1"}],
                },
            },
        },
    });
    deployment.to_string().into()
}

fn is_done(deployment: &Value, replicas: u64) -> bool {
    let status = |field: &str| deployment["status"][field].as_u64().unwrap_or(0);
    let whole = ["replicas", "updatedReplicas", "availableReplicas"].iter().all(|f| status(f) == replicas);
    whole && status("observedGeneration") >= deployment["metadata"]["generation"].as_u64().unwrap_or(0)
}

async fn patch(wire: &Wire, path: &str, patch: &Value) -> Result<()> {
    let request = Request::new(Method::PATCH, path, patch.to_string()).form(MERGE_PATCH);
    wire.perform(request).await.map(drop)
}

async fn delete(wire: &Wire, path: &str) -> Result<()> {
    wire.send(Method::DELETE, path, Bytes::new()).await.map(drop)
}

/// Deletes a namespace; the time until it is gone.
async fn remove(wire: &Wire, name: &str) -> Result<Duration> {
    let path = format!("/api/v1/namespaces?watch=1&fieldSelector=metadata.name%3D{name}");
    let mut watch = wire.watch(&path).await?;
    let start = Instant::now();
    delete(wire, &format!("/api/v1/namespaces/{name}")).await?;
    watch.until(|kind, _| kind == "DELETED").await?;
    Ok(start.elapsed())
}

async fn fresh(wire: &Wire, name: &str) -> Result<()> {
    wire.post("/api/v1/namespaces", json!({"metadata": {"name": name}}).to_string()).await?;
    service_account(wire, name).await
}

async fn scaled(wire: &Wire) -> Result<Row> {
    let path = "/apis/apps/v1/namespaces/bench/deployments";
    wire.post(path, deployment("big", 0)).await?;
    let mut pods = wire.watch("/api/v1/namespaces/bench/pods?watch=1").await?;
    let start = Instant::now();
    patch(wire, &format!("{path}/big"), &json!({"spec": {"replicas": SCALED}})).await?;
    let (mut made, added) = (0, br#"{"type":"ADDED""#);
    while made < SCALED {
        made += u64::from(pods.next().await?.starts_with(added));
    }
    let took = start.elapsed();
    let value = format!("{:.2} s", took.as_secs_f64());
    Ok(Row::new("Deployment scaled to 5,000: all pods created", value).within(took, SCALED_WITHIN))
}

async fn rolled(wire: &Wire) -> Result<Row> {
    fresh(wire, "roll").await?;
    let path = "/apis/apps/v1/namespaces/roll/deployments";
    let mut watch = wire.watch(&format!("{path}?watch=1")).await?;
    wire.post(path, deployment("web", OWNED)).await?;
    watch.until(|_, deployment| is_done(deployment, OWNED)).await?;
    let start = Instant::now();
    let image = json!([{"name": "web", "image": "registry.example/web:2"}]);
    patch(wire, &format!("{path}/web"), &json!({"spec": {"template": {"spec": {"containers": image}}}}))
        .await?;
    let mut seen = 0;
    watch
        .until(|_, deployment| {
            seen += 1;
            deployment["metadata"]["generation"] == 2 && is_done(deployment, OWNED)
        })
        .await?;
    let took = start.elapsed();
    let value = format!("{:.2} s, {seen} versions of its status", took.as_secs_f64());
    Ok(Row::new("rolling update of 1,000 replicas, maxSurge 25 %", value).within(took, ROLLED_WITHIN))
}

async fn foreground(wire: &Wire) -> Result<Row> {
    let path = "/apis/apps/v1/namespaces/roll/deployments";
    let mut watch = wire.watch(&format!("{path}?watch=1")).await?;
    let start = Instant::now();
    delete(wire, &format!("{path}/web?propagationPolicy=Foreground")).await?;
    watch.until(|kind, _| kind == "DELETED").await?;
    let took = start.elapsed();
    let left = wire.send(Method::GET, "/api/v1/namespaces/roll/pods", Bytes::new()).await?;
    let left: Value = serde_json::from_slice(&left)?;
    let count = left["items"].as_array().context("no list")?.len();
    ensure!(count == 0, "{count} pods outlive their Deployment");
    let value = format!("{:.2} s", took.as_secs_f64());
    Ok(Row::new("foreground deletion of a Deployment of 1,000 pods", value).within(took, DELETED_WITHIN))
}

async fn emptied(running: &Running, wires: &[Wire]) -> Result<Row> {
    let wire = &wires[0];
    fresh(wire, "full").await?;
    let path = "/api/v1/namespaces/full/configmaps";
    create(running, wires, path, (OBJECTS, 64), |n| config_map(&format!("map-{n}"))).await?;
    let took = remove(wire, "full").await?;
    let value = format!("{:.2} s", took.as_secs_f64());
    Ok(Row::new("deletion of a namespace with 10,000 objects", value).within(took, EMPTIED_WITHIN))
}
