//! Who holds which address and port, read from the stored Services.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use tiphys_api::Object;

use super::{SERVICES, service};
use crate::auth::Lister;

/// What one Service holds.
#[derive(Debug, Default)]
struct Holding {
    addresses: Vec<IpAddr>,
    ports: Vec<u16>,
}

/// All of them, by what is held. The values are `namespace/name`.
#[derive(Debug, Default)]
pub(super) struct Held {
    version: Option<u64>,
    objects: Vec<Object>,
    holdings: HashMap<String, (Object, Arc<Holding>)>,
    addresses: HashMap<IpAddr, String>,
    ports: HashMap<u16, String>,
}

impl Held {
    /// Whether no Service changed since.
    pub(super) fn is_current(&self, lister: &dyn Lister) -> bool {
        match (self.version, lister.version(&SERVICES)) {
            (Some(then), Some(now)) => then == now,
            _ => {
                let now = lister.list(&SERVICES, "");
                now.len() == self.objects.len() && now.iter().zip(&self.objects).all(|(a, b)| a.same(b))
            }
        }
    }

    /// Reads the present Services; those that `old` read already are taken over.
    pub(super) fn build(lister: &dyn Lister, old: &Self) -> Self {
        let version = lister.version(&SERVICES);
        let mut held = Self { version, objects: lister.list(&SERVICES, ""), ..Self::default() };
        for object in &held.objects {
            let key = object.meta().key();
            let known = old.holdings.get(&key).filter(|(known, _)| known.same(object));
            let holding = known.map_or_else(|| Arc::new(read(object)), |(_, holding)| holding.clone());
            for address in &holding.addresses {
                held.addresses.insert(*address, key.clone());
            }
            for port in &holding.ports {
                held.ports.insert(*port, key.clone());
            }
            held.holdings.insert(key, (object.clone(), holding));
        }
        held
    }

    /// Who holds an address.
    pub(super) fn address(&self, address: &IpAddr) -> Option<&str> {
        self.addresses.get(address).map(String::as_str)
    }

    /// Who holds a node port.
    pub(super) fn port(&self, port: u16) -> Option<&str> {
        self.ports.get(&port).map(String::as_str)
    }
}

fn read(object: &Object) -> Holding {
    let Ok(value) = object.value() else { return Holding::default() };
    let addresses = service::addresses(&value).iter().filter_map(|text| text.parse().ok()).collect();
    Holding { addresses, ports: service::all_node_ports(&value) }
}
