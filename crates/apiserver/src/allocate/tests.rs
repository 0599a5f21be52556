//! Services through their lives, and the laws of giving: unique, in range, and never more than asked.

use std::collections::HashSet;

use proptest::prelude::*;
use tiphys_api::{Gvk, json};

use super::*;
use crate::admission::Options;
use crate::admission::rounds::Rounds;
use crate::auth::User;
use crate::auth::testing::Fake;

/// A cluster in which Services are written as the registry writes them.
struct Cluster {
    fake: Arc<Fake>,
    plugin: ServiceAddresses,
}

impl Cluster {
    fn new(ranges: &[&str]) -> Self {
        let fake = Arc::new(Fake::default());
        let ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
        Self { plugin: ServiceAddresses::new(fake.clone(), ranges), fake }
    }

    /// What the plugin makes of a write, without a commit.
    async fn admit(&self, name: &str, spec: Value, old: Option<&Object>) -> Result<Value, String> {
        let mut object = json!({"metadata": {"namespace": "ns", "name": name}, "spec": spec});
        let operation = if old.is_some() { Operation::Update } else { Operation::Create };
        let mut review = Review {
            operation,
            resource: tiphys_api::schema::builtin().get(&SERVICES).unwrap(),
            gvr: &SERVICES,
            gvk: &Gvk::new("", "v1", "Service"),
            subresource: "",
            namespace: "ns",
            name,
            object: &mut object,
            old,
            user: &User::default(),
            dry_run: false,
            options: Options::None,
            rounds: Rounds::default(),
        };
        self.plugin.mutate(&mut review).await.map_err(|status| status.message)?;
        Ok(object)
    }

    /// A committed write; returns the spec.
    async fn write(&self, name: &str, spec: Value) -> Result<Value, String> {
        let old = self.fake.get(&SERVICES, "ns", name);
        let object = self.admit(name, spec, old.as_ref()).await?;
        self.fake.put(&SERVICES, &object);
        Ok(object["spec"].clone())
    }
}

fn one() -> Cluster {
    Cluster::new(&["10.43.0.0/24"])
}

fn ports(ports: &[(&str, u16)]) -> Value {
    ports.iter().map(|(protocol, port)| json!({"protocol": protocol, "port": port})).collect()
}

#[tokio::test]
async fn a_service_gets_an_address_of_the_upper_band_and_its_families() {
    let spec = one().write("a", json!({"ports": ports(&[("TCP", 80)])})).await.unwrap();
    assert_eq!((&spec["ipFamilies"], &spec["ipFamilyPolicy"]), (&json!(["IPv4"]), &json!("SingleStack")));
    assert_eq!(spec["clusterIPs"], json!([spec["clusterIP"]]));
    let last: u8 = spec["clusterIP"].as_str().unwrap().strip_prefix("10.43.0.").unwrap().parse().unwrap();
    assert!((17..=254).contains(&last), "{last}");
    assert_eq!(spec["ports"][0].get("nodePort"), None);
}

#[tokio::test]
async fn a_requested_address_is_honoured_once_and_free_again_after_deletion() {
    let cluster = one();
    let asked = || json!({"clusterIP": "10.43.0.10"});
    assert_eq!(cluster.write("a", asked()).await.unwrap()["clusterIPs"], json!(["10.43.0.10"]));
    assert_eq!(
        cluster.write("b", asked()).await.unwrap_err(),
        "Service \"b\" is invalid: spec.clusterIPs: Invalid value: [\"10.43.0.10\"]: failed to allocate IP \
         10.43.0.10: provided IP is already allocated"
    );
    let outside = cluster.write("b", json!({"clusterIP": "10.44.0.1"})).await.unwrap_err();
    assert!(
        outside.ends_with("is not in the valid range. The range of valid IPs is 10.43.0.0/24"),
        "{outside}"
    );
    cluster.fake.delete(&SERVICES, "ns", "a");
    assert!(cluster.write("b", asked()).await.is_ok());
}

#[tokio::test]
async fn what_was_given_but_is_not_stored_yet_is_kept_for_its_service() {
    let cluster = one();
    let asked = || json!({"clusterIP": "10.43.0.10"});
    cluster.admit("a", asked(), None).await.unwrap();
    assert!(cluster.admit("b", asked(), None).await.is_err());
    // The same Service tries again, as after a failed write.
    assert!(cluster.admit("a", asked(), None).await.is_ok());
}

#[tokio::test]
async fn headless_and_external_services_have_no_address() {
    let cluster = one();
    let headless = cluster.write("h", json!({"clusterIP": "None", "selector": {"a": "b"}})).await.unwrap();
    assert_eq!((&headless["clusterIPs"], &headless["ipFamilies"]), (&json!(["None"]), &json!(["IPv4"])));
    let bare = cluster.write("hb", json!({"clusterIP": "None"})).await.unwrap();
    assert_eq!(
        (&bare["ipFamilyPolicy"], &bare["ipFamilies"]),
        (&json!("RequireDualStack"), &json!(["IPv4", "IPv6"]))
    );
    let external = cluster.write("e", json!({"type": "ExternalName", "externalName": "x"})).await.unwrap();
    assert_eq!(external, json!({"type": "ExternalName", "externalName": "x"}));
}

#[tokio::test]
async fn node_ports_are_given_shared_between_protocols_and_kept() {
    let cluster = one();
    let dns = ports(&[("TCP", 53), ("UDP", 53), ("TCP", 80)]);
    let spec = cluster.write("a", json!({"type": "NodePort", "ports": dns})).await.unwrap();
    let node = |spec: &Value, i: usize| spec["ports"][i]["nodePort"].as_u64().unwrap();
    assert_eq!(node(&spec, 0), node(&spec, 1));
    assert_ne!(node(&spec, 0), node(&spec, 2));
    assert!((30_086..=32_767).contains(&node(&spec, 0)));
    // A full update that leaves out what was given.
    let again = cluster.write("a", json!({"type": "NodePort", "ports": dns})).await.unwrap();
    assert_eq!(again, spec);
    let plain = cluster.write("a", json!({"type": "ClusterIP", "ports": spec["ports"]})).await.unwrap();
    assert_eq!((&plain["clusterIP"], plain["ports"][0].get("nodePort")), (&spec["clusterIP"], None));
}

#[tokio::test]
async fn requested_node_ports_are_checked() {
    let cluster = one();
    let asked = |node: u32| json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": node}]});
    assert!(cluster.write("a", asked(30_080)).await.is_ok());
    assert!(cluster.write("a", asked(30_080)).await.is_ok());
    let taken = cluster.write("b", asked(30_080)).await.unwrap_err();
    assert!(
        taken.ends_with("spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated")
    );
    let outside = cluster.write("b", asked(80)).await.unwrap_err();
    assert!(outside.ends_with("The range of valid ports is 30000-32767"), "{outside}");
    // Once it gave up the port, another may have it.
    cluster.write("a", asked(30_081)).await.unwrap();
    assert!(cluster.write("b", asked(30_080)).await.is_ok());
}

#[tokio::test]
async fn a_load_balancer_may_do_without_node_ports_and_needs_one_for_health() {
    let cluster = one();
    let spec = json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false,
        "externalTrafficPolicy": "Local", "ports": ports(&[("TCP", 80)])});
    let spec = cluster.write("a", spec).await.unwrap();
    assert_eq!(spec["ports"][0].get("nodePort"), None);
    assert!(spec["healthCheckNodePort"].as_u64().unwrap() >= 30_000);
}

#[tokio::test]
async fn an_address_is_for_life() {
    let cluster = one();
    cluster.write("a", json!({"clusterIP": "10.43.0.10"})).await.unwrap();
    let moved = cluster.write("a", json!({"clusterIP": "10.43.0.11"})).await.unwrap_err();
    assert_eq!(
        moved,
        "Service \"a\" is invalid: spec.clusterIPs[0]: Invalid value: [\"10.43.0.11\"]: may not change once set"
    );
    assert!(cluster.write("a", json!({"clusterIP": "None"})).await.is_err());
    // Not even taken for a moment.
    assert!(cluster.write("b", json!({"clusterIP": "10.43.0.11"})).await.is_ok());
}

#[tokio::test]
async fn becoming_external_gives_the_address_back() {
    let cluster = one();
    let spec = cluster.write("a", json!({})).await.unwrap();
    let mut external = spec.clone();
    external["type"] = "ExternalName".into();
    let external = cluster.write("a", external).await.unwrap();
    assert_eq!(external, json!({"type": "ExternalName"}));
    assert!(cluster.write("b", json!({"clusterIP": spec["clusterIP"]})).await.is_ok());
}

#[tokio::test]
async fn families_follow_policy_and_cluster() {
    let single = one();
    let refused = single.write("a", json!({"ipFamilyPolicy": "RequireDualStack"})).await.unwrap_err();
    assert!(refused.ends_with("this cluster is not configured for dual-stack services"));
    let refused = single.write("a", json!({"ipFamilies": ["IPv6"]})).await.unwrap_err();
    assert!(refused.ends_with("spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"));
    let preferring = single.write("a", json!({"ipFamilyPolicy": "PreferDualStack"})).await.unwrap();
    assert_eq!(preferring["ipFamilies"], json!(["IPv4"]));
    let dual = Cluster::new(&["10.43.0.0/24", "fd00::/112"]);
    let both = dual.write("a", json!({"ipFamilyPolicy": "PreferDualStack"})).await.unwrap();
    assert_eq!(both["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert!(both["clusterIPs"][1].as_str().unwrap().starts_with("fd00::"));
}

#[tokio::test]
async fn a_full_range_is_told() {
    let cluster = Cluster::new(&["10.43.0.0/29"]);
    for i in 0..6 {
        cluster.write(&format!("s{i}"), json!({})).await.unwrap();
    }
    let full = cluster.write("more", json!({})).await.unwrap_err();
    assert_eq!(full, "Internal error occurred: failed to allocate a serviceIP: range is full");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is taken, a number is free, in range, and above the band while there is room there.
    #[test]
    fn picks_are_free_and_in_range(size in 1u32..400, random: u32, taken in prop::collection::hash_set(0u32..400, 0..400)) {
        let band = pick::address_band(size);
        let free: Vec<u32> = (0..size).filter(|n| !taken.contains(n)).collect();
        match pick::pick(0..size, band, random, |n| taken.contains(&n)) {
            None => prop_assert!(free.is_empty()),
            Some(n) => {
                prop_assert!(free.contains(&n));
                prop_assert!(n >= band || free.iter().all(|n| *n < band));
            }
        }
    }

    /// In any order of creations, stored or still on their way, deletions and updates, no two Services share anything.
    #[test]
    fn no_two_services_share(steps in prop::collection::vec((0u8..4, 0usize..12), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let cluster = Cluster::new(&["10.43.0.0/27"]);
            let mut on_their_way: Vec<Value> = Vec::new();
            for (step, who) in steps {
                let name = format!("s{who}");
                let spec = json!({"type": "NodePort", "ports": ports(&[("TCP", 80)])});
                let old = cluster.fake.get(&SERVICES, "ns", &name);
                match step {
                    0 | 1 if !on_their_way.iter().any(|s| s["metadata"]["name"] == name.as_str()) => {
                        on_their_way.extend(cluster.admit(&name, spec, old.as_ref()).await);
                    }
                    2 if !on_their_way.is_empty() => {
                        cluster.fake.put(&SERVICES, &on_their_way.remove(who % on_their_way.len()));
                    }
                    _ if old.is_some() => {
                        cluster.fake.delete(&SERVICES, "ns", &name);
                        // An update on its way finds nothing to replace.
                        on_their_way.retain(|s| s["metadata"]["name"] != name.as_str());
                    }
                    _ => {}
                }
                let mut all: Vec<Value> = on_their_way.clone();
                let coming = |name: &str| on_their_way.iter().any(|s| s["metadata"]["name"] == name);
                let stored = cluster.fake.list(&SERVICES, "");
                all.extend(stored.iter().filter(|s| !coming(&s.meta().name)).map(|s| s.value().unwrap()));
                let mut seen = HashSet::new();
                for service in &all {
                    prop_assert!(seen.insert(service["spec"]["clusterIP"].to_string()));
                    prop_assert!(seen.insert(service["spec"]["ports"][0]["nodePort"].to_string()));
                }
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn further_ranges_serve_when_the_first_is_full() {
    let cluster = Cluster::new(&["10.43.0.0/29"]);
    for i in 0..6 {
        cluster.write(&format!("s{i}"), json!({"ports": ports(&[("TCP", 80)])})).await.unwrap();
    }
    let more = || cluster.write("more", json!({"ports": ports(&[("TCP", 80)])}));
    assert!(more().await.unwrap_err().contains("range is full"));
    let range = |ready: &str| {
        let conditions = json!([{"type": "Ready", "status": ready}]);
        json!({"metadata": {"name": "r"}, "spec": {"cidrs": ["10.9.0.0/28"]}, "status": {"conditions": conditions}})
    };
    cluster.fake.put(&SERVICE_CIDRS, &range("False"));
    assert!(more().await.is_err());
    cluster.fake.put(&SERVICE_CIDRS, &range("True"));
    let taken = more().await.unwrap()["clusterIP"].clone();
    assert!(taken.as_str().unwrap().starts_with("10.9.0."));
    let free = if taken == "10.9.0.14" { "10.9.0.13" } else { "10.9.0.14" };
    let asked = cluster.write("asked", json!({"clusterIP": free, "ports": ports(&[("TCP", 80)])}));
    assert_eq!(asked.await.unwrap()["clusterIP"], free);
    let outside = cluster.write("out", json!({"clusterIP": "10.9.1.1", "ports": ports(&[("TCP", 80)])}));
    assert!(outside.await.unwrap_err().contains("The range of valid IPs is 10.43.0.0/29,10.9.0.0/28"));
}
