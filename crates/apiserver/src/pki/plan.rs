//! What each certificate must say, and whether the one at hand still does: decisions only, no I/O, no clock.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Authority, Config, Leaf};

const DAY: i64 = 24 * 60 * 60;

/// Life of an authority, in seconds.
pub(super) const AUTHORITY_LIFE: i64 = 10 * 365 * DAY;
/// Life of every other certificate, in seconds.
pub(super) const LEAF_LIFE: i64 = 365 * DAY;
/// How far before now a certificate begins, so that a machine whose clock is a little late takes it.
pub(super) const BACKDATED: i64 = 60 * 60;

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    Server,
    Client,
}

/// What a certificate must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) authority: Authority,
    pub(super) name: String,
    pub(super) group: Option<&'static str>,
    pub(super) usage: Usage,
    /// DNS names and addresses in their text form.
    pub(super) sans: BTreeSet<String>,
}

/// What a certificate at hand says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
    pub(super) sans: BTreeSet<String>,
    /// Seconds since the epoch.
    pub(super) not_before: i64,
    /// Seconds since the epoch.
    pub(super) not_after: i64,
    /// Identifier of the key that signed it.
    pub(super) signed_by: Vec<u8>,
    /// Whether it belongs to the key beside it.
    pub(super) fits_key: bool,
}

/// Why a certificate is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// There is none, or none that can be read.
    Missing,
    /// Its key is another one.
    Key,
    /// Its authority is another one.
    Authority,
    /// Its subject or its names are not those asked for.
    Names,
    /// A third of its life or less is left, or it has not begun.
    Age,
}

/// Whether a certificate must be issued, and why.
pub(super) fn due(spec: &Spec, facts: Option<&Facts>, authority_key: &[u8], now: i64) -> Option<Due> {
    let Some(facts) = facts else { return Some(Due::Missing) };
    let groups: Vec<&str> = spec.group.into_iter().collect();
    if !facts.fits_key {
        Some(Due::Key)
    } else if facts.signed_by != authority_key {
        Some(Due::Authority)
    } else if facts.name != spec.name || facts.groups != groups || facts.sans != spec.sans {
        Some(Due::Names)
    } else {
        worn(facts.not_before, facts.not_after, now).then_some(Due::Age)
    }
}

/// Whether a third of a life or less is left, or it has not begun.
pub(super) fn worn(not_before: i64, not_after: i64, now: i64) -> bool {
    now < not_before || not_after - now <= (not_after - not_before) / 3
}

/// What a leaf must say here.
pub(super) fn spec(leaf: Leaf, config: &Config) -> Spec {
    let client = |name: &str, group| Spec {
        authority: Authority::Cluster,
        name: name.to_owned(),
        group,
        usage: Usage::Client,
        sans: BTreeSet::new(),
    };
    let node = format!("system:node:{}", config.node_name);
    match leaf {
        Leaf::ApiServer => server(client("kube-apiserver", None), apiserver_sans(config)),
        Leaf::ApiServerKubeletClient => client("kube-apiserver-kubelet-client", Some("system:masters")),
        Leaf::FrontProxyClient => {
            Spec { authority: Authority::FrontProxy, ..client("front-proxy-client", None) }
        }
        Leaf::Admin => client("kubernetes-admin", Some("system:masters")),
        Leaf::Scheduler => client("system:kube-scheduler", None),
        Leaf::ControllerManager => client("system:kube-controller-manager", None),
        Leaf::Proxy => client("system:kube-proxy", None),
        Leaf::Kubelet => server(client(&node, Some("system:nodes")), machine_sans(config)),
        Leaf::KubeletClient => client(&node, Some("system:nodes")),
    }
}

fn server(spec: Spec, sans: BTreeSet<String>) -> Spec {
    Spec { usage: Usage::Server, sans, ..spec }
}

fn machine_sans(config: &Config) -> BTreeSet<String> {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let addresses = loopback.iter().chain(&config.node_ips).map(ToString::to_string);
    addresses.chain(["localhost".to_owned(), config.node_name.to_lowercase()]).collect()
}

fn apiserver_sans(config: &Config) -> BTreeSet<String> {
    let service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned);
    let full = format!("kubernetes.default.svc.{}", config.cluster_domain.trim_end_matches('.'));
    let mut sans = machine_sans(config);
    sans.extend(service.into_iter().chain([full]));
    sans.extend(config.service_ips.iter().map(ToString::to_string));
    sans.extend(config.extra_sans.iter().map(|san| normal(san)));
    sans
}

/// Addresses and names have one spelling each, so that sets of them compare.
fn normal(san: &str) -> String {
    match san.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => san.to_lowercase(),
    }
}
