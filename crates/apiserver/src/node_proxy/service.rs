//! What Services and their slices say of where they lead, as far as this server asks.

use serde::Deserialize;
use tiphys_api::Value;

/// The fields of a Service that decide.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Service {
    pub spec: ServiceSpec,
}

/// See [`Service`].
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    #[serde(rename = "type")]
    pub kind: String,
    pub ports: Vec<ServicePort>,
    pub external_name: String,
}

/// See [`Service`].
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    pub name: String,
    pub port: u16,
    /// A number, or the name of a port of the pods.
    pub target_port: Value,
}

/// The fields of an EndpointSlice that decide.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Slice {
    endpoints: Vec<Endpoint>,
    ports: Option<Vec<SlicePort>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Endpoint {
    addresses: Vec<String>,
    conditions: Conditions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SlicePort {
    name: Option<String>,
    port: Option<u16>,
}

impl Slice {
    /// The ready addresses, with the number that the Service's port of this name has there.
    pub fn ready(&self, port: &str) -> Vec<(&str, u16)> {
        let mut ports = self.ports.iter().flatten();
        let number = ports.find(|p| p.name.as_deref().unwrap_or_default() == port).and_then(|p| p.port);
        let Some(number) = number else { return Vec::new() };
        let ready = self.endpoints.iter().filter(|endpoint| endpoint.conditions.ready != Some(false));
        ready.filter_map(|endpoint| Some((endpoint.addresses.first()?.as_str(), number))).collect()
    }
}
