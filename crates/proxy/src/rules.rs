//! What one Service port is in rules: chains of its own, and entries in chains that all Services share. Pure.
//!
//! - A port has at most three chains: `S` spreads over the endpoints of the cluster, `L` over those of this node, `X` takes
//!   what comes from outside where that is more than `S` with a mark. With session affinity each endpoint has one, too.
//! - Entries lead an address and port to a chain, or refuse it. They stand in buckets by the address's last byte, so that
//!   neither a packet nor a change has to go through those of all Services.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

use sha2::Digest as _;
use tiphys_network::command::Family;

use crate::model::{Endpoint, Port};

/// Marks packets that must get the node's address; kube-proxy's default bit.
pub(crate) const MARK: &str = "0x4000/0x4000";

/// Table of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// A chain's rules, each without the leading `-A chain`.
pub type Rules = Vec<String>;

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

    /// A chain that holds entries of many Services.
    pub fn shared(&self, shared: Shared) -> String {
        match shared {
            Shared::Services(bucket) => format!("{}-B-{bucket:02X}", self.tag),
            Shared::NodePorts => self.chain("NODEPORTS"),
            Shared::Refused(bucket) => format!("{}-R-{bucket:02X}", self.tag),
            Shared::RefusedPorts => self.chain("REFUSEDPORTS"),
        }
    }

    /// A chain that belongs to a named thing.
    fn hashed(&self, role: &str, name: &str) -> String {
        format!("{}-{role}-{}", self.tag, digest(name))
    }
}

/// As much of a name's digest as fits, 70 bits: whoever may name Services shall not find a second name for another's chain.
fn digest(name: &str) -> String {
    let digest = sha2::Sha256::digest(name.as_bytes());
    let bits = digest.iter().take(16).fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
    let letter = |at: u32| BASE32.get((bits >> (5 * at)) as usize % BASE32.len()).copied().map(char::from);
    (0..14).filter_map(letter).collect()
}

/// RFC 4648.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Chains that all Services share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shared {
    /// Addresses with something behind them, by their last byte.
    Services(u8),
    /// Node ports with something behind them.
    NodePorts,
    /// Addresses with nothing behind them, or not for everyone.
    Refused(u8),
    /// Node ports with nothing behind them.
    RefusedPorts,
}

impl Shared {
    /// Where it stands.
    pub fn table(self) -> Table {
        match self {
            Self::Services(_) | Self::NodePorts => Table::Nat,
            Self::Refused(_) | Self::RefusedPorts => Table::Filter,
        }
    }
}

/// An address's bucket.
fn bucket(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(ip) => ip.octets()[15],
    }
}

/// The match of all addresses of a bucket.
pub(crate) fn bucket_match(family: Family, bucket: u8) -> String {
    match family {
        Family::V4 => format!("-d 0.0.0.{bucket}/0.0.0.255"),
        Family::V6 => format!("-d ::{bucket:x}/::ff"),
    }
}

/// An address as a range of one.
pub(crate) fn single(ip: &IpAddr) -> String {
    format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 })
}

/// Renders one port.
pub(crate) struct Render<'a> {
    pub(crate) port: &'a Port,
    pub(crate) names: &'a Names,
    /// Range of all pods: their traffic keeps its source address. `None` if they have no addresses of this family.
    pub(crate) pods: Option<&'a str>,
}

impl Render<'_> {
    /// The port's own chains, all in the table `nat`.
    pub(crate) fn chains(&self) -> Vec<(String, Rules)> {
        let port = self.port;
        let mut chains = Vec::new();
        if !port.cluster.is_empty() {
            chains.push((self.own("S"), self.spread(&port.cluster)));
        }
        if !port.local.is_empty() && port.local != port.cluster {
            chains.push((self.own("L"), self.spread(&port.local)));
        }
        if self.has_outer() {
            chains.push((self.own("X"), self.outer()));
        }
        if self.has_firewall() {
            chains.push((self.own("F"), self.firewall()));
        }
        if port.affinity_seconds.is_some() {
            let all: BTreeSet<&Endpoint> = port.endpoints().collect();
            chains.extend(all.into_iter().map(|endpoint| self.remembering(endpoint)));
        }
        chains
    }

    /// A port's identity; its number is no part of it, so that a change of the number changes no chain.
    fn own(&self, role: &str) -> String {
        self.names.hashed(role, &format!("{}/{}", self.port.name, self.port.protocol))
    }

    /// The chain that spreads over these endpoints.
    fn spreading(&self, endpoints: &BTreeSet<Endpoint>) -> String {
        self.own(if *endpoints == self.port.cluster { "S" } else { "L" })
    }

    /// Whether anything takes packets from outside, this node's own and its pods' among them.
    fn reachable(&self) -> bool {
        !(self.port.cluster.is_empty() && self.port.outside().is_empty())
    }

    /// Whether outside traffic has a chain of its own.
    fn has_outer(&self) -> bool {
        self.reachable() && (self.port.external_local || self.has_firewall())
    }

    fn has_firewall(&self) -> bool {
        self.reachable() && !self.port.source_ranges.is_empty() && !self.port.balancer_ips.is_empty()
    }

    fn mark(&self) -> String {
        format!("-j {}", self.names.chain("MARK"))
    }

    /// Outside traffic: where it must stay on this node it keeps its source, but pods' and the node's own goes anywhere,
    /// as if it had gone out and come back through a load balancer.
    fn outer(&self) -> Rules {
        let port = self.port;
        let mut rules = Rules::new();
        if !port.external_local {
            rules.push(self.mark());
        } else if !port.cluster.is_empty() {
            let anywhere = self.own("S");
            rules.extend(self.pods.map(|pods| format!("-s {pods} -j {anywhere}")));
            rules.push(format!("-m addrtype --src-type LOCAL {}", self.mark()));
            rules.push(format!("-m addrtype --src-type LOCAL -j {anywhere}"));
        }
        if !port.outside().is_empty() {
            rules.push(format!("-j {}", self.spreading(port.outside())));
        }
        rules
    }

    /// Who may come through the load balancer. A node that may comes from the balancer's own address, if it has that too.
    fn firewall(&self) -> Rules {
        let port = self.port;
        let own = port.balancer_ips.iter().filter(|_| port.node_may).map(single);
        let allowed = port.source_ranges.iter().cloned().chain(own);
        allowed.map(|from| format!("-s {from} -j {}", self.own("X"))).collect()
    }

    /// The rules that lead an address and port to its chain, or refuse it where nothing is behind.
    pub(crate) fn entries(&self) -> Vec<(Shared, String)> {
        let port = self.port;
        let mut entries = Vec::new();
        let (to, bucket_of) = (self.to(&port.cluster_ip), bucket(port.cluster_ip));
        if port.inside().is_empty() {
            entries.push((Shared::Refused(bucket_of), self.refuse(&to)));
        } else {
            let services = Shared::Services(bucket_of);
            entries.extend(self.pods.map(|pods| (services, format!("{to} ! -s {pods} {}", self.mark()))));
            entries.push((services, format!("{to} {} -j {}", self.comment(), self.spreading(port.inside()))));
        }
        for ip in port.external_ips.iter().chain(&port.balancer_ips) {
            let walled = self.has_firewall() && !port.external_ips.contains(ip);
            let (to, bucket) = (self.to(ip), bucket(*ip));
            self.outside(&to, Shared::Services(bucket), Shared::Refused(bucket), walled, &mut entries);
        }
        if port.node_port != 0 {
            let to = format!("-p {0} -m {0} --dport {1}", port.protocol, port.node_port);
            self.outside(&to, Shared::NodePorts, Shared::RefusedPorts, false, &mut entries);
        }
        entries
    }

    fn outside(
        &self,
        to: &str,
        lead: Shared,
        refuse: Shared,
        walled: bool,
        entries: &mut Vec<(Shared, String)>,
    ) {
        if self.reachable() {
            let target = if walled {
                self.own("F")
            } else if self.has_outer() {
                self.own("X")
            } else {
                entries.push((lead, format!("{to} {}", self.mark())));
                self.spreading(self.port.outside())
            };
            entries.push((lead, format!("{to} {} -j {target}", self.comment())));
        }
        if walled {
            entries.push((refuse, format!("{to} {} -j DROP", self.comment())));
        } else if self.port.outside().is_empty() {
            entries.push((refuse, self.refuse(to)));
        }
    }

    fn to(&self, ip: &IpAddr) -> String {
        format!("-d {} -p {2} -m {2} --dport {1}", single(ip), self.port.port, self.port.protocol)
    }

    fn comment(&self) -> String {
        format!("-m comment --comment \"{}\"", self.port.name)
    }

    /// With endpoints elsewhere a client may try again and come to them; without any it is told so at once.
    fn refuse(&self, to: &str) -> String {
        format!("{to} {} -j {}", self.comment(), if self.port.any { "DROP" } else { "REJECT" })
    }

    /// Each endpoint gets an equal share: the first of n a chance of 1/n, the next of the rest 1/(n-1), the last all.
    fn spread(&self, endpoints: &BTreeSet<Endpoint>) -> Rules {
        let mut rules = Rules::with_capacity(endpoints.len() * 2);
        if let Some(seconds) = self.port.affinity_seconds {
            let known = |e| {
                format!("-m recent --name {0} --rcheck --seconds {seconds} --reap -j {0}", self.endpoint(e))
            };
            rules.extend(endpoints.iter().map(known));
        }
        let count = endpoints.len();
        for (i, endpoint) in endpoints.iter().enumerate() {
            let mut rule = String::new();
            if i + 1 < count {
                let chance = 1.0 / (count - i) as f64;
                // Writing to a String cannot fail.
                let _ = write!(rule, "-m statistic --mode random --probability {chance:.10} ");
            }
            match self.port.affinity_seconds {
                Some(_) => rule.extend(["-j ", &self.endpoint(endpoint)]),
                None => rule.push_str(&self.dnat(endpoint)),
            }
            rules.push(rule);
        }
        rules
    }

    /// The chain of an endpoint that remembers its clients.
    fn endpoint(&self, endpoint: &Endpoint) -> String {
        let Port { name, protocol, .. } = self.port;
        self.names.hashed("E", &format!("{name}/{protocol}/{}:{}", endpoint.ip, endpoint.port))
    }

    fn remembering(&self, endpoint: &Endpoint) -> (String, Rules) {
        let name = self.endpoint(endpoint);
        let rule = format!("-m recent --name {name} --set {}", self.dnat(endpoint));
        (name, vec![rule])
    }

    fn dnat(&self, endpoint: &Endpoint) -> String {
        let to = std::net::SocketAddr::new(endpoint.ip, endpoint.port);
        format!("-p {0} -m {0} -j DNAT --to-destination {to}", self.port.protocol)
    }
}
