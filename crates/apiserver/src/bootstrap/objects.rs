//! What every fresh cluster holds besides its roles.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tiphys_api::{Gvr, Value, json};

use super::masters::Addresses;
use super::reconcile::How;
use super::{Config, Item};
use crate::allocate::Cidr;
use crate::auth::token::kept;

const NAMESPACES: Gvr = Gvr::new("", "v1", "namespaces");
const CONFIG_MAPS: Gvr = Gvr::new("", "v1", "configmaps");
const SERVICES: Gvr = Gvr::new("", "v1", "services");
const ENDPOINTS: Gvr = Gvr::new("", "v1", "endpoints");
pub(super) const ENDPOINT_SLICES: Gvr = Gvr::new("discovery.k8s.io", "v1", "endpointslices");
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "kube-apiserver";
const SERVICE_CIDRS: Gvr = Gvr::new("networking.k8s.io", "v1", "servicecidrs");
const PRIORITY_CLASSES: Gvr = Gvr::new("scheduling.k8s.io", "v1", "priorityclasses");

/// The system's own namespaces, which all else needs.
pub(super) fn namespaces() -> Vec<Item> {
    let namespace = |name: &str| {
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        Item { gvr: NAMESPACES, how: How::Exists, object }
    };
    ["default", "kube-system", "kube-public", "kube-node-lease"].map(namespace).into()
}

/// The objects in them, and those of the cluster.
pub(super) fn all(config: &Config, masters: &Addresses) -> Vec<Item> {
    let mut items = vec![
        Item { gvr: CONFIG_MAPS, how: How::Says, object: authentication(config) },
        Item { gvr: CONFIG_MAPS, how: How::Says, object: cluster_info(config) },
        Item { gvr: CONFIG_MAPS, how: How::Exists, object: tracking() },
    ];
    items.extend(own(config, masters));
    items.extend(priority_classes());
    items
}

/// The objects called `kubernetes`: by them, everyone finds the API servers.
pub(super) fn own(config: &Config, masters: &Addresses) -> Vec<Item> {
    let slice = |object| Item { gvr: ENDPOINT_SLICES, how: How::Says, object };
    let mut items = vec![
        Item { gvr: SERVICE_CIDRS, how: How::Exists, object: service_cidr(config) },
        Item { gvr: SERVICES, how: How::Service, object: service(config) },
        Item { gvr: ENDPOINTS, how: How::Says, object: endpoints(masters) },
    ];
    items.extend(endpoint_slices(config, masters).into_iter().map(slice));
    items
}

fn service_cidr(config: &Config) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": { "name": "kubernetes" },
        "spec": { "cidrs": config.service_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>() },
    })
}

fn service(config: &Config) -> Value {
    let mut spec = json!({
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "ports": [{ "name": "https", "protocol": "TCP", "port": 443, "targetPort": config.port }],
    });
    if let Some(first) = config.service_cidrs.first() {
        let address = first.first_address().to_string();
        spec["ipFamilyPolicy"] = "SingleStack".into();
        spec["ipFamilies"] = json!([family(first.is_v6())]);
        spec["clusterIPs"] = json!([address]);
        spec["clusterIP"] = address.into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": { "component": "apiserver", "provider": "kubernetes" },
        },
        "spec": spec,
    })
}

fn family(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}

fn endpoints(masters: &Addresses) -> Value {
    let mut by_port: BTreeMap<u16, Vec<Value>> = BTreeMap::new();
    for master in masters {
        by_port.entry(master.port()).or_default().push(json!({ "ip": master.ip().to_string() }));
    }
    let subset = |(port, addresses)| json!({ "addresses": Value::Array(addresses), "ports": [https(port)] });
    json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" },
        },
        "subsets": by_port.into_iter().map(subset).collect::<Vec<_>>(),
    })
}

fn https(port: u16) -> Value {
    json!({ "name": "https", "port": port, "protocol": "TCP" })
}

/// One slice, unless servers listen on different ports or have addresses of both families.
fn endpoint_slices(config: &Config, masters: &Addresses) -> Vec<Value> {
    let v6 = config.service_cidrs.first().is_some_and(Cidr::is_v6);
    let mut groups: BTreeMap<(bool, u16), Vec<Value>> = BTreeMap::new();
    for master in masters {
        let endpoint = json!({ "addresses": [master.ip().to_string()], "conditions": { "ready": true } });
        groups.entry((master.is_ipv6() != v6, master.port())).or_default().push(endpoint);
    }
    let slice = |(place, ((other, port), endpoints)): (usize, ((bool, u16), Vec<Value>))| {
        let family = family(other != v6);
        let mut labels = json!({ "kubernetes.io/service-name": "kubernetes" });
        let mut name = "kubernetes".to_owned();
        if place > 0 {
            labels[MANAGED_BY] = MANAGER.into();
            name = format!("kubernetes-{}-{port}", family.to_lowercase());
        }
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": { "name": name, "namespace": "default", "labels": labels },
            "addressType": family,
            "endpoints": endpoints,
            "ports": [https(port)],
        })
    };
    groups.into_iter().enumerate().map(slice).collect()
}

/// The slices that [`endpoint_slices`] makes besides the one called `kubernetes`, as a label selector.
pub(super) fn further_slices() -> String {
    format!("{MANAGED_BY}={MANAGER}")
}

/// What an extension API server needs to trust requests that this one passes on.
fn authentication(config: &Config) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "extension-apiserver-authentication", "namespace": "kube-system" },
        "data": {
            "client-ca-file": config.ca_pem,
            "requestheader-allowed-names": r#"["front-proxy-client"]"#,
            "requestheader-client-ca-file": config.front_proxy_ca_pem,
            "requestheader-extra-headers-prefix": r#"["X-Remote-Extra-"]"#,
            "requestheader-group-headers": r#"["X-Remote-Group"]"#,
            "requestheader-uid-headers": r#"["X-Remote-Uid"]"#,
            "requestheader-username-headers": r#"["X-Remote-User"]"#,
        },
    })
}

/// Since when uses of kept tokens are noted.
fn tracking() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": kept::TRACKING, "namespace": "kube-system" },
        "data": { "since": kept::day(Timestamp::now()) },
    })
}

/// A kubeconfig without a user: where the cluster is and whom to trust.
fn cluster_info(config: &Config) -> Value {
    use base64::Engine;
    let ca = base64::engine::general_purpose::STANDARD.encode(&config.ca_pem);
    let server = Value::from(config.server.as_str());
    let kubeconfig = format!(
        "apiVersion: v1
kind: Config
clusters:
- name: \"\"
  cluster:
    certificate-authority-data: {ca}
    server: {server}
contexts: null
current-context: \"\"
preferences: {{}}
users: null
"
    );
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "cluster-info", "namespace": "kube-public" },
        "data": { "kubeconfig": kubeconfig },
    })
}

fn priority_classes() -> [Item; 2] {
    let class = |name: &str, value: i64, description: &str| {
        let object = json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": { "name": name },
            "value": value,
            "description": description,
        });
        Item { gvr: PRIORITY_CLASSES, how: How::Exists, object }
    };
    [
        class(
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        class(
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ]
}
