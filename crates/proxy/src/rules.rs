//! From ports to packet rules: every chain's text. Pure; two equal pictures give equal text.
//!
//! All chains carry a tag of their own, so that two clusters (or a real kube-proxy) live side by side. In the nat table:
//!
//! - `SERVICES`, from PREROUTING and OUTPUT: one rule per address and port, leading to the port's chain.
//! - `NODEPORTS`: the same for ports of the node.
//! - `S-<hash>` (inside) and `X-<hash>` (outside, where that differs): one DNAT per endpoint, each with its share of the
//!   chance. Only with session affinity is there a chain per endpoint, which remembers the client.
//! - `MASQ`, from POSTROUTING: what was marked on its way in gets the node's address; so does what a pod sends to itself
//!   through a Service (hairpin).
//!
//! In the filter table, `REJECT` refuses what has no endpoint, and `LOCAL` keeps others out of 127.0.0.0/8.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::Ipv4Addr;

use crate::model::{Endpoint, Port};

/// Marks packets that must get the node's address; kube-proxy's default bit.
const MARK: &str = "0x4000/0x4000";

/// Table of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// `filter`
    Filter,
    /// `nat`
    Nat,
}

impl Table {
    /// As iptables names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
        }
    }
}

/// Every chain's rules, each rule without the leading `-A chain`.
pub type Chains = BTreeMap<(Table, String), Vec<String>>;

/// Names of one instance's chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    tag: String,
}

impl Names {
    /// The tag is made from the instance, as the bridge's name, so that it fits iptables' 28 characters.
    pub fn new(instance: &str) -> Self {
        Self { tag: format!("TPX{:08X}", crc32fast::hash(instance.as_bytes())) }
    }

    /// What every chain begins with.
    pub fn prefix(&self) -> String {
        format!("{}-", self.tag)
    }

    /// A chain of a fixed role.
    pub fn chain(&self, role: &str) -> String {
        format!("{}-{role}", self.tag)
    }

    /// A chain that belongs to a named thing.
    fn hashed(&self, role: &str, name: &str) -> String {
        format!("{}-{role}-{:08X}{:04X}", self.tag, crc32fast::hash(name.as_bytes()), fold(name))
    }
}

/// A second, independent 16 bits, so that names of chains do not collide in clusters of any size.
fn fold(name: &str) -> u16 {
    name.bytes().fold(0x1505, |hash: u16, byte| hash.wrapping_mul(33) ^ u16::from(byte))
}

/// What rules need to know of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Range of all pods: their traffic keeps its source address.
    pub cluster_cidr: String,
    /// Addresses of Services that something on this node answers itself (cluster DNS); they get no rules.
    pub answered_here: BTreeSet<Ipv4Addr>,
}

/// Every chain for these ports.
pub fn render(ports: &[Port], node: &Node, names: &Names) -> Chains {
    let mut chains = fixed(names);
    let mut hairpins = BTreeSet::new();
    for port in ports.iter().filter(|p| !node.answered_here.contains(&p.cluster_ip)) {
        let inside = Side { port, endpoints: &port.inside, role: "S" };
        inside.chains(names, &mut chains);
        if port.outside != port.inside {
            Side { endpoints: &port.outside, role: "X", ..inside }.chains(names, &mut chains);
        }
        entries(port, node, names, &mut chains);
        hairpins.extend(port.inside.iter().chain(&port.outside).filter(|e| e.local).map(|e| e.ip));
    }
    let masquerade = chains.entry((Table::Nat, names.chain("MASQ"))).or_default();
    masquerade.extend(hairpins.iter().map(|ip| format!("-s {ip}/32 -d {ip}/32 -j MASQUERADE")));
    let ports_jump = format!("-m addrtype --dst-type LOCAL -j {}", names.chain("NODEPORTS"));
    chains.entry((Table::Nat, names.chain("SERVICES"))).or_default().push(ports_jump);
    chains
}

fn fixed(names: &Names) -> Chains {
    let loopback =
        "! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP";
    Chains::from([
        ((Table::Nat, names.chain("SERVICES")), vec![]),
        ((Table::Nat, names.chain("NODEPORTS")), vec![]),
        ((Table::Nat, names.chain("MARK")), vec![format!("-j MARK --set-xmark {MARK}")]),
        (
            (Table::Nat, names.chain("MASQ")),
            vec![format!("-m mark --mark {MARK} -j MASQUERADE --random-fully")],
        ),
        ((Table::Filter, names.chain("REJECT")), vec![]),
        ((Table::Filter, names.chain("LOCAL")), vec![loopback.to_owned()]),
    ])
}

/// The rules that lead an address and port to its chain, or refuse it where nothing is behind.
fn entries(port: &Port, node: &Node, names: &Names, chains: &mut Chains) {
    let Port { protocol, port: number, cluster_ip, node_port, .. } = port;
    let comment = format!("-m comment --comment \"{}\"", port.name);
    let to = |ip: &Ipv4Addr| format!("-d {ip}/32 -p {protocol} -m {protocol} --dport {number} {comment}");
    let on_node = format!("-p {protocol} -m {protocol} --dport {node_port} {comment}");
    let mark = names.chain("MARK");
    let inside = names.hashed("S", &chain_key(port));
    let outside =
        if port.outside == port.inside { inside.clone() } else { names.hashed("X", &chain_key(port)) };
    let mut put = |table, role: &str, rule: String| {
        chains.entry((table, names.chain(role))).or_default().push(rule);
    };
    if port.inside.is_empty() {
        put(Table::Filter, "REJECT", format!("{} -j REJECT", to(cluster_ip)));
    } else {
        put(Table::Nat, "SERVICES", format!("{} ! -s {} -j {mark}", to(cluster_ip), node.cluster_cidr));
        put(Table::Nat, "SERVICES", format!("{} -j {inside}", to(cluster_ip)));
    }
    let mut lead = |role: &str, to: &str| {
        if port.outside.is_empty() {
            let local = if role == "NODEPORTS" { "-m addrtype --dst-type LOCAL " } else { "" };
            return put(Table::Filter, "REJECT", format!("{local}{to} -j REJECT"));
        }
        if !port.keep_source {
            put(Table::Nat, role, format!("{to} -j {mark}"));
        }
        put(Table::Nat, role, format!("{to} -j {outside}"));
    };
    port.external_ips.iter().for_each(|ip| lead("SERVICES", &to(ip)));
    if *node_port != 0 {
        lead("NODEPORTS", &on_node);
    }
}

/// A port's identity; its number is no part of it, so that a change of the number changes no chain.
fn chain_key(port: &Port) -> String {
    format!("{}/{}", port.name, port.protocol)
}

/// One direction's endpoints of a port.
struct Side<'a> {
    port: &'a Port,
    endpoints: &'a BTreeSet<Endpoint>,
    role: &'static str,
}

impl Side<'_> {
    fn chains(&self, names: &Names, chains: &mut Chains) {
        if self.endpoints.is_empty() {
            return;
        }
        let key = chain_key(self.port);
        let chain = (Table::Nat, names.hashed(self.role, &key));
        let Some(seconds) = self.port.affinity_seconds else {
            let rules = self.spread(|endpoint| self.dnat(endpoint));
            chains.insert(chain, rules);
            return;
        };
        let own = |e: &Endpoint| names.hashed("E", &format!("{key}/{}:{}", e.ip, e.port));
        let mut rules: Vec<String> = self
            .endpoints
            .iter()
            .map(|e| format!("-m recent --name {0} --rcheck --seconds {seconds} --reap -j {0}", own(e)))
            .collect();
        rules.extend(self.spread(|endpoint| format!("-j {}", own(endpoint))));
        chains.insert(chain, rules);
        for endpoint in self.endpoints {
            let name = own(endpoint);
            let remember = format!("-m recent --name {name} --set {}", self.dnat(endpoint));
            chains.insert((Table::Nat, name), vec![remember]);
        }
    }

    fn dnat(&self, endpoint: &Endpoint) -> String {
        let protocol = &self.port.protocol;
        format!("-p {protocol} -m {protocol} -j DNAT --to-destination {}:{}", endpoint.ip, endpoint.port)
    }

    /// Each endpoint gets an equal share: the first of n a chance of 1/n, the next of the rest 1/(n-1), the last all.
    fn spread(&self, action: impl Fn(&Endpoint) -> String) -> Vec<String> {
        let count = self.endpoints.len();
        let rule = |(i, endpoint): (usize, &Endpoint)| {
            let mut rule = String::new();
            if i + 1 < count {
                let chance = 1.0 / (count - i) as f64;
                // Writing to a String cannot fail.
                let _ = write!(rule, "-m statistic --mode random --probability {chance:.10} ");
            }
            rule + &action(endpoint)
        };
        self.endpoints.iter().enumerate().map(rule).collect()
    }
}
