//! A closed loop of clients: so many requests in flight, each timed, and what they cost on both sides.

use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use futures::future::try_join_all;
use serde_json::json;

use crate::cluster::{Running, Site};
use crate::process::Process;
use crate::stats::Samples;
use crate::wire::{Request, Wire};

/// Connections that the load is spread over.
const CONNECTIONS: usize = 4;

/// What a load came to.
#[derive(Debug)]
pub struct Outcome {
    /// Requests.
    pub count: usize,
    /// From the first request to the last answer.
    pub wall: Duration,
    /// Time of each.
    pub samples: Samples,
    /// CPU time of the server.
    pub server: Duration,
    /// CPU time of this process.
    pub client: Duration,
}

impl Outcome {
    /// `1234 /s, p50 …, p99 …; 560 µs CPU each`.
    pub fn text(&self) -> String {
        let each = self.server.as_micros() / self.count.max(1) as u128;
        format!("{:.0} /s, {}; {each} µs CPU each", self.rate(), self.samples.text())
    }

    /// Requests per second.
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.wall.as_secs_f64()
    }

    /// How much of a core this process took.
    pub fn client_share(&self) -> f64 {
        self.client.as_secs_f64() / self.wall.as_secs_f64()
    }
}

/// Several connections as the kubeconfig says.
pub fn connections(site: &Site) -> Result<Vec<Wire>> {
    (0..CONNECTIONS).map(|_| Wire::new(&site.kubeconfig())).collect()
}

/// Makes a namespace that pods can be made in, and connections to it.
pub async fn namespace(site: &Site, name: &str) -> Result<Vec<Wire>> {
    let wires = connections(site)?;
    for wire in &wires {
        // Connects, so that no measured request has to.
        wire.send(http::Method::GET, "/readyz", Bytes::new()).await?;
    }
    wires[0].post("/api/v1/namespaces", json!({"metadata": {"name": name}}).to_string()).await?;
    service_account(&wires[0], name).await?;
    Ok(wires)
}

/// Waits until pods of a namespace can be admitted.
pub async fn service_account(wire: &Wire, namespace: &str) -> Result<()> {
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts?watch=1");
    wire.watch(&path).await?.until(|_, account| account["metadata"]["name"] == "default").await?;
    Ok(())
}

/// Posts `count` bodies to a collection with `concurrency` in flight.
pub async fn create(
    running: &Running,
    wires: &[Wire],
    path: &str,
    (count, concurrency): (usize, usize),
    body: impl Fn(usize) -> Bytes,
) -> Result<Outcome> {
    let post = |number| Request::new(http::Method::POST, path, body(number));
    drive(running, wires, (count, concurrency), post, |_, _| {}).await
}

/// Sends `count` requests with `concurrency` in flight, and shows each answer. Numbers that differ by a multiple of
/// `concurrency` follow each other.
pub async fn drive(
    running: &Running,
    wires: &[Wire],
    (count, concurrency): (usize, usize),
    request: impl Fn(usize) -> Request,
    answered: impl Fn(usize, &[u8]),
) -> Result<Outcome> {
    let server = Process::new(running.pid()?);
    let (server_before, client_before, start) = (server.cpu()?, Process::own().cpu()?, Instant::now());
    let workers = (0..concurrency).map(|worker| {
        let (request, answered) = (&request, &answered);
        let wire = &wires[worker % wires.len()];
        async move {
            let mut times = Vec::with_capacity(count / concurrency + 1);
            for number in (worker..count).step_by(concurrency) {
                let (request, sent) = (request(number), Instant::now());
                let answer = wire.perform(request).await?;
                times.push(sent.elapsed());
                answered(number, &answer);
            }
            anyhow::Ok(times)
        }
    });
    let times = try_join_all(workers).await?;
    Ok(Outcome {
        count,
        wall: start.elapsed(),
        samples: Samples::new(times.concat()),
        server: server.cpu()?.saturating_sub(server_before),
        client: Process::own().cpu()?.saturating_sub(client_before),
    })
}
