//! A container's environment, from every source the API has. Pure: referenced objects are fetched before
//! ([`references`]) and handed in.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, Pod, Service};

use crate::downward::{self, Facts};
use crate::expand::expand;
use crate::pod;

/// Keys and values of a ConfigMap or Secret; `None`: it does not exist.
pub(crate) type Data = Option<BTreeMap<String, Vec<u8>>>;

/// The ConfigMaps and Secrets of the pod's namespace, as far as they are referenced.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lookup {
    pub(crate) config_maps: BTreeMap<String, Data>,
    pub(crate) secrets: BTreeMap<String, Data>,
}

/// Names of the ConfigMaps and Secrets that a container's environment needs.
pub(crate) fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut secrets) = (Vec::new(), Vec::new());
    for from in container.env_from.iter().flatten() {
        maps.extend(from.config_map_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(from.secret_ref.as_ref().map(|r| r.name.clone()));
    }
    for from in container.env.iter().flatten().filter_map(|var| var.value_from.as_ref()) {
        maps.extend(from.config_map_key_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(from.secret_key_ref.as_ref().map(|r| r.name.clone()));
    }
    (maps, secrets)
}

/// Everything beside the container that its environment is made from.
pub(crate) struct Inputs<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) facts: &'a Facts,
    pub(crate) lookup: &'a Lookup,
    /// Services whose addresses are told, each with a cluster address.
    pub(crate) services: &'a [Service],
}

/// The environment in order; later entries of a name win. `Err` is what the event says.
pub(crate) fn environment(
    container: &Container,
    inputs: &Inputs<'_>,
) -> Result<Vec<(String, String)>, String> {
    let services = service_variables(inputs.services);
    let mut vars = Vars::default();
    for (name, value) in from_sources(container, inputs)? {
        vars.set(&name, value);
    }
    for var in container.env.iter().flatten() {
        if let Some(value) = value(var, container, inputs, &vars, &services)? {
            vars.set(&var.name, value);
        }
    }
    for (name, value) in services {
        if vars.get(&name).is_none() {
            vars.set(&name, value);
        }
    }
    Ok(vars.0)
}

/// Few per container: a list keeps the order and beats a map.
#[derive(Default)]
struct Vars(Vec<(String, String)>);

impl Vars {
    fn get(&self, name: &str) -> Option<&String> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(key, _)| key == name) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }
}

fn from_sources(container: &Container, inputs: &Inputs<'_>) -> Result<Vec<(String, String)>, String> {
    let mut vars = Vec::new();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let (kind, name, optional, data) = if let Some(r) = &from.config_map_ref {
            ("configmap", &r.name, r.optional, inputs.lookup.config_maps.get(&r.name))
        } else if let Some(r) = &from.secret_ref {
            ("secret", &r.name, r.optional, inputs.lookup.secrets.get(&r.name))
        } else {
            continue;
        };
        let Some(data) = data.and_then(Option::as_ref) else {
            if optional == Some(true) {
                continue;
            }
            return Err(format!("{kind} {name:?} not found"));
        };
        let text = |(key, value): (&String, &Vec<u8>)| {
            (format!("{prefix}{key}"), String::from_utf8_lossy(value).into_owned())
        };
        vars.extend(data.iter().map(text));
    }
    Ok(vars)
}

fn value(
    var: &EnvVar,
    container: &Container,
    inputs: &Inputs<'_>,
    vars: &Vars,
    services: &BTreeMap<String, String>,
) -> Result<Option<String>, String> {
    if let Some(from) = &var.value_from {
        return referred(from, container, inputs);
    }
    let lookup = |name: &str| vars.get(name).or_else(|| services.get(name)).cloned();
    Ok(Some(expand(var.value.as_deref().unwrap_or_default(), &lookup)))
}

fn referred(
    from: &EnvVarSource,
    container: &Container,
    inputs: &Inputs<'_>,
) -> Result<Option<String>, String> {
    if let Some(field) = &from.field_ref {
        return downward::field(inputs.pod, inputs.facts, &field.field_path).map(Some);
    }
    if let Some(of) = &from.resource_field_ref {
        return downward::resource(inputs.pod, container, inputs.facts, of).map(Some);
    }
    let (kind, lower, name, key, optional, data) = if let Some(r) = &from.config_map_key_ref {
        ("ConfigMap", "configmap", &r.name, &r.key, r.optional, inputs.lookup.config_maps.get(&r.name))
    } else if let Some(r) = &from.secret_key_ref {
        ("Secret", "secret", &r.name, &r.key, r.optional, inputs.lookup.secrets.get(&r.name))
    } else {
        return Ok(None);
    };
    let optional = optional == Some(true);
    let Some(data) = data.and_then(Option::as_ref) else {
        return if optional { Ok(None) } else { Err(format!("{lower} {name:?} not found")) };
    };
    match data.get(key) {
        Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
        None if optional => Ok(None),
        None => Err(format!("couldn't find key {key} in {kind} {}/{name}", pod::namespace(inputs.pod))),
    }
}

/// `NAME_SERVICE_HOST` and friends, as Docker links once had them.
fn service_variables(services: &[Service]) -> BTreeMap<String, String> {
    let mut vars = BTreeMap::new();
    for service in services {
        let Some(spec) = &service.spec else { continue };
        let ip = spec.cluster_ip.as_deref().unwrap_or_default();
        let name = service.metadata.name.as_deref().unwrap_or_default().to_uppercase().replace('-', "_");
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        vars.insert(format!("{name}_SERVICE_HOST"), ip.to_owned());
        for (index, port) in spec.ports.iter().flatten().enumerate() {
            let (number, protocol) = (port.port, port.protocol.as_deref().unwrap_or("TCP"));
            let url = format!("{}://{host}:{number}", protocol.to_lowercase());
            if index == 0 {
                vars.insert(format!("{name}_SERVICE_PORT"), number.to_string());
                vars.insert(format!("{name}_PORT"), url.clone());
            }
            if let Some(named) = port.name.as_deref().filter(|named| !named.is_empty()) {
                let named = named.to_uppercase().replace('-', "_");
                vars.insert(format!("{name}_SERVICE_PORT_{named}"), number.to_string());
            }
            let prefix = format!("{name}_PORT_{number}_{protocol}");
            vars.insert(prefix.clone(), url);
            vars.insert(format!("{prefix}_PROTO"), protocol.to_lowercase());
            vars.insert(format!("{prefix}_PORT"), number.to_string());
            vars.insert(format!("{prefix}_ADDR"), ip.to_owned());
        }
    }
    vars
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(json: serde_json::Value) -> Container {
        serde_json::from_value(json).unwrap()
    }

    fn environment_of(json: serde_json::Value, lookup: &Lookup) -> Result<Vec<(String, String)>, String> {
        let service: Service = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "my-db"},
            "spec": {"clusterIP": "10.0.0.9", "ports": [{"name": "sql", "port": 5432}]}
        }))
        .unwrap();
        let pod = Pod::default();
        let inputs =
            Inputs { pod: &pod, facts: &Facts::default(), lookup, services: std::slice::from_ref(&service) };
        environment(&container(json), &inputs)
    }

    #[test]
    fn later_sources_win_and_references_expand() {
        let data = Some([("A".to_owned(), b"map".to_vec()), ("B".to_owned(), b"map".to_vec())].into());
        let lookup = Lookup { config_maps: [("m".to_owned(), data)].into(), ..Lookup::default() };
        let json = serde_json::json!({"name": "c", "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}],
            "env": [{"name": "P_A", "value": "own"}, {"name": "C", "value": "$(P_A)/$(MY_DB_SERVICE_HOST)"},
                {"name": "D", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "B"}}}]});
        let env = environment_of(json, &lookup).unwrap();
        let get = |name: &str| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!((get("P_A"), get("P_B"), get("C")), (Some("own"), Some("map"), Some("own/10.0.0.9")));
        assert_eq!(get("D"), Some("map"));
        assert_eq!(get("MY_DB_SERVICE_PORT_SQL"), Some("5432"));
        assert_eq!(get("MY_DB_PORT_5432_TCP"), Some("tcp://10.0.0.9:5432"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing = serde_json::json!({"name": "c", "env": [
            {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]});
        assert_eq!(environment_of(missing, &Lookup::default()), Err("secret \"s\" not found".into()));
        let optional = serde_json::json!({"name": "c", "env": [
            {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": true}}}]});
        assert!(environment_of(optional, &Lookup::default()).unwrap().iter().all(|(name, _)| name != "A"));
    }
}
