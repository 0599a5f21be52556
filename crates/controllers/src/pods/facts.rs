//! One pod, as far as controllers care.

use jiff::Timestamp;
use serde::Deserialize;
use std::collections::HashMap;
use tiphys_api::{Meta, Object};

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) enum Phase {
    #[default]
    Pending,
    Unknown,
    Running,
    Succeeded,
    Failed,
}

/// A container's named port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) name: Box<str>,
    pub(crate) protocol: Box<str>,
    pub(crate) number: i32,
}

/// What controllers decide on.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The pod itself.
    pub(crate) object: Object,
    /// Empty when unbound.
    pub(crate) node: Box<str>,
    pub(crate) phase: Phase,
    /// Since when the pod is ready, if it is.
    pub(crate) ready_since: Option<Timestamp>,
    /// The most restarts of one of its containers.
    pub(crate) restarts: i32,
    pub(crate) deletion_cost: i32,
    pub(crate) ips: Box<[Box<str>]>,
    pub(crate) hostname: Box<str>,
    pub(crate) subdomain: Box<str>,
    /// The named ports of its containers (and restartable init containers).
    pub(crate) ports: Box<[Port]>,
    /// The claims that its volumes use, those of its ephemeral volumes (which end with it) included.
    pub(crate) claims: Box<[Box<str>]>,
    /// It has ephemeral volumes.
    pub(crate) ephemeral: bool,
}

impl Facts {
    /// Reads the facts; `None` for what is no pod (the API server lets none in).
    pub(crate) fn of(object: &Object) -> Option<Self> {
        let pod: RawPod = object.decode().ok()?;
        let ready = Condition::find(pod.status.conditions.iter().flatten(), "Ready").filter(|c| c.is_true());
        let cost = pod.metadata.annotations.as_ref().and_then(|a| a.get(DELETION_COST)?.parse().ok());
        let statuses = pod.status.container_statuses.iter().flatten();
        let mut ips: Vec<Box<str>> = pod.status.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
        if ips.is_empty() && !pod.status.pod_ip.is_empty() {
            ips.push(pod.status.pod_ip.clone());
        }
        Some(Self {
            object: object.clone(),
            phase: pod.status.phase,
            ready_since: ready.map(|c| c.last_transition_time.or(object.meta().created).unwrap_or_default()),
            restarts: statuses.map(|s| s.restart_count).max().unwrap_or(0),
            deletion_cost: cost.unwrap_or(0),
            ips: ips.into(),
            ports: pod.spec.ports().collect(),
            claims: pod.spec.claims(&object.meta().name),
            ephemeral: pod.spec.volumes.iter().flatten().any(|volume| volume.ephemeral.is_some()),
            node: pod.spec.node_name,
            hostname: pod.spec.hostname,
            subdomain: pod.spec.subdomain,
        })
    }

    pub(crate) fn meta(&self) -> &Meta {
        self.object.meta()
    }

    pub(crate) fn ready(&self) -> bool {
        self.ready_since.is_some()
    }

    /// It ended by itself.
    pub(crate) fn ended(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }

    /// Its deletion was asked for.
    pub(crate) fn deleting(&self) -> bool {
        self.meta().deleted.is_some()
    }

    /// It counts as a replica.
    pub(crate) fn active(&self) -> bool {
        !self.ended() && !self.deleting()
    }

    /// It is on its way out, still running.
    pub(crate) fn terminating(&self) -> bool {
        !self.ended() && self.deleting()
    }

    /// From when on it counts as available, if it is ready.
    pub(crate) fn available_at(&self, min_ready_seconds: i32) -> Option<Timestamp> {
        let since = self.ready_since?;
        since.checked_add(jiff::SignedDuration::from_secs(min_ready_seconds.max(0).into())).ok()
    }

    pub(crate) fn available(&self, min_ready_seconds: i32, now: Timestamp) -> bool {
        match min_ready_seconds {
            0 => self.ready(),
            seconds => self.available_at(seconds).is_some_and(|at| at <= now),
        }
    }
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct RawPod {
    metadata: RawMeta,
    spec: RawSpec,
    status: RawStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawMeta {
    annotations: Option<HashMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawSpec {
    node_name: Box<str>,
    hostname: Box<str>,
    subdomain: Box<str>,
    containers: Vec<RawContainer>,
    init_containers: Option<Vec<RawContainer>>,
    volumes: Option<Vec<RawVolume>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawVolume {
    name: Box<str>,
    persistent_volume_claim: Option<RawClaim>,
    ephemeral: Option<serde::de::IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawClaim {
    claim_name: Box<str>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawContainer {
    ports: Option<Vec<RawPort>>,
    restart_policy: Option<Box<str>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawPort {
    name: Box<str>,
    protocol: Box<str>,
    container_port: i32,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawStatus {
    phase: Phase,
    conditions: Option<Vec<Condition>>,
    container_statuses: Option<Vec<RawContainerStatus>>,
    #[serde(rename = "podIP")]
    pod_ip: Box<str>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<RawIp>>,
}

#[derive(Deserialize)]
struct RawIp {
    ip: Box<str>,
}

/// A condition of a pod's status.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: String,
    pub(crate) last_transition_time: Option<Timestamp>,
}

impl Condition {
    /// The one of a type.
    pub(crate) fn find<'a>(all: impl IntoIterator<Item = &'a Self>, kind: &str) -> Option<&'a Self> {
        all.into_iter().find(|condition| condition.kind == kind)
    }

    pub(crate) fn is_true(&self) -> bool {
        self.status == "True"
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawContainerStatus {
    restart_count: i32,
}

impl RawSpec {
    fn claims(&self, pod: &str) -> Box<[Box<str>]> {
        let name = |volume: &RawVolume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(claim), _) => Some(claim.claim_name.clone()),
            (None, Some(_)) => Some(format!("{pod}-{}", volume.name).into()),
            (None, None) => None,
        };
        self.volumes.iter().flatten().filter_map(name).collect()
    }

    fn ports(&self) -> impl Iterator<Item = Port> + '_ {
        let restartable = |c: &&RawContainer| c.restart_policy.as_deref() == Some("Always");
        let sidecars = self.init_containers.iter().flatten().filter(restartable);
        let ports = self.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
        ports.filter(|port| !port.name.is_empty()).map(|port| Port {
            name: port.name.clone(),
            protocol: if port.protocol.is_empty() { "TCP".into() } else { port.protocol.clone() },
            number: port.container_port,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiphys_api::json;

    #[test]
    fn a_pod_is_available_once_ready_long_enough() {
        let pod = json!({
            "metadata": {"name": "p", "annotations": {DELETION_COST: "-5"}},
            "spec": {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 80}, {"containerPort": 81}]}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        });
        let facts = Facts::of(&Object::from_value(&pod).unwrap()).unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(facts.available(0, at("2026-01-01T00:00:00Z")));
        assert!(!facts.available(10, at("2026-01-01T00:00:09Z")));
        assert!(facts.available(10, at("2026-01-01T00:00:10Z")));
        assert_eq!((facts.deletion_cost, facts.ips.len(), facts.ports.len()), (-5, 1, 1));
        assert_eq!(facts.ports[0], Port { name: "web".into(), protocol: "TCP".into(), number: 80 });
    }
}
