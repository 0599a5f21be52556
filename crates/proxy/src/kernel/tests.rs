//! The rules in a real kernel: each test in a network namespace of its own. They need root, and say so without.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::json;
use tiphys_client::fake::FakeClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::model::{self, tests as objects};
use crate::{Config, run, tests as scenarios};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Addresses of two endpoints on this machine, and a way to those of Services, which are translated before they take it.
const SETUP: &str = "
    ip link set lo up
    ip address add 10.42.0.2/32 dev lo
    ip address add 10.42.0.3/32 dev lo
    ip route add 10.43.0.0/16 dev lo
    ip -6 address add fd42::2/128 dev lo nodad
    ip -6 address add fd42::3/128 dev lo nodad
    ip -6 route add fd43::/64 dev lo
    echo ready
    exec cat";

/// Runs a test in a network namespace of its own, on a thread of its own: there it also starts its programs.
fn apart<F: Future<Output = ()>>(paused: bool, test: impl FnOnce() -> F + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root makes network namespaces");
        return;
    }
    let enter = move || {
        let mut keeper = Command::new("unshare");
        keeper.args(["--net", "sh", "-ec", SETUP]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = keeper.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n");
        let namespace = File::open(format!("/proc/{}/ns/net", keeper.id())).unwrap();
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        // From here on the thread keeps it.
        drop(keeper.stdin.take());
        keeper.wait().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(paused).build();
        runtime.unwrap().block_on(test());
    };
    std::thread::spawn(enter).join().unwrap();
}

fn kernel(family: Family) -> Kernel {
    let names = Names::new("tphtest");
    let pods = if family == Family::V4 { "10.42.0.0/16" } else { "fd42::/64" };
    Kernel::new(Tables::new(family, names.clone(), Some(pods.into())), names, Arc::new(Status::new()))
}

/// One family's addresses: of the Service and of an endpoint.
fn addresses(family: Family, endpoint: u8) -> (IpAddr, IpAddr) {
    let (service, endpoint) = match family {
        Family::V4 => ("10.43.0.9".to_owned(), format!("10.42.0.{endpoint}")),
        Family::V6 => ("fd43::9".to_owned(), format!("fd42::{endpoint}")),
    };
    (service.parse().unwrap(), endpoint.parse().unwrap())
}

/// The ports of a Service that has one endpoint.
fn ports(family: Family, protocol: &str, endpoint: u8) -> Vec<Port> {
    let (service, endpoint) = addresses(family, endpoint);
    let spec = json!({"clusterIP": service, "type": "NodePort",
        "ports": [{"name": "http", "port": 80, "protocol": protocol, "nodePort": 30080}]});
    let mut slice = objects::slice(&json!([{"addresses": [endpoint]}]));
    slice.address_type = if family == Family::V4 { "IPv4" } else { "IPv6" }.into();
    slice.ports.as_mut().unwrap()[0].protocol = Some(protocol.into());
    model::read(&objects::service(&spec), &[slice], &objects::here()).ports
}

/// Why a family's rules cannot be tried here.
async fn missing(family: Family) -> bool {
    let missing = command::save(family, "nat").await.err();
    missing.inspect(|why| eprintln!("skipped: no address translation for {family:?}: {why}")).is_some()
}

/// Which of two servers gets a datagram, by its place.
async fn reached(client: &UdpSocket, servers: &[UdpSocket; 2]) -> usize {
    client.send(b"?").await.unwrap();
    let mut buffers = [[0; 8]; 2];
    let [first, second] = &mut buffers;
    let received = async {
        tokio::select! {
            from = servers[0].recv_from(first) => (0, from.unwrap().1),
            from = servers[1].recv_from(second) => (1, from.unwrap().1),
        }
    };
    let (place, from) = tokio::time::timeout(PATIENCE, received).await.expect("the datagram arrives");
    servers[place].send_to(b"!", from).await.unwrap();
    client.recv(&mut [0; 8]).await.unwrap();
    place
}

async fn datagrams_move_on(family: Family) {
    if missing(family).await {
        return;
    }
    let server = async |last| UdpSocket::bind((addresses(family, last).1, 8080)).await.unwrap();
    let servers = [server(2).await, server(3).await];
    let mut kernel = kernel(family);
    kernel.set("n/s", ports(family, "UDP", 2));
    kernel.write().await.unwrap();
    // One socket each: all that it sends is one flow to the kernel.
    let any: IpAddr = if family == Family::V4 { [0; 4].into() } else { [0; 16].into() };
    let mut clients = Vec::new();
    for to in [SocketAddr::new(addresses(family, 2).0, 80), SocketAddr::new(addresses(family, 2).1, 30080)] {
        let client = UdpSocket::bind((any, 0)).await.unwrap();
        client.connect(to).await.unwrap();
        assert_eq!(reached(&client, &servers).await, 0, "{to} leads to the endpoint");
        clients.push(client);
    }
    kernel.set("n/s", ports(family, "UDP", 3));
    kernel.write().await.unwrap();
    for client in &clients {
        assert_eq!(reached(client, &servers).await, 1, "a flow goes on to the new endpoint");
    }
}

async fn connections_are_led(family: Family) {
    if missing(family).await {
        return;
    }
    let mut kernel = kernel(family);
    kernel.set("n/s", ports(family, "TCP", 2));
    kernel.write().await.unwrap();
    let (service, endpoint) = addresses(family, 2);
    let server = TcpListener::bind((endpoint, 8080)).await.unwrap();
    for to in [(service, 80), (endpoint, 30080)] {
        let (client, accepted) = tokio::join!(TcpStream::connect(to), server.accept());
        accepted.unwrap().0.write_u8(7).await.unwrap();
        assert_eq!(client.unwrap().read_u8().await.unwrap(), 7);
    }
    kernel.set("n/s", Vec::new());
    kernel.write().await.unwrap();
    let left = command::save(family, "nat").await.unwrap();
    assert!(!left.contains("8080") && left.contains("SERVICES"), "{left}");
    remove(family, &kernel.names).await.unwrap();
    let left = command::save(family, "nat").await.unwrap();
    assert!(!left.contains("TPX"), "{left}");
}

#[test]
fn connections_are_led_to_endpoints() {
    apart(false, || async {
        connections_are_led(Family::V4).await;
        connections_are_led(Family::V6).await;
    });
}

#[test]
fn datagrams_of_a_living_flow_go_on_to_the_new_endpoint() {
    apart(false, || async {
        datagrams_move_on(Family::V4).await;
        datagrams_move_on(Family::V6).await;
    });
}

#[test]
fn a_kernel_takes_every_rule() {
    apart(false, || async {
        for (name, family, spec, endpoints) in scenarios::all() {
            if !missing(family).await {
                let mut kernel = kernel(family);
                let ports = scenarios::ports(family, &spec, &endpoints);
                kernel.set("n/s", ports);
                kernel.write().await.unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
        let mut kernel = kernel(Family::V4);
        kernel.set("n/s", ports(Family::V4, "SCTP", 2));
        kernel.write().await.unwrap();
        assert!(command::save(Family::V4, "nat").await.unwrap().contains("-p sctp"));
    });
}

/// A family's rules in any order, without counters and remarks.
async fn rules() -> BTreeSet<String> {
    let mut rules = BTreeSet::new();
    for table in ["filter", "nat"] {
        let text = command::save(Family::V4, table).await.unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        rules.extend(lines.map(|line| format!("{table} {}", line.split('[').next().unwrap())));
    }
    rules
}

async fn until(what: &str, holds: impl Fn(&BTreeSet<String>) -> bool) -> BTreeSet<String> {
    let start = std::time::Instant::now();
    loop {
        let rules = rules().await;
        if holds(&rules) {
            return rules;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: {rules:?}");
    }
}

fn run_iptables(words: &[&str]) {
    assert!(Command::new("iptables").arg("-w").args(words).status().unwrap().success());
}

async fn ask(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Time is the test's: it passes when nothing else is to be done.
#[test]
fn rules_that_somebody_took_away_come_back() {
    apart(true, || async {
        let client = FakeClient::new();
        let spec = json!({"clusterIP": "10.43.0.9", "ports": [{"name": "http", "port": 80}]});
        let mut slice = objects::slice(&json!([{"addresses": ["10.42.0.2"]}]));
        let labels = [("kubernetes.io/service-name".to_owned(), "s".to_owned())];
        (slice.metadata.namespace, slice.metadata.labels) = (Some("n".into()), Some(labels.into()));
        client.put(&objects::service(&spec));
        client.put(&slice);
        let config = Config {
            instance: "tphtest".into(),
            node_name: "here".into(),
            cluster_cidr: "10.42.0.0/16".into(),
            answered_here: BTreeSet::new(),
            healthz: Some(([127, 0, 0, 1], 10256).into()),
            metrics: Some(([127, 0, 0, 1], 10249).into()),
        };
        let running = async { run(config, Arc::new(client), CancellationToken::new()).await.unwrap() };
        let _proxy = AbortOnDropHandle::new(tokio::spawn(running));
        let whole = until("they are written", |rules| {
            rules.iter().any(|rule| rule.contains("10.42.0.2:8080"))
                && rules.iter().any(|r| r.contains("-A INPUT"))
        })
        .await;
        let attacks: [&[&[&str]]; 3] = [
            &[&["-F"], &["-t", "nat", "-F"], &["-X"], &["-t", "nat", "-X"]],
            &[&["-F", "INPUT"]],
            &[&["-t", "nat", "-F", "POSTROUTING"]],
        ];
        for attack in attacks {
            attack.iter().for_each(|words| run_iptables(words));
            until(&format!("they come back after {attack:?}"), |rules| *rules == whole).await;
        }
        assert!(ask(10256, "/healthz").await.contains("\"nodeEligible\": true"));
        assert!(ask(10256, "/livez").await.starts_with("HTTP/1.1 200"));
        let figures = ask(10249, "/metrics").await;
        assert!(
            figures.contains("kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}"),
            "{figures}"
        );
    });
}
