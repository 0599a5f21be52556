//! UDP flows that still go where a Service no longer leads.
//!
//! The kernel keeps sending a UDP client's packets to the endpoint of its first one, for as long as packets come. TCP ends
//! with its endpoint, UDP does not: its stale flows are forgotten, so that the next packet is led anew.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tiphys_network::command::{self, Family};
use tiphys_network::conntrack::{self, Flow};

use crate::kernel::Error;
use crate::model::Port;

/// Forgets the stale flows of these ports.
pub(crate) async fn sweep(family: Family, ports: impl Iterator<Item = &Port>) -> Result<(), Error> {
    let wanted = Wanted::new(ports);
    if wanted.is_empty() {
        return Ok(());
    }
    let local: BTreeSet<IpAddr> = match wanted.node_ports.is_empty() {
        true => BTreeSet::new(),
        false => command::local_addresses().await?.into_iter().collect(),
    };
    let forgotten = conntrack::forget_udp(family, move |flow| wanted.is_stale(flow, &local));
    let count = forgotten.await.map_err(Error::Flows)?;
    tracing::debug!(count, ?family, "stale UDP flows forgotten");
    Ok(())
}

/// Where UDP packets shall go.
#[derive(Default)]
struct Wanted {
    addresses: HashMap<SocketAddr, Arc<BTreeSet<SocketAddr>>>,
    node_ports: HashMap<u16, Arc<BTreeSet<SocketAddr>>>,
}

impl Wanted {
    fn new<'a>(ports: impl Iterator<Item = &'a Port>) -> Self {
        let mut wanted = Self::default();
        for port in ports.filter(|port| port.protocol == "udp") {
            let endpoints = Arc::new(port.endpoints().map(|e| SocketAddr::new(e.ip, e.port)).collect());
            let addresses =
                std::iter::once(&port.cluster_ip).chain(&port.external_ips).chain(&port.balancer_ips);
            for ip in addresses {
                wanted.addresses.insert(SocketAddr::new(*ip, port.port), Arc::clone(&endpoints));
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

    /// Whether a flow goes to one of these ports, and on to where it no longer leads.
    fn is_stale(&self, flow: &Flow, local: &BTreeSet<IpAddr>) -> bool {
        let by_port = || self.node_ports.get(&flow.to.port()).filter(|_| local.contains(&flow.to.ip()));
        let endpoints = self.addresses.get(&flow.to).or_else(by_port);
        endpoints.is_some_and(|endpoints| !endpoints.contains(&flow.from))
    }
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
        let wanted = Wanted::new(ports.iter());
        let table = [
            ("10.43.0.9:53", "10.42.0.2:8080", false, "to an endpoint"),
            ("10.43.0.9:53", "10.42.0.3:8080", true, "to one that is gone"),
            ("10.43.0.8:53", "10.42.0.3:8080", false, "of no Service"),
            ("192.0.2.1:30053", "10.42.0.4:8080", true, "by the node port"),
            ("192.0.2.2:30053", "10.42.0.5:8080", false, "by the same port of another machine"),
        ];
        for (to, from, stale, what) in table {
            let flow = Flow { to: to.parse().unwrap(), from: from.parse().unwrap() };
            assert_eq!(wanted.is_stale(&flow, &tests::here().addresses), stale, "{what}");
        }
    }
}
