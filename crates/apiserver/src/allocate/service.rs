//! The fields of a Service that addresses and ports hang on: their defaults, what an update keeps, and what a change of type
//! drops. Pure functions over the object's tree.

use tiphys_api::field::{Error, Errors, Path};
use tiphys_api::{Map, Value, json};

use super::Cidr;

/// `ipFamilies` value.
pub(super) const V4: &str = "IPv4";
/// `ipFamilies` value.
pub(super) const V6: &str = "IPv6";
/// The cluster address of a headless Service.
const NONE: &str = "None";

/// One entry of `spec.ports`.
pub(super) struct Port {
    pub(super) number: i64,
    pub(super) node_port: Option<u16>,
}

/// Brings the fields into the form that addresses are given by.
pub(super) fn arrange(service: &mut Value, old: Option<&Value>, ranges: &[Cidr]) -> Result<(), Errors> {
    let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
    if let Some(old) = old.and_then(|old| old.get("spec")).and_then(Value::as_object) {
        keep(spec, old);
        drop_unneeded(spec, old);
    }
    match_addresses(spec, &old.map(addresses).unwrap_or_default());
    if kind(spec) == "ExternalName" {
        return Ok(());
    }
    if let Some(old) = old.and_then(|old| old.get("spec")).and_then(Value::as_object) {
        check_unchanged(spec, old)?;
    }
    arrange_families(spec, ranges)
}

/// A full update by a client that leaves out what the server gave keeps it.
fn keep(spec: &mut Map, old: &Map) {
    if kind(spec) != "ExternalName" && kind(old) != "ExternalName" {
        let same_address =
            text(spec, "clusterIP").is_empty() || text(spec, "clusterIP") == text(old, "clusterIP");
        if same_address {
            fill(spec, old, "clusterIP");
            fill(spec, old, "clusterIPs");
        }
        fill(spec, old, "ipFamilies");
        fill(spec, old, "ipFamilyPolicy");
    }
    if has_node_ports(spec) && has_node_ports(old) {
        keep_node_ports(spec, old);
    }
    if health_checked(spec) && health_checked(old) {
        fill(spec, old, "healthCheckNodePort");
    }
}

fn fill(spec: &mut Map, old: &Map, key: &str) {
    if let (true, Some(value)) = (is_empty(spec.get(key)), old.get(key)) {
        spec.insert(key.into(), value.clone());
    }
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Number(number)) => number.as_i64() == Some(0),
        Some(_) => false,
    }
}

fn keep_node_ports(spec: &mut Map, old: &Map) {
    let asked: Vec<Value> = ports(spec).filter_map(|port| port.get("nodePort").cloned()).collect();
    let known: Vec<Value> = ports(old).cloned().collect();
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if !is_empty(port.get("nodePort")) {
            continue;
        }
        let same = |other: &&Value| other["port"] == port["port"] && protocol(other) == protocol(port);
        let node = known.iter().find(same).map(|other| other["nodePort"].clone());
        if let Some(node) = node.filter(|node| !is_empty(Some(node)) && !asked.contains(node)) {
            port["nodePort"] = node;
        }
    }
}

fn protocol(port: &Value) -> &str {
    port.get("protocol").and_then(Value::as_str).unwrap_or("TCP")
}

/// A change of type drops what only the old type had, unless the client changed it as well.
fn drop_unneeded(spec: &mut Map, old: &Map) {
    let unchanged = |spec: &Map, key: &str| spec.get(key) == old.get(key);
    let external = kind(spec) == "ExternalName" && kind(old) != "ExternalName";
    if external && (unchanged(spec, "clusterIPs") || unchanged(spec, "clusterIP")) {
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            spec.remove(key);
        }
    }
    let node_ports = |spec: &Map| -> Vec<Value> {
        ports(spec).map(|port| port.get("nodePort").cloned().unwrap_or_default()).collect()
    };
    if has_node_ports(old) && !has_node_ports(spec) && node_ports(spec) == node_ports(old) {
        for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            port.as_object_mut().map(|port| port.remove("nodePort"));
        }
    }
    if health_checked(old) && !health_checked(spec) && unchanged(spec, "healthCheckNodePort") {
        spec.remove("healthCheckNodePort");
    }
    if has_node_ports(old) && !has_node_ports(spec) && unchanged(spec, "externalTrafficPolicy") {
        spec.remove("externalTrafficPolicy");
    }
    if kind(old) == "LoadBalancer" && kind(spec) != "LoadBalancer" {
        for key in ["loadBalancerClass", "allocateLoadBalancerNodePorts"] {
            if unchanged(spec, key) {
                spec.remove(key);
            }
        }
    }
}

/// `clusterIP` and `clusterIPs` say the same; the one that a client changed leads.
fn match_addresses(spec: &mut Map, old: &[String]) {
    let one = text(spec, "clusterIP").to_owned();
    let many: Vec<String> = texts(spec, "clusterIPs");
    if one.is_empty() {
        return;
    }
    if many.is_empty() || (many == old && many.first() != Some(&one)) {
        spec.insert("clusterIPs".into(), json!([one]));
    }
}

/// An address is for life.
fn check_unchanged(spec: &Map, old: &Map) -> Result<(), Errors> {
    let (now, before) = (texts(spec, "clusterIPs"), texts(old, "clusterIPs"));
    let changed = now.iter().zip(&before).enumerate().filter(|(_, (now, before))| now != before);
    let path = Path::new("spec").child("clusterIPs");
    let error = |i: usize| Error::invalid(&path.index(i), now.clone(), "may not change once set");
    let errors: Errors = changed.map(|(i, _)| error(i)).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn arrange_families(spec: &mut Map, ranges: &[Cidr]) -> Result<(), Errors> {
    let Some(primary) = ranges.first() else { return Ok(()) };
    let own = |range: &Cidr| if range.is_v6() { V6 } else { V4 };
    let (first, dual) = (own(primary), ranges.len() > 1);
    let bare_headless = text(spec, "clusterIP") == NONE && is_empty_map(spec.get("selector"));
    let mut families = texts(spec, "ipFamilies");
    let default_policy = match (bare_headless, families.len()) {
        (true, 0) | (_, 2..) => "RequireDualStack",
        _ => "SingleStack",
    };
    let policy = match text(spec, "ipFamilyPolicy") {
        "" => default_policy.to_owned(),
        given => given.to_owned(),
    };
    if !bare_headless {
        check_families(&policy, &families, ranges)?;
    }
    if families.is_empty() {
        families.push(family_of_asked(spec).unwrap_or(first).to_owned());
    }
    let both = match policy.as_str() {
        "RequireDualStack" => true,
        "PreferDualStack" => dual,
        _ => false,
    };
    if both && families.len() == 1 {
        families.push(if families[0] == V4 { V6 } else { V4 }.to_owned());
    }
    spec.insert("ipFamilyPolicy".into(), policy.into());
    spec.insert("ipFamilies".into(), families.into());
    if text(spec, "clusterIP") == NONE {
        spec.insert("clusterIPs".into(), json!([NONE]));
    }
    Ok(())
}

fn is_empty_map(value: Option<&Value>) -> bool {
    value.and_then(Value::as_object).is_none_or(Map::is_empty)
}

fn family_of_asked(spec: &Map) -> Option<&'static str> {
    let address: std::net::IpAddr = text(spec, "clusterIP").parse().ok()?;
    Some(if address.is_ipv6() { V6 } else { V4 })
}

fn check_families(policy: &str, families: &[String], ranges: &[Cidr]) -> Result<(), Errors> {
    let path = Path::new("spec");
    let mut errors = Errors::new();
    if policy == "RequireDualStack" && ranges.len() < 2 {
        let why = "this cluster is not configured for dual-stack services";
        errors.push(Error::invalid(&path.child("ipFamilyPolicy"), policy, why));
    }
    for (i, family) in families.iter().enumerate() {
        let known = family == V4 || family == V6;
        if known && !ranges.iter().any(|range| range.is_v6() == (family == V6)) {
            let place = path.child("ipFamilies").index(i);
            errors.push(Error::invalid(&place, family.as_str(), "not configured on this cluster"));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn kind(spec: &Map) -> &str {
    match text(spec, "type") {
        "" => "ClusterIP",
        kind => kind,
    }
}

fn text<'a>(spec: &'a Map, key: &str) -> &'a str {
    spec.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn texts(spec: &Map, key: &str) -> Vec<String> {
    let items = spec.get(key).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn ports(spec: &Map) -> impl Iterator<Item = &Value> {
    spec.get("ports").and_then(Value::as_array).into_iter().flatten()
}

fn has_node_ports(spec: &Map) -> bool {
    matches!(kind(spec), "NodePort" | "LoadBalancer")
}

fn health_checked(spec: &Map) -> bool {
    kind(spec) == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
}

fn spec(service: &Value) -> Option<&Map> {
    service.get("spec").and_then(Value::as_object)
}

/// Whether it has an address in the cluster.
pub(super) fn needs_address(service: &Value) -> bool {
    spec(service).is_some_and(|spec| kind(spec) != "ExternalName" && text(spec, "clusterIP") != NONE)
}

/// Its families, the primary one first.
pub(super) fn families(service: &Value) -> Vec<String> {
    spec(service).map(|spec| texts(spec, "ipFamilies")).unwrap_or_default()
}

/// Its cluster addresses; none when it is headless.
pub(super) fn addresses(service: &Value) -> Vec<String> {
    let mut all = spec(service).map(|spec| texts(spec, "clusterIPs")).unwrap_or_default();
    all.retain(|address| address != NONE);
    all
}

/// Sets its cluster addresses.
pub(super) fn set_addresses(service: &mut Value, addresses: Vec<String>) {
    if let Some(first) = addresses.first() {
        service["spec"]["clusterIP"] = first.as_str().into();
        service["spec"]["clusterIPs"] = addresses.into();
    }
}

/// Whether each of its ports gets a node port.
pub(super) fn gives_node_ports(service: &Value) -> bool {
    spec(service).is_some_and(|spec| {
        let declined = spec.get("allocateLoadBalancerNodePorts") == Some(&Value::Bool(false));
        has_node_ports(spec) && !(kind(spec) == "LoadBalancer" && declined)
    })
}

/// Number of its ports.
pub(super) fn port_count(service: &Value) -> usize {
    spec(service).map_or(0, |spec| ports(spec).count())
}

/// One of its ports.
pub(super) fn port(service: &Value, i: usize) -> Option<Port> {
    let port = service.get("spec")?.get("ports")?.get(i)?;
    Some(Port {
        number: port.get("port").and_then(Value::as_i64).unwrap_or_default(),
        node_port: node_port(port),
    })
}

fn node_port(port: &Value) -> Option<u16> {
    let number = port.get("nodePort")?.as_u64()?;
    // A number that is no port is out of any range; say so with the largest one.
    (number != 0).then(|| u16::try_from(number).unwrap_or(u16::MAX))
}

/// Sets the node port of one of its ports.
pub(super) fn set_node_port(service: &mut Value, i: usize, node_port: u16) {
    if let Some(port) = service.pointer_mut(&format!("/spec/ports/{i}")) {
        port["nodePort"] = node_port.into();
    }
}

/// All node ports it holds, that for health checks included.
pub(super) fn all_node_ports(service: &Value) -> Vec<u16> {
    let of_ports = spec(service).into_iter().flat_map(|spec| ports(spec).filter_map(node_port));
    of_ports.chain(health_port(service)).collect()
}

/// Whether nodes answer health checks for it on a port of its own.
pub(super) fn needs_health_port(service: &Value) -> bool {
    spec(service).is_some_and(health_checked)
}

/// The port on which nodes answer health checks for it.
pub(super) fn health_port(service: &Value) -> Option<u16> {
    let number = service.get("spec")?.get("healthCheckNodePort")?.as_u64()?;
    u16::try_from(number).ok().filter(|port| *port != 0)
}
