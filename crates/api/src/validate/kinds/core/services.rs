//! Services: ports, types, addresses and how traffic reaches them.

use super::{At, Fields, Seen, items, judge, list, number, object, text, texts, under};
use crate::field::{Error, Errors};
use crate::validate::kinds::here::Here;
use crate::validate::{addresses, forms, names};

const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";
const NOT_EXTERNAL: &str = "may not be set for ExternalName services";

fn is_headless(spec: &Fields) -> bool {
    text(spec, "clusterIP") == "None"
}

/// Annotations, which share rules with the spec, and what a balancer says of itself.
pub(super) fn service(at: &At<'_>, service: &Fields, errors: &mut Errors) {
    annotations(at, service, errors);
    if let Some(balancer) = object(service, "status").and_then(|status| object(status, "loadBalancer")) {
        balancer_status(&at.child("status").child("loadBalancer"), balancer, errors);
    }
}

fn annotations(at: &At<'_>, service: &Fields, errors: &mut Errors) {
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    const MODE: &str = "service.kubernetes.io/topology-mode";
    const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let metadata = object(service, "metadata");
    let (Some(notes), Some(spec)) =
        (metadata.and_then(|metadata| object(metadata, "annotations")), object(service, "spec"))
    else {
        return;
    };
    let path = |key: &str| under(at, "metadata.annotations").key(key);
    if let (Some(mode), Some(hints)) = (notes.get(MODE), notes.get(HINTS))
        && mode != hints
    {
        let why = format!("must match annotations[{HINTS}] when both are specified");
        errors.push(Error::invalid(&path(MODE), mode.clone(), &why));
    }
    if let (true, Some(ranges)) = (list(spec, "loadBalancerSourceRanges").is_empty(), notes.get(RANGES)) {
        if text(spec, "type") != "LoadBalancer" {
            errors.push(Error::forbidden(&path(RANGES), ONLY_BALANCED));
        }
        let ranges = ranges.as_str().unwrap_or_default().split(',').map(str::trim);
        for range in ranges.filter(|range| !range.is_empty()) {
            judge(forms::cidr(range), range, errors, || path(RANGES));
        }
    }
}

/// Ports, types and addresses of a Service.
pub(super) fn spec(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let kind = text(spec, "type");
    if list(spec, "ports").is_empty() && !is_headless(spec) && kind != "ExternalName" {
        errors.push(Error::required(&at.path().child("ports"), ""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let path = at.path().child("clusterIPs").index(0);
            let why = format!("may not be set to 'None' for {kind} services");
            errors.push(Error::invalid(&path, "None", &why));
        }
        "ExternalName" => external_name(at, spec, errors),
        _ => {}
    }
    ports(at, spec, errors);
    affinity(at, spec, errors);
    if kind != "ExternalName" {
        cluster_ips(at, spec, errors);
    }
    for (index, ip) in texts(spec, "externalIPs") {
        let path = || at.path().child("externalIPs").index(index);
        judge(public_ip(ip), ip, errors, path);
    }
    let here = &mut Here::new(at, spec, errors);
    balancer(here, kind);
    traffic(here, kind);
}

fn external_name(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    for name in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if spec.contains_key(name) {
            errors.push(Error::forbidden(&at.path().child(name), NOT_EXTERNAL));
        }
    }
    let name = text(spec, "externalName");
    let path = || at.path().child("externalName");
    match name.strip_suffix('.').unwrap_or(name) {
        "" => errors.push(Error::required(&path(), "")),
        name => judge(names::dns1123_subdomain(name), name, errors, path),
    }
}

fn ports(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let several = list(spec, "ports").len() > 1;
    let (mut known, mut on_nodes) = (Seen::new(), Seen::new());
    for (index, port) in items(spec, "ports") {
        let path = || at.path().child("ports").index(index);
        if several && text(port, "name").is_empty() {
            errors.push(Error::required(&path().child("name"), ""));
        }
        let (protocol, inside) = (text(port, "protocol"), number(port, "port").unwrap_or(0));
        if !(1..=65535).contains(&inside) {
            let why = "must be between 1 and 65535, inclusive";
            errors.push(Error::invalid(&path().child("port"), inside, why));
        }
        let node_port = number(port, "nodePort").unwrap_or(0);
        if text(spec, "type") == "ClusterIP" && node_port != 0 {
            let why = "may not be used when `type` is 'ClusterIP'";
            errors.push(Error::forbidden(&path().child("nodePort"), why));
        }
        if node_port != 0 && !on_nodes.add((protocol, node_port)) {
            errors.push(Error::duplicate(&path().child("nodePort"), node_port));
        }
        if !known.add((protocol, inside)) {
            // All fields of Kubernetes' inner type, in its order.
            let shown = format!(
                r#"{{"Name":"","Protocol":{protocol:?},"AppProtocol":null,"Port":{inside},"TargetPort":0,"NodePort":0}}"#
            );
            errors.push(Error::duplicate_shown(&path(), &shown));
        }
    }
}

fn affinity(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let path = || at.path().child("sessionAffinityConfig");
    let config = object(spec, "sessionAffinityConfig");
    match (text(spec, "sessionAffinity"), config) {
        ("ClientIP", None) => {
            errors.push(Error::required(&path(), "when session affinity type is ClientIP"));
        }
        ("ClientIP", Some(config)) => {
            let seconds = object(config, "clientIP").and_then(|client| number(client, "timeoutSeconds"));
            let path = || path().child("clientIP").child("timeoutSeconds");
            match seconds {
                None => errors.push(Error::required(&path(), "when session affinity type is ClientIP")),
                Some(seconds) if !(1..=86400).contains(&seconds) => {
                    let why = "must be greater than 0 and less than 86400";
                    errors.push(Error::invalid(&path(), seconds, why));
                }
                Some(_) => {}
            }
        }
        ("None", Some(_)) => {
            errors.push(Error::forbidden(&path(), "must not be set when session affinity is None"));
        }
        _ => {}
    }
}

fn is_v6(ip: &str) -> bool {
    ip.contains(':')
}

/// Addresses agree with each other and with their families.
fn cluster_ips(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let path = || at.path().child("clusterIPs");
    let (first, all) = (text(spec, "clusterIP"), list(spec, "clusterIPs"));
    let mut refuse = |why: &str| errors.push(Error::invalid(&path(), all.to_vec(), why));
    match (first, all) {
        ("", []) => {}
        ("", _) => refuse("must be empty when `clusterIP` is not specified"),
        (_, []) => {}
        (first, [one, ..]) if one != first => refuse("first value must match `clusterIP`"),
        _ => {}
    }
    if all.first().is_some_and(|first| first == "None") && all.len() > 1 {
        refuse("'None' must be the first and only value");
        return;
    }
    if all.len() > 2 {
        refuse("may only hold up to 2 values");
    }
    let ips = || texts(spec, "clusterIPs").filter(|(index, ip)| !(*index == 0 && *ip == "None"));
    if ips().filter(|(_, ip)| is_v6(ip)).count() > 1 || ips().filter(|(_, ip)| !is_v6(ip)).count() > 1 {
        refuse("may specify no more than one IP for each IP family");
    }
    for (index, ip) in ips() {
        judge(forms::ip(ip), ip, errors, || path().index(index));
    }
    let mut seen = Seen::new();
    for (index, family) in texts(spec, "ipFamilies") {
        if !seen.add(family) {
            errors.push(Error::duplicate(&at.path().child("ipFamilies").index(index), family));
        }
    }
    for ((index, ip), (_, family)) in ips().zip(texts(spec, "ipFamilies")) {
        if matches!(family, "IPv4" | "IPv6") && is_v6(ip) != (family == "IPv6") {
            let why = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.push(Error::invalid(&path().index(index), ip, &why));
        }
    }
}

/// What is wrong with an address that is to be reached from elsewhere.
pub(super) fn public_ip(text: &str) -> Vec<String> {
    match text.parse() {
        Ok(address) => addresses::not_for_endpoints(address).into_iter().collect(),
        Err(_) => forms::ip(text),
    }
}

/// What only a balancer knows.
fn balancer(here: &mut Here<'_, '_>, kind: &str) {
    let balanced = kind == "LoadBalancer";
    if here.has("loadBalancerSourceRanges") {
        // Kubernetes' own spelling of the path.
        if !balanced {
            here.forbidden("LoadBalancerSourceRanges", ONLY_BALANCED);
        }
        for (index, range) in here.texts("loadBalancerSourceRanges") {
            let path = || here.at.path().child("LoadBalancerSourceRanges").index(index);
            judge(forms::cidr(range.trim()), range.trim(), here.errors, path);
        }
    }
    if here.has("allocateLoadBalancerNodePorts") && !balanced {
        here.forbidden("allocateLoadBalancerNodePorts", ONLY_BALANCED);
    }
    if here.has("loadBalancerClass") {
        match balanced {
            true => here.form("loadBalancerClass", names::qualified_name),
            false => here.forbidden("loadBalancerClass", ONLY_BALANCED),
        }
    }
}

/// Which endpoints traffic goes to.
fn traffic(here: &mut Here<'_, '_>, kind: &str) {
    let on_nodes = matches!(kind, "LoadBalancer" | "NodePort");
    let outside = on_nodes || (kind == "ClusterIP" && !here.list("externalIPs").is_empty());
    let policy = here.text("externalTrafficPolicy");
    if !outside && !policy.is_empty() {
        here.invalid("externalTrafficPolicy", "may only be set for externally-accessible services");
    } else if outside && policy.is_empty() {
        here.required("externalTrafficPolicy", "");
    }
    let checked = kind == "LoadBalancer" && policy == "Local";
    let health = here.number("healthCheckNodePort").unwrap_or(0);
    if !checked && health != 0 {
        let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        here.invalid("healthCheckNodePort", why);
    }
    if checked && health != 0 && !(1..=65535).contains(&health) {
        here.invalid("healthCheckNodePort", "must be between 1 and 65535, inclusive");
    }
    if here.text("internalTrafficPolicy").is_empty() && kind != "ExternalName" {
        here.required("internalTrafficPolicy", "");
    }
}

fn balancer_status(at: &At<'_>, balancer: &Fields, errors: &mut Errors) {
    for (index, ingress) in items(balancer, "ingress") {
        let (ip, host) = (text(ingress, "ip"), text(ingress, "hostname"));
        let path = |name: &str| at.path().child("ingress").index(index).child(name);
        if !ip.is_empty() {
            judge(forms::ip(ip), ip, errors, || path("ip"));
            if !ingress.contains_key("ipMode") {
                errors.push(Error::required(&path("ipMode"), "must be specified when `ip` is set"));
            }
        } else if ingress.contains_key("ipMode") {
            errors.push(Error::forbidden(&path("ipMode"), "may not be specified when `ip` is not set"));
        }
        if host.parse::<std::net::IpAddr>().is_ok() {
            errors.push(Error::invalid(&path("hostname"), host, "must be a DNS name, not an IP address"));
        } else if !host.is_empty() {
            judge(names::dns1123_subdomain(host), host, errors, || path("hostname"));
        }
    }
}
