//! Large collections: how soon a list begins, and what fifty readers of a hundred thousand objects take at once.

use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures::future::try_join_all;
use http::Method;
use serde_json::json;

use crate::cluster::{Ground, Site};
use crate::load::{create, namespace};
use crate::objects::parked_pod;
use crate::process::{Process, megabytes};
use crate::report::Row;
use crate::stats::{Samples, ms};
use crate::wire::{Request, Wire};

const FEW: usize = 5_000;
const MANY: usize = 100_000;
const READERS: usize = 50;
const ROUNDS: usize = 20;
const IN_FLIGHT: usize = 64;
const PODS: &str = "/api/v1/namespaces/bench/pods";
const MAPS: &str = "/api/v1/namespaces/bench/configmaps";
/// What fifty lists may add, in KiB.
const ADDED: u64 = 64 << 10;

pub async fn run(ground: &Ground) -> Result<Vec<Row>> {
    let site = Site::new(ground)?;
    let running = site.start_ready().await?;
    let wires = namespace(&site, "bench").await?;
    let mut rows = Vec::new();
    let mut made = 0;
    for count in [FEW, MANY] {
        let pod = |number| parked_pod(&format!("pod-{}", made + number));
        create(&running, &wires, PODS, (count - made, IN_FLIGHT), pod).await?;
        made = count;
        rows.push(first_bytes(&wires[0], count).await?);
    }
    create(&running, &wires, MAPS, (MANY, IN_FLIGHT), small).await?;
    rows.push(crowd(&site, running.pid()?).await?);
    site.stop(running).await?;
    Ok(rows)
}

/// Half a kilobyte.
fn small(number: usize) -> Bytes {
    let data = json!({"value": "abcdefghij".repeat(40)});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("map-{number}")}, "data": data});
    map.to_string().into()
}

async fn first_bytes(wire: &Wire, count: usize) -> Result<Row> {
    let list = Request::new(Method::GET, PODS, "");
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        times.push(wire.first_byte(&list).await?);
    }
    let times = Samples::new(times);
    let row = Row::new(format!("list {count} Pods: first byte"), times.text());
    Ok(row.mark("≤ 5 ms", times.p50() <= Duration::from_millis(5)))
}

/// Readers of a connection each, who read as fast as they can and keep nothing.
async fn crowd(site: &Site, pid: u32) -> Result<Row> {
    let server = Process::new(pid);
    let wires = (0..READERS).map(|_| Wire::new(&site.kubeconfig())).collect::<Result<Vec<_>>>()?;
    for wire in &wires {
        wire.send(Method::GET, "/readyz", Bytes::new()).await?;
    }
    let before = server.memory()?.rss;
    server.forget_peak()?;
    let (list, start) = (Request::new(Method::GET, MAPS, ""), std::time::Instant::now());
    let sizes = try_join_all(wires.iter().map(|wire| wire.skim(&list))).await?;
    let (took, peak) = (start.elapsed(), server.memory()?.peak);
    ensure!(sizes.iter().all(|size| *size > MANY * 500), "lists of different length: {sizes:?}");
    let (added, whole) = (peak.saturating_sub(before), sizes.iter().sum::<usize>() as f64 / 1e6);
    let value = format!("{} added to {}; {whole:.0} MB in {}", megabytes(added), megabytes(before), ms(took));
    let measure = format!("{READERS} clients list {MANY} ConfigMaps at once: memory");
    Ok(Row::new(measure, value).mark("≤ 64 MiB added", added <= ADDED))
}
