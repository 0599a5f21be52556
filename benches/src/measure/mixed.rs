//! Everything at once for ten minutes, with as many objects made as deleted: memory must not grow.

use std::time::{Duration, Instant};

use anyhow::Result;
use http::Method;
use serde_json::json;

use crate::cluster::{Ground, Site};
use crate::load::{create, drive, namespace};
use crate::objects::parked_pod;
use crate::process::{Process, megabytes};
use crate::report::Row;
use crate::wire::Request;

const PODS: usize = 5_000;
const IN_FLIGHT: usize = 64;
/// Each worker's requests of one round: 12 reads, 3 lists, 3 patches, and one pod made and deleted.
const TURN: usize = 20;
/// Rounds between two looks at the memory.
const TURNS: usize = 20;
const TIME: Duration = Duration::from_secs(600);
/// When the first look is taken that counts.
const WARM: Duration = Duration::from_secs(60);
const PATH: &str = "/api/v1/namespaces/bench/pods";

pub async fn run(ground: &Ground) -> Result<Vec<Row>> {
    let site = Site::new(ground)?;
    let running = site.start_ready().await?;
    let wires = namespace(&site, "bench").await?;
    create(&running, &wires, PATH, (PODS, IN_FLIGHT), |n| parked_pod(&format!("pod-{n}"))).await?;
    let server = Process::new(running.pid()?);
    let (start, mut looks, mut done) = (Instant::now(), Vec::new(), 0);
    while start.elapsed() < TIME {
        let round = IN_FLIGHT * TURN * TURNS;
        drive(&running, &wires, (round, IN_FLIGHT), |number| request(done + number), |_, _| {}).await?;
        done += round;
        looks.push((start.elapsed(), server.memory()?.rss));
    }
    site.stop(running).await?;
    let warm: Vec<u64> = looks.iter().filter(|(at, _)| *at >= WARM).map(|(_, rss)| *rss).collect();
    let (first, last) = (warm.first().copied().unwrap_or(0), warm.last().copied().unwrap_or(0));
    let rate = done as f64 / start.elapsed().as_secs_f64();
    let value =
        format!("{} after 1 minute, {} after 10; {rate:.0} requests/s", megabytes(first), megabytes(last));
    Ok(vec![
        Row::new("ten minutes of everything: memory", value).mark("≤ 5 % more", last * 100 <= first * 105),
    ])
}

/// Worker and turn follow from the number; no worker touches another's new pods.
fn request(number: usize) -> Request {
    let (worker, turn) = (number % IN_FLIGHT, number / IN_FLIGHT);
    let pod = format!("{PATH}/pod-{}", number * 2_477 % PODS);
    let own = format!("own-{worker}-{}", turn / TURN);
    match turn % TURN {
        0..=11 => Request::new(Method::GET, pod, ""),
        12..=14 => Request::new(Method::GET, format!("{PATH}?limit=100"), ""),
        15 => Request::new(Method::POST, PATH, parked_pod(&own)),
        16 => Request::new(Method::DELETE, format!("{PATH}/{own}"), r#"{"gracePeriodSeconds":0}"#),
        _ => {
            let label = json!({"metadata": {"labels": {"round": turn.to_string()}}}).to_string();
            Request::new(Method::PATCH, pod, label).form("application/strategic-merge-patch+json")
        }
    }
}
