//! Resource quotas: what an object takes of them, whose scopes hold it, and whether there is room.
//!
//! Pure, and used from both sides: the API server charges a write before it commits it, the controller counts all that
//! is there. Both must count alike, so the counting is here.
//!
//! What every object takes is `count/<resource>.<group>`; pods, Services and claims take more ([`usage`]).

mod amounts;
mod pod;
mod scope;
#[cfg(test)]
mod tests;
mod tree;

use crate::Value;
use jiff::{SignedDuration, Timestamp};

use crate::quantity::{Format, Quantity};
pub use amounts::Amounts;
pub use pod::Part;
use scope::Traits;
use tree::{at, items, text};

/// Resources that quotas also count by their plain names.
const PLAIN: [&str; 5] = ["configmaps", "replicationcontrollers", "resourcequotas", "secrets", "services"];

/// What one object takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How much, by the names that quotas count it by.
    pub amounts: Amounts,
    traits: Traits,
}

/// Whether more than the number of a resource's objects counts: their updates may take more, and scopes may hold them.
pub fn is_measured(group: &str, resource: &str) -> bool {
    group.is_empty() && matches!(resource, "pods" | "services" | "persistentvolumeclaims")
}

/// What an object takes at a time (pods stop taking when they have ended).
pub fn usage(group: &str, resource: &str, object: &Value, now: Timestamp) -> Usage {
    let mut amounts = count(group, resource);
    let mut traits = Traits::None;
    match resource {
        "pods" if group.is_empty() => {
            traits = scope::of_pod(object);
            if !has_ended(object, now) {
                amounts.add_all(&pod::usage(object));
            }
        }
        "services" if group.is_empty() => service(object, &mut amounts),
        "persistentvolumeclaims" if group.is_empty() => {
            traits = scope::of_claim(object);
            claim(object, &mut amounts);
        }
        _ => {}
    }
    Usage { amounts, traits }
}

/// What every object of a resource takes: its number.
pub fn count(group: &str, resource: &str) -> Amounts {
    let mut amounts = Amounts::default();
    amounts.add(&count_name(group, resource), one());
    if group.is_empty() && PLAIN.contains(&resource) {
        amounts.add(resource, one());
    }
    amounts
}

/// The resource (group and name) whose objects take of an amount of this name.
pub fn resource_of(name: &str) -> (&str, &str) {
    if let Some(counted) = name.strip_prefix("count/") {
        let (resource, group) = counted.split_once('.').unwrap_or((counted, ""));
        return (group, resource);
    }
    match name {
        _ if PLAIN.contains(&name) => ("", name),
        "services.nodeports" | "services.loadbalancers" => ("", "services"),
        "persistentvolumeclaims" | "requests.storage" => ("", "persistentvolumeclaims"),
        _ if name.contains(OF_CLASS) => ("", "persistentvolumeclaims"),
        _ => ("", "pods"),
    }
}

fn count_name(group: &str, resource: &str) -> String {
    let dot = if group.is_empty() { "" } else { "." };
    format!("count/{resource}{dot}{group}")
}

fn one() -> Quantity {
    units(1)
}

fn units(number: usize) -> Quantity {
    Quantity::from_units(i64::try_from(number).unwrap_or(i64::MAX), Format::DecimalSi)
}

/// A pod that has ended, or should have by now, leaves its place to others.
fn has_ended(pod: &Value, now: Timestamp) -> bool {
    if matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed") {
        return true;
    }
    let deleted: Option<Timestamp> = text(pod, &["metadata", "deletionTimestamp"]).parse().ok();
    let grace = at(pod, &["metadata", "deletionGracePeriodSeconds"]).as_i64();
    let end =
        deleted.zip(grace).and_then(|(at, grace)| at.checked_add(SignedDuration::from_secs(grace)).ok());
    end.is_some_and(|end| now > end)
}

fn service(service: &Value, amounts: &mut Amounts) {
    let ports = items(service, &["spec", "ports"]);
    let open = ports.iter().filter(|port| at(port, &["nodePort"]).as_i64().is_some_and(|number| number != 0));
    let (node_ports, balancers) = match text(service, &["spec", "type"]) {
        "NodePort" => (ports.len(), 0),
        "LoadBalancer" if at(service, &["spec", "allocateLoadBalancerNodePorts"]) == &Value::Bool(false) => {
            (open.count(), 1)
        }
        "LoadBalancer" => (ports.len(), 1),
        _ => (0, 0),
    };
    amounts.add("services.nodeports", units(node_ports));
    amounts.add("services.loadbalancers", units(balancers));
}

/// Stands between a class's name and what is counted of it.
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

fn claim(claim: &Value, amounts: &mut Amounts) {
    let asked = Amounts::read(at(claim, &["spec", "resources", "requests"])).get("storage");
    // While a volume shrinks or grows, the larger size counts.
    let given = Amounts::read(at(claim, &["status", "allocatedResources"])).get("storage");
    let storage = asked.max(given);
    let old = text(claim, &["metadata", "annotations", OLD_CLASS]);
    let class = if old.is_empty() { text(claim, &["spec", "storageClassName"]) } else { old };
    let prefixes = [String::new(), format!("{class}{OF_CLASS}")];
    for prefix in prefixes.iter().filter(|prefix| prefix.is_empty() || !class.is_empty()) {
        amounts.add(&format!("{prefix}persistentvolumeclaims"), one());
        if let Some(storage) = storage {
            amounts.add(&format!("{prefix}requests.storage"), storage);
        }
    }
}

/// A quota, as far as it decides.
#[derive(Clone, Debug)]
pub struct Quota<'q> {
    spec: &'q Value,
    /// What it limits.
    pub hard: Amounts,
    /// What is used of that, as far as it was counted.
    pub used: Amounts,
}

impl<'q> Quota<'q> {
    /// Reads a ResourceQuota.
    pub fn read(object: &'q Value) -> Self {
        let spec = at(object, &["spec"]);
        Self {
            spec,
            hard: Amounts::read(at(spec, &["hard"])),
            used: Amounts::read(at(object, &["status", "used"])),
        }
    }

    /// The part of a usage that this quota limits; empty when it does not hold the object.
    pub fn share(&self, usage: &Usage) -> Amounts {
        let share = usage.amounts.only(|name| self.hard.get(name).is_some());
        match !share.is_empty() && scope::all_hold(self.spec, &usage.traits) {
            true => share,
            false => Amounts::default(),
        }
    }

    /// Why a new pod does not say what this quota needs to know; `None`: it does.
    pub fn unsaid(&self, pod: &Value) -> Option<String> {
        pod::unsaid(pod, &self.hard)
    }

    /// What is used after this share is put to it, or why it cannot be, in Kubernetes' words. What was never counted
    /// limits nothing yet.
    pub fn charge(&self, name: &str, share: &Amounts) -> Result<Amounts, String> {
        let counted = share.only(|name| self.used.get(name).is_some());
        let mut after = self.used.clone();
        after.add_all(&counted);
        let over = |name: &str| match (after.get(name), self.hard.get(name)) {
            (Some(used), Some(hard)) => used > hard,
            _ => false,
        };
        let exceeded = counted.only(over);
        if exceeded.is_empty() {
            return Ok(after);
        }
        let of = |amounts: &Amounts| amounts.only(|name| exceeded.get(name).is_some()).text();
        let (used, hard) = (of(&self.used), of(&self.hard));
        Err(format!("exceeded quota: {name}, requested: {}, used: {used}, limited: {hard}", exceeded.text()))
    }

    /// The status of a quota that has counted these objects' usages.
    pub fn counted<'u>(&self, usages: impl Iterator<Item = &'u Usage>) -> Value {
        let mut used = Amounts(self.hard.0.keys().map(|name| (name.clone(), Quantity::default())).collect());
        usages.for_each(|usage| used.add_all(&self.share(usage)));
        crate::json!({"hard": self.hard.to_value(), "used": used.to_value()})
    }
}
