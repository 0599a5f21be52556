//! A pod as the scheduler sees it: what it asks for, and nothing else of its two and a half kilobytes.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tiphys_api::Object;
use tiphys_client::typed;

use crate::volumes::Needs;

/// Amounts by resource: CPU in thousandths of a core, everything else in its own unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources(Vec<(Box<str>, i64)>);

impl Resources {
    /// The amount of a resource; 0 when it is not mentioned.
    pub fn get(&self, name: &str) -> i64 {
        self.0.iter().find(|(n, _)| n.as_ref() == name).map_or(0, |(_, amount)| *amount)
    }

    /// All mentioned resources.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, amount)| (name.as_ref(), *amount))
    }

    /// Changes one amount.
    pub fn change(&mut self, name: &str, change: impl FnOnce(i64) -> i64) {
        match self.0.iter_mut().find(|(n, _)| n.as_ref() == name) {
            Some((_, amount)) => *amount = change(*amount),
            None => self.0.push((name.into(), change(0))),
        }
    }

    /// Adds all of another.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in other.iter() {
            self.change(name, |a| a.saturating_add(amount));
        }
    }

    /// Takes all of another away.
    pub fn subtract(&mut self, other: &Self) {
        for (name, amount) in other.iter() {
            self.change(name, |a| a.saturating_sub(amount));
        }
    }

    /// The larger of both, for each resource.
    fn raise(&mut self, other: &Self) {
        for (name, amount) in other.iter() {
            self.change(name, |a| a.max(amount));
        }
    }

    /// Reads Kubernetes' quantities. What does not parse counts as nothing: the API server has validated it.
    pub fn read<'a>(list: impl IntoIterator<Item = (&'a String, &'a Quantity)>) -> Self {
        let mut resources = Self::default();
        for (name, quantity) in list {
            let Ok(quantity) = quantity.0.parse::<tiphys_api::quantity::Quantity>() else { continue };
            let amount = if name == "cpu" { quantity.milli_value() } else { quantity.value() };
            resources.change(name, |a| a + amount);
        }
        resources
    }
}

/// A port that a pod takes on its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Address; `0.0.0.0` for all.
    pub ip: Box<str>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Box<str>,
    /// Number.
    pub port: i32,
}

impl HostPort {
    /// Whether both cannot be had on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        let any = |ip: &str| ip == "0.0.0.0" || ip == "::";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || any(&self.ip) || any(&other.ip))
    }
}

/// What the scheduler keeps of a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// Namespace.
    pub namespace: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// Identity.
    pub uid: Box<str>,
    /// Node it is bound to; empty while it waits.
    pub node: Box<str>,
    /// `spec.schedulerName`.
    pub scheduler: Box<str>,
    /// Higher goes first.
    pub priority: i32,
    /// Whether gates hold it back (KEP-3521).
    pub gated: bool,
    /// Whether it is on its way out.
    pub deleted: bool,
    /// Whether it has ended and takes nothing any more.
    pub ended: bool,
    /// What it asks for, `pods` among it.
    pub requests: Resources,
    /// Ports on its node.
    pub ports: Vec<HostPort>,
    /// Where it must or would like to be; only while it waits.
    pub wishes: Option<Box<Wishes>>,
}

/// What a waiting pod says of nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wishes {
    /// `spec.nodeSelector`.
    pub selector: Vec<(String, String)>,
    /// `spec.affinity.nodeAffinity`.
    pub affinity: Option<core::NodeAffinity>,
    /// `spec.tolerations`.
    pub tolerations: Vec<core::Toleration>,
    /// Names of the claims that its volumes use.
    pub claims: Vec<Box<str>>,
    /// What they ask of a node; filled in for a decision.
    pub volumes: Option<Needs>,
}

impl Pod {
    /// Reads what is needed of an object.
    pub fn read(object: &Object) -> Result<Self, serde_json::Error> {
        let pod = typed::decode::<core::Pod>(object)?;
        let meta = object.meta();
        let spec = pod.spec.unwrap_or_default();
        let phase = pod.status.and_then(|s| s.phase).unwrap_or_default();
        let node = spec.node_name.clone().unwrap_or_default();
        Ok(Self {
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            scheduler: spec.scheduler_name.clone().unwrap_or_default().into(),
            priority: spec.priority.unwrap_or(0),
            gated: spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()),
            deleted: meta.deleted.is_some(),
            ended: phase == "Succeeded" || phase == "Failed",
            requests: requests(&spec),
            ports: ports(&spec),
            wishes: node.is_empty().then(|| Box::new(wishes(&meta.name, spec))),
            node: node.into(),
        })
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

fn wishes(pod: &str, spec: core::PodSpec) -> Wishes {
    let claim = |volume: &core::Volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.as_str().into()),
        (None, Some(_)) => Some(format!("{pod}-{}", volume.name).into()),
        (None, None) => None,
    };
    Wishes {
        claims: spec.volumes.iter().flatten().filter_map(claim).collect(),
        volumes: None,
        selector: spec.node_selector.unwrap_or_default().into_iter().collect(),
        affinity: spec.affinity.and_then(|a| a.node_affinity),
        tolerations: spec.tolerations.unwrap_or_default(),
    }
}

/// A pod's effective requests: its containers and sidecars together, or the largest moment of its start, and overhead.
///
/// Source: Kubernetes documentation, "Resource sharing within containers" (sidecar containers).
fn requests(spec: &core::PodSpec) -> Resources {
    let of = |c: &core::Container| {
        Resources::read(c.resources.iter().filter_map(|r| r.requests.as_ref()).flatten())
    };
    let mut total = Resources::default();
    spec.containers.iter().for_each(|c| total.add(&of(c)));
    let (mut sidecars, mut largest) = (Resources::default(), Resources::default());
    for init in spec.init_containers.iter().flatten() {
        let mut moment = of(init);
        if init.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&moment);
            moment = sidecars.clone();
        } else {
            moment.add(&sidecars);
        }
        largest.raise(&moment);
    }
    total.add(&sidecars);
    total.raise(&largest);
    if let Some(own) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        // Requests of the pod as a whole come before the sum of its containers' (KEP-2837).
        Resources::read(own).iter().for_each(|(name, amount)| total.change(name, |_| amount));
    }
    total.add(&Resources::read(spec.overhead.iter().flatten()));
    total.change("pods", |_| 1);
    total
}

fn ports(spec: &core::PodSpec) -> Vec<HostPort> {
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.flat_map(|c| c.ports.iter().flatten())
        .filter_map(|p| {
            let port = p.host_port.filter(|port| *port > 0)?;
            let ip = p.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".into());
            let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".into());
            Some(HostPort { ip: ip.into(), protocol: protocol.into(), port })
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A pod from the YAML-like JSON of its spec.
    pub(crate) fn pod(name: &str, spec: &tiphys_api::Value) -> Pod {
        let value = tiphys_api::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "n", "uid": name}, "spec": spec,
        });
        Pod::read(&Object::from_value(&value).unwrap()).unwrap()
    }

    #[test]
    fn the_largest_moment_counts() {
        let container = |cpu: &str| tiphys_api::json!({"name": cpu, "resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = container("200m");
        sidecar["restartPolicy"] = "Always".into();
        let spec = tiphys_api::json!({
            "containers": [container("100m"), container("150m")],
            "initContainers": [sidecar, container("1")],
        });
        assert_eq!(pod("p", &spec).requests.get("cpu"), 1200);
        let spec = tiphys_api::json!({ "containers": [container("2"), container("1")], "initContainers": [container("1")] });
        assert_eq!(pod("p", &spec).requests.get("cpu"), 3000);
    }

    #[test]
    fn host_ports_conflict_on_all_addresses() {
        let port = |ip: &str, protocol: &str| HostPort { ip: ip.into(), protocol: protocol.into(), port: 80 };
        assert!(port("0.0.0.0", "TCP").conflicts(&port("10.0.0.1", "TCP")));
        assert!(!port("10.0.0.2", "TCP").conflicts(&port("10.0.0.1", "TCP")));
        assert!(!port("0.0.0.0", "UDP").conflicts(&port("0.0.0.0", "TCP")));
    }
}
