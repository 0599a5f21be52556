//! An etcd cluster on loopback, whose last member may be a machine of its own, to be cut off from the others.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use anyhow::Result;

use super::Running;
use crate::harness::run;

/// Of RFC 2544's range for tests: this machine's end of the link for members and the other end, ...
const PEERS: [&str; 2] = ["198.18.40.1", "198.18.40.2"];
/// ... and the same of the link for clients.
const CLIENTS: [&str; 2] = ["198.18.41.1", "198.18.41.2"];
/// The links' names, here and there.
const LINKS: [[&str; 2]; 2] = [["tphetcd1", "peers"], ["tphetcd2", "clients"]];
/// The machine's name. One at a time is enough.
const MACHINE: &str = "tiphys-etcd";

/// The cluster.
pub struct Etcd {
    /// Those that run.
    pub members: Vec<Option<Running>>,
    ports: Vec<u16>,
    dir: tempfile::TempDir,
    /// The last one's.
    machine: Option<Apart>,
}

/// A network namespace with a link for the other members and one for clients.
struct Apart;

impl Apart {
    fn make() -> Result<Self> {
        // One that a killed run has left.
        let _ = ip(&format!("netns del {MACHINE}"));
        ip(&format!("netns add {MACHINE}"))?;
        let apart = Self;
        for ([here, there], [ours, its]) in LINKS.into_iter().zip([PEERS, CLIENTS]) {
            ip(&format!("link add {here} type veth peer name {there} netns {MACHINE}"))?;
            ip(&format!("address add {ours}/30 dev {here}"))?;
            ip(&format!("link set {here} up"))?;
            ip(&format!("-n {MACHINE} address add {its}/30 dev {there}"))?;
            ip(&format!("-n {MACHINE} link set {there} up"))?;
        }
        ip(&format!("-n {MACHINE} link set lo up"))?;
        Ok(apart)
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // Its links go with it.
        if let Err(error) = ip(&format!("netns del {MACHINE}")) {
            eprintln!("e2e: {error:#}");
        }
    }
}

fn ip(args: &str) -> Result<()> {
    run(Command::new("ip").args(args.split(' '))).map(drop)
}

impl Etcd {
    /// All on loopback.
    pub fn start(members: usize) -> Result<Self> {
        Self::begin(members, None)
    }

    /// The last member can be cut off.
    pub fn start_apart(members: usize) -> Result<Self> {
        Self::begin(members, Some(Apart::make()?))
    }

    fn begin(members: usize, machine: Option<Apart>) -> Result<Self> {
        // All are taken at once, so that none is given twice.
        let taken: Vec<_> =
            (0..2 * members).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        let ports = taken.iter().map(|socket| Ok(socket.local_addr()?.port())).collect::<Result<_>>()?;
        drop(taken);
        let dir = tempfile::Builder::new().prefix("tiphys-etcd-").tempdir()?;
        let mut etcd = Self { members: Vec::new(), ports, dir, machine };
        for member in 0..members {
            let running = etcd.spawn(member)?;
            etcd.members.push(Some(running));
        }
        Ok(etcd)
    }

    fn is_apart(&self, member: usize) -> bool {
        self.machine.is_some() && member + 1 == self.ports.len() / 2
    }

    fn client(&self, member: usize) -> String {
        let host = if self.is_apart(member) { CLIENTS[1] } else { "127.0.0.1" };
        format!("http://{host}:{}", self.ports[2 * member])
    }

    fn peer(&self, member: usize) -> String {
        let host = match &self.machine {
            None => "127.0.0.1",
            Some(_) if self.is_apart(member) => PEERS[1],
            Some(_) => PEERS[0],
        };
        format!("http://{host}:{}", self.ports[2 * member + 1])
    }

    /// Runs a member.
    pub fn spawn(&self, member: usize) -> Result<Running> {
        let (peer, client) = (self.peer(member), self.client(member));
        let cluster: Vec<_> = (0..self.ports.len() / 2).map(|m| format!("m{m}={}", self.peer(m))).collect();
        let log = std::fs::File::create(self.dir.path().join(format!("log{member}")))?;
        let mut command = Command::new(if self.is_apart(member) { "ip" } else { "etcd" });
        if self.is_apart(member) {
            command.args(["netns", "exec", MACHINE, "etcd"]);
        }
        let child = command
            .args(["--name", &format!("m{member}"), "--initial-cluster", &cluster.join(",")])
            .arg("--data-dir")
            .arg(self.dir.path().join(member.to_string()))
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500", "--log-level", "error"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        Ok(Running(child))
    }

    /// Cuts the last member off from the others, but not from clients, or ends that (`up`).
    pub fn link(&self, up: bool) -> Result<()> {
        // There, so that this machine's own address stays.
        let state = if up { "up" } else { "down" };
        ip(&format!("-n {MACHINE} link set {} {state}", LINKS[0][1]))
    }

    /// All members, as a flag names them.
    pub fn urls(&self) -> String {
        (0..self.members.len()).map(|member| self.client(member)).collect::<Vec<_>>().join(",")
    }
}
