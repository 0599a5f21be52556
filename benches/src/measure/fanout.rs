//! Updates of a few objects seen by many watchers: deliveries per second, and from just before an update is sent to its
//! arrival. Every watcher must get every update once, in the order of revisions.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::future::try_join_all;
use http::Method;
use memchr::memmem;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use crate::cluster::{Ground, Running, Site};
use crate::load::namespace;
use crate::process::Process;
use crate::report::Row;
use crate::stats::Samples;
use crate::wire::{Lines, Wire};

const WATCHERS: usize = 100;
const WRITERS: usize = 8;
const PATH: &str = "/api/v1/namespaces/bench/configmaps";

pub async fn run(ground: &Ground) -> Result<Vec<Row>> {
    let site = Site::new(ground)?;
    let running = site.start_ready().await?;
    let wires = namespace(&site, "bench").await?;
    for writer in 0..WRITERS {
        wires[0].post(PATH, body(writer, 0)).await?;
    }
    let paced = round(&running, &wires, 500, Some(50)).await?;
    let full = round(&running, &wires, 2_000, None).await?;
    site.stop(running).await?;
    Ok(vec![
        Row::new("100 watchers, 50 updates/s: deliveries", paced)
            .reference("5,007 /s, p50 5.1 ms, p99 10.0 ms; 75 µs"),
        Row::new("100 watchers, 2,000 updates, 8 writers: deliveries", full)
            .reference("59,674 /s, p50 37.6 ms, p99 146.9 ms; 24 µs"),
    ])
}

/// Sends `updates`, so many a second or as fast as they are answered.
async fn round(running: &Running, wires: &[Wire], updates: usize, rate: Option<u64>) -> Result<String> {
    let list = wires[0].send(Method::GET, PATH, Bytes::new()).await?;
    let list: Value = serde_json::from_slice(&list)?;
    let revision = list["metadata"]["resourceVersion"].as_str().context("a list without a revision")?;
    let path = format!("{PATH}?watch=1&resourceVersion={revision}");
    let watches = try_join_all((0..WATCHERS).map(|i| wires[i % wires.len()].watch(&path))).await?;
    let server = Process::new(running.pid()?);
    let (cpu, own, start) = (server.cpu()?, Process::own().cpu()?, Instant::now());
    let sent = Mutex::new(vec![start; updates]);
    let readers = try_join_all(watches.into_iter().map(|lines| read(lines, updates, &sent)));
    let (times, ()) = tokio::try_join!(readers, write(wires, updates, rate, &sent))?;
    let (wall, count) = (start.elapsed(), WATCHERS * updates);
    let client = (Process::own().cpu()? - own).as_secs_f64() / wall.as_secs_f64() * 100.0;
    Ok(format!(
        "{:.0} /s, {}; {} µs CPU each (client {client:.0} %)",
        count as f64 / wall.as_secs_f64(),
        Samples::new(times.concat()).text(),
        (server.cpu()? - cpu).as_micros() / count as u128,
    ))
}

async fn write(wires: &[Wire], updates: usize, rate: Option<u64>, sent: &Mutex<Vec<Instant>>) -> Result<()> {
    let Some(rate) = rate else {
        let writers = (0..WRITERS).map(|writer| async move {
            for number in (writer..updates).step_by(WRITERS) {
                update(&wires[writer % wires.len()], writer, number, sent).await?;
            }
            anyhow::Ok(())
        });
        return try_join_all(writers).await.map(drop);
    };
    let mut pace = interval(Duration::from_secs(1) / rate as u32);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0..updates {
        pace.tick().await;
        update(&wires[0], number % WRITERS, number, sent).await?;
    }
    Ok(())
}

async fn update(wire: &Wire, writer: usize, number: usize, sent: &Mutex<Vec<Instant>>) -> Result<()> {
    sent.lock()[number] = Instant::now();
    // Numbers count from 1, so that none equals what the object held before.
    wire.send(Method::PUT, &format!("{PATH}/map-{writer}"), body(writer, number + 1)).await.map(drop)
}

/// Reads all updates of one watch; the time of each.
async fn read(mut lines: Lines, updates: usize, sent: &Mutex<Vec<Instant>>) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(updates);
    let mut last = 0;
    while times.len() < updates {
        let line = lines.next().await?;
        let now = Instant::now();
        let revision: u64 = text_after(&line, br#""resourceVersion":""#).context("no revision")?.parse()?;
        ensure!(revision > last, "revision {revision} came after {last}");
        last = revision;
        let number: usize =
            text_after(&line, br#""number":""#).context("an event of something else")?.parse()?;
        times.push(now - sent.lock()[number - 1]);
    }
    Ok(times)
}

fn body(writer: usize, number: usize) -> Bytes {
    let data = json!({"number": number.to_string(), "rest": "abcdefghij".repeat(50)});
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("map-{writer}")}, "data": data,
    });
    map.to_string().into()
}

/// The text between `word` and the next quotation mark.
fn text_after<'a>(bytes: &'a [u8], word: &[u8]) -> Option<&'a str> {
    let start = memmem::find(bytes, word)? + word.len();
    let rest = bytes.get(start..)?;
    std::str::from_utf8(rest.split(|byte| *byte == b'"').next()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_without_parsing() {
        let line = body(3, 42);
        assert_eq!(text_after(&line, br#""number":""#), Some("42"));
        assert_eq!(text_after(&line, br#""name":""#), Some("map-3"));
        assert_eq!(text_after(&line, br#""resourceVersion":""#), None);
    }
}
