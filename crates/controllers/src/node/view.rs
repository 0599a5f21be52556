//! A node's health: which conditions and taints it should have. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tiphys_api::{Map, Value};

use crate::taints::{
    DISK_PRESSURE, MEMORY_PRESSURE, NETWORK_UNAVAILABLE, NO_EXECUTE, NO_SCHEDULE, NOT_READY, PID_PRESSURE,
    Taint, UNREACHABLE, UNSCHEDULABLE,
};

/// Conditions that a kubelet reports, which are unknown once it is silent.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// Taints that follow from a condition being true.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", MEMORY_PRESSURE),
    ("DiskPressure", DISK_PRESSURE),
    ("PIDPressure", PID_PRESSURE),
    ("NetworkUnavailable", NETWORK_UNAVAILABLE),
];

/// The part of a node that its life cycle is about.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeView {
    pub(crate) spec: Spec,
    pub(crate) status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Spec {
    pub(crate) taints: Option<Vec<Taint>>,
    unschedulable: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    pub(crate) conditions: Option<Vec<Condition>>,
}

/// A condition, with the fields that we do not touch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: String,
    #[serde(flatten)]
    pub(crate) rest: Map,
}

impl NodeView {
    pub(crate) fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().flatten().find(|condition| condition.kind == kind)
    }

    /// `True`, `False` or `Unknown`; a node that never told is `False`.
    pub(crate) fn ready(&self) -> &str {
        self.condition("Ready").map_or("False", |condition| &condition.status)
    }

    /// What changes when the kubelet reports.
    pub(crate) fn heartbeat(&self) -> Option<String> {
        self.condition("Ready")?.rest.get("lastHeartbeatTime").map(ToString::to_string)
    }

    pub(crate) fn no_execute(&self) -> Vec<Taint> {
        self.spec.taints.iter().flatten().filter(|taint| taint.effect == NO_EXECUTE).cloned().collect()
    }

    /// The conditions of a node whose kubelet is silent; `None` if they are that already.
    pub(crate) fn silenced(&self, now: Timestamp) -> Option<Vec<Condition>> {
        let old = self.status.conditions.clone().unwrap_or_default();
        let mut conditions = old.clone();
        for kind in REPORTED {
            match conditions.iter_mut().find(|condition| condition.kind == kind) {
                Some(known) if known.status == "Unknown" => {}
                Some(known) => {
                    known.status = "Unknown".into();
                    let told = [
                        ("reason", "NodeStatusUnknown"),
                        ("message", "Kubelet stopped posting node status."),
                    ];
                    known.rest.extend(told);
                    known.rest.insert("lastTransitionTime".into(), seconds(now));
                }
                None => conditions.push(never_told(kind, now)),
            }
        }
        (conditions != old).then_some(conditions)
    }

    /// Whether its pods are being driven out because it is lost.
    pub(crate) fn is_left(&self) -> bool {
        let lost = |taint: &&Taint| [NOT_READY, UNREACHABLE].contains(&taint.key.as_str());
        self.no_execute().iter().any(|taint| lost(&taint))
    }

    /// The taints that the conditions call for, in place of those that they no longer do; `None` if that is how it is.
    /// `leave` says whether pods shall be driven out of it if it is lost.
    pub(crate) fn tainted(&self, leave: bool, now: Timestamp) -> Option<Vec<Taint>> {
        let wanted = self.wanted_taints(leave);
        let old = self.spec.taints.clone().unwrap_or_default();
        let ours = |taint: &Taint| {
            let keys = PRESSURES.iter().map(|(_, key)| *key).chain([NOT_READY, UNREACHABLE, UNSCHEDULABLE]);
            let lost = [NOT_READY, UNREACHABLE].contains(&taint.key.as_str());
            (taint.effect == NO_SCHEDULE && keys.into_iter().any(|key| key == taint.key))
                || (taint.effect == NO_EXECUTE && lost)
        };
        let stays =
            |taint: &Taint| !ours(taint) || wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
        let mut taints: Vec<Taint> = old.iter().filter(|taint| stays(taint)).cloned().collect();
        for (key, effect) in wanted {
            if !taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
                let time_added = Timestamp::from_second(now.as_second()).ok();
                taints.push(Taint {
                    key: key.into(),
                    value: String::new(),
                    effect: effect.into(),
                    time_added,
                });
            }
        }
        (taints != old).then_some(taints)
    }

    fn wanted_taints(&self, leave: bool) -> Vec<(&'static str, &'static str)> {
        let lost = match self.ready() {
            "True" => None,
            "Unknown" => Some(UNREACHABLE),
            _ => Some(NOT_READY),
        };
        let under = |kind: &str| self.condition(kind).is_some_and(|condition| condition.status == "True");
        let pressures = PRESSURES.iter().filter(|(kind, _)| under(kind)).map(|(_, key)| *key);
        let cordoned = self.spec.unschedulable.then_some(UNSCHEDULABLE);
        let mut wanted: Vec<_> =
            lost.into_iter().chain(pressures).chain(cordoned).map(|key| (key, NO_SCHEDULE)).collect();
        wanted.extend(lost.filter(|_| leave).map(|key| (key, NO_EXECUTE)));
        wanted
    }
}

fn never_told(kind: &str, now: Timestamp) -> Condition {
    let rest = [
        ("reason", Value::from("NodeStatusNeverUpdated")),
        ("message", "Kubelet never posted node status.".into()),
        ("lastTransitionTime", seconds(now)),
        ("lastHeartbeatTime", seconds(now)),
    ];
    let rest = rest.map(|(key, value)| (key.to_owned(), value)).into_iter().collect();
    Condition { kind: kind.into(), status: "Unknown".into(), rest }
}

/// A time as metav1.Time writes it.
pub(crate) fn seconds(time: Timestamp) -> Value {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiphys_api::json;

    fn node(ready: &str) -> NodeView {
        let foreign = json!({"key": "dedicated", "value": "db", "effect": "NoExecute"});
        let old = json!({"key": NOT_READY, "effect": "NoSchedule"});
        let conditions = json!([{"type": "Ready", "status": ready, "reason": "KubeletReady"},
            {"type": "DiskPressure", "status": "True"}]);
        let node = json!({"spec": {"taints": [foreign, old], "unschedulable": true}, "status": {"conditions": conditions}});
        node.to().unwrap()
    }

    fn names(taints: Option<Vec<Taint>>) -> Vec<String> {
        let short = |key: &str| key.rsplit('/').next().unwrap().to_owned();
        taints.unwrap().iter().map(|t| format!("{}:{}", short(&t.key), t.effect)).collect()
    }

    #[test]
    fn taints_follow_conditions() {
        let now = Timestamp::UNIX_EPOCH;
        let calm = ["dedicated:NoExecute", "disk-pressure:NoSchedule", "unschedulable:NoSchedule"];
        assert_eq!(names(node("True").tainted(true, now)), calm);
        let lost = names(node("Unknown").tainted(true, now));
        assert!(
            lost.contains(&"unreachable:NoExecute".into()) && lost.contains(&"unreachable:NoSchedule".into())
        );
        assert!(!names(node("Unknown").tainted(false, now)).contains(&"unreachable:NoExecute".into()));
    }

    #[test]
    fn a_silent_node_is_unknown_once() {
        let mut node = node("True");
        let conditions = node.silenced(Timestamp::UNIX_EPOCH).unwrap();
        assert!(conditions.iter().all(|condition| condition.status == "Unknown"));
        assert_eq!(conditions.len(), 4);
        assert_eq!(conditions[0].rest["reason"], "NodeStatusUnknown");
        node.status.conditions = Some(conditions);
        assert_eq!(node.silenced(Timestamp::UNIX_EPOCH), None);
    }
}
