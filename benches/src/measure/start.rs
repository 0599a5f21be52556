//! From exec to a ready API server, to a Ready node, to the first pod Running; of an empty machine and of a second start.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Method;
use serde_json::json;

use crate::cluster::{Ground, Running, Site};
use crate::load::service_account;
use crate::report::Row;
use crate::stats::ms;
use crate::wire::Wire;

const API: Duration = Duration::from_millis(500);
const NODE: Duration = Duration::from_secs(3);

/// Times since exec.
struct Timeline {
    api: Duration,
    node: Duration,
    pod: Duration,
    ready: Duration,
    steps: String,
}

pub async fn run(ground: &Ground) -> Result<Vec<Row>> {
    let site = Site::new(ground)?;
    let mut rows = Vec::new();
    for (name, pod) in [("first start", "first"), ("second start", "second")] {
        let mut running = site.start()?;
        let times = timeline(&site, &mut running, pod).await?;
        rows.push(Row::new(format!("{name}: exec to /readyz"), ms(times.api)).within(times.api, API));
        rows.push(Row::new(format!("{name}: exec to node Ready"), ms(times.node)).within(times.node, NODE));
        rows.push(
            Row::new(format!("{name}: exec to `up` says ready"), ms(times.ready)).within(times.ready, NODE),
        );
        rows.push(Row::new(format!("{name}: exec to a new pod Running, image present"), ms(times.pod)));
        rows.push(Row::new(format!("{name}: its steps"), times.steps));
        site.stop(running).await?;
    }
    Ok(rows)
}

async fn timeline(site: &Site, running: &mut Running, pod: &str) -> Result<Timeline> {
    let exec = running.exec;
    let mut start = Start { running, ready: None, steps: Vec::new() };
    let api = start.api().await?;
    let wire = start.admin(site).await?;
    let (pod, ready) = tokio::try_join!(pod_running(&wire, pod), start.ready())?;
    // Not from a watch: on a second start the node's object still says Ready from the last time.
    let node = start.steps.iter().find(|(_, what)| what.starts_with("node ") && what.ends_with(" Ready"));
    let node = node.context("no step says that the node is Ready")?.0;
    let since = |at: Instant| at.duration_since(exec);
    let step = |(at, what): &(Instant, String)| {
        // What comes after these words is this cluster's own: addresses and paths.
        let what =
            what.split([',', '/']).next().and_then(|what| what.split(" on ").next()).unwrap_or_default();
        format!("{what} {}", ms(since(*at)))
    };
    let steps = start.steps.iter().map(step).collect::<Vec<_>>();
    Ok(Timeline {
        api: since(api),
        node: since(node),
        pod: since(pod),
        ready: since(ready),
        steps: steps.join("; "),
    })
}

/// A start as its own messages tell it.
struct Start<'a> {
    running: &'a mut Running,
    ready: Option<Instant>,
    steps: Vec<(Instant, String)>,
}

impl Start<'_> {
    async fn note(&mut self) -> Result<()> {
        let note = self.running.note().await?;
        if note.is_ready() {
            self.ready = Some(note.at);
        } else if let Some(step) = note.text.strip_prefix("STATUS=") {
            self.steps.push((note.at, step.to_owned()));
        }
        Ok(())
    }

    /// When /readyz first answered. It is asked after each step, so the time is at most that of one request late.
    async fn api(&mut self) -> Result<Instant> {
        let wire = Wire::anonymous()?;
        loop {
            self.note().await?;
            if wire.send(Method::GET, "/readyz", Bytes::new()).await.is_ok() {
                return Ok(Instant::now());
            }
        }
    }

    /// A connection as the admin, as soon as there is a kubeconfig.
    async fn admin(&mut self, site: &Site) -> Result<Wire> {
        loop {
            match Wire::new(&site.kubeconfig()) {
                Ok(wire) => return Ok(wire),
                Err(error) if self.ready.is_some() => return Err(error),
                Err(_) => self.note().await?,
            }
        }
    }

    async fn ready(&mut self) -> Result<Instant> {
        loop {
            if let Some(at) = self.ready {
                return Ok(at);
            }
            self.note().await?;
        }
    }
}

/// Creates a pod as soon as it can be admitted, and waits until it runs.
async fn pod_running(wire: &Wire, name: &str) -> Result<Instant> {
    service_account(wire, "default").await?;
    let path = "/api/v1/namespaces/default/pods";
    let mut pods = wire.watch(&format!("{path}?watch=1&fieldSelector=metadata.name={name}")).await?;
    let pod = json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "tiphys.local/hello:1"}]},
    });
    wire.post(path, pod.to_string()).await?;
    pods.until(|_, pod| pod["status"]["phase"] == "Running").await?;
    Ok(Instant::now())
}
