//! Pod start, from the request to Running as a watch sees it, beside its floor: the bare CRI calls for the same image on
//! the same containerd, turn by turn, so that both meet the same machine.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use http::Method;
use serde_json::{Value, json};
use tiphys_runtime::cri::Cri;
use tiphys_runtime::{ContainerConfig, Runtime, SandboxConfig};

use crate::cluster::{Ground, Site};
use crate::load::namespace;
use crate::report::Row;
use crate::stats::{Samples, ms};
use crate::wire::{Lines, Wire};

const ROUNDS: usize = 25;
const TOGETHER: usize = 20;
const IMAGE: &str = "tiphys.local/hello:1";
const PATH: &str = "/api/v1/namespaces/bench/pods";
/// How much slower than the floor a pod may be, and the slowest of them.
const FACTOR: f64 = 1.3;
const LAST_FACTOR: f64 = 2.0;
/// A pod's second of grace, and a moment.
const GONE_WITHIN: Duration = Duration::from_millis(1300);

/// One pod's start.
struct Started {
    bound: Duration,
    running: Duration,
    /// From the deletion until it is gone.
    gone: Duration,
}

/// One container's start by CRI alone.
struct Floor {
    sandbox: Duration,
    create: Duration,
    start: Duration,
}

impl Floor {
    fn sum(&self) -> Duration {
        self.sandbox + self.create + self.start
    }
}

pub async fn run(ground: &Ground) -> Result<Vec<Row>> {
    let site = Site::new(ground)?;
    let running = site.start_ready().await?;
    let wires = namespace(&site, "bench").await?;
    let cri = Cri::new(&site.containerd())?;
    let mut watch = wires[0].watch(&format!("{PATH}?watch=1")).await?;
    let (mut pods, mut floors) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        floors.push(floor(&site, &cri, round).await?);
        pods.push(pod(&wires[0], &mut watch, &format!("pod-{round}")).await?);
    }
    let mut rows = compare(&pods, &floors);
    rows.push(together(&wires[0], &mut watch).await?);
    site.stop(running).await?;
    Ok(rows)
}

fn compare(pods: &[Started], floors: &[Floor]) -> Vec<Row> {
    let of = |time: fn(&Floor) -> Duration| Samples::new(floors.iter().map(time).collect()).p50();
    let floor = Samples::new(floors.iter().map(Floor::sum).collect());
    let pod = Samples::new(pods.iter().map(|pod| pod.running).collect());
    let bound = Samples::new(pods.iter().map(|pod| pod.bound).collect());
    let factor = pod.p50().as_secs_f64() / floor.p50().as_secs_f64();
    let last = pod.p99().as_secs_f64() / floor.p50().as_secs_f64();
    let gone = Samples::new(pods.iter().map(|pod| pod.gone).collect());
    let parts = format!(
        "p50 sandbox {}, create {}, start {}",
        ms(of(|f| f.sandbox)),
        ms(of(|f| f.create)),
        ms(of(|f| f.start))
    );
    vec![
        Row::new("bare CRI calls of one container (the floor)", floor.text()).reference("about 170 ms"),
        Row::new("bare CRI calls, each", parts),
        Row::new("pod: create to bound to the node", bound.text()),
        Row::new("pod: create to Running", pod.text()),
        Row::new("pod: create to Running, of the floor", format!("p50 {factor:.2} x"))
            .mark("≤ 1.3 x", factor <= FACTOR),
        Row::new("pod: create to Running, of the floor's p50", format!("p99 {last:.2} x"))
            .mark("≤ 2 x", last <= LAST_FACTOR),
        // The server of the image drains for two seconds, so that it is the kill that ends it.
        Row::new("pod with a second to end in, which it does not: delete to gone", gone.text())
            .within(gone.p50(), GONE_WITHIN)
            .reference("4.0 s"),
    ]
}

/// Starts and removes a container as nobody's pod. Without a kubelet's labels, kubelets leave it alone.
async fn floor(site: &Site, cri: &Cri, round: usize) -> Result<Floor> {
    let sandbox = SandboxConfig {
        name: format!("floor-{round}"),
        namespace: "floor".into(),
        uid: format!("floor-{round}"),
        hostname: format!("floor-{round}"),
        log_directory: site.scratch(),
        ..SandboxConfig::default()
    };
    let container = ContainerConfig {
        name: "main".into(),
        image: IMAGE.into(),
        user_image: IMAGE.into(),
        log_path: format!("floor-{round}.log"),
        ..ContainerConfig::default()
    };
    let begin = Instant::now();
    let id = cri.run_sandbox(&sandbox).await.context("RunPodSandbox")?;
    let has_sandbox = Instant::now();
    let main = cri.create_container(&id, &container, &sandbox).await.context("CreateContainer")?;
    let has_container = Instant::now();
    cri.start_container(&main).await.context("StartContainer")?;
    let end = Instant::now();
    cri.stop_sandbox(&id).await?;
    cri.remove_sandbox(&id).await?;
    Ok(Floor {
        sandbox: has_sandbox - begin,
        create: has_container - has_sandbox,
        start: end - has_container,
    })
}

/// Starts a pod, and removes it again.
async fn pod(wire: &Wire, watch: &mut Lines, name: &str) -> Result<Started> {
    let begin = Instant::now();
    wire.post(PATH, manifest(name)).await?;
    watch.until(|_, pod| is(pod, name) && pod["spec"]["nodeName"].is_string()).await?;
    let bound = begin.elapsed();
    watch.until(|_, pod| is(pod, name) && pod["status"]["phase"] == "Running").await?;
    let running = begin.elapsed();
    let begin = Instant::now();
    remove(wire, name).await?;
    watch.until(|event, pod| is(pod, name) && event == "DELETED").await?;
    Ok(Started { bound, running, gone: begin.elapsed() })
}

/// Starts many pods at once.
async fn together(wire: &Wire, watch: &mut Lines) -> Result<Row> {
    let names: Vec<String> = (0..TOGETHER).map(|number| format!("many-{number}")).collect();
    let begin = Instant::now();
    try_join_all(names.iter().map(|name| wire.post(PATH, manifest(name)))).await?;
    let mut waiting: Vec<&String> = names.iter().collect();
    while !waiting.is_empty() {
        let pod = watch.until(|_, pod| pod["status"]["phase"] == "Running").await?;
        waiting.retain(|name| !is(&pod, name));
    }
    let time = begin.elapsed();
    try_join_all(names.iter().map(|name| remove(wire, name))).await?;
    let value = format!("{} ({:.1} pods/s)", ms(time), TOGETHER as f64 / time.as_secs_f64());
    Ok(Row::new(format!("{TOGETHER} pods created at once: all Running"), value))
}

async fn remove(wire: &Wire, name: &str) -> Result<()> {
    let path = format!("{PATH}/{name}?gracePeriodSeconds=1");
    wire.send(Method::DELETE, &path, bytes::Bytes::new()).await.map(drop)
}

fn is(pod: &Value, name: &str) -> bool {
    pod["metadata"]["name"] == name
}

fn manifest(name: &str) -> String {
    let container = json!({"name": "main", "image": IMAGE});
    json!({"metadata": {"name": name}, "spec": {"containers": [container]}}).to_string()
}
