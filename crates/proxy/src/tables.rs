//! All chains of one address family, and the text that brings the kernel from what it has to what it shall have. Pure.
//!
//! - A Service is put in or taken out by its key; what that changes is found by comparing its rules before and after. The
//!   work is that of the Service, not of all.
//! - No rule is kept as text: models are, and rules are rendered again when their chain is written.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tiphys_network::command::Family;

use crate::model::Port;
use crate::rules::{MARK, Names, Render, Rules, Shared, Table, bucket_match, single};
use crate::saved::Saved;

/// A Service, as `namespace/name`.
pub type Key = Box<str>;

/// So many rules are written by one call where there is no need for more.
const RULES_AT_ONCE: usize = 5_000;

/// Chains that are always there.
const ROOTS: &[(Table, &str)] = &[
    (Table::Filter, "FORWARD"),
    (Table::Filter, "LOCAL"),
    (Table::Filter, "REFUSED"),
    (Table::Nat, "MARK"),
    (Table::Nat, "MASQ"),
    (Table::Nat, "SERVICES"),
    (Table::Nat, "NODEPORTS"),
];

/// Rules in the host's chains: table, chain, what they match, our chain. Later ones are put before earlier ones.
const JUMPS: &[(Table, &str, &str, &str)] = &[
    (Table::Filter, "FORWARD", "", "FORWARD"),
    (Table::Filter, "FORWARD", "-m conntrack --ctstate NEW ", "REFUSED"),
    (Table::Filter, "OUTPUT", "-m conntrack --ctstate NEW ", "REFUSED"),
    (Table::Filter, "INPUT", "-m conntrack --ctstate NEW ", "REFUSED"),
    (Table::Filter, "INPUT", "", "LOCAL"),
    (Table::Nat, "PREROUTING", "", "SERVICES"),
    (Table::Nat, "OUTPUT", "", "SERVICES"),
    (Table::Nat, "POSTROUTING", "", "MASQ"),
];

/// The chains of one family.
#[derive(Debug)]
pub struct Tables {
    family: Family,
    names: Names,
    /// Range of all pods in this family.
    pods: Option<String>,
    services: BTreeMap<Key, Vec<Port>>,
    /// Whose entries a shared chain holds.
    members: BTreeMap<Shared, BTreeSet<Key>>,
    /// How many ports each address of this node stands behind.
    local: BTreeMap<IpAddr, usize>,
    pending: Pending,
}

/// Chains to be written.
#[derive(Debug, Default)]
struct Pending {
    /// Services' own; `None` takes it away.
    own: BTreeMap<String, Option<Rules>>,
    shared: BTreeSet<Shared>,
    roots: BTreeSet<(Table, &'static str)>,
}

impl Tables {
    /// Of no Service yet.
    pub fn new(family: Family, names: Names, pods: Option<String>) -> Self {
        Self {
            family,
            names,
            pods,
            services: BTreeMap::new(),
            members: BTreeMap::new(),
            local: BTreeMap::new(),
            pending: Pending::default(),
        }
    }

    /// Which family.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Whether no Service has ports in this family.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// The ports of every Service.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.services.values().flatten()
    }

    /// Makes a Service have exactly these ports. Says whether any UDP port is or was another.
    pub fn set(&mut self, key: &str, ports: Vec<Port>) -> bool {
        let old = self.services.remove(key).unwrap_or_default();
        if old == ports {
            if !ports.is_empty() {
                self.services.insert(key.into(), ports);
            }
            return false;
        }
        self.change_chains(&old, &ports);
        self.change_entries(key, &old, &ports);
        self.change_local(&old, &ports);
        let udp = old.iter().chain(&ports).any(|port| port.protocol == "udp");
        if !ports.is_empty() {
            self.services.insert(key.into(), ports);
        }
        udp
    }

    fn change_chains(&mut self, old: &[Port], new: &[Port]) {
        let all = |ports: &[Port]| -> BTreeMap<String, Rules> {
            ports.iter().flat_map(|port| self.render(port).chains()).collect()
        };
        let (mut before, after) = (all(old), all(new));
        for (name, rules) in after {
            if before.remove(&name).as_ref() != Some(&rules) {
                self.pending.own.insert(name, Some(rules));
            }
        }
        self.pending.own.extend(before.into_keys().map(|name| (name, None)));
    }

    fn change_entries(&mut self, key: &str, old: &[Port], new: &[Port]) {
        let (before, after) = (self.entries(old), self.entries(new));
        for shared in before.keys().chain(after.keys()).copied().collect::<BTreeSet<_>>() {
            if before.get(&shared) != after.get(&shared) {
                self.pending.shared.insert(shared);
            }
            let members = self.members.entry(shared).or_default();
            let was_empty = members.is_empty();
            match after.contains_key(&shared) {
                true => members.insert(key.into()),
                false => members.remove(key),
            };
            let is_empty = members.is_empty();
            if is_empty {
                self.members.remove(&shared);
            }
            if was_empty != is_empty {
                self.pending.roots.extend(root(shared));
            }
        }
    }

    fn change_local(&mut self, old: &[Port], new: &[Port]) {
        let addresses = |ports: &[Port]| -> Vec<IpAddr> {
            ports.iter().flat_map(Port::endpoints).filter(|e| e.local).map(|e| e.ip).collect()
        };
        let before: BTreeSet<IpAddr> = self.local.keys().copied().collect();
        for ip in addresses(new) {
            *self.local.entry(ip).or_default() += 1;
        }
        for ip in addresses(old) {
            if let Some(count) = self.local.get_mut(&ip) {
                *count -= 1;
            }
        }
        self.local.retain(|_, count| *count > 0);
        if !before.iter().eq(self.local.keys()) {
            self.pending.roots.insert((Table::Nat, "MASQ"));
        }
    }

    fn render<'a>(&'a self, port: &'a Port) -> Render<'a> {
        Render { port, names: &self.names, pods: self.pods.as_deref() }
    }

    fn entries(&self, ports: &[Port]) -> BTreeMap<Shared, Rules> {
        let mut entries: BTreeMap<Shared, Rules> = BTreeMap::new();
        for (shared, rule) in ports.iter().flat_map(|port| self.render(port).entries()) {
            entries.entry(shared).or_default().push(rule);
        }
        entries
    }

    /// The text that writes what changed since this was last asked; empty if nothing did.
    ///
    /// Each table changes in one atomic step. Chains that nobody wants are emptied first and deleted last, when no rule
    /// leads to them any more.
    pub fn changes(&mut self) -> String {
        let Pending { own, shared, roots } = std::mem::take(&mut self.pending);
        let mut text = Text::default();
        for (name, rules) in own {
            text.chain(Table::Nat, &name, rules);
        }
        for shared in shared {
            text.chain(shared.table(), &self.names.shared(shared), self.shared(shared));
        }
        for (table, role) in roots {
            text.chain(table, &self.names.chain(role), Some(self.root(role)));
        }
        text.finish()
    }

    /// The texts that make everything as it shall be, whatever the kernel has, to be written one after the other.
    ///
    /// The time `iptables-restore` takes grows faster than its input, so chains come in several texts; those that lead to
    /// them come last, with the removal of what nobody wants.
    pub fn everything(&mut self, saved: &Saved) -> Vec<String> {
        self.pending = Pending::default();
        let (mut texts, mut text, mut count) = (Vec::new(), Text::default(), 0);
        let mut gone = saved.chains.clone();
        let mut fill = |text: &mut Text, table: Table, name: String, rules: Rules| {
            text.chain(table, &name, Some(rules));
            gone.remove(&(table, name));
        };
        for (table, role) in ROOTS.iter().filter(|(_, role)| *role == "MARK") {
            fill(&mut text, *table, self.names.chain(role), self.root(role));
        }
        for ports in self.services.values() {
            for (name, rules) in ports.iter().flat_map(|port| self.render(port).chains()) {
                count += rules.len();
                fill(&mut text, Table::Nat, name, rules);
            }
            if count >= RULES_AT_ONCE {
                texts.push(std::mem::take(&mut text).finish());
                count = 0;
            }
        }
        // The chain of node ports is a root as well.
        for shared in self.members.keys().filter(|shared| **shared != Shared::NodePorts) {
            let rules = self.shared(*shared).unwrap_or_default();
            fill(&mut text, shared.table(), self.names.shared(*shared), rules);
        }
        for (table, role) in ROOTS.iter().filter(|(_, role)| *role != "MARK") {
            fill(&mut text, *table, self.names.chain(role), self.root(role));
        }
        gone.iter().for_each(|(table, name)| text.chain(*table, name, None));
        self.jumps(saved, &mut text);
        texts.push(text.finish());
        texts
    }

    /// The text that asks whether the jumps are there, for [`tiphys_network::command::holds`]. Whoever flushes rules, or
    /// loads others in their place, takes these.
    pub fn canary(&self) -> String {
        let mut text = Text::default();
        for (table, chain, matches, role) in JUMPS {
            text.insert(*table, format!("-C {}", self.jump(chain, matches, role)));
        }
        text.finish()
    }

    /// A jump, without the word that says what to do with it.
    fn jump(&self, chain: &str, matches: &str, role: &str) -> String {
        let to = self.names.chain(role);
        format!("{chain} {matches}-m comment --comment \"tiphys Services\" -j {to}")
    }

    /// Puts in the jumps that are missing, and takes out those of another time.
    fn jumps(&self, saved: &Saved, text: &mut Text) {
        let leads = |line: &str, chain: &str, role: &str| {
            line.starts_with(&format!("-A {chain} "))
                && line.ends_with(&format!(" -j {}", self.names.chain(role)))
        };
        for (table, line) in &saved.jumps {
            if !JUMPS.iter().any(|(t, chain, _, role)| t == table && leads(line, chain, role)) {
                text.remove(*table, line);
            }
        }
        for (table, chain, matches, role) in JUMPS {
            if !saved.jumps.iter().any(|(t, line)| t == table && leads(line, chain, role)) {
                text.insert(*table, format!("-I {}", self.jump(chain, matches, role)));
            }
        }
    }

    /// The rules of a shared chain; `None` if it need not be.
    fn shared(&self, shared: Shared) -> Option<Rules> {
        let members = self.members.get(&shared);
        let ports = members.into_iter().flatten().filter_map(|key| self.services.get(key)).flatten();
        let entries = ports.flat_map(|port| self.render(port).entries());
        let rules: Rules = entries.filter(|(s, _)| *s == shared).map(|(_, rule)| rule).collect();
        (!rules.is_empty() || shared == Shared::NodePorts).then_some(rules)
    }

    fn root(&self, role: &str) -> Rules {
        let to = |shared: Shared| format!("-j {}", self.names.shared(shared));
        let leads = |shared: &Shared| match shared {
            Shared::Services(bucket) if role == "SERVICES" => {
                Some(format!("{} {}", bucket_match(self.family, *bucket), to(*shared)))
            }
            Shared::Refused(bucket) if role == "REFUSED" => {
                Some(format!("{} {}", bucket_match(self.family, *bucket), to(*shared)))
            }
            Shared::RefusedPorts if role == "REFUSED" => {
                Some(format!("-m addrtype --dst-type LOCAL {}", to(*shared)))
            }
            _ => None,
        };
        let mut rules: Rules = self.members.keys().filter_map(leads).collect();
        match role {
            "SERVICES" => {
                // What goes to ::1 cannot be sent elsewhere: refused, a client goes on to 127.0.0.1.
                let but = if self.family == Family::V6 { "! -d ::1/128 " } else { "" };
                rules.push(format!("{but}-m addrtype --dst-type LOCAL {}", to(Shared::NodePorts)));
            }
            "NODEPORTS" => rules = self.shared(Shared::NodePorts).unwrap_or_default(),
            "MARK" => rules.push(format!("-j MARK --set-xmark {MARK}")),
            "MASQ" => rules.extend(self.masquerade()),
            "FORWARD" => rules.extend(forward()),
            "LOCAL" => rules.extend(self.loopback()),
            _ => {}
        }
        rules
    }

    /// Packets of a pod to itself need another source, or it would answer itself. The mark is taken off again, so that a
    /// packet that comes by once more, as in a tunnel, is left alone.
    fn masquerade(&self) -> Rules {
        let own = self
            .local
            .keys()
            .map(|ip| format!("-s {0} -d {0} -m conntrack --ctstate DNAT -j MASQUERADE", single(ip)));
        let marked = [
            format!("-m mark ! --mark {MARK} -j RETURN"),
            "-j MARK --set-xmark 0x0/0x4000".to_owned(),
            "-j MASQUERADE --random-fully".to_owned(),
        ];
        own.chain(marked).collect()
    }

    /// Node ports answer on the loopback address to this node alone: what pretends to be it from outside is dropped.
    fn loopback(&self) -> Rules {
        match self.family {
            Family::V4 => vec![
                "! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
                    .into(),
            ],
            Family::V6 => Vec::new(),
        }
    }
}

/// Where the host's rules would drop what is forwarded, Services' connections pass. Packets that fit no connection would
/// leave without their address translated back, and make the other side reset the connection.
fn forward() -> [String; 3] {
    [
        "-m conntrack --ctstate INVALID -j DROP".to_owned(),
        format!("-m mark --mark {MARK} -j ACCEPT"),
        "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT".to_owned(),
    ]
}

/// The root that leads to a shared chain only while there is one.
fn root(shared: Shared) -> Option<(Table, &'static str)> {
    match shared {
        Shared::Services(_) => Some((Table::Nat, "SERVICES")),
        Shared::NodePorts => None,
        Shared::Refused(_) | Shared::RefusedPorts => Some((Table::Filter, "REFUSED")),
    }
}

/// The text that takes every chain and jump of an instance away; empty if there is none.
pub fn removal(saved: &Saved) -> String {
    let mut text = Text::default();
    saved.jumps.iter().for_each(|(table, line)| text.remove(*table, line));
    saved.chains.iter().for_each(|(table, name)| text.chain(*table, name, None));
    text.finish()
}

/// Input of `iptables-restore --noflush` under way.
#[derive(Default)]
struct Text {
    tables: BTreeMap<Table, Parts>,
}

/// One table's lines, in the order in which they must stand.
#[derive(Default)]
struct Parts {
    chains: String,
    rules: String,
    jumps: String,
    gone: String,
}

impl Text {
    /// Fills a chain anew, or takes it away.
    fn chain(&mut self, table: Table, name: &str, rules: Option<Rules>) {
        let parts = self.tables.entry(table).or_default();
        parts.chains.extend([":", name, " - [0:0]\n"]);
        match rules {
            Some(rules) => rules.iter().for_each(|rule| parts.rules.extend(["-A ", name, " ", rule, "\n"])),
            None => parts.gone.extend(["-X ", name, "\n"]),
        }
    }

    fn insert(&mut self, table: Table, line: String) {
        let parts = self.tables.entry(table).or_default();
        parts.jumps.extend([line, "\n".to_owned()]);
    }

    /// Takes a rule away that `iptables-save` told.
    fn remove(&mut self, table: Table, line: &str) {
        self.insert(table, line.replacen("-A ", "-D ", 1));
    }

    fn finish(self) -> String {
        let mut text = String::new();
        for (table, Parts { chains, rules, jumps, gone }) in self.tables {
            text.extend(["*", table.name(), "\n", &chains, &rules, &jumps, &gone, "COMMIT\n"]);
        }
        text
    }
}
