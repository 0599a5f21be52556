//! Rules are compared with what stands in `testdata/`; `REWRITE=1` writes it anew.

use std::fmt::Write;

use serde_json::{Value, json};

use super::*;
use crate::model::tests::{service, slice};

/// Everything that a Service with these endpoints writes, with the tag left out so that a person can read it.
fn rendered(spec: &Value, endpoints: &Value) -> String {
    let names = Names::new("tiphys0");
    let node = Node { cluster_cidr: "10.42.0.0/16".into(), answered_here: BTreeSet::new() };
    let ports = model::ports(&service(spec), &[slice(endpoints)], "here");
    let mut text = String::new();
    for ((table, chain), rules) in rules::render(&ports, &node, &names) {
        for rule in rules {
            writeln!(text, "{} {chain} {rule}", table.name()).unwrap();
        }
    }
    text.replace(&names.prefix(), "")
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

#[test]
fn cluster_ip_and_node_port() {
    let spec = json!({"clusterIP": "10.43.0.9", "type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]});
    compare(
        "cluster_ip_and_node_port",
        &rendered(&spec, &endpoints(&["10.42.0.2", "10.42.0.3", "10.42.0.4"])),
    );
}

#[test]
fn session_affinity() {
    let spec = json!({"clusterIP": "10.43.0.9", "sessionAffinity": "ClientIP", "ports": [{"name": "http", "port": 80}],
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}});
    compare("session_affinity", &rendered(&spec, &endpoints(&["10.42.0.2", "10.42.0.3"])));
}

#[test]
fn nothing_behind_is_refused() {
    let spec = json!({"clusterIP": "10.43.0.9", "type": "NodePort", "externalIPs": ["192.0.2.7"],
        "ports": [{"name": "http", "port": 80, "nodePort": 30080}]});
    compare("nothing_behind_is_refused", &rendered(&spec, &json!([])));
}

#[test]
fn chain_names_fit_and_differ() {
    let spec = json!({"clusterIP": "10.43.0.9", "sessionAffinity": "ClientIP", "ports": [{"name": "http", "port": 80}]});
    let ports = model::ports(&service(&spec), &[slice(&endpoints(&["10.42.0.2", "10.42.0.3"]))], "here");
    let node = Node { cluster_cidr: "10.42.0.0/16".into(), answered_here: BTreeSet::new() };
    let chains = rules::render(&ports, &node, &Names::new("a-bridge-of-15c"));
    assert_eq!(chains.len(), 6 + 3);
    assert!(chains.keys().all(|(_, name)| name.len() <= 28), "{chains:?}");
}
