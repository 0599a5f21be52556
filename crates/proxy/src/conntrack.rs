//! UDP flows that still go where a Service no longer leads.
//!
//! The kernel keeps sending a UDP client's packets to the endpoint of its first one, for as long as packets come. TCP ends
//! with its endpoint, UDP does not: its stale flows are forgotten, so that the next packet is led anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use tiphys_network::command::{self, Family};

use crate::model::Port;

/// Forgets the stale flows of these ports. Needs the distribution's `conntrack`.
pub(crate) async fn sweep(family: Family, ports: impl Iterator<Item = &Port>) -> Result<(), command::Error> {
    let wanted = Wanted::new(ports);
    if wanted.is_empty() {
        return Ok(());
    }
    let local = match wanted.node_ports.is_empty() {
        true => BTreeSet::new(),
        false => command::local_addresses().await?.into_iter().collect(),
    };
    for options in wanted.stale(&command::udp_flows(family).await?, &local) {
        command::forget_udp_flows(family, &options).await?;
    }
    Ok(())
}

/// Where UDP packets shall go.
#[derive(Default)]
struct Wanted {
    addresses: HashMap<SocketAddr, BTreeSet<SocketAddr>>,
    node_ports: HashMap<u16, BTreeSet<SocketAddr>>,
}

impl Wanted {
    fn new<'a>(ports: impl Iterator<Item = &'a Port>) -> Self {
        let mut wanted = Self::default();
        for port in ports.filter(|port| port.protocol == "udp") {
            let endpoints: BTreeSet<_> = port.endpoints().map(|e| SocketAddr::new(e.ip, e.port)).collect();
            let addresses =
                std::iter::once(&port.cluster_ip).chain(&port.external_ips).chain(&port.balancer_ips);
            for ip in addresses {
                wanted.addresses.insert(SocketAddr::new(*ip, port.port), endpoints.clone());
            }
            if port.node_port != 0 {
                wanted.node_ports.insert(port.node_port, endpoints);
            }
        }
        wanted
    }

    fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Options of `conntrack -D` for every sort of stale flow in a listing, each once.
    fn stale(&self, listing: &str, local: &BTreeSet<IpAddr>) -> BTreeSet<Vec<String>> {
        let flows = listing.lines().filter_map(flow);
        let stale = flows.filter(|(to, from)| {
            let by_port = || self.node_ports.get(&to.port()).filter(|_| local.contains(&to.ip()));
            self.addresses.get(to).or_else(by_port).is_some_and(|endpoints| !endpoints.contains(from))
        });
        let words = |(to, from): (SocketAddr, SocketAddr)| {
            let pairs = BTreeMap::from([
                ("--orig-dst", to.ip().to_string()),
                ("--orig-port-dst", to.port().to_string()),
                ("--reply-port-src", from.port().to_string()),
                ("--reply-src", from.ip().to_string()),
            ]);
            pairs.into_iter().flat_map(|(option, value)| [option.to_owned(), value]).collect()
        };
        stale.map(words).collect()
    }
}

/// Where a flow's client sends to, and where the answers come from.
fn flow(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let all = |key: &str| {
        let values = line.split_whitespace().filter_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        values.map(str::to_owned).collect::<Vec<_>>()
    };
    let to = SocketAddr::new(all("dst").first()?.parse().ok()?, all("dport").first()?.parse().ok()?);
    let from = SocketAddr::new(all("src").get(1)?.parse().ok()?, all("sport").get(1)?.parse().ok()?);
    Some((to, from))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{self, tests};

    #[test]
    fn only_flows_to_endpoints_that_are_gone_are_stale() {
        let spec = json!({"clusterIP": "10.43.0.9", "type": "NodePort",
            "ports": [{"name": "http", "port": 53, "protocol": "UDP", "nodePort": 30053}]});
        let mut slice = tests::slice(&json!([{"addresses": ["10.42.0.2"]}]));
        slice.ports.as_mut().unwrap()[0].protocol = Some("UDP".into());
        let ports = model::read(&tests::service(&spec), &[slice], &tests::here()).ports;
        let flow = |dst: &str, dport: u16, from: &str| {
            format!(
                "udp 17 25 src=10.0.0.1 dst={dst} sport=1111 dport={dport} [UNREPLIED] src={from} dst=10.0.0.1 sport=8080 dport=1111 mark=0 use=1\n"
            )
        };
        let listing = [
            flow("10.43.0.9", 53, "10.42.0.2"),
            flow("10.43.0.9", 53, "10.42.0.3"),
            flow("10.43.0.9", 53, "10.42.0.3"),
            flow("10.43.0.8", 53, "10.42.0.3"),
            flow("192.0.2.1", 30053, "10.42.0.4"),
            flow("192.0.2.2", 30053, "10.42.0.5"),
            "conntrack v1.4.7\n".into(),
        ];
        let stale = Wanted::new(ports.iter()).stale(&listing.concat(), &tests::here().addresses);
        let froms: Vec<_> = stale.iter().map(|options| options.last().unwrap().as_str()).collect();
        assert_eq!(froms, ["10.42.0.3", "10.42.0.4"]);
    }
}
