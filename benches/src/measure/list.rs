//! Lists of 10,000 pods: whole, in pages, and by a label that none has.

use std::time::Instant;

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::Method;

use crate::cluster::{Ground, Running, Site};
use crate::load::{create, namespace};
use crate::objects::parked_pod;
use crate::process::{Process, megabytes};
use crate::report::Row;
use crate::stats::Samples;
use crate::wire::Wire;

const PODS: usize = 10_000;
const PAGE: usize = 500;
const ROUNDS: usize = 8;
const PATH: &str = "/api/v1/namespaces/bench/pods";

pub async fn run(ground: &Ground) -> Result<Vec<Row>> {
    let site = Site::new(ground)?;
    let running = site.start_ready().await?;
    let wires = namespace(&site, "bench").await?;
    create(&running, &wires, PATH, (PODS, 64), |n| parked_pod(&format!("pod-{n}"))).await?;
    let process = Process::new(running.pid()?);
    let before = process.memory()?;
    let rows = vec![
        Row::new("memory with 10,000 pods", megabytes(before.rss)),
        whole(&running, &wires[0]).await?,
        pages(&wires[0]).await?,
        selected(&wires[0]).await?,
        Row::new("most memory up to the lists' end", megabytes(process.memory()?.peak)),
    ];
    site.stop(running).await?;
    Ok(rows)
}

async fn whole(running: &Running, wire: &Wire) -> Result<Row> {
    let process = Process::new(running.pid()?);
    let cpu = process.cpu()?;
    let (mut times, mut size) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let body = wire.send(Method::GET, PATH, Bytes::new()).await?;
        times.push(start.elapsed());
        ensure!(count(&body) == PODS, "a list holds {} pods", count(&body));
        size = body.len();
    }
    let cpu = (process.cpu()? - cpu) / ROUNDS as u32;
    let value = format!(
        "{}; {:.1} MB, {} ms CPU each",
        Samples::new(times).text(),
        size as f64 / 1e6,
        cpu.as_millis()
    );
    let reference = "5,000 pods, 4 lists at once: p50 1,473 ms, 709 ms CPU; from cache 605 ms, 289 ms CPU";
    Ok(Row::new("list 10,000 pods", value).reference(reference))
}

async fn pages(wire: &Wire) -> Result<Row> {
    let (mut times, mut token, mut seen) = (Vec::new(), String::new(), 0);
    loop {
        let path = format!("{PATH}?limit={PAGE}&continue={token}");
        let start = Instant::now();
        let body = wire.send(Method::GET, &path, Bytes::new()).await?;
        times.push(start.elapsed());
        seen += count(&body);
        match continue_token(&body) {
            Some(next) => token = next,
            None => break,
        }
    }
    ensure!(seen == PODS, "the pages hold {seen} pods");
    let reference = "5,000 pods, 4 at once: p50 104.7 ms, p99 289.9 ms a page";
    Ok(Row::new("list 10,000 pods, a page of 500", Samples::new(times).text()).reference(reference))
}

async fn selected(wire: &Wire) -> Result<Row> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let body = wire.send(Method::GET, &format!("{PATH}?labelSelector=app%3Dnone"), Bytes::new()).await?;
        times.push(start.elapsed());
        ensure!(count(&body) == 0, "a selector that selects nothing selected {}", count(&body));
    }
    Ok(Row::new("list 0 of 10,000 pods by label", Samples::new(times).text()))
}

/// How many pods a list holds: parked pods have this text once.
fn count(body: &[u8]) -> usize {
    memchr::memmem::find_iter(body, br#""schedulerName":"tiphys-bench""#).count()
}

fn continue_token(body: &[u8]) -> Option<String> {
    let list: serde_json::Value = serde_json::from_slice(body).ok()?;
    list["metadata"]["continue"].as_str().filter(|token| !token.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_of_a_list_are_counted() {
        let (one, two) = (parked_pod("one"), parked_pod("two"));
        assert_eq!(count(&[&one[..], b",", &two[..]].concat()), 2);
        assert_eq!(continue_token(br#"{"metadata":{"continue":"x"}}"#), Some("x".into()));
        assert_eq!(continue_token(br#"{"metadata":{}}"#), None);
    }
}
