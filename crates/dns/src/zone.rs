//! The cluster's names, by the DNS specification of Kubernetes (version 1.1), as a table that answers are read from.
//!
//! A [`Zone`] is built from Services and EndpointSlices, and never changes: a change of the cluster makes a new one. Pure.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

/// How long answers may be kept, seconds; CoreDNS' default for the cluster's names.
const TTL: u32 = 5;
/// How long the absence of a name may be kept, seconds.
const TTL_NEGATIVE: u32 = 5;

/// The cluster's names at one moment.
#[derive(Debug)]
pub struct Zone {
    /// `cluster.local`, lower case, without the last dot.
    domain: String,
    soa: Record,
    records: HashMap<String, Vec<Record>>,
    /// Names that have no records but lead to some, as `svc.cluster.local`: they exist.
    nodes: HashSet<String>,
}

/// What the zone says of a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The records, possibly a CNAME to elsewhere.
    Records(Vec<Record>),
    /// The name exists, but not with this type.
    NoData(Record),
    /// There is no such name.
    NoName(Record),
    /// Not a name of the cluster: ask elsewhere.
    Elsewhere,
}

impl Zone {
    /// All names of these Services, each with its slices.
    pub fn build<'a>(
        domain: &str,
        services: impl IntoIterator<Item = (&'a Service, &'a [EndpointSlice])>,
    ) -> Self {
        let domain = domain.trim_end_matches('.').to_lowercase();
        let mut zone = Self { soa: soa(&domain), records: HashMap::new(), nodes: HashSet::new(), domain };
        for name in ["", "svc.", "pod."] {
            zone.nodes.insert(format!("{name}{}", zone.domain));
        }
        // Section 2.1: the version of the schema.
        let version = hickory_proto::rr::rdata::TXT::new(vec!["1.1.0".into()]);
        zone.add(&format!("dns-version.{}", zone.domain), RData::TXT(version));
        for (service, slices) in services {
            zone.add_service(service, slices);
        }
        zone
    }

    /// Answers a question; `name` is lower case, without the last dot.
    pub fn answer(&self, name: &str, kind: RecordType) -> Answer {
        let inside =
            name == self.domain || name.strip_suffix(&self.domain).is_some_and(|rest| rest.ends_with('.'));
        match self.records.get(name) {
            Some(records) => return self.of_type(records, kind),
            None if !inside => return Answer::Elsewhere,
            None => {}
        }
        if let Some(record) = self.pod(name) {
            return self.of_type(&[record], kind);
        }
        if name == self.domain && kind == RecordType::SOA {
            return Answer::Records(vec![self.soa.clone()]);
        }
        if self.nodes.contains(name) {
            Answer::NoData(self.soa.clone())
        } else {
            Answer::NoName(self.soa.clone())
        }
    }

    fn of_type(&self, records: &[Record], kind: RecordType) -> Answer {
        let fits = |record: &&Record| {
            kind == RecordType::ANY
                || record.record_type() == kind
                || record.record_type() == RecordType::CNAME
        };
        let found: Vec<Record> = records.iter().filter(fits).cloned().collect();
        if found.is_empty() { Answer::NoData(self.soa.clone()) } else { Answer::Records(found) }
    }

    /// `1-2-3-4.namespace.pod.<domain>`: the address in the name itself, where the namespace has a name in the zone.
    fn pod(&self, name: &str) -> Option<Record> {
        let rest = name.strip_suffix(&self.domain)?.strip_suffix(".pod.")?;
        let (dashed, _namespace) = rest.split_once('.')?;
        let address: Ipv4Addr = dashed.replace('-', ".").parse().ok()?;
        Some(record(name, RData::A(A(address))))
    }

    fn add(&mut self, name: &str, data: RData) {
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            if !parent.ends_with(&self.domain) || !self.nodes.insert(parent.to_owned()) {
                break;
            }
            rest = parent;
        }
        let records = self.records.entry(name.to_owned()).or_default();
        let new = record(name, data);
        if !records.contains(&new) {
            records.push(new);
        }
    }

    fn add_service(&mut self, service: &Service, slices: &[EndpointSlice]) {
        let (Some(spec), meta) = (&service.spec, &service.metadata) else { return };
        let (Some(name), Some(namespace)) = (&meta.name, &meta.namespace) else { return };
        let full = format!("{name}.{namespace}.svc.{}", self.domain);
        if spec.type_.as_deref() == Some("ExternalName") {
            let target = spec.external_name.as_deref().and_then(|n| Name::from_utf8(format!("{n}.")).ok());
            return target.into_iter().for_each(|target| self.add(&full, RData::CNAME(CNAME(target))));
        }
        let headless = spec.cluster_ip.as_deref() == Some("None");
        if headless {
            let unready = spec.publish_not_ready_addresses == Some(true);
            slices.iter().for_each(|slice| self.add_headless(&full, slice, unready));
            return;
        }
        let single = spec.cluster_ip.iter();
        let addresses = spec.cluster_ips.as_ref().map_or_else(|| single.cloned().collect(), Clone::clone);
        for address in addresses.iter().filter_map(|a| a.parse().ok()) {
            self.add(&full, address_data(address));
            self.add_reverse(address, &full);
        }
        for port in spec.ports.iter().flatten() {
            let number = u16::try_from(port.port).unwrap_or_default();
            self.add_srv(&full, port.name.as_deref(), port.protocol.as_deref(), number, &full);
        }
    }

    /// Section 2.4: every ready endpoint, by its host name or its address in dashes.
    fn add_headless(&mut self, full: &str, slice: &EndpointSlice, unready: bool) {
        let ready = |e: &&Endpoint| unready || e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
        for endpoint in slice.endpoints.iter().flatten().filter(ready) {
            for address in endpoint.addresses.iter().filter_map(|a| a.parse::<IpAddr>().ok()) {
                let host = endpoint.hostname.clone().unwrap_or_else(|| dashed(address));
                let host = format!("{}.{full}", host.to_lowercase());
                self.add(full, address_data(address));
                self.add(&host, address_data(address));
                if endpoint.hostname.is_some() {
                    self.add_reverse(address, &host);
                }
                for port in slice.ports.iter().flatten() {
                    let number = port.port.and_then(|p| u16::try_from(p).ok()).unwrap_or_default();
                    self.add_srv(full, port.name.as_deref(), port.protocol.as_deref(), number, &host);
                }
            }
        }
    }

    /// `_port._protocol.service`, for named ports.
    fn add_srv(&mut self, full: &str, port: Option<&str>, protocol: Option<&str>, number: u16, host: &str) {
        let (Some(port), Ok(target)) = (port.filter(|p| !p.is_empty()), Name::from_utf8(format!("{host}.")))
        else {
            return;
        };
        let protocol = protocol.unwrap_or("TCP").to_lowercase();
        self.add(&format!("_{port}._{protocol}.{full}"), RData::SRV(SRV::new(0, 100, number, target)));
    }

    fn add_reverse(&mut self, address: IpAddr, host: &str) {
        let (Ok(target), name) = (Name::from_utf8(format!("{host}.")), Name::from(address).to_lowercase())
        else {
            return;
        };
        let name = name.to_utf8();
        self.records
            .entry(name.trim_end_matches('.').to_owned())
            .or_default()
            .push(record(&name, RData::PTR(PTR(target))));
    }
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

fn record(name: &str, data: RData) -> Record {
    // Names come from objects whose names are DNS labels; one that is none gets no record that anyone could ask for.
    let name = Name::from_utf8(format!("{}.", name.trim_end_matches('.'))).unwrap_or_else(|_| Name::root());
    Record::from_rdata(name, TTL, data)
}

fn soa(domain: &str) -> Record {
    let name = |prefix: &str| Name::from_utf8(format!("{prefix}{domain}.")).unwrap_or_else(|_| Name::root());
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
        Zone::build("cluster.local", [(&plain, &[][..]), (&headless, &slices[..]), (&external, &[][..])])
    }

    fn ask(name: &str, kind: RecordType) -> Vec<String> {
        match zone().answer(name, kind) {
            Answer::Records(records) => records.iter().map(|r| r.data.to_string()).collect(),
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
}
