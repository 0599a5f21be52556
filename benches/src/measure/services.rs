//! Services in the kernel: the proxy's first sync of many, and how soon a changed endpoint takes connections.
//!
//! - All of it happens in a network namespace of its own, so that nobody's rules are counted or touched.
//! - What is timed is what a client sees: connections to one Service's address, made one after the other, until the right
//!   endpoint accepts one. The endpoints of that Service are addresses of the loopback interface.
//! - The variant of iptables is the one that `iptables` is; a directory with links to the other's names, put first in
//!   `PATH`, measures that one.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::future::try_join_all;
use http::Method;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::cluster::{Ground, PATIENCE, Site};
use crate::load;
use crate::report::Row;
use crate::stats::{Samples, ms};
use crate::wire::{Request, Wire};

/// How many Services, the longest good first sync and the longest good change.
const SIZES: [(usize, Duration, Duration); 2] = [
    (1_000, Duration::from_millis(500), Duration::from_millis(50)),
    (10_000, Duration::from_secs(10), Duration::from_millis(250)),
];
const REFERENCES: [(&str, &str); 2] =
    [("kube-proxy 1.5 s", "kube-proxy 2.3 s"), ("kube-proxy 54 s with 5,000", "kube-proxy 54 s with 5,000")];
const ENDPOINTS: usize = 5;
const CHANGES: usize = 20;
/// Requests in flight on each connection while Services are made.
const IN_FLIGHT: usize = 8;
/// A packet to an address that no rule leads away from its route is lost; the next attempt comes after this.
const ATTEMPT: Duration = Duration::from_millis(20);
const NAMESPACE: &str = "bench";
/// The Service that is asked, and the port of its endpoints.
const ASKED: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 141, 0, 200), 80);
const PORT: u16 = 9000;

/// A link that leads nowhere, and the addresses of the endpoints that answer.
const SETUP: &str = r"
ip link set lo up
ip link add uplink type veth peer name far
ip address add 198.18.0.2/24 dev uplink
ip link set far up
ip link set uplink up
ip route add default via 198.18.0.1
for last in 1 2 3 4 5 6; do ip address add 10.140.0.$last/32 dev lo; done
echo ready
exec cat
";

pub async fn run(ground: &Ground) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for ((count, first, change), references) in SIZES.into_iter().zip(REFERENCES) {
        let apart = Apart::enter().await?;
        let measured = measure(ground, count).await;
        apart.leave()?;
        let (variant, took, samples) = measured?;
        let name = |what: &str| format!("{count} Services × {ENDPOINTS}, {variant}: {what}");
        rows.push(
            Row::new(name("first sync, from the proxy's exec"), ms(took))
                .within(took, first)
                .reference(references.0),
        );
        rows.push(
            Row::new(name("a changed endpoint answers"), samples.text())
                .within(samples.p50(), change)
                .reference(references.1),
        );
    }
    Ok(rows)
}

async fn measure(ground: &Ground, count: usize) -> Result<(String, Duration, Samples)> {
    let variant = Command::new("iptables").arg("--version").output().await?;
    let variant = String::from_utf8_lossy(&variant.stdout).trim().to_owned();
    for last in 1..=6 {
        answer(last).await?;
    }
    let site = Site::new(ground)?;
    let apart = ["--disable", "kubelet", "--disable", "proxy", "--disable", "dns"];
    let running = site.start_with(&apart)?.ready().await?;
    let wires = load::connections(&site)?;
    let asked = wires.first().context("no connection")?;
    asked.post("/api/v1/namespaces", json!({"metadata": {"name": NAMESPACE}}).to_string()).await?;
    fill(&wires, count).await?;
    let words = ["proxy", "--bridge", "tphbench0", "--cluster-cidr", "10.140.0.0/16", "--node-name", "bench"];
    let start = Instant::now();
    let proxy = site.beside(&words, "kube-proxy")?;
    reached(|_| true).await?;
    let took = start.elapsed();
    let mut samples = Vec::new();
    for i in 0..CHANGES {
        let last = if i % 2 == 0 { 6 } else { 5 };
        change(asked, last).await?;
        let accepted = Instant::now();
        reached(|from| from == last).await?;
        samples.push(accepted.elapsed());
    }
    drop(proxy);
    site.stop(running).await?;
    Ok((variant, took, Samples::new(samples)))
}

/// Makes the Services and their slices.
async fn fill(wires: &[Wire], count: usize) -> Result<()> {
    let lanes = wires.len() * IN_FLIGHT;
    let lane = async |lane: usize| -> Result<()> {
        let wire = wires.get(lane % wires.len()).context("no connection")?;
        for i in (lane..count).step_by(lanes) {
            let mut spec = json!({"ports": [{"name": "http", "port": ASKED.1}]});
            if i == 0 {
                spec["clusterIP"] = ASKED.0.to_string().into();
            }
            let service = json!({"metadata": {"name": format!("s-{i}")}, "spec": spec});
            wire.post(&format!("/api/v1/namespaces/{NAMESPACE}/services"), service.to_string()).await?;
            wire.post(&slices(), slice(i).to_string()).await?;
        }
        Ok(())
    };
    try_join_all((0..lanes).map(lane)).await.map(drop)
}

fn slices() -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices")
}

/// The first Service's endpoints answer; nobody has the others' addresses.
fn slice(i: usize) -> Value {
    let address = |e: usize| match i {
        0 => format!("10.140.0.{}", e + 1),
        _ => format!("10.140.{}.{}", 1 + i * ENDPOINTS / 250 % 250, 1 + (i * ENDPOINTS + e) % 250),
    };
    json!({"metadata": {"name": format!("s-{i}"), "labels": {"kubernetes.io/service-name": format!("s-{i}")}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": PORT}],
        "endpoints": (0..ENDPOINTS).map(|e| json!({"addresses": [address(e)]})).collect::<Vec<_>>()})
}

/// Gives the asked Service's last endpoint another address.
async fn change(wire: &Wire, last: u8) -> Result<()> {
    let address = |last: u8| json!({"addresses": [format!("10.140.0.{last}")]});
    let endpoints: Vec<Value> = (1..=4).chain([last]).map(address).collect();
    let body = Bytes::from(json!({"endpoints": endpoints}).to_string());
    let patch = Request::new(Method::PATCH, format!("{}/s-0", slices()), body);
    wire.perform(patch.form("application/merge-patch+json")).await.map(drop)
}

/// Says on every connection which address was reached.
async fn answer(last: u8) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::new(10, 140, 0, last), PORT)).await?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // A client that did not wait is one that tries again.
            let _ = stream.write_all(&[last]).await;
        }
    });
    Ok(())
}

/// Connects until an endpoint that is wanted answers.
async fn reached(wanted: impl Fn(u8) -> bool) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let attempt = async {
            let mut stream = TcpStream::connect(SocketAddr::from(ASKED)).await?;
            stream.read_u8().await
        };
        if let Ok(Ok(from)) = timeout(ATTEMPT, attempt).await
            && wanted(from)
        {
            return Ok(());
        }
    }
    anyhow::bail!("the Service does not lead there")
}

/// This thread, and what it starts, in a network namespace of its own.
struct Apart {
    home: std::fs::File,
    /// Keeps the namespace; ends when its input does.
    _keeper: Child,
}

impl Apart {
    async fn enter() -> Result<Self> {
        let home = std::fs::File::open("/proc/thread-self/ns/net")?;
        let mut command = Command::new("unshare");
        command
            .args(["--net", "sh", "-euc", SETUP])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut keeper = command.spawn()?;
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().context("no output")?).read_line(&mut line).await?;
        ensure!(line == "ready\n", "no network namespace");
        let pid = keeper.id().context("the namespace's keeper ended")?;
        let there = std::fs::File::open(format!("/proc/{pid}/ns/net"))?;
        move_into_link_name_space(there.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(Self { home, _keeper: keeper })
    }

    fn leave(self) -> Result<()> {
        Ok(move_into_link_name_space(self.home.as_fd(), Some(LinkNameSpaceType::Network))?)
    }
}
