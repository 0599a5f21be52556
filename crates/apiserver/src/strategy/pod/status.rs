//! A pod's status: what has ended stays so, and addresses are addresses.

use tiphys_api::Value;
use tiphys_api::field::{Error, Errors, Path};
use tiphys_api::validate::{self, ByText, Seen};

use crate::registry::tree;

/// Addresses of one list that are looked at.
const ADDRESSES_JUDGED: usize = 8;

fn path(field: &str) -> Path {
    Path::new("status").child(field)
}

/// Checks a change of the status.
pub(super) fn validate(pod: &Value, old: &Value, errors: &mut Errors) {
    conditions(pod, errors);
    let nominated = |pod| tree::text(pod, &["status", "nominatedNodeName"]);
    let node = nominated(pod);
    if node != nominated(old) && !node.is_empty() {
        for why in validate::dns1123_subdomain(node) {
            errors.push(Error::invalid(&path("nominatedNodeName"), node, &why));
        }
    }
    let policy = tree::text(old, &["spec", "restartPolicy"]);
    if !may_all_restart(old) {
        transitions(pod, old, "containerStatuses", policy, errors);
        transitions(pod, old, "initContainerStatuses", policy, errors);
    }
    transitions(pod, old, "ephemeralContainerStatuses", "Never", errors);
    addresses(pod, "podIPs", errors);
    addresses(pod, "hostIPs", errors);
    let first = tree::items(pod, &["status", "hostIPs"]).first().map(|ip| tree::text(ip, &["ip"]));
    if let Some(first) = first.filter(|first| *first != tree::text(pod, &["status", "hostIP"])) {
        let path = path("hostIPs").index(0).child("ip");
        errors.push(Error::invalid(&path, first, "must be equal to `hostIP`"));
    }
    claims(pod, errors);
}

fn conditions(pod: &Value, errors: &mut Errors) {
    for (index, condition) in tree::items(pod, &["status", "conditions"]).iter().enumerate() {
        let kind = tree::text(condition, &["type"]);
        if matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            continue;
        }
        for why in validate::qualified_name(kind) {
            // Kubernetes has these at the metadata.
            let path = Path::new("metadata").child("conditions").index(index).child("Type");
            errors.push(Error::invalid(&path, kind, &why));
        }
    }
}

/// Whether some container's end may start all of them again.
fn may_all_restart(pod: &Value) -> bool {
    let lists = ["containers", "initContainers"];
    let containers = lists.iter().flat_map(|list| tree::items(pod, &["spec", list]));
    let mut rules = containers.flat_map(|container| tree::items(container, &["restartPolicyRules"]));
    rules.any(|rule| tree::text(rule, &["action"]) == "RestartAllContainers")
}

/// A container that has ended and is not to be started again does not run.
fn transitions(pod: &Value, old: &Value, list: &str, policy: &str, errors: &mut Errors) {
    if policy == "Always" {
        return;
    }
    fn name(status: &Value) -> &str {
        tree::text(status, &["name"])
    }
    let mut running = Seen::new();
    for status in tree::items(pod, &["status", list]) {
        if tree::at(status, &["state", "terminated"]).is_null() {
            running.add(name(status));
        }
    }
    let containers = Restarting::of(old, list);
    for (index, before) in tree::items(old, &["status", list]).iter().enumerate() {
        let ended = tree::at(before, &["state", "terminated"]);
        let failed = tree::at(ended, &["exitCode"]).as_i64().unwrap_or(0) != 0;
        if ended.is_null() || (failed && policy == "OnFailure") || containers.has(name(before)) {
            continue;
        }
        if running.has(name(before)) {
            let path = path(list).index(index).child("state");
            errors.push(Error::forbidden(&path, "may not be transitioned to non-terminated state"));
        }
    }
}

/// Containers with a restart policy of their own.
struct Restarting<'p>(ByText<'p>);

impl<'p> Restarting<'p> {
    /// The containers that a list of statuses is about.
    fn of(pod: &'p Value, statuses: &str) -> Self {
        let containers = match statuses {
            "containerStatuses" => tree::items(pod, &["spec", "containers"]),
            "initContainerStatuses" => tree::items(pod, &["spec", "initContainers"]),
            _ => &[],
        };
        Self(ByText::new(containers, "name"))
    }

    /// Whether the container of this name may start again.
    fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|container| {
            let policy = container.get("restartPolicy").and_then(Value::as_str).unwrap_or_default();
            let rules = container.get("restartPolicyRules").and_then(Value::as_array);
            !matches!(policy, "" | "Never") || rules.is_some_and(|rules| !rules.is_empty())
        })
    }
}

fn addresses(pod: &Value, list: &str, errors: &mut Errors) {
    let items = tree::items(pod, &["status", list]);
    let (mut v4, mut v6) = (0, 0);
    let mut seen = Seen::new();
    // Two are right: the first few tell enough of what is wrong with more.
    for (index, item) in items.iter().enumerate().take(ADDRESSES_JUDGED) {
        let ip = tree::text(item, &["ip"]);
        match ip.parse::<std::net::IpAddr>() {
            Ok(ip) if ip.is_ipv4() => v4 += 1,
            Ok(_) => v6 += 1,
            Err(_) => {
                let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
                errors.push(Error::invalid(&path(list).index(index), ip, why));
            }
        }
        if !seen.add(ip) {
            let shown = format!(r#"{{"IP":{ip:?}}}"#);
            errors.push(Error::duplicate_shown(&path(list).index(index), &shown));
        }
    }
    if v4 > 1 || v6 > 1 {
        let why = "may specify no more than one IP for each IP family";
        errors.push(Error::invalid(&path(list), items.to_vec(), why));
    }
}

fn claims(pod: &Value, errors: &mut Errors) {
    let known = ByText::new(tree::items(pod, &["spec", "resourceClaims"]), "name");
    for (index, status) in tree::items(pod, &["status", "resourceClaimStatuses"]).iter().enumerate() {
        let name = tree::text(status, &["name"]);
        if !known.has(name) {
            let path = path("resourceClaimStatuses").index(index).child("name");
            let why = "must match the name of an entry in `spec.resourceClaims`";
            errors.push(Error::invalid(&path, name, why));
        }
    }
}
