//! The cluster's names, by the DNS specification of Kubernetes (version 1.1), as a table that answers are read from.
//!
//! [`names`] says which names one Service makes; a [`Zone`] holds those of all, and changes by whole Services: the names of a
//! changed one replace those that it had. So a change costs what that Service is large, however many there are. Pure.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

/// How long answers may be kept, seconds; CoreDNS' default for the cluster's names.
const TTL: u32 = 5;
/// How long the absence of a name may be kept, seconds.
const TTL_NEGATIVE: u32 = 5;

/// The cluster's names at one moment. Names are lower case, without the last dot.
#[derive(Debug)]
pub struct Zone {
    domain: String,
    soa: Record,
    records: HashMap<Box<str>, Vec<Record>>,
    /// Names that lead to others, as `svc.cluster.local` does: they exist. With how many names each leads to.
    nodes: HashMap<Box<str>, usize>,
    /// What each Service has put into the table.
    of: HashMap<Box<str>, Names>,
    /// Counts answers of several records.
    turn: AtomicUsize,
    /// Whether it has the names of all Services.
    complete: bool,
}

/// Names with what each of them says.
pub type Names = HashSet<(Box<str>, RData)>;

/// What the zone says of a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The records, possibly a CNAME to elsewhere.
    Records(Vec<Record>),
    /// The name exists, but not with this type.
    NoData(Record),
    /// There is no such name.
    NoName(Record),
    /// It cannot be told yet.
    Unknown,
    /// Not a name of the cluster: ask elsewhere.
    Elsewhere,
}

impl Zone {
    /// A cluster without Services, whose names are answered for at this address.
    pub fn new(domain: &str, server: IpAddr) -> Self {
        let domain = domain.trim_end_matches('.').to_lowercase();
        let mut zone = Self {
            soa: soa(&domain),
            records: HashMap::new(),
            nodes: ["svc.", "pod."].map(|name| (format!("{name}{domain}").into(), 1)).into(),
            of: HashMap::new(),
            turn: AtomicUsize::new(0),
            complete: false,
            domain,
        };
        let host = format!("ns.dns.{}", zone.domain);
        let own = [
            // Section 2.1: the version of the schema.
            (format!("dns-version.{}", zone.domain), Some(RData::TXT(TXT::new(vec!["1.1.0".into()])))),
            (zone.domain.clone(), absolute(&host).map(|name| RData::NS(NS(name)))),
            (host, Some(address_data(server))),
        ];
        let own = own.into_iter().filter_map(|(name, data)| Some((name.into(), data?)));
        zone.set("", own.collect());
        zone
    }

    /// The domain of all names but those of addresses.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// From now on a name that is not there does not exist.
    pub fn complete(&mut self) {
        self.complete = true;
    }

    /// Puts a Service's names in place of those that it had; none take them away.
    pub fn set(&mut self, service: &str, names: Names) {
        let before = self.of.remove(service).unwrap_or_default();
        for (name, data) in before.difference(&names) {
            self.remove(name, data);
        }
        for (name, data) in names.difference(&before) {
            self.add(name, data);
        }
        if !names.is_empty() {
            self.of.insert(service.into(), names);
        }
    }

    /// Answers a question; `name` is lower case, without the last dot.
    pub fn answer(&self, name: &str, kind: RecordType) -> Answer {
        if !self.complete && [&self.domain, "in-addr.arpa", "ip6.arpa"].iter().any(|own| within(own, name)) {
            return Answer::Unknown;
        }
        if let Some(records) = self.records.get(name) {
            return self.of_type(name, records, kind);
        }
        if !within(&self.domain, name) {
            return Answer::Elsewhere;
        }
        if let Some(record) = self.pod(name) {
            return self.of_type(name, &[record], kind);
        }
        match self.nodes.contains_key(name) {
            true => Answer::NoData(self.soa.clone()),
            false => Answer::NoName(self.soa.clone()),
        }
    }

    fn of_type(&self, name: &str, records: &[Record], kind: RecordType) -> Answer {
        if kind == RecordType::SOA && name == self.domain {
            return Answer::Records(vec![self.soa.clone()]);
        }
        let fits = |record: &&Record| {
            matches!(kind, RecordType::ANY)
                || record.record_type() == kind
                || record.record_type() == RecordType::CNAME
        };
        let mut found: Vec<Record> = records.iter().filter(fits).cloned().collect();
        if found.len() > 1 {
            // Many programs take the first address only: each is first in its turn.
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % found.len();
            found.rotate_left(turn);
        }
        if found.is_empty() { Answer::NoData(self.soa.clone()) } else { Answer::Records(found) }
    }

    /// `1-2-3-4.namespace.pod.<domain>`: the address is in the name itself.
    fn pod(&self, name: &str) -> Option<Record> {
        let rest = name.strip_suffix(&self.domain)?.strip_suffix(".pod.")?;
        let (dashed, namespace) = rest.split_once('.')?;
        let v4 = || dashed.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
        let v6 = || dashed.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6);
        let address = v4().or_else(|_| v6()).ok().filter(|_| !namespace.contains('.'))?;
        record(name, &address_data(address))
    }

    fn add(&mut self, name: &str, data: &RData) {
        let Some(new) = record(name, data) else { return };
        let records = self.records.entry(name.into()).or_default();
        records.push(new);
        if records.len() > 1 {
            return;
        }
        for parent in parents(&self.domain, name) {
            *self.nodes.entry(parent.into()).or_default() += 1;
        }
    }

    /// Takes away one record: another Service may say the same.
    fn remove(&mut self, name: &str, data: &RData) {
        let Some(records) = self.records.get_mut(name) else { return };
        if let Some(at) = records.iter().position(|record| record.data == *data) {
            records.swap_remove(at);
        }
        if !records.is_empty() {
            return;
        }
        self.records.remove(name);
        for parent in parents(&self.domain, name) {
            if let Some(count) = self.nodes.get_mut(parent) {
                *count -= 1;
                if *count == 0 {
                    self.nodes.remove(parent);
                }
            }
        }
    }
}

/// The names above one, up to the domain. Names of addresses lie outside of it and have none.
fn parents<'n>(domain: &str, name: &'n str) -> impl Iterator<Item = &'n str> {
    let inside = move |name: &&str| within(domain, name);
    std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, parent)| parent))
        .skip(1)
        .take_while(inside)
}

/// Whether a name is the domain or one of its names.
pub fn within(domain: &str, name: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The names that a Service with its slices makes.
pub fn names(domain: &str, service: &Service, slices: &[EndpointSlice]) -> Names {
    let mut into = Collected::default();
    into.service(domain, service, slices);
    into.0
}

#[derive(Default)]
struct Collected(Names);

impl Collected {
    fn add(&mut self, name: &str, data: Option<RData>) {
        self.0.extend(data.map(|data| (name.into(), data)));
    }

    fn service(&mut self, domain: &str, service: &Service, slices: &[EndpointSlice]) {
        let (Some(spec), meta) = (&service.spec, &service.metadata) else { return };
        let (Some(name), Some(namespace)) = (&meta.name, &meta.namespace) else { return };
        let full = format!("{name}.{namespace}.svc.{domain}");
        if spec.type_.as_deref() == Some("ExternalName") {
            let target = spec.external_name.as_deref().and_then(absolute);
            return self.add(&full, target.map(|target| RData::CNAME(CNAME(target))));
        }
        if spec.cluster_ip.as_deref() == Some("None") {
            let unready = spec.publish_not_ready_addresses == Some(true);
            return slices.iter().for_each(|slice| self.headless(&full, slice, unready));
        }
        let single = spec.cluster_ip.iter();
        let addresses = spec.cluster_ips.as_ref().map_or_else(|| single.cloned().collect(), Clone::clone);
        for address in addresses.iter().filter_map(|a| a.parse().ok()) {
            self.add(&full, Some(address_data(address)));
            self.reverse(address, &full);
        }
        for port in spec.ports.iter().flatten() {
            let number = u16::try_from(port.port).unwrap_or_default();
            self.srv(&full, port.name.as_deref(), port.protocol.as_deref(), number, &full);
        }
    }

    /// Section 2.4: every ready endpoint, by its host name or its address in dashes.
    fn headless(&mut self, full: &str, slice: &EndpointSlice, unready: bool) {
        let ready = |e: &&Endpoint| unready || e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
        for endpoint in slice.endpoints.iter().flatten().filter(ready) {
            for address in endpoint.addresses.iter().filter_map(|a| a.parse::<IpAddr>().ok()) {
                let host = endpoint.hostname.clone().unwrap_or_else(|| dashed(address));
                let host = format!("{}.{full}", host.to_lowercase());
                self.add(full, Some(address_data(address)));
                self.add(&host, Some(address_data(address)));
                if endpoint.hostname.is_some() {
                    self.reverse(address, &host);
                }
                for port in slice.ports.iter().flatten() {
                    let number = port.port.and_then(|p| u16::try_from(p).ok()).unwrap_or_default();
                    self.srv(full, port.name.as_deref(), port.protocol.as_deref(), number, &host);
                }
            }
        }
    }

    /// `_port._protocol.service`, for named ports.
    fn srv(&mut self, full: &str, port: Option<&str>, protocol: Option<&str>, number: u16, host: &str) {
        let Some(port) = port.filter(|port| !port.is_empty()) else { return };
        let protocol = protocol.unwrap_or("TCP").to_lowercase();
        let data = absolute(host).map(|target| RData::SRV(SRV::new(0, 100, number, target)));
        self.add(&format!("_{port}._{protocol}.{full}"), data);
    }

    fn reverse(&mut self, address: IpAddr, host: &str) {
        let name = Name::from(address).to_lowercase().to_utf8();
        self.add(name.trim_end_matches('.'), absolute(host).map(|target| RData::PTR(PTR(target))));
    }
}

/// A name with its last dot; `None` for what is no name.
fn absolute(name: &str) -> Option<Name> {
    Name::from_utf8(format!("{}.", name.trim_end_matches('.'))).ok()
}

fn address_data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    }
}

fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

/// `None` for a name that nobody could ask for.
fn record(name: &str, data: &RData) -> Option<Record> {
    Some(Record::from_rdata(absolute(name)?, TTL, data.clone()))
}

fn soa(domain: &str) -> Record {
    let name = |prefix: &str| absolute(&format!("{prefix}{domain}")).unwrap_or_else(Name::root);
    let data = SOA::new(name("ns.dns."), name("hostmaster."), 1, 7200, 1800, 86_400, TTL_NEGATIVE);
    Record::from_rdata(name(""), TTL_NEGATIVE, RData::SOA(data))
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn service(name: &str, spec: &Value) -> Service {
        let meta = json!({"name": name, "namespace": "n"});
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}))
            .unwrap()
    }

    fn slice(endpoints: &Value) -> EndpointSlice {
        let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
        let value = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "x"},
            "addressType": "IPv4", "ports": ports, "endpoints": endpoints});
        serde_json::from_value(value).unwrap()
    }

    fn zone() -> Zone {
        let plain =
            service("web", &json!({"clusterIP": "10.43.0.9", "ports": [{"name": "http", "port": 80}]}));
        let headless = service("db", &json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}));
        let external = service("out", &json!({"type": "ExternalName", "externalName": "example.test"}));
        let slices = [slice(&json!([
            {"addresses": ["10.42.0.2"], "hostname": "db-0", "conditions": {"ready": true}},
            {"addresses": ["10.42.0.3"], "conditions": {"ready": true}},
            {"addresses": ["10.42.0.4"], "conditions": {"ready": false}},
        ]))];
        let mut zone = Zone::new("cluster.local", [10, 43, 0, 10].into());
        for (key, service, slices) in
            [("n/web", plain, &[][..]), ("n/db", headless, &slices), ("n/out", external, &[])]
        {
            zone.set(key, names("cluster.local", &service, slices));
        }
        zone.complete();
        zone
    }

    fn ask(name: &str, kind: RecordType) -> Vec<String> {
        match zone().answer(name, kind) {
            Answer::Records(records) => {
                let mut said: Vec<_> = records.iter().map(|r| r.data.to_string()).collect();
                said.sort_unstable_by_key(|said| (said.len(), said.clone()));
                said
            }
            other => vec![format!("{other:?}").split('(').next().unwrap_or_default().to_owned()],
        }
    }

    #[test]
    fn names_are_those_of_the_specification() {
        let table = [
            ("web.n.svc.cluster.local", RecordType::A, vec!["10.43.0.9"]),
            (
                "_http._tcp.web.n.svc.cluster.local",
                RecordType::SRV,
                vec!["0 100 80 web.n.svc.cluster.local."],
            ),
            ("9.0.43.10.in-addr.arpa", RecordType::PTR, vec!["web.n.svc.cluster.local."]),
            ("db.n.svc.cluster.local", RecordType::A, vec!["10.42.0.2", "10.42.0.3"]),
            ("db-0.db.n.svc.cluster.local", RecordType::A, vec!["10.42.0.2"]),
            ("10-42-0-3.db.n.svc.cluster.local", RecordType::A, vec!["10.42.0.3"]),
            (
                "_http._tcp.db.n.svc.cluster.local",
                RecordType::SRV,
                vec![
                    "0 100 8080 db-0.db.n.svc.cluster.local.",
                    "0 100 8080 10-42-0-3.db.n.svc.cluster.local.",
                ],
            ),
            ("2.0.42.10.in-addr.arpa", RecordType::PTR, vec!["db-0.db.n.svc.cluster.local."]),
            ("out.n.svc.cluster.local", RecordType::A, vec!["example.test."]),
            ("10-42-0-9.n.pod.cluster.local", RecordType::A, vec!["10.42.0.9"]),
            ("10-42-0-9.n.pod.cluster.local", RecordType::AAAA, vec!["NoData"]),
            ("2001-db8--9.n.pod.cluster.local", RecordType::AAAA, vec!["2001:db8::9"]),
            ("no-address.n.pod.cluster.local", RecordType::A, vec!["NoName"]),
            ("cluster.local", RecordType::NS, vec!["ns.dns.cluster.local."]),
            ("ns.dns.cluster.local", RecordType::A, vec!["10.43.0.10"]),
            ("dns-version.cluster.local", RecordType::TXT, vec!["1.1.0"]),
            ("cluster.local", RecordType::A, vec!["NoData"]),
            ("web.n.svc.cluster.local", RecordType::AAAA, vec!["NoData"]),
            ("n.svc.cluster.local", RecordType::A, vec!["NoData"]),
            ("gone.n.svc.cluster.local", RecordType::A, vec!["NoName"]),
            ("example.test", RecordType::A, vec!["Elsewhere"]),
            ("1.0.0.10.in-addr.arpa", RecordType::PTR, vec!["Elsewhere"]),
        ];
        for (name, kind, expected) in table {
            assert_eq!(ask(name, kind), expected, "{name} {kind}");
        }
    }
    #[test]
    fn a_changed_service_replaces_its_own_names_alone() {
        let ports = json!([{"name": "http", "port": 80}]);
        let mut zone = zone();
        let all = zone.records.len();
        let moved = service("web", &json!({"clusterIP": "10.43.0.8", "ports": ports}));
        zone.set("n/web", names("cluster.local", &moved, &[]));
        let of = |zone: &Zone, name| match zone.answer(name, RecordType::ANY) {
            Answer::Records(records) => records.iter().map(|r| r.data.to_string()).collect::<Vec<_>>(),
            other => vec![format!("{other:?}").split('(').next().unwrap().to_owned()],
        };
        assert_eq!(of(&zone, "web.n.svc.cluster.local"), ["10.43.0.8"]);
        assert_eq!(of(&zone, "9.0.43.10.in-addr.arpa"), ["Elsewhere"]);
        assert_eq!(zone.records.len(), all);
        for key in ["n/web", "n/db", "n/out"] {
            assert_eq!(of(&zone, "n.svc.cluster.local"), ["NoData"]);
            zone.set(key, Names::new());
        }
        assert_eq!(of(&zone, "n.svc.cluster.local"), ["NoName"], "the last name of a namespace");
        assert_eq!(of(&zone, "svc.cluster.local"), ["NoData"]);
        assert_eq!(zone.records.len(), 3, "what the zone says of itself");
    }

    #[test]
    fn until_all_is_known_no_own_name_is_told() {
        let zone = Zone::new("cluster.local", [10, 43, 0, 10].into());
        for name in ["web.n.svc.cluster.local", "cluster.local", "9.0.43.10.in-addr.arpa"] {
            assert_eq!(zone.answer(name, RecordType::ANY), Answer::Unknown, "{name}");
        }
        assert_eq!(zone.answer("example.test", RecordType::A), Answer::Elsewhere);
    }

    #[test]
    fn two_services_may_say_the_same() {
        let mut zone = zone();
        let same = service("web", &json!({"clusterIP": "10.43.0.9"}));
        zone.set("m/web", names("cluster.local", &same, &[]));
        zone.set("n/web", Names::new());
        assert!(
            matches!(zone.answer("web.n.svc.cluster.local", RecordType::A), Answer::Records(found) if found.len() == 1)
        );
    }
}
