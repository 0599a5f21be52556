//! Durable creates over HTTPS, by how many are in flight.

use anyhow::Result;

use crate::cluster::{Ground, Site};
use crate::load::{create, namespace};
use crate::objects::{config_map, parked_pod};
use crate::report::Row;

/// (requests, in flight)
const CONFIG_MAPS: &[(usize, usize)] = &[(300, 1), (2_000, 8), (5_000, 64), (5_000, 256)];
const PODS: (usize, usize) = (5_000, 64);

pub async fn run(ground: &Ground) -> Result<Vec<Row>> {
    let site = Site::new(ground)?;
    let running = site.start_ready().await?;
    let wires = namespace(&site, "bench").await?;
    let mut rows = Vec::new();
    for &(count, concurrency) in CONFIG_MAPS {
        let path = "/api/v1/namespaces/bench/configmaps";
        let name = |number| format!("map-{concurrency}-{number}");
        let outcome = create(&running, &wires, path, (count, concurrency), |n| config_map(&name(n))).await?;
        let row = Row::new(format!("create ConfigMaps (1 KB), {concurrency} in flight"), outcome.text());
        rows.push(match concurrency {
            64 => row.reference("2,563 /s, p50 22.5 ms, p99 67.0 ms; 680 µs"),
            _ => row,
        });
    }
    let path = "/api/v1/namespaces/bench/pods";
    let outcome = create(&running, &wires, path, PODS, |n| parked_pod(&format!("pod-{n}"))).await?;
    let reference = "1,038 /s, p50 53.5 ms, p99 168.6 ms; 1,726 µs";
    rows.push(Row::new("create Pods (2.5 KB), 64 in flight", outcome.text()).reference(reference));
    let client = format!("{:.0} % of a core", outcome.client_share() * 100.0);
    rows.push(Row::new("create Pods: this client's own CPU", client));
    site.stop(running).await?;
    Ok(rows)
}
