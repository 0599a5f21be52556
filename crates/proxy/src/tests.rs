//! Rules are compared with what stands in `testdata/`; `REWRITE=1` writes it anew.

use serde_json::{Value, json};

use crate::model::tests::{here, service, slice};
use crate::model::{self, Port};
use crate::rules::Names;
use crate::saved::Saved;
use crate::tables::Tables;
use tiphys_network::command::Family;

pub(crate) fn ports(family: Family, spec: &Value, endpoints: &Value) -> Vec<Port> {
    let mut service = service(spec);
    let ingress = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}, {"ip": "2001:db8::9"}]}});
    service.status = Some(serde_json::from_value(ingress).unwrap());
    let mut slice = slice(endpoints);
    slice.address_type = if family == Family::V4 { "IPv4" } else { "IPv6" }.into();
    let all = model::read(&service, &[slice], &here()).ports;
    all.into_iter().filter(|port| Family::of(port.cluster_ip) == family).collect()
}

fn tables(family: Family) -> Tables {
    let pods = if family == Family::V4 { "10.42.0.0/16" } else { "fd42::/56" };
    Tables::new(family, Names::new("tiphys0"), Some(pods.into()))
}

/// All that is written for a Service beside what is written for none, with the tag left out so that a person can read it.
fn rendered(family: Family, spec: &Value, endpoints: &Value) -> String {
    let mut tables = tables(family);
    tables.everything(&Saved::default());
    tables.set("n/s", ports(family, spec, endpoints));
    tables.changes().replace(&Names::new("tiphys0").prefix(), "")
}

/// Compares with a file of `testdata/`.
fn compare(name: &str, text: &str) {
    let path = format!("{}/src/testdata/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap_or_default(), "REWRITE=1 writes {path} anew");
}

fn endpoints(addresses: &[&str]) -> Value {
    addresses
        .iter()
        .map(|a| json!({"addresses": [a], "nodeName": "here", "conditions": {"ready": true}}))
        .collect()
}

/// What is rendered, by the names of the files that tell how.
pub(crate) fn all() -> Vec<(&'static str, Family, Value, Value)> {
    let http = |node_port: u16| json!([{"name": "http", "port": 80, "nodePort": node_port}]);
    let node_port = json!({"clusterIP": "10.43.0.9", "type": "NodePort", "ports": http(30080)});
    let affinity = json!({"clusterIP": "10.43.0.9", "sessionAffinity": "ClientIP", "ports": http(0),
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}});
    let nothing = json!({"clusterIP": "10.43.0.9", "type": "NodePort", "externalIPs": ["192.0.2.7"], "ports": http(30080)});
    let local = json!({"clusterIP": "10.43.0.9", "type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "loadBalancerSourceRanges": ["192.0.2.0/24"], "ports": http(30080)});
    // Both families in one Service: each has its own addresses, endpoints, sources and balancer.
    let dual = json!({"clusterIP": "10.43.0.9", "clusterIPs": ["10.43.0.9", "fd43::9"], "type": "LoadBalancer",
        "externalIPs": ["192.0.2.7", "2001:db8::7"], "sessionAffinity": "ClientIP",
        "loadBalancerSourceRanges": ["192.0.2.0/24", "2001:db8::/32"], "ports": http(30080)});
    let two = endpoints(&["10.42.0.2", "10.42.0.3"]);
    let mut apart = two.clone();
    apart[1]["nodeName"] = "there".into();
    let elsewhere = Value::from(vec![apart[1].clone()]);
    let three = endpoints(&["10.42.0.2", "10.42.0.3", "10.42.0.4"]);
    let six = endpoints(&["fd42::2", "fd42::3"]);
    vec![
        ("cluster_ip_and_node_port", Family::V4, node_port, three),
        ("session_affinity", Family::V4, affinity, two.clone()),
        ("nothing_behind_is_refused", Family::V4, nothing, json!([])),
        ("external_traffic_that_stays_local", Family::V4, local.clone(), apart),
        ("external_traffic_without_local_endpoints", Family::V4, local, elsewhere),
        ("dual_stack_ipv4", Family::V4, dual.clone(), two),
        ("dual_stack_ipv6", Family::V6, dual.clone(), six),
        ("dual_stack_without_ipv6_endpoints", Family::V6, dual, json!([])),
    ]
}

#[test]
fn rules_are_those_of_the_files() {
    for (name, family, spec, endpoints) in all() {
        compare(name, &rendered(family, &spec, &endpoints));
    }
}

#[test]
fn without_services() {
    compare(
        "without_services",
        &tables(Family::V4)
            .everything(&Saved::default())
            .concat()
            .replace(&Names::new("tiphys0").prefix(), ""),
    );
}

#[test]
fn chain_names_fit_and_differ() {
    let spec = json!({"clusterIP": "10.43.0.9", "type": "NodePort", "sessionAffinity": "ClientIP", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]});
    let mut tables = Tables::new(Family::V4, Names::new("a-bridge-of-15c"), None);
    tables.set("n/s", ports(Family::V4, &spec, &endpoints(&["10.42.0.2", "10.42.0.3"])));
    let text = tables.everything(&Saved::default()).concat();
    let names: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix(':')?.split(' ').next()).collect();
    assert_eq!(names.len(), 7 + 1 + 3, "{names:?}");
    assert!(names.iter().all(|name| name.len() <= 28), "{names:?}");
}

#[test]
fn only_what_differs_is_written() {
    let spec = |number: u16| json!({"clusterIP": "10.43.0.9", "ports": [{"name": "http", "port": number}]});
    let mut tables = tables(Family::V4);
    tables.everything(&Saved::default());
    let chains = |text: &str| -> Vec<String> {
        let names = text.lines().filter_map(|l| l.strip_prefix(':')?.split(' ').next()?.split_once('-'));
        names.map(|(_, name)| name.split_inclusive('-').next().unwrap().to_owned()).collect()
    };
    let mut set = |number: Option<u16>, addresses: &[&str]| {
        let mut list = endpoints(addresses);
        list.as_array_mut().unwrap().iter_mut().for_each(|e| e["nodeName"] = "there".into());
        tables.set("n/s", number.map(|number| ports(Family::V4, &spec(number), &list)).unwrap_or_default());
        tables.changes()
    };
    assert_eq!(chains(&set(Some(80), &["10.42.0.2"])), ["S-", "B-", "SERVICES"]);
    assert_eq!(set(Some(80), &["10.42.0.2"]), "");
    assert_eq!(chains(&set(Some(80), &["10.42.0.3"])), ["S-"]);
    assert_eq!(chains(&set(Some(81), &["10.42.0.3"])), ["B-"]);
    let refused = set(Some(81), &[]);
    assert_eq!(chains(&refused), ["R-", "REFUSED", "S-", "B-", "SERVICES"]);
    assert_eq!(refused.matches("\n-X ").count(), 2);
    assert_eq!(chains(&set(None, &[])), ["R-", "REFUSED"]);
}

#[test]
fn many_services_come_in_several_texts_and_are_led_to_last() {
    let spec = |i: usize| json!({"clusterIP": format!("10.43.{}.{}", i / 250, i % 250), "ports": [{"name": "http", "port": 80}]});
    let mut tables = tables(Family::V4);
    for i in 0..2_000 {
        let mut ports = ports(Family::V4, &spec(i), &endpoints(&["10.42.0.2", "10.42.0.3", "10.42.0.4"]));
        ports[0].name = format!("n/s{i}:http");
        tables.set(&format!("n/s{i}"), ports);
    }
    let mut saved = Saved::default();
    saved.chains.insert((crate::rules::Table::Nat, "old".into()));
    let texts = tables.everything(&saved);
    assert_eq!(texts.len(), 2);
    assert!(!texts[0].contains("-B-") && texts[0].contains("-MARK - "));
    let all = texts.concat();
    let mut declared: Vec<&str> = all.lines().filter(|line| line.starts_with(':')).collect();
    let count = declared.len();
    declared.sort_unstable();
    declared.dedup();
    assert_eq!((declared.len(), count), (2_000 + 250 + 7 + 1, 2_000 + 250 + 7 + 1));
    assert!(texts[1].contains("-X old\n"));
}

#[test]
fn removal_takes_jumps_before_chains() {
    let mut saved = Saved::default();
    saved.add(crate::rules::Table::Nat, ":T-A - [0:0]\n-A INPUT -j T-A\n", "T-");
    assert_eq!(crate::tables::removal(&saved), "*nat\n:T-A - [0:0]\n-D INPUT -j T-A\n-X T-A\nCOMMIT\n");
}
